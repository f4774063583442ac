"""The populations of a zoo on disk, read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoosparse_ext.population.population import Population
from zoosparse_ext.zoo.folder import carry_file, file_entries, understood
from zoosparse_ext.zoo.shards import (
    MappedGroup,
    entry_disk_size,
    entry_size,
    groups_size,
    map_group,
    read_group,
)
from zoosparse_ext.zoo.stored_rows import StoredGroup


class StoredPopulations(Mapping[str, list[Population]]):
    """Populations in a folder, each read on first access; others can be put beside them or in their place.

    Args:
        folder: of the zoo.
        entries: what its manifest says about each population, one entry per matrix.
        verify: compare checksums when reading.
    """

    def __init__(self, folder: Path, entries: dict[str, list[dict[str, Any]]], verify: bool = True) -> None:
        self.folder = folder.absolute()  # a later chdir must not matter
        self.entries = entries
        self._verify = verify
        self._groups: dict[str, list[Population]] = {}  # what was read, or put in place of what is stored

    def with_groups(self, name: str, groups: list[Population]) -> StoredPopulations:
        """The same populations, with one added or replaced in memory."""
        changed = StoredPopulations(self.folder, self.entries, self._verify)
        changed._groups = {**self._groups, name: groups}
        return changed

    def is_unread(self, name: str) -> bool:
        """Whether a population is as it is on disk."""
        return name not in self._groups

    def size(self, name: str) -> tuple[int, int]:
        """Rows of a population, and bytes of its matrices; reads none of them."""
        if name in self._groups:
            return groups_size(self._groups[name])
        with understood(self.folder):
            sizes = [entry_size(entry) for entry in self.entries[name]]
            return sum(rows for rows, _ in sizes), sum(size for _, size in sizes)

    def disk_size(self, name: str) -> int | None:
        """Bytes of the files of a population; None if it is in memory only."""
        if name in self._groups and name not in self.entries:
            return None
        with understood(self.folder):
            return sum(entry_disk_size(entry) for entry in self.entries[name])

    def mapped(self, name: str) -> list[MappedGroup]:
        """The matrices of a population with their weights left on disk, unless they were read already.

        Raises:
            StoreError: a file is missing or truncated.
        """
        if name in self._groups:
            return mapped(self._groups[name])
        return [map_group(self.folder, entry) for entry in self.entries[name]]

    def groups(self, name: str) -> Sequence[Population | StoredGroup]:
        """The matrices of a population, left on disk to be read by rows, unless they were read already.

        Raises:
            StoreError: a table is missing or damaged.
        """
        if name in self._groups:
            return self._groups[name]
        return [StoredGroup.of(self.folder, entry, verify=self._verify) for entry in self.entries[name]]

    def carry(self, name: str, target: Path) -> list[dict[str, Any]]:
        """Make the files of an unread population count in a folder, this or another; returns its entries.

        Raises:
            StoreError: a file is missing or damaged.
        """
        with understood(self.folder):
            for entry in file_entries(self.entries[name]):
                carry_file(self.folder, target, entry)
        return self.entries[name]

    def __getitem__(self, name: str) -> list[Population]:
        if name not in self._groups:
            entries = self.entries[name]
            with understood(self.folder):
                self._groups[name] = [
                    read_group(self.folder, entry, verify=self._verify) for entry in entries
                ]
        return self._groups[name]

    def __contains__(self, name: object) -> bool:
        return name in self.entries or name in self._groups

    def __iter__(self) -> Iterator[str]:
        return iter({**self.entries, **self._groups})

    def __len__(self) -> int:
        return len({**self.entries, **self._groups})


def mapped(groups: list[Population]) -> list[MappedGroup]:
    """Matrices in memory in the form of those on disk."""
    return [
        MappedGroup(group.architecture, group.models, [group.weights], group.packed_masks is not None)
        for group in groups
    ]
