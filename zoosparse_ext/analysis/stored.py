"""Predictions of models and twins by their names, read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from zoosparse_ext.analysis.groups import Group

Array = npt.NDArray[Any]
Place = tuple[int, int]  # number of the group, row in it


class StoredPredictions:
    """Where the predictions of a study are: of every model and twin at its end, and of some at earlier epochs."""

    def __init__(self, populations: Mapping[str, tuple[Group, ...]]) -> None:
        groups = [group for of_name in populations.values() for group in of_name]
        self._groups = [group for group in groups if group.predictions is not None]
        self._places: dict[int | None, dict[str, Place]] = {}
        for number, group in enumerate(self._groups):
            places = self._places.setdefault(group.epoch, {})
            places |= {name: (number, row) for row, name in enumerate(group.ids)}

    def of(self, names: Iterable[str], epochs: Iterable[int | None]) -> Array | None:
        """Classes on the test images, a row for each name at its epoch (None: its end), [n, M].

        None where one of them is not stored, and for no names.
        """
        found = []
        for name, epoch in zip(names, epochs, strict=True):
            place = self._places.get(epoch, {}).get(name)
            if place is None:
                return None
            found.append(place)
        if not found:
            return None
        numbers, rows = np.array(found).T
        order = np.argsort(numbers, kind="stable")
        parts = [self._read(number, rows[numbers == number]) for number in np.unique(numbers)]
        return np.concatenate(parts)[np.argsort(order)] if len(parts) > 1 else parts[0]

    def _read(self, number: int, rows: Array) -> Array:
        predictions = self._groups[number].predictions
        assert predictions is not None  # only such groups are kept
        return predictions[rows]
