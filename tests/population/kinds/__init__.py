"""The table of kinds: what people have as modules, and what a population makes of each.

`docs/what-a-population-can-hold.md` is the same table for users.
"""

from tests.population.kinds import hooks, layers, nets, state, wrapped
from tests.population.kinds.kind import EITHER, FAST, REFUSED, RUNS, Kind

KINDS: list[Kind] = [*layers.KINDS, *nets.KINDS, *hooks.KINDS, *state.KINDS, *wrapped.KINDS]

__all__ = ["EITHER", "FAST", "KINDS", "REFUSED", "RUNS", "Kind"]
