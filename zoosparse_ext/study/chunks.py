"""Chunks: the units of a study that run, fail and are tried again on their own. Hundreds of models × one stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from zoosparse_ext.population.optimizer_state import OptimizerState
from zoosparse_ext.population.population import Population
from zoosparse_ext.study.work import Work

MODELS = 256  # a chunk: small enough to lose, large enough that its checkpoints cost nothing


@dataclass(frozen=True)
class Chunk:
    """Some models of one group in one stage.

    Args:
        stage: the population that it is for: ``"original"``, ``"magnitude-global"``, …
        group: number of the group, which is one architecture.
        start, stop: rows of the group.
        work: on these rows.
    """

    stage: str
    group: int
    start: int
    stop: int
    work: Work

    @property
    def name(self) -> str:
        """What tells it from the others of its stage, and names its files."""
        return f"{self.group}-rows-{self.start}-{self.stop}"

    def __str__(self) -> str:
        return f"{self.stage}/{self.name}"

    def file(self, folder: Path | None, suffix: str) -> Path | None:
        """A file of this chunk below the folder for unfinished work."""
        return None if folder is None else folder / self.stage / f"{self.name}{suffix}"

    def halves(self) -> tuple[Chunk, Chunk]:
        """The chunk in two, for where it is too large."""
        half = (self.stop - self.start) // 2
        return self._part(0, half), self._part(half, self.stop - self.start)

    def _part(self, first: int, last: int) -> Chunk:
        work = self.work.at_rows(first, last)
        return replace(self, start=self.start + first, stop=self.start + last, work=work)


def cut(stage: str, works: Sequence[Work], models: int = MODELS) -> list[Chunk]:
    """The chunks of a stage, at most so many models each; `works` has one entry a group."""
    return [
        Chunk(stage, group, start, stop, work.at_rows(start, stop))
        for group, work in enumerate(works)
        for start in range(0, work.models, models)
        for stop in [min(start + models, work.models)]
    ]


def join(parts: Sequence[Population], copies: int = 1) -> Population:
    """One population out of its parts, row by row what it would be if it had never been cut.

    >>> from zoosparse_ext import Population, architecture
    >>> whole = Population.initialise(architecture("cnn-s"), seeds=range(3))
    >>> joined = join([whole[:1], whole[1:]])
    >>> torch.equal(joined.weights, whole.weights), joined.ids == whole.ids
    (True, True)

    Args:
        copies: networks of every model, copy by copy in each part and so in the whole.
    """
    if len(parts) == 1:
        return parts[0]
    rows = _interleaved([len(part) for part in parts], copies)

    def stacked(name: str) -> Tensor | None:
        tensors = [getattr(part, name) for part in parts]
        return None if tensors[0] is None else torch.cat(tensors)[torch.from_numpy(rows)]

    weights = stacked("weights")
    assert weights is not None
    history = None
    if parts[0].history is not None:
        tables = [part.history for part in parts if part.history is not None]
        blocks = copies * len(tables[0]) // len(parts[0])  # one an epoch and copy
        order = _interleaved([len(table) for table in tables], blocks)
        history = pd.concat(tables, ignore_index=True).iloc[order].reset_index(drop=True)
    models = pd.concat([part.models for part in parts], ignore_index=True)
    return Population(
        weights,
        parts[0].architecture,
        models.iloc[rows].reset_index(drop=True),
        packed_masks=stacked("packed_masks"),
        predictions=stacked("predictions"),
        history=history,
        counts=stacked("counts"),
        optimizer_state=_joined_state(parts, rows),
        kept={epoch: join([part.kept[epoch] for part in parts], copies) for epoch in parts[0].kept},
        learned={
            name: torch.cat([part.learned[name] for part in parts])[torch.from_numpy(rows)]
            for name in parts[0].learned
        },
    )


def _joined_state(parts: Sequence[Population], rows: np.ndarray) -> OptimizerState | None:
    """The states of the optimizers of all parts, which were trained in the same way; None where one has none."""
    states = [part.optimizer_state for part in parts if part.optimizer_state is not None]
    if len(states) < len(parts):
        return None
    places = torch.from_numpy(rows)
    first, second = (
        torch.cat([getattr(state, name) for state in states])[places] for name in ("first", "second")
    )
    return replace(states[0], first=first, second=second)


def reordered(population: Population, places: Sequence[int], copies: int = 1) -> Population:
    """The rows of a population elsewhere, with their history.

    >>> from zoosparse_ext import Population, architecture
    >>> population = Population.initialise(architecture("cnn-s"), seeds=[1, 2])
    >>> reordered(population, [1, 0]).models["seed"].tolist()
    [2, 1]

    Args:
        places: of the rows of every copy, in the copy that comes out.
        copies: networks of every model, copy by copy.
    """
    order = np.argsort(places)

    def rows(count: int) -> np.ndarray:
        return (np.arange(0, count, len(order))[:, None] + order).reshape(-1)

    out = population[torch.from_numpy(rows(len(population)))]
    if population.history is not None:
        out.history = population.history.iloc[rows(len(population.history))].reset_index(drop=True)
    return out


def _interleaved(lengths: Sequence[int], blocks: int) -> np.ndarray:
    """Positions in a concatenation, such that the first block of every part comes first, then the second, …

    >>> _interleaved([4, 2], 2).tolist()
    [0, 1, 4, 2, 3, 5]
    """
    starts = np.cumsum([0, *lengths[:-1]])
    parts = [
        start + np.arange(length).reshape(blocks, -1) for start, length in zip(starts, lengths, strict=True)
    ]
    return np.concatenate(parts, axis=1).reshape(-1)
