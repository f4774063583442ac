"""Tables of a zoo on disk, read when they are first looked at.

Reading a small table costs a millisecond, nearly all of it in making a data frame, and the history of a large zoo takes
seconds; whoever opens a zoo for its weights needs neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from zoosparse_ext.errors import StoreError
from zoosparse_ext.zoo import tables
from zoosparse_ext.zoo.folder import FileEntry, carry_file, check_file

if TYPE_CHECKING:
    from zoosparse_ext.zoo.store import Zoo


@dataclass(frozen=True)
class StoredTable:
    """A table that stays on disk until it is needed.

    Args:
        name: which of `tables.SCHEMAS` it must follow.
        folder: of the zoo.
        entry: what its manifest says about the table.
        verify: compare the checksum when reading.
    """

    name: str
    folder: Path
    entry: dict[str, Any]
    verify: bool

    @classmethod
    def of(cls, name: str, folder: Path, entry: dict[str, Any], *, verify: bool) -> StoredTable:
        """The table of an entry in the manifest; its file is not read.

        Raises:
            StoreError: the file is missing or truncated, or lies outside the zoo.
        """
        folder = folder.absolute()  # a later chdir must not matter
        check_file(folder, FileEntry.from_dict(entry), content=False)
        return cls(name, folder, entry, verify)

    def read(self) -> pd.DataFrame:
        """The table itself.

        Raises:
            StoreError: the file is missing, truncated, altered or no Parquet, or is not a table of this name.
        """
        table = tables.read_table(self.folder, self.entry, verify=self.verify)
        try:
            return tables.checked(self.name, table)
        except StoreError as error:
            raise StoreError(f"{self.folder / self.entry['file']} is damaged: {error}") from None

    def carry(self, target: Path) -> dict[str, Any]:
        """Make the file count in a folder, this or another; returns its entry.

        Raises:
            StoreError: the file is missing or damaged.
        """
        carry_file(self.folder, target, FileEntry.from_dict(self.entry))
        return self.entry


class TableField:
    """The attribute of a zoo that holds one of its tables: checked when it is set, read when it is first looked at.

    A zoo without the table has an empty one, unless it is `required`.
    """

    def __init__(self, *, required: bool = False) -> None:
        self.required = required

    def __set_name__(self, owner: type[Zoo], name: str) -> None:
        self.name = name

    def __get__(self, zoo: Zoo | None, owner: type[Zoo]) -> pd.DataFrame:
        if zoo is None:  # a dataclass asks for the default
            if self.required:
                raise AttributeError(self.name)
            return None  # type: ignore[return-value]
        table = vars(zoo)[self.name]
        if isinstance(table, StoredTable):
            table = vars(zoo)[self.name] = table.read()
        return table

    def __set__(self, zoo: Zoo, table: pd.DataFrame | StoredTable | None) -> None:
        if table is None:
            table = tables.empty(self.name)
        elif isinstance(table, pd.DataFrame):
            table = tables.checked(self.name, table)
        vars(zoo)[self.name] = table
