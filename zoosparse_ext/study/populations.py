"""Twins on their way into a zoo: what is there already, what is added, and what is put in place of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from zoosparse_ext.errors import InputError
from zoosparse_ext.population.population import Population
from zoosparse_ext.sparsify.series import Series, series_keys
from zoosparse_ext.study.chunks import join
from zoosparse_ext.study.naming import SETTINGS
from zoosparse_ext.words import Texts, number_text
from zoosparse_ext.zoo import Zoo

log = logging.getLogger(__name__)


def ratios_of(zoo: Zoo, name: str) -> list[float]:
    """The ratios at which a population has twins, in their order; none if there is no such population."""
    if name not in zoo.populations:
        return []
    groups = zoo.groups(name)
    return list(dict.fromkeys(float(ratio) for group in groups for ratio in group.models["target"]))


def at_epoch(name: str, epoch: int) -> str:
    """What a zoo calls a population as it was after an earlier epoch.

    >>> at_epoch("variational", 5)
    'variational@5'
    """
    return f"{name}@{epoch}"


def kept_epochs(zoo: Zoo, name: str) -> list[int]:
    """The earlier epochs at which a zoo has a population."""
    parts = [there.partition("@") for there in zoo.populations]
    return sorted(int(epoch) for base, _, epoch in parts if base == name and epoch.isdigit())


def earlier_epoch(zoo: Zoo, name: str, epoch: int | None) -> int | None:
    """The epoch of a population that is meant: None for its last one.

    Raises:
        InputError: the zoo does not have it.
    """
    if epoch is None or at_epoch(name, epoch) in zoo.populations:
        return epoch
    ids = {id for group in zoo.groups(name) for id in group.ids}
    last = zoo.twins.loc[zoo.twins["twin_id"].isin(ids), "epoch"].max()
    if epoch == last:
        return None
    if epoch < 1:
        raise InputError(f"epochs are counted from 1, there is no epoch {epoch} of {name!r}")
    there = [*kept_epochs(zoo, name), *([] if last != last else [int(last)])]
    raise InputError(
        f"the zoo does not have {name!r} as it was after epoch {epoch}, only after {', '.join(map(str, there))}; make "
        f"these twins anew with keep=({epoch},) and at least {epoch} epochs (zoosparse vardrop --keep {epoch} "
        "--replace)"
    )


def lacking_ratios(zoo: Zoo, name: str, ratios: Sequence[float], *, replacing: bool) -> list[float]:
    """The ratios that a series still lacks, or all of them where twins are to be replaced."""
    there = [] if replacing else ratios_of(zoo, name)
    return [ratio for ratio in ratios if ratio not in there]


def missing_ratios(zoo: Zoo, name: str, ratios: Sequence[float], *, replacing: bool) -> list[float]:
    """The ratios that a series still lacks, as `lacking_ratios`; those that it has are told.

    Raises:
        InputError: it lacks none.
    """
    lacking = lacking_ratios(zoo, name, ratios, replacing=replacing)
    kept = [ratio for ratio in ratios if ratio not in lacking]
    told = ", ".join(map(number_text, sorted(kept)))
    if not lacking:
        raise _finished(f"{name!r} at {told}")
    if kept:
        log.warning(
            "the zoo has %r at %s already: these stay; replace=True (--replace) makes them anew", name, told
        )
    return lacking


def require_missing(zoo: Zoo, name: str, *, replacing: bool) -> None:
    """Raise InputError if a zoo has a population already that is not to be replaced."""
    if name in zoo.populations and not replacing:
        raise _finished(repr(name))


def require_alike(zoo: Zoo, name: str, networks: Sequence[str], ratios: Sequence[float], images: int) -> None:
    """Raise InputError if new twins cannot stand in a population beside those that stay there.

    To be asked before the new ones are trained.

    Args:
        networks: names of the architectures of the new twins.
        ratios: of the new twins; they take the place of those that the population has at these.
        images: how many test images the new twins are going to have predictions on.
    """
    there = zoo.groups(name) if name in zoo.populations else []
    stay = [group for group in there if not group.models["target"].isin([*ratios]).all()]
    if not stay:
        return
    every = ", ".join(map(number_text, sorted({*ratios_of(zoo, name), *ratios})))
    way_out = f"make all of them anew: ratios {every} with replace=True (--replace)"
    known = [group.architecture.name for group in there]
    if known != [*networks]:
        raise InputError(
            f"population {name!r} has networks {', '.join(known)}, and twins of {', '.join(networks)} cannot be added "
            f"to it; {way_out}"
        )
    for group in stay:
        predictions = group.predictions
        width = None if predictions is None else predictions[np.zeros(1, np.int64)].shape[1]
        if width != images:
            told = "no predictions" if width is None else f"predictions on {width} images"
            raise InputError(
                f"the twins in {name!r} have {told}, new ones would have them on {images}: twins of one population are "
                f"evaluated on the same images; {way_out}"
            )


def _finished(what: str) -> InputError:
    return InputError(
        f"the zoo has finished twins {what} already; replace=True (--replace) makes them anew, and with other settings "
        "twins are added beside them"
    )


def with_twins(
    zoo: Zoo, series: Series, groups: list[Population], settings: Texts, *, adding: bool = False
) -> Zoo:
    """The zoo with twins as the population of their series.

    Args:
        groups: one matrix for each of the originals.
        settings: of the series, for the provenance.
        adding: keep what the population has at other ratios, see :func:`require_alike`. Else they take the place of
            all of it.
    """
    name = series.key
    there = list(zoo.groups(name)) if name in zoo.populations else []
    dropped = {id for group in there for id in group.ids}
    if adding and there:  # `require_alike` was asked
        made = {ratio for group in groups for ratio in group.models["target"]}
        dropped = {
            id
            for group in there
            for id, ratio in zip(group.ids, group.models["target"], strict=True)
            if ratio in made
        }
    _warn_of_matched(zoo, dropped)
    kept = zoo.twins[~zoo.twins["twin_id"].isin(dropped)]
    rows = pd.concat([group.history for group in groups if group.history is not None], ignore_index=True)
    twins = pd.concat([kept, rows], ignore_index=True) if len(kept) else rows
    twins[Series.column] = series_keys(twins)
    noted = {**zoo.provenance.get(SETTINGS, {}), name: settings}
    provenance = {**zoo.provenance, SETTINGS: noted}
    after = zoo.with_population(name, _with_rows(zoo, name, groups, dropped))
    for epoch in sorted({*kept_epochs(zoo, name), *groups[0].kept}):  # as they were after earlier epochs
        then = [group.kept[epoch] for group in groups if epoch in group.kept]
        earlier = at_epoch(name, epoch)
        if whole := _with_rows(zoo, earlier, then, dropped):
            after = after.with_population(earlier, whole)
        else:
            after = replace(
                after, populations={n: after.populations[n] for n in after.populations if n != earlier}
            )
    return replace(after, twins=twins, provenance=provenance)


def _with_rows(zoo: Zoo, name: str, groups: list[Population], dropped: set[str]) -> list[Population]:
    """What is left of a population, and in each matrix of it the new rows."""
    there = zoo.groups(name) if name in zoo.populations else []
    if dropped.issuperset(id for group in there for id in group.ids):
        return groups
    old = zoo.populations[name]
    return [_added(*pair, dropped) for pair in zip(old, groups or [group[:0] for group in old], strict=True)]


def in_order(zoo: Zoo, names: Sequence[str]) -> Zoo:
    """The zoo with its populations, and their rows in the table of twins, in another order.

    Args:
        names: the order; populations at earlier epochs follow their last one, what is not named comes last.
    """
    places = {name: place for place, name in reversed([*enumerate(names)])}
    bases = {name: name.partition("@")[0] for name in zoo.populations}

    def place(name: str) -> tuple[int, bool]:
        return places.get(bases[name], len(places)), "@" in name

    order = sorted(zoo.populations, key=place)
    if list(zoo.populations) == order:
        return zoo
    ids = {id: at for at, name in enumerate(order) if "@" not in name for id in _twin_ids(zoo, name)}
    rank = zoo.twins["twin_id"].map(ids)
    return replace(
        zoo,
        populations={name: zoo.populations[name] for name in order},
        twins=zoo.twins.iloc[rank.argsort(kind="stable")].reset_index(drop=True),
    )


def _twin_ids(zoo: Zoo, name: str) -> list[str]:
    return [id for group in zoo.groups(name) if "twin_id" in group.models for id in group.ids]


def _added(old: Population, new: Population, dropped: set[str]) -> Population:
    """The rows of a population that stay, then the new ones."""
    rows = [row for row, id in enumerate(old.ids) if id not in dropped]
    if not rows:
        return new
    together = join([old[rows], new[:]])
    together.models[Series.column] = series_keys(together.models)
    return together


def _warn_of_matched(zoo: Zoo, ids: set[str]) -> None:
    """Say which twins were pruned to the sparsity of twins that are no more."""
    if not ids:
        return
    for name in zoo.populations:
        for group in zoo.groups(name):
            if "matched" in group.models and group.models["matched"].isin(ids).any():
                log.warning(
                    "%r was pruned to the sparsity of twins that are replaced now; make it anew "
                    "(zoosparse prune --matched --replace)",
                    name,
                )
                break


def reached_sparsity(
    zoo: Zoo, name: str, originals: Population, *, by_layer: bool
) -> tuple[list[str], Tensor]:
    """The twin of every model in a population, and the sparsity that it reached: float64 [N], or [N, S] by layer.

    Raises:
        InputError: a model has several twins in the population, or none.
    """
    found: dict[str, tuple[str, Tensor]] = {}
    for twins in zoo.populations[name]:
        rows = zip(twins.models["source_id"], twins.ids, twins.sparsity(by_layer), strict=True)
        for source, id, sparsity in rows:
            if source in found:
                raise InputError(
                    f"model {source!r} has several twins in {name!r}: {found[source][0]!r}, {id!r}; match to a "
                    "population with one for each model"
                )
            found[source] = id, sparsity
    if missing := [id for id in originals.ids if id not in found]:
        raise InputError(
            f"{len(missing)} models have no twin in {name!r} to be matched, the first is {missing[0]!r}; match to "
            "another population, or leave these models out of the zoo"
        )
    pairs = [found[id] for id in originals.ids]
    return [id for id, _ in pairs], torch.stack([sparsity for _, sparsity in pairs])
