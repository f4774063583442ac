"""Tables beside checkpoints and matrices: which row belongs to which model."""

from __future__ import annotations

import io
import math
import os
from pathlib import Path
from typing import Any

import pandas as pd

from zoosparse_ext.errors import StoreError
from zoosparse_ext.zoo.formats.files import (
    parse_json,
    parse_parquet,
    read_bytes,
    read_gzip,
    read_json,
    resolve_inside,
)
from zoosparse_ext.zoo.formats.plan import Record, Skipped

SUFFIXES = (".csv", ".csv.gz", ".json", ".jsonl", ".parquet")
NAMES = (
    "model_id",
    "id",
    "name",
    "model",
    "file",
    "path",
    "filename",
    "checkpoint",
)  # columns that name a model
FILES = ("file", "path", "filename", "checkpoint")
_OTHER_JSON = ("config.json", "index_dict.json")
_RENAMED = {
    "test_acc": "accuracy",
    "test_accuracy": "accuracy",
    "acc": "accuracy",
    "test_loss": "loss",
    "nlin": "activation",
    "model::nlin": "activation",
    "hidden_act": "activation",
    "learning_rate": "lr",
}


class ModelTable:
    """The tables of a folder, asked for the row of a file; a `config.json` beside a model adds to it.

    Raises:
        StoreError: a table is damaged, or names a file outside the folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rows: list[tuple[str, Record]] = []
        self._places: dict[str, int] = {}  # of rows by every name of a model
        self._used: set[int] = set()
        self._configs: dict[str, Record] = {}  # by folder
        for path in find_tables(folder):
            self._add(path, read_table(folder, path))

    def row(self, file: str, id: str) -> Record:
        """What tables and `config.json` say of a model; `file` is relative to the folder."""
        names = (file, id, os.path.basename(file), os.path.basename(id))
        place = next((self._places[name] for name in names if name in self._places), None)
        record: Record = {}
        if place is not None:
            self._used.add(place)
            record = self._rows[place][1]
        return self._config(os.path.dirname(file)) | record

    def _config(self, folder: str) -> Record:
        if folder not in self._configs:
            path = self._folder / folder / "config.json"
            known = read_json(self._folder, path) if path.is_file() else None
            items = known.items() if isinstance(known, dict) else ()
            self._configs[folder] = {key: value for key, value in items if scalar(value) is not None}
        return self._configs[folder]

    def unused(self) -> list[Skipped]:
        """Models that a table names and that are not there."""
        return [
            Skipped(name, "a table names it, but there is no such checkpoint")
            for place, (name, _) in enumerate(self._rows)
            if place not in self._used
        ]

    def _check(self, table: Path, name: str) -> None:
        try:
            resolve_inside(self._folder, name)
        except StoreError as error:
            raise StoreError(
                f"{table} names files that are elsewhere: {error}, and correct the table"
            ) from error

    def _add(self, path: Path, table: pd.DataFrame) -> None:
        named = [column for column in NAMES if column in table]
        for row in table.to_dict("records") if named else ():
            record = {str(key): scalar(value) for key, value in row.items()}
            names = {column: str(record[column]) for column in named if record[column] is not None}
            for column, name in names.items():
                if column in FILES:
                    self._check(path, name)
                self._places.setdefault(os.path.normpath(name), len(self._rows))
            if names:
                known = {key: value for key, value in record.items() if value is not None}
                self._rows.append((next(iter(names.values())), known))


def model_row(record: Record, id: str, architecture: str, number: int) -> Record:
    """A row of some table as one of ours: known columns by our names, others as they are.

    >>> model_row({"name": "a", "test_acc": 0.5}, "a", "cnn-s-tanh", 3)
    {'model_id': 'a', 'architecture': 'cnn-s-tanh', 'seed': 3, 'accuracy': 0.5}
    """
    row: Record = {"model_id": id, "architecture": architecture, "seed": number}
    row |= {
        _RENAMED.get(name, name): value
        for name, value in record.items()
        if name not in ("id", "name", *FILES)
    }
    seed = row["seed"]
    known = isinstance(seed, int | float) and math.isfinite(seed) and abs(seed) < 2**63
    row["seed"] = int(seed) if known else number
    row["model_id"], row["architecture"] = str(row["model_id"]), architecture
    return row


def find_tables(folder: Path) -> list[Path]:
    """Tables in a folder."""
    if not folder.is_dir():
        return []
    names = (name for name in os.listdir(folder) if name.endswith(SUFFIXES) and name not in _OTHER_JSON)
    return [folder / name for name in sorted(names)]


def read_table(root: Path, path: Path) -> pd.DataFrame:
    """A table of CSV (also gzipped), JSON (records, or one object a model), JSON lines, or Parquet.

    JSON that is no table gives an empty one.

    Raises:
        StoreError: it is damaged.
    """
    content = (
        read_gzip(root, path) if path.name.endswith(".gz") else bytes(read_bytes(root, path, limit=2**31))
    )
    if path.name.endswith(".parquet"):
        return parse_parquet(content, path)
    try:
        if path.name.endswith((".csv", ".csv.gz")):
            return pd.read_csv(io.BytesIO(content))
    except Exception as error:  # pandas raises many types
        raise StoreError(f"{path} is no table that can be read: {error!s:.200}") from error
    if path.name.endswith(".jsonl"):
        value: Any = [parse_json(line, path) for line in content.splitlines() if line.strip()]
    else:
        value = parse_json(content, path)
    if isinstance(value, dict) and all(isinstance(item, dict) for item in value.values()):
        value = [{"model_id": name, **item} for name, item in value.items()]
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        return pd.DataFrame()
    return pd.DataFrame(value)


def scalar(value: Any) -> Any:
    """A value of a table as plain Python; None where it is missing or no scalar."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and math.isnan(value):
        return None
    return value if isinstance(value, str | int | float | bool) else None
