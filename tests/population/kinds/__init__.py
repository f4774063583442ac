"""The table of kinds: what people have as modules, and what a population makes of each.

`docs/what-a-population-can-hold.md` is the same table for users.
"""

from tests.population.kinds import differences, forwards, hooks, layers, nets, state, wrapped
from tests.population.kinds.kind import FAST, REFUSED, RUNS, Kind

KINDS: list[Kind] = [
    kind for part in (layers, nets, forwards, hooks, state, differences, wrapped) for kind in part.KINDS
]

__all__ = ["FAST", "KINDS", "REFUSED", "RUNS", "Kind"]
