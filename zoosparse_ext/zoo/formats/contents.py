"""`zoosparse.json`: what our exports keep beside a foreign layout, so that nothing is lost on the way back.

It names architectures, tables and the file of every row. Tools that do not know it lose nothing by ignoring it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from zoosparse_ext.errors import StoreError
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.zoo.formats.files import open_inside, parse_parquet, read_bytes, read_json, resolve_inside
from zoosparse_ext.zoo.formats.plan import Group, Options, Plan, Record
from zoosparse_ext.zoo.plain import plain
from zoosparse_ext.zoo.store import Zoo
from zoosparse_ext.zoo.tables import check_text

FILE = "zoosparse.json"
FOLDER = "zoosparse"  # in layouts whose own folders must hold nothing else
FORMAT, VERSION = "zoosparse-export", 1
_TABLES = ("models", "history", "twins")


def write_contents(folder: Path, zoo: Zoo, layout: str, populations: dict[str, list[Record]]) -> None:
    """Write `zoosparse.json`, the tables and the labels.

    Args:
        folder: where they go; all file names are relative to it.
        layout: of the files with weights.
        populations: what `layout` says of each group; architecture and table of rows are added here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tables").mkdir(exist_ok=True)
    entries: dict[str, list[Record]] = {}
    for name, groups in zoo.populations.items():
        entries[name] = []
        for number, (group, entry) in enumerate(zip(groups, populations[name], strict=True)):
            table = f"tables/{name}-{number}.parquet"
            _to_parquet(group.models, folder / table)
            entries[name].append({"architecture": group.architecture.to_dict(), "table": table, **entry})
    for name in _TABLES:
        _to_parquet(getattr(zoo, name), folder / f"tables/{name}.parquet")
    labels = None
    if zoo.labels is not None:
        labels = "labels.safetensors"
        write_tensors(folder / labels, {"labels": zoo.labels.to(torch.int64)})
    contents = {
        "format": FORMAT,
        "version": VERSION,
        "layout": layout,
        "id": zoo.id,
        "populations": entries,
        "tables": {name: f"tables/{name}.parquet" for name in _TABLES},
        "labels": labels,
        "dataset": zoo.dataset,
        "provenance": zoo.provenance,
    }
    (folder / FILE).write_text(json.dumps(plain(contents), indent=1, allow_nan=False))


def find_contents(root: str | os.PathLike[str]) -> Path | None:
    """The folder of `zoosparse.json` in an export, or None."""
    return next((f for f in (Path(root), Path(root) / FOLDER) if (f / FILE).is_file()), None)


def read_contents(folder: Path) -> Record:
    """What `zoosparse.json` says.

    Raises:
        StoreError: it is damaged, something else, or newer.
    """
    contents = read_json(folder, folder / FILE)
    if not isinstance(contents, dict) or contents.get("format") != FORMAT:
        raise StoreError(f"{folder / FILE} is no description of an export")
    version = contents.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise StoreError(
            f"{folder / FILE} has version {version!s:.40}, this package reads up to {VERSION}; upgrade it"
        )
    for name in ("provenance", "dataset"):
        value = contents.get(name)
        if not isinstance(value, dict) and not (name == "dataset" and value is None):
            raise StoreError(f"{folder / FILE} is damaged: {name} is {value!s:.40}, expected an object")
    return contents


def plan_contents(
    folder: Path, options: Options, group: Callable[[Path, str, Record, pd.DataFrame], Group]
) -> Plan:
    """The plan to read an export; `group(folder, population, entry, table)` says how its layout is read.

    Raises:
        StoreError: a file is missing, damaged, or contradicts `zoosparse.json`.
    """
    contents = read_contents(folder)
    try:
        groups = [
            group(folder, name, entry, _rows(folder, entry["table"]))
            for name, entries in contents["populations"].items()
            for entry in entries
            if _wanted(name, options)
        ]
        named = {name: read_parquet(folder, contents["tables"][name]) for name in _TABLES}
        labels = None
        if contents["labels"] is not None:
            labels = read_tensors(folder, contents["labels"], ["labels"])["labels"]
        plan = Plan(
            groups,
            [],
            named,
            labels,
            contents["dataset"],
            {"format": contents["layout"]},
            str(contents["id"]),
        )
        plan.provenance = contents["provenance"]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise StoreError(f"{folder / FILE} is damaged: {type(error).__name__}: {error!s:.200}") from error
    return plan


def read_architecture(entry: Record, available: int) -> Architecture:
    """The architecture of a group, if a row of it fits into `available` bytes."""
    architecture = Architecture.from_dict(entry["architecture"])
    offset = 0
    for segment in architecture.segments:
        placed = segment.offset == offset and all(isinstance(n, int) and n > 0 for n in segment.shape)
        if not placed or not isinstance(segment.name, str):
            raise StoreError(
                f"architecture {architecture.name!s:.80}: {segment.name!s:.80} has no place in the row"
            )
        offset += segment.size
    shapes = {segment.name: tuple(segment.shape) for segment in architecture.segments}
    tensors = {} if architecture.program is None else architecture.program.tensors()
    for name, shape in tensors.items():
        if shapes.get(name) != shape:
            raise StoreError(
                f"architecture {architecture.name!s:.80}: layer {name!s:.80} does not fit its weight"
            )
    if not 0 < offset <= available:
        raise StoreError(
            f"architecture {architecture.name!s:.80} has {offset:,} parameters, its file {available:,} bytes"
        )
    return architecture


def read_parquet(folder: Path, file: str) -> pd.DataFrame:
    """A table.

    Raises:
        StoreError: it is missing, outside the folder, or damaged.
    """
    content = read_bytes(folder, resolve_inside(folder, file), limit=2**31)
    return parse_parquet(content, folder / file)


def _rows(folder: Path, file: str) -> pd.DataFrame:
    """The table of a group's rows, after a check of their names."""
    table = read_parquet(folder, file)
    for column in ("model_id", "twin_id", "source_id"):
        if column in table:
            check_text(file, table, column)
    return table


def read_tensors(
    folder: Path, file: str, names: Sequence[str] | None = None, rows: slice = slice(None)
) -> dict[str, Tensor]:
    """Tensors of a safetensors file, or some of their rows.

    Raises:
        StoreError: the file is missing, outside the folder, damaged, or lacks one.
    """
    path = resolve_inside(folder, file)
    open_inside(folder, path).close()  # the library would wait for a pipe to be written
    try:
        with safe_open(path, "pt") as opened:
            return {
                name: opened.get_slice(name)[rows] for name in (opened.keys() if names is None else names)
            }
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise StoreError(f"{path} is damaged: {error!s:.200}") from error


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """A safetensors file that others may read: what `safetensors.save_file` writes has its owner's permissions only."""
    path.write_bytes(save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, metadata))


def _to_parquet(table: pd.DataFrame, path: Path) -> None:
    try:
        table.to_parquet(path, index=False)
    except (ValueError, TypeError, ArithmeticError, KeyError) as error:  # of pyarrow, which subclasses these
        raise StoreError(f"table {path.stem!r} cannot be written as Parquet: {error!s:.200}") from error


def _wanted(population: str, options: Options) -> bool:
    _, _, epoch = population.partition("@")
    if not epoch:
        return True
    return options.epochs == "all" or (not isinstance(options.epochs, str) and int(epoch) in options.epochs)
