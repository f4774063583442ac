"""What an import is going to read, and what it got: the same for every format.

A format looks at its source once and makes a :class:`Plan`: groups of models with one architecture each. Weights are
read later, some models at a time, by the group's `read`, which gives a :class:`Block`. Rows of a population other than
the last epoch go to the population `<name>@<epoch>`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from zoosparse_ext.errors import StoreError
from zoosparse_ext.population.architecture import Architecture

Record = dict[str, Any]  # one row of a table


class Skipped(NamedTuple):
    """A model that was left out, and why."""

    name: str
    reason: str


class Row(NamedTuple):
    """A model's row in one population."""

    population: str
    place: int  # of the model in its group
    record: Record  # its row of the population's table
    tensors: dict[str, Tensor]  # as `Group.tensors`


@dataclass
class Block:
    """What was read of some models."""

    rows: list[Row] = field(default_factory=list)
    models: list[Record] = field(default_factory=list)  # of the table `models`
    history: list[Record] = field(default_factory=list)
    twins: list[Record] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


@dataclass(frozen=True)
class Options:
    """What the user asked for, the same for every format; passed to worker processes."""

    epochs: str | tuple[int, ...] = "last"  # "last", "all", or some
    strict: bool = False
    allow_nan: bool = False
    trust_pickle: bool = False
    activation: str | None = None
    architecture: Architecture | None = None
    threshold: float = 3.0

    def wants(self, epoch: int, last: int) -> bool:
        """Whether an epoch of a model is to be imported."""
        if self.epochs == "last":
            return epoch == last
        return self.epochs == "all" or epoch in self.epochs


Read = Callable[[Architecture, "Sequence[tuple[int, Any]]", Options], Block]


@dataclass
class Group:
    """Models of one architecture in one population.

    Args:
        populations: `original` and, where earlier epochs are read, `original@<epoch>`.
        items: one per model, small and picklable.
        read: `read(architecture, [(index, item), …], options)`; a function of a module, so that worker processes can
            call it. A model that cannot be read is in `Block.skipped`.
        tensors: type and width of what a row has.
        table: of all items, where it is known; then the records of rows are not looked at.
    """

    populations: list[str]
    architecture: Architecture
    items: Sequence[Any]
    read: Read
    tensors: dict[str, tuple[torch.dtype, int]]
    table: pd.DataFrame | None = None


@dataclass
class Plan:
    """Everything that an import will read.

    Args:
        groups: what to read.
        skipped: models that are known to be broken before their weights are read.
        tables: `models`, `history`, `twins` where they are known; else the blocks bring their rows.
        source: what the import was made of, for the provenance.
    """

    groups: list[Group]
    skipped: list[Skipped] = field(default_factory=list)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    labels: Tensor | None = None
    dataset: Record | None = None
    source: Record = field(default_factory=dict)
    id: str | None = None
    provenance: Record = field(default_factory=dict)


def epoch_population(population: str, epoch: int, last: int) -> str:
    """`original` for the last epoch of a model, `original@12` for an earlier one.

    >>> epoch_population("original", 12, last=50)
    'original@12'
    """
    return population if epoch == last else f"{population}@{epoch}"


def repeated(epochs: Sequence[int]) -> int | None:
    """The first epoch that is there twice, of ascending ones.

    >>> repeated([0, 5, 5, 10])
    5
    """
    return next((epoch for epoch, following in pairwise(epochs) if epoch == following), None)


def check_finite(row: Tensor, architecture: Architecture, allow_nan: bool) -> None:
    """Raise StoreError if a row of weights holds NaN or infinity; names the tensor."""
    if (
        allow_nan or math.isfinite(row.sum()) or bool(torch.isfinite(row).all())
    ):  # a finite sum settles it quickly
        return
    column = int((~torch.isfinite(row)).int().argmax())
    segment = next(s for s in architecture.segments if s.slice.start <= column < s.slice.stop)
    raise StoreError(
        f"{segment.name!r} holds NaN or infinite weights; allow_nan=True (--allow-nan) keeps them"
    )
