"""Twins on their way into a zoo: what is there already, what is added, and what is put in place of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from zoosparse_ext.errors import InputError
from zoosparse_ext.population.population import Population
from zoosparse_ext.sparsify.series import Series, series_keys
from zoosparse_ext.sparsify.settings import Texts, number_text
from zoosparse_ext.study.chunks import join
from zoosparse_ext.study.naming import SETTINGS
from zoosparse_ext.zoo import Zoo

log = logging.getLogger(__name__)


def ratios_of(zoo: Zoo, name: str) -> list[float]:
    """The ratios at which a population has twins, in their order; none if there is no such population."""
    if name not in zoo.populations:
        return []
    groups = zoo.groups(name)
    return list(dict.fromkeys(float(ratio) for group in groups for ratio in group.models["target"]))


def missing_ratios(zoo: Zoo, name: str, ratios: Sequence[float], *, replacing: bool) -> list[float]:
    """The ratios that a series still lacks, or all of them where twins are to be replaced.

    Raises:
        InputError: it lacks none.
    """
    there = ratios_of(zoo, name)
    kept = [ratio for ratio in ratios if ratio in there]
    if replacing or not kept:
        return list(ratios)
    told = ", ".join(map(number_text, sorted(kept)))
    if len(kept) == len(ratios):
        raise _finished(f"{name!r} at {told}")
    log.warning(
        "the zoo has %r at %s already: these stay; replace=True (--replace) makes them anew", name, told
    )
    return [ratio for ratio in ratios if ratio not in there]


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
    whole, dropped = groups, {id for group in there for id in group.ids}
    if adding and there:  # `require_alike` was asked
        made = {ratio for group in groups for ratio in group.models["target"]}
        dropped = {
            id
            for group in there
            for id, ratio in zip(group.ids, group.models["target"], strict=True)
            if ratio in made
        }
        if not dropped.issuperset(id for group in there for id in group.ids):
            old = zoo.populations[name]
            whole = [_added(*pair, dropped) for pair in zip(old, groups, strict=True)]
    _warn_of_matched(zoo, dropped)
    kept = zoo.twins[~zoo.twins["twin_id"].isin(dropped)]
    rows = pd.concat([group.history for group in groups if group.history is not None], ignore_index=True)
    twins = pd.concat([kept, rows], ignore_index=True) if len(kept) else rows
    twins[Series.column] = series_keys(twins)
    noted = {**zoo.provenance.get(SETTINGS, {}), name: settings}
    provenance = {**zoo.provenance, SETTINGS: noted}
    return replace(zoo.with_population(name, whole), twins=twins, provenance=provenance)


def in_order(zoo: Zoo, names: Sequence[str]) -> Zoo:
    """The zoo with its populations, and their rows in the table of twins, in another order."""
    places = {id: place for place, name in enumerate(names) if "@" not in name for id in _twin_ids(zoo, name)}
    rank = zoo.twins["twin_id"].map(places)
    return replace(
        zoo,
        populations={name: zoo.populations[name] for name in names},
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
