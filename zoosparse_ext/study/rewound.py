"""The models of a zoo as they were after an earlier epoch, for twins that are rewound to it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from zoosparse_ext.errors import InputError
from zoosparse_ext.options import taken
from zoosparse_ext.population.population import Population
from zoosparse_ext.population.schedules import Constant, schedule
from zoosparse_ext.sparsify.pruning import Pruning
from zoosparse_ext.study.populations import at_epoch, kept_epochs
from zoosparse_ext.zoo import Zoo
from zoosparse_ext.zoo.epochs import row_epochs

log = logging.getLogger(__name__)

ORIGINAL = "original"


def earlier_originals(originals: Sequence[Population]) -> dict[str, list[Population]]:
    """The populations of models that were kept after earlier epochs, by their names in a zoo."""
    epochs = originals[0].kept if originals else ()
    return {at_epoch(ORIGINAL, epoch): [group.kept[epoch] for group in originals] for epoch in sorted(epochs)}


def with_rewound(zoo: Zoo, groups: list[Population], options: Mapping[str, Any]) -> list[Population]:
    """The models of a zoo; where their twins are to be rewound, with what they were then in `kept`.

    Args:
        groups: the original models.
        options: of the twins.

    Raises:
        InputError: the zoo does not have all of them as they were after that epoch.
    """
    pruning, _ = taken(Pruning, options)
    epoch = pruning.rewind_to
    if epoch is None:
        return groups
    _warn_of_another_course(zoo, epoch, options)
    if pruning.rewind == "lr":
        return groups
    name = at_epoch(ORIGINAL, epoch)
    earlier = zoo.populations.get(name, groups)
    if earlier is groups and any(_last_epochs(zoo, group) != {epoch} for group in groups):
        last = set().union(*(_last_epochs(zoo, group) for group in groups))
        there = ", ".join(map(str, sorted({*kept_epochs(zoo, ORIGINAL), *last}))) or "an unknown one"
        raise InputError(
            f"rewind_to: the zoo does not have its models as they were after epoch {epoch}, only after {there}; train "
            f"them anew with zoo.keep = [{epoch}] (zoosparse train --keep {epoch})"
        )
    found = []
    for group in groups:
        rewound = group[:]  # the population of the zoo stays as it is
        rewound.kept = {epoch: _rows_of(group, earlier, name)}
        found.append(rewound)
    return found


def _last_epochs(zoo: Zoo, group: Population) -> set[int]:
    """The epochs after which models are as they are; none where it is not known of all."""
    known = "epoch" in group.models or {*group.ids} <= {*zoo.history.get("model_id", ())}
    return set(row_epochs(zoo, ORIGINAL, group)) if known else set()


def _rows_of(group: Population, earlier: Sequence[Population], name: str) -> Population:
    """The models of a group, in its order, out of those of an earlier epoch."""
    for there in earlier:
        places = {id: row for row, id in enumerate(there.ids)}
        if places.keys() >= {*group.ids}:
            return there if there.ids == group.ids else there[[places[id] for id in group.ids]]
    known = {id for there in earlier for id in there.ids}
    lost = next((id for id in group.ids if id not in known), group.ids[0])
    raise InputError(
        f"rewind_to: {name!r} does not have model {lost!r} beside others of its architecture; leave it out of the zoo, "
        "or rewind to another epoch"
    )


def _warn_of_another_course(zoo: Zoo, epoch: int, options: Mapping[str, Any]) -> None:
    """Say where twins do not repeat the training of their models from an epoch on, and how they would."""
    settings = zoo.provenance.get("settings")
    known = settings.get("zoo") if isinstance(settings, dict) else None
    if not isinstance(known, dict) or "epochs" not in known:
        return
    left, its = int(known["epochs"]) - epoch, known.get("lr_schedule", "constant")
    epochs, ours = int(options.get("epochs", 0)), options.get("lr_schedule", "constant")
    if epochs and left > 0 and (epochs, schedule(ours)) != (left, schedule(its)):
        log.warning(
            "twins are rewound to epoch %d and trained for %d epochs with %s learning rate; from there on their models "
            'were trained for %d with %s: epochs = %d, lr_schedule = "%s" (--epochs, --lr-schedule) repeats that',
            *(epoch, epochs, _words(ours), left, _words(its), left, its),
        )


def _words(name: str | Constant) -> str:
    text = name if isinstance(name, str) else type(name).__name__.lower()
    return f"{'an' if text.startswith('o') else 'a'} {text}"
