"""Importing vectorised zoos: one matrix with a row per model, or per model and epoch, and a table of the rows."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from zoosparse_ext.errors import StoreError
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.zoo.formats.archive import read_record, read_tensor, zip_records
from zoosparse_ext.zoo.formats.checkpoint import run_pickle
from zoosparse_ext.zoo.formats.contents import read_tensors
from zoosparse_ext.zoo.formats.files import open_inside
from zoosparse_ext.zoo.formats.model_tables import model_row, scalar
from zoosparse_ext.zoo.formats.npy import map_npz, npy_array
from zoosparse_ext.zoo.formats.plan import (
    Block,
    Group,
    Options,
    Record,
    Row,
    Skipped,
    check_finite,
    epoch_population,
    repeated,
)
from zoosparse_ext.zoo.formats.unpickle import StoredTensor, load_pickle

SUFFIXES = (".npy", ".npz", ".safetensors", ".pt", ".pth")
_MODEL = ("model_id", "modeldir", "model", "id", "name")
_EPOCH = ("epoch", "step", "training_iteration")
_AMBIGUOUS = (
    "{rows} rows have this name in column {column!r}, several of them epoch {epoch}; the table must name every model, "
    f"or say the epochs of one in a column {', '.join(_EPOCH)}"
)
_HISTORY = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "test_loss", "test_accuracy")


class Item(NamedTuple):
    """A model: the rows of its epochs, and what the table says of each."""

    root: str
    file: str
    id: str
    rows: tuple[tuple[int, int], ...]  # epoch, row; ascending
    records: tuple[Record, ...]  # of each epoch, by our names


def open_matrix(
    root: str | os.PathLike[str], file: str | os.PathLike[str], trust: bool = False
) -> np.ndarray | Tensor:
    """The matrix [rows, columns] of a file, mapped into memory.

    Of several arrays in one file, the one named `weights`, `data` or `matrix`, or the only matrix. With `trust`, a
    pickle that needs more than tensors and plain values is run.

    Raises:
        StoreError: the file is damaged, or holds no such matrix.
    """
    path = Path(file)
    if path.suffix == ".safetensors":
        return _choose(dict(read_tensors(Path(root), os.fspath(path))), path)
    if path.suffix == ".npz":
        return _choose(map_npz(Path(root), path), path)
    with open_inside(root, path) as opened:
        try:
            content = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY)
        except (ValueError, OSError) as error:
            raise StoreError(f"{path} is empty or cannot be mapped: {error}") from error
    if path.suffix == ".npy":
        return _choose({"weights": npy_array(content, 0, len(content), path)}, path)
    try:
        return _choose(_stored(content, path), path)
    except StoreError:
        if not trust:
            raise
        value = run_pickle(content[:], path, trusted=True)
        tensors = value if isinstance(value, dict) else {"weights": value}
        return _choose({str(k): t for k, t in tensors.items() if isinstance(t, Tensor)}, path)


def matrix_groups(
    root: Path,
    file: Path,
    table: pd.DataFrame | None,
    architecture_of: dict[int, Architecture],
    columns: np.ndarray | None,
    options: Options,
) -> tuple[list[Group], list[Skipped]]:
    """Groups of the models of a matrix.

    Args:
        table: one line per row of the matrix, in its order; None: every row is a model.
        architecture_of: of every row that can be read.
        columns: of the file, in the order of the architecture; None: as they are.
    """
    models: dict[str, list[tuple[int, int]]] = {}
    records: list[Any] = [{} for _ in architecture_of] if table is None else table.to_dict("records")
    name = next((column for column in _MODEL if table is not None and column in table), None)
    clock = next((column for column in _EPOCH if table is not None and column in table), None)
    for row in architecture_of:
        id = f"{row:06d}" if name is None else str(records[row][name])
        epoch = 0 if clock is None else _integer(records[row][clock])
        models.setdefault(id, []).append((epoch, row))
    members: dict[Architecture, list[Item]] = {}
    skipped: list[Skipped] = []
    for number, (id, rows) in enumerate(models.items()):
        rows.sort()
        twice = repeated([epoch for epoch, _ in rows])
        if twice is not None:
            skipped.append(Skipped(id, _AMBIGUOUS.format(rows=len(rows), column=name, epoch=twice)))
            continue
        chosen = [pair for pair in rows if options.wants(pair[0], rows[-1][0])]
        if not isinstance(options.epochs, str) and len({epoch for epoch, _ in chosen}) < len(options.epochs):
            skipped.append(Skipped(id, "it lacks a row of an epoch that was asked for"))
            continue
        architecture = architecture_of[rows[-1][1]]
        lines = tuple(_record(records[row], id, architecture, number, epoch) for epoch, row in chosen)
        members.setdefault(architecture, []).append(
            Item(os.fspath(root), os.fspath(file), id, tuple(chosen), lines)
        )
    groups = []
    for architecture, items in members.items():
        earlier = sorted({epoch for item in items for epoch, _ in item.rows[:-1]})
        populations = ["original", *(f"original@{epoch}" for epoch in earlier)]
        read = partial(read_matrix, columns=columns)
        width = {"weights": (torch.float32, architecture.n_parameters)}
        groups.append(Group(populations, architecture, items, read, width))
    return groups, skipped


def read_matrix(
    architecture: Architecture,
    items: Sequence[tuple[int, Item]],
    options: Options,
    columns: np.ndarray | None = None,
) -> Block:
    """Rows of a matrix."""
    block = Block()
    if not items:
        return block
    matrix = open_matrix(items[0][1].root, items[0][1].file, options.trust_pickle)
    for place, item in items:
        rows = _rows(architecture, place, item, matrix, columns, options)
        if isinstance(rows, Skipped):
            block.skipped.append(rows)
            continue
        block.rows += rows
        block.models.append(rows[-1].record)
        for (epoch, _), record in zip(item.rows, item.records, strict=True):
            measured = {name: record.get(name, math.nan) for name in _HISTORY}
            measured["test_accuracy"] = record.get("accuracy", math.nan)
            measured["test_loss"] = record.get("loss", math.nan)
            if any(value == value for value in measured.values()):
                block.history.append({"model_id": item.id, "epoch": epoch, **measured})
    return block


def _rows(
    architecture: Architecture,
    place: int,
    item: Item,
    matrix: np.ndarray | Tensor,
    columns: np.ndarray | None,
    options: Options,
) -> list[Row] | Skipped:
    rows = []
    for (epoch, row), record in zip(item.rows, item.records, strict=True):
        weights = _float32(matrix[row])
        weights = weights if columns is None else weights[columns]
        try:
            check_finite(weights, architecture, options.allow_nan)
        except StoreError as error:
            return Skipped(item.id, f"epoch {epoch}: {error}")
        name = epoch_population("original", epoch, item.rows[-1][0])
        rows.append(Row(name, place, record, {"weights": weights}))
    return rows


def _float32(row: np.ndarray | Tensor) -> Tensor:
    """A copy; NumPy has no bfloat16, PyTorch no other order of bytes. What is too large is infinite and found later."""
    if isinstance(row, Tensor):
        return row.to(torch.float32, copy=True)
    with np.errstate(over="ignore"):
        return torch.from_numpy(row.astype(np.float32))


def _record(record: Record, id: str, architecture: Architecture, number: int, epoch: int) -> Record:
    known = {str(key).removeprefix("config."): scalar(value) for key, value in record.items()}
    known = {
        key: value
        for key, value in known.items()
        if value is not None and key not in _MODEL and key not in _EPOCH
    }
    return {**model_row(known, id, architecture.name, number), "epoch": epoch}


def _integer(value: object) -> int:
    number = scalar(value)
    if not isinstance(number, int | float) or not 0 <= number < 2**53 or number != int(number):
        raise StoreError(f"{value!s:.40} is no epoch")
    return int(number)


def _stored(content: mmap.mmap, path: Path) -> dict[str, Tensor]:
    """The tensors in a file of `torch.save`."""
    records = zip_records(content, path)
    value = load_pickle(read_record(content, records, "data.pkl", path), path)
    tensors = value if isinstance(value, dict) else {"weights": value}
    stored = {str(name): tensor for name, tensor in tensors.items() if isinstance(tensor, StoredTensor)}
    return {name: read_tensor(content, records, tensor, path) for name, tensor in stored.items()}


def _choose(arrays: dict[str, np.ndarray] | dict[str, Tensor], path: Path) -> np.ndarray | Tensor:
    floating = ("float16", "float32", "float64", "bfloat16")
    matrices = {name: a for name, a in arrays.items() if a.ndim == 2 and _dtype_name(a) in floating}
    for name in ("weights", "data", "matrix"):
        if name in matrices:
            return matrices[name]
    if len(matrices) != 1:
        shown = ", ".join(f"{name:.40} {_dtype_name(a)} {list(a.shape)}" for name, a in arrays.items())
        raise StoreError(
            f"{path} holds {len(matrices)} matrices of weights ({shown or 'nothing':.300}), expected one, "
            "or one named 'weights', of floating point"
        )
    return next(iter(matrices.values()))


def _dtype_name(array: np.ndarray | Tensor) -> str:
    """The type of the numbers, whatever the order of their bytes."""
    return array.dtype.name if isinstance(array, np.ndarray) else str(array.dtype).removeprefix("torch.")
