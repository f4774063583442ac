"""Matrices that stay on disk, of which some rows at a time are read: to look through zoos larger than the memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from zoosparse_ext.errors import StoreError
from zoosparse_ext.population.architecture import Segment
from zoosparse_ext.zoo import compressed
from zoosparse_ext.zoo.folder import understood
from zoosparse_ext.zoo.shards import Described, check_tensor, read_description, read_tensors, tensor_bytes

Array = npt.NDArray[Any]

SMALL = 8 << 20  # bytes: a tensor of no more is read at once and kept, instead of anew for every few rows


@dataclass
class StoredGroup(Described):
    """One matrix on disk with all that belongs to its rows, of which only small tensors come to stay in memory.

    `weights`, `packed_masks` and `predictions` give rows as arrays: ``group.weights[rows]``, where `rows` are numbers,
    int64 [n]. A file is compared with its checksum when it is first read, if `verify`.
    """

    folder: Path
    entry: dict[str, Any]
    verify: bool
    _seen: set[str] = field(default_factory=set)  # files that were compared with their checksums
    _offsets: dict[str, Tensor] = field(default_factory=dict)  # of rows among the values of a compressed file
    _whole: dict[str, Array] = field(default_factory=dict)  # tensors that are small

    @classmethod
    def of(cls, folder: Path, entry: dict[str, Any], *, verify: bool) -> StoredGroup:
        """The matrix of an entry in the manifest; its table is read.

        Raises:
            StoreError: the table is missing, truncated or altered.
        """
        with understood(folder):
            return cls(*read_description(folder, entry, verify=verify), folder, entry, verify)

    def layers(self) -> tuple[Segment, ...]:
        """The same as of a :class:`~zoosparse_ext.Population`."""
        return self.architecture.segments

    @property
    def weights(self) -> StoredRows:
        return StoredRows(self, "weights")

    @property
    def packed_masks(self) -> StoredRows | None:
        return self._rows("packed_masks")

    @property
    def predictions(self) -> StoredRows | None:
        return self._rows("predictions")

    def read(self, name: str, rows: Array) -> Array:
        """Rows of one tensor, in this order; those of one shard are in memory beside the result.

        Raises:
            StoreError: a file is missing, truncated or altered, or does not hold what the manifest says.
        """
        if name not in self._whole and tensor_bytes(self.entry, name) <= SMALL:
            self._whole[name] = self._read(name, np.arange(self.entry["rows"]))
        return self._whole[name][rows] if name in self._whole else self._read(name, rows)

    def _read(self, name: str, rows: Array) -> Array:
        with understood(self.folder):
            shards = self.entry["shards"]
            starts = np.cumsum([0, *(shard["rows"] for shard in shards)])
            of_row = np.searchsorted(starts, rows, side="right") - 1
            dtype, *shape = self.entry["tensors"][name]
            result = torch.empty(len(rows), *shape, dtype=getattr(torch, dtype))
            for number in np.unique(of_row):
                places = torch.from_numpy(np.flatnonzero(of_row == number))
                chosen = torch.from_numpy(rows[places.numpy()] - starts[number])
                result[places] = self._of_shard(shards[number], name, chosen)
            return result.numpy()

    def _rows(self, name: str) -> StoredRows | None:
        return StoredRows(self, name) if name in self.entry["tensors"] else None

    def _of_shard(self, shard: dict[str, Any], name: str, chosen: Tensor) -> Tensor:
        file, rows, kind = shard["file"], shard["rows"], self.entry["tensors"][name]
        path, tensors = read_tensors(self.folder, shard, verify=self.verify and file not in self._seen)
        self._seen.add(file)
        if name != "weights" or not shard.get("compressed", False):
            return check_tensor(path, name, tensors.get(name), kind, rows)[chosen]
        if file not in self._offsets:
            try:
                self._offsets[file] = compressed.row_offsets(tensors, rows, *kind[1:])
            except StoreError as error:
                raise StoreError(f"{path} {error}") from None
        return compressed.restore_rows(tensors, self._offsets[file], chosen, *kind[1:])


@dataclass(frozen=True)
class StoredRows:
    """One tensor [n, …] of a matrix on disk; ``tensor[rows]`` reads these rows."""

    group: StoredGroup
    name: str

    def __getitem__(self, rows: Array) -> Array:
        return self.group.read(self.name, rows)
