"""Several populations of one architecture as one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import torch

from zoosparse_ext import ops
from zoosparse_ext.errors import InputError, require_kind
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.optimizer_state import OptimizerState
from zoosparse_ext.population.population import Population
from zoosparse_ext.population.stacking import require_same
from zoosparse_ext.population.tensors import as_arguments, tensors_of

log = logging.getLogger(__name__)

MISSING = ("refuse", "drop")


def concat(populations: Sequence[Population], *, missing: str = "refuse") -> Population:
    """Several populations of one architecture as one, their rows one after the other.

    >>> import zoosparse_ext as zs
    >>> network = zs.architecture("cnn-s")
    >>> first, second = (zs.Population.initialise(network, seeds=seeds) for seeds in (range(2), range(2, 5)))
    >>> zs.concat([first, second]).ids[1:3]
    ['cnn-s-tanh-0001', 'cnn-s-tanh-0002']

    Weights, masks, `learned` matrices, counters, predictions, optimizer state, history and kept epochs are joined. A
    population without masks is joined with one that has them as one whose weights are all kept. Tables are joined by
    column; where one lacks a column, its rows have no value there. What was joined shares no memory with its parts.

    Args:
        populations: [N₁, P], [N₂, P], …; one alone is copied.
        missing: what to do with what only some of them have, or what cannot be joined, such as predictions on other
            numbers of images: ``"refuse"`` it by name, or ``"drop"`` it from the result.

    Returns:
        The population [N₁ + N₂ + …, P]. `trained_by` stays if it is that of all.

    Raises:
        InputError: no populations; other columns, operations or modules than those of the first; weights of another
            type or on another device; two networks of one id; originals beside twins, or dropout rates that only some
            tables have; what `missing` says is refused.
    """
    if isinstance(populations, Population):
        raise InputError("concat takes several populations, got one; pass a list of them")
    require_kind("populations", populations, Sequence, "a list of populations")
    parts = list(populations)
    if not parts:
        raise InputError("there are no populations to join; pass at least one")
    for part in parts:
        require_kind("populations", part, Population, "a list of zs.Population")
    require_kind("missing", missing, str, "'refuse' or 'drop'")
    if missing not in MISSING:
        raise InputError(f"missing must be 'refuse' or 'drop', got {missing!r}")
    for number, part in enumerate(parts):
        _require_alike(parts[0], part, number)
    return _joined(parts, _Dropped(missing, len(parts)), own_ids=True)


class _Dropped:
    """What is not joined: refused, or left out and told."""

    def __init__(self, missing: str, parts: int) -> None:
        self.refuses = missing == "refuse"
        self.parts = parts

    def all_have(self, name: str, numbers: list[int], why: str = "") -> bool:
        """Whether all populations have something; else it is refused, or left out."""
        if not numbers or (len(numbers) == self.parts and not why):
            return bool(numbers)
        told = why or f"only {_numbered(numbers)} of {self.parts} populations has it"
        if self.refuses:
            raise InputError(f"{name} cannot be joined: {told}; missing='drop' leaves it out of the result")
        log.warning("concat leaves out %s: %s", name, told)
        return False


def _joined(parts: list[Population], dropped: _Dropped, *, own_ids: bool) -> Population:
    models = pd.concat([part.models for part in parts], ignore_index=True)
    if own_ids:
        _require_own_ids(parts)
    histories = [part.history for part in parts if part.history is not None]
    has_history = dropped.all_have("history", _having(parts, lambda part: part.history is not None))
    rest: dict[str, Any] = {
        "history": pd.concat(histories, ignore_index=True) if has_history else None,
        "optimizer_state": _state(parts, dropped),
        "kept": _kept(parts, dropped) if own_ids else {},
        **as_arguments(_tensors(parts, dropped)),
    }
    whole = Population.from_rows(architecture=_architecture(parts), models=models, **rest)
    whole.trained_by = _trained_by(parts)
    return whole


def _tensors(parts: list[Population], dropped: _Dropped) -> dict[str, torch.Tensor]:
    named = [tensors_of(part) for part in parts]
    if any("packed_masks" in tensors for tensors in named):
        for part, tensors in zip(parts, named, strict=True):
            if "packed_masks" not in tensors:
                tensors["packed_masks"] = ops.pack_mask(torch.ones_like(part.weights, dtype=torch.bool))
    found = {}
    for name in dict.fromkeys(name for tensors in named for name in tensors):
        having = [number for number, tensors in enumerate(named) if name in tensors]
        kinds = {(tensors[name].dtype, tensors[name].shape[1:]) for tensors in named if name in tensors}
        why = ""
        if len(kinds) > 1:
            why = f"it is {' and '.join(sorted(f'{dtype} [N, {_lengths(shape)}]' for dtype, shape in kinds))}"
        if dropped.all_have(name, having, why):
            found[name] = torch.cat([tensors[name].detach() for tensors in named])
    return found


def _state(parts: list[Population], dropped: _Dropped) -> OptimizerState | None:
    states = [part.optimizer_state for part in parts if part.optimizer_state is not None]
    told = {f"{state.kind} after {state.step} steps and {state.epochs} epochs" for state in states}
    why = f"it is of {' and of '.join(sorted(told))}" if len(told) > 1 else ""
    having = _having(parts, lambda part: part.optimizer_state is not None)
    if not dropped.all_have("optimizer_state", having, why):
        return None
    first, second = (torch.cat([getattr(state, name) for state in states]) for name in ("first", "second"))
    return replace(states[0], first=first, second=second)


def _kept(parts: list[Population], dropped: _Dropped) -> dict[int, Population]:
    epochs = sorted({epoch for part in parts for epoch in part.kept})
    found = {}
    for epoch in epochs:
        having = [number for number, part in enumerate(parts) if epoch in part.kept]
        if dropped.all_have(f"kept epoch {epoch}", having):
            found[epoch] = _joined([part.kept[epoch] for part in parts], dropped, own_ids=False)
    return found


def _trained_by(parts: list[Population]) -> dict[str, Any] | None:
    known = [part.trained_by for part in parts]
    if all(record == known[0] for record in known):
        return known[0]
    log.warning("concat leaves out trained_by: the populations were trained in different ways")
    return None


def _architecture(parts: list[Population]) -> Architecture:
    """That of the first, with the module and the size of images where only another knows them."""
    known = [part.architecture for part in parts]
    template = next((one.template for one in known if one.template is not None), None)
    shape = next((one.input_shape for one in known if one.input_shape is not None), None)
    first = known[0]
    if template is first.template and shape == first.input_shape:
        return first
    return replace(first, template=template, input_shape=shape)


def _require_alike(first: Population, other: Population, number: int) -> None:
    """Raise InputError unless both compute the same with the same columns."""
    ours, theirs = first.architecture, other.architecture
    what = f"population {number}"
    if ours.segments != theirs.segments:
        pairs = zip(ours.segments, theirs.segments, strict=False)
        differing = next(((a, b) for a, b in pairs if a != b), None)
        told = f"{len(theirs.segments)} tensors, population 0 has {len(ours.segments)}"
        if differing is not None:
            told = f"{_said(differing[1])}, population 0 has {_said(differing[0])}"
        raise InputError(f"{what} is of another architecture: it has {told}; join those of one architecture")
    same_way = (ours.program is None) == (theirs.program is None)
    if not same_way or (ours.program is not None and ours.program.to_list() != _program(theirs)):
        raise InputError(
            f"{what} computes something else with the same columns than population 0: {theirs.name!r} and "
            f"{ours.name!r} differ in their operations; join those of one architecture"
        )
    if None not in (ours.input_shape, theirs.input_shape) and ours.input_shape != theirs.input_shape:
        raise InputError(
            f"{what} takes images {theirs.input_shape}, population 0 {ours.input_shape}; join those of one size"
        )
    if ours.counters != theirs.counters:
        raise InputError(f"{what} counts {list(theirs.counters)}, population 0 {list(ours.counters)}")
    if ours.program is None:
        _require_same_module(ours, theirs, what)
    if first.weights.dtype != other.weights.dtype or first.weights.device != other.weights.device:
        raise InputError(
            f"{what} has weights {other.weights.dtype} on {other.weights.device}, population 0 has "
            f"{first.weights.dtype} on {first.weights.device}; move it with population.to(…) first"
        )
    for column, meaning in (
        ("twin_id", "twins beside originals"),
        ("dropout", "dropout rates of some alone"),
    ):
        if (column in first.models) != (column in other.models):
            raise InputError(
                f"{what} and population 0 cannot be one: only one of their tables has the column {column!r} "
                f"({meaning})"
            )


def _require_same_module(ours: Architecture, theirs: Architecture, what: str) -> None:
    """Raise InputError if modules, which run what is no chain, differ in more than columns; one may be missing."""
    if ours.template is None or theirs.template is None:
        return
    try:
        found = require_same(ours, ours.template, theirs.template)
    except InputError as error:
        raise InputError(f"{what} has another module: {error} (model 0: that of population 0)") from None
    if found:
        raise InputError(f"{what} has another module: {found[0]} (model 0: that of population 0)")


def _program(architecture: Architecture) -> object:
    return None if architecture.program is None else architecture.program.to_list()


def _require_own_ids(parts: list[Population]) -> None:
    """Raise InputError if two populations, or rows of one, name one network."""
    places: dict[Any, int] = {}
    for number, part in enumerate(parts):
        for id in part.ids:
            if id in places:
                column = "twin_id" if "twin_id" in part.models else "model_id"
                raise InputError(
                    f"populations {places[id]} and {number} both have a network {id!r}; give every network an id of "
                    f"its own, in population.models[{column!r}]"
                )
            places[id] = number


def _having(parts: list[Population], has: Callable[[Population], bool]) -> list[int]:
    return [number for number, part in enumerate(parts) if has(part)]


def _numbered(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:3])) + ", …" * (len(numbers) > 3)
    return f"number {shown}"


def _said(segment: Any) -> str:
    frozen = "" if segment.trainable else ", frozen"
    kept = "" if segment.prunable else ", not prunable"
    return f"{segment.name!r} {list(segment.shape)}{kept}{frozen}"


def _lengths(shape: torch.Size) -> str:
    return " × ".join(map(str, shape))
