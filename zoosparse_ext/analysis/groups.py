"""Rows of a population that share an architecture, with the matrices behind them: on disk until they are asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from zoosparse_ext.sparsify.twins import layer_names

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Layer:
    """The columns `start:stop` of the weight matrix that hold one tensor of the network."""

    name: str  # "module_list.3", as in the column sparsity_layer.module_list.3
    start: int
    stop: int
    prunable: bool
    shape: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        return self.stop - self.start


class Rows(Protocol):
    """Rows of a matrix by their numbers, int64 [n]: an array, or what reads them from disk when they are asked for."""

    def __getitem__(self, rows: Array, /) -> Array: ...


@dataclass(frozen=True)
class Group:
    """Rows of one population that share an architecture: n models or twins, P parameters, M test images."""

    rows: pd.DataFrame  # n rows: model_id, or twin_id and source_id
    layers: tuple[Layer, ...] = ()
    weights: Rows | None = None  # [n, P] float32
    packed_masks: Rows | None = None  # [n, ceil(P/8)] uint8, little bit order, 1 = kept
    predictions: Rows | None = None  # [n, M] classes on the test images
    epoch: int | None = None  # None: the last one of every row

    @property
    def ids(self) -> list[str]:
        """`twin_id` of every row where there is one, else `model_id`."""
        return [str(value) for value in self.rows["twin_id" if "twin_id" in self.rows else "model_id"]]

    @property
    def n_parameters(self) -> int:
        return max((layer.stop for layer in self.layers), default=0)

    @property
    def n_prunable(self) -> int:
        """The denominator of every sparsity of this group."""
        return sum(layer.size for layer in self.layers if layer.prunable)

    def packed_prunable(self) -> Array:
        """The prunable columns as bits: uint8 [ceil(P/8)], little bit order."""
        bits = np.zeros(self.n_parameters, dtype=bool)
        for layer in self.layers:
            bits[layer.start : layer.stop] = layer.prunable
        return np.packbits(bits, bitorder="little")


def places(groups: Iterable[Group]) -> dict[str, tuple[int, int]]:
    """Where a model or twin is stored, by its name: number of the group, row in it."""
    return {name: (number, row) for number, group in enumerate(groups) for row, name in enumerate(group.ids)}


def group_of(population: Any, name: str) -> Group:
    _, _, epoch = name.partition("@")
    layers = tuple(population.layers()) if callable(getattr(population, "layers", None)) else ()
    return Group(
        rows=population.models.reset_index(drop=True),
        layers=_layers(layers),
        weights=as_array(getattr(population, "weights", None)),
        packed_masks=as_array(getattr(population, "packed_masks", None)),
        predictions=as_array(getattr(population, "predictions", None)),
        epoch=int(epoch) if epoch else None,
    )


def _layers(records: tuple[Any, ...]) -> tuple[Layer, ...]:
    """What tables call the tensors "module_list.3.weight" and "module_list.3.bias": both "module_list.3"."""
    names = iter(layer_names([record.name for record in records if record.prunable]))
    return tuple(
        Layer(
            next(names) if record.prunable else layer_names([record.name])[0],
            record.slice.start,
            record.slice.stop,
            bool(record.prunable),
            tuple(record.shape),
        )
        for record in records
    )


def as_array(tensor: Any) -> Any:
    """A numpy view of a tensor; anything else, also None, as it is."""
    return np.asarray(tensor.detach().cpu()) if hasattr(tensor, "detach") else tensor
