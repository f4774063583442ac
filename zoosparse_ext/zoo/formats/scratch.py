"""Where the rows of an import are gathered: matrices that worker processes fill, in memory or in files.

Rows arrive in any order and some never do. Every model has a place; at the end the rows that came are put together,
those in files in another file: an import that is interrupted then finds them where they were. Files are mapped, so that
memory stays bounded by what the system keeps of them.
"""

from __future__ import annotations

import os
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
        """The rows that came, put together. Call once a population."""
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
            _allocate(file.fileno(), size)
    return np.memmap(path, kind, mode="r+", shape=(rows, width))


def _allocate(file: int, size: int) -> None:
    """Take the room of a file: writing to a map of a file for which the disk has no room would kill the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:  # macOS
        os.ftruncate(file, size)


def _together(matrix: np.ndarray, present: list[int]) -> np.ndarray:
    """The rows that are present, copied some at a time; within the matrix if it is in memory."""
    if len(present) == len(matrix):
        return np.asarray(matrix)
    target = matrix
    if isinstance(matrix, np.memmap):
        assert matrix.filename is not None
        path = Path(matrix.filename)
        target = _matrix(
            len(present),
            matrix.shape[1],
            torch.from_numpy(matrix[:0]).dtype,
            path.parent,
            f"{path.name}.present",
        )
    for start in range(0, len(present), _MOVE_ROWS):
        rows = present[start : start + _MOVE_ROWS]
        target[start : start + len(rows)] = matrix[rows]
    return np.asarray(target[: len(present)])
