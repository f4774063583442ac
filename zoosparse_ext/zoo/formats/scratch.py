"""Where the rows of an import are gathered: matrices that worker processes fill, in memory or in files.

Rows arrive in any order and some never do. Every model has a place; at the end the rows that came are moved together.
A file is sparse until written and mapped, so that memory stays bounded by what the system keeps of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from zoosparse_ext.zoo.formats.plan import Group, Row

Columns = dict[str, np.ndarray]  # by tensor
_MOVE_ROWS = 1024


class Scratch:
    """Matrices of one group, by population and tensor.

    Args:
        group: what will be read.
        folder: of the files; None: in memory.
        number: of the group, for the names of its files.
    """

    def __init__(self, group: Group, folder: Path | None, number: int) -> None:
        self._matrices: dict[str, Columns] = {}
        for place, population in enumerate(group.populations):
            self._matrices[population] = {
                name: _matrix(len(group.items), width, dtype, folder, f"{number}-{place}-{name}.rows")
                for name, (dtype, width) in group.tensors.items()
            }

    def put(self, rows: Iterable[Row]) -> None:
        """Store rows at the places of their models."""
        for row in rows:
            for name, matrix in self._matrices[row.population].items():
                matrix[row.place] = row.tensors[name].numpy()

    def flush(self) -> None:
        """Make sure that what was put is on disk."""
        for columns in self._matrices.values():
            for matrix in columns.values():
                if isinstance(matrix, np.memmap):
                    matrix.flush()

    def take(self, population: str, present: list[int]) -> dict[str, Tensor]:
        """The rows that came, moved together: views of the matrices. Call once a population."""
        return {
            name: torch.from_numpy(_together(matrix, present))
            for name, matrix in self._matrices[population].items()
        }


def _matrix(rows: int, width: int, dtype: torch.dtype, folder: Path | None, name: str) -> np.ndarray:
    kind = torch.empty(0, dtype=dtype).numpy().dtype
    if folder is None or rows * width == 0:
        return np.zeros((rows, width), kind)
    path = folder / name
    size = rows * width * kind.itemsize
    if not path.exists() or path.stat().st_size != size:
        with open(path, "wb") as file:
            file.truncate(size)
    return np.memmap(path, kind, mode="r+", shape=(rows, width))


def _together(matrix: np.ndarray, present: list[int]) -> np.ndarray:
    """The first rows of the matrix, after those that are present were moved there, some at a time."""
    if len(present) < len(matrix):
        for start in range(0, len(present), _MOVE_ROWS):
            rows = present[start : start + _MOVE_ROWS]
            matrix[start : start + len(rows)] = matrix[rows]
    return np.asarray(matrix[: len(present)])
