"""Importing a flat matrix with `index_dict.json`, as vectorised zoos are published."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from zoosparse_ext.errors import StoreError
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.zoo.formats.files import read_json
from zoosparse_ext.zoo.formats.infer import Shapes, infer
from zoosparse_ext.zoo.formats.matrix import SUFFIXES, matrix_groups, open_matrix
from zoosparse_ext.zoo.formats.model_tables import find_tables, read_table, scalar
from zoosparse_ext.zoo.formats.plan import Options, Plan, Skipped

INDEX = "index_dict.json"
_LISTS = ("layer", "idx_start", "idx_length", "kernel_no", "kernel_size", "channels_in")
_ACTIVATIONS = ("activation", "nlin", "model::nlin", "config.activation")


def is_flat(root: Path) -> bool:
    """Whether a folder (or the folder of a file) has an `index_dict.json` and a matrix."""
    folder = root if root.is_dir() else root.parent
    return (folder / INDEX).is_file() and len(_matrices(root)) == 1


def plan_flat(roots: Sequence[str | os.PathLike[str]], options: Options) -> Plan:
    """The plan of an import.

    Raises:
        StoreError: matrix, index and table do not fit together.
    """
    plan = Plan([], source={"format": "flat"})
    for root in map(Path, roots):
        folder = root if root.is_dir() else root.parent
        matrices = _matrices(root)
        if len(matrices) != 1:
            raise StoreError(f"{root} holds {len(matrices)} files that could be the matrix; name one")
        file = matrices[0]
        shapes = index_shapes(read_json(folder, folder / INDEX), folder / INDEX)
        rows, width = open_matrix(folder, file, options.trust_pickle).shape
        table = _row_table(folder, file, rows)
        architecture_of, skipped = _architectures(shapes, table, rows, options)
        for architecture in set(architecture_of.values()):
            if architecture.n_parameters != width:
                raise StoreError(f"{file} has {width} columns, {INDEX} describes {architecture.n_parameters}")
        groups, lacking = matrix_groups(folder, file, table, architecture_of, None, options)
        plan.groups += groups
        plan.skipped += skipped + lacking
    return plan


def index_shapes(index: Any, name: object) -> Shapes:
    """Names and shapes of the tensors that an `index_dict` describes.

    >>> index = {"layer": [1], "idx_start": [0], "idx_length": [10], "kernel_no": [2], "kernel_size": [1],
    ...          "channels_in": [4]}
    >>> index_shapes(index, "example")
    (('module_list.1.weight', (2, 4)), ('module_list.1.bias', (2,)))

    Raises:
        StoreError: lists are missing, not aligned, or contradict each other.
    """
    if isinstance(index, dict) and len(index) == 1 and isinstance(next(iter(index.values())), dict):
        index = next(iter(index.values()))  # by architecture
    lists = [index.get(key) if isinstance(index, dict) else None for key in _LISTS]
    if (
        not all(isinstance(values, list) and len(values) == len(lists[0] or []) for values in lists)
        or not lists[0]
    ):
        raise StoreError(f"{name} needs the aligned lists {', '.join(_LISTS)}")
    shapes: list[tuple[str, tuple[int, ...]]] = []
    column = 0
    for layer, start, length, out, size, channels in zip(*lists, strict=True):
        numbers = (layer, start, length, out, size, channels)
        if not all(isinstance(n, int) and 0 <= n < 2**40 for n in numbers) or start != column:
            raise StoreError(f"{name}: layer {layer!s:.20} starts at {start!s:.20}, expected {column}")
        side = math.isqrt(size)
        kernel = (out, channels) if size == 1 else (out, channels, side, side)
        biases = length - out * channels * size
        if side * side != size or biases not in (0, out):
            raise StoreError(
                f"{name}: layer {layer} has {length} columns, {out} × {channels} × {size} do not fit"
            )
        shapes.append((f"module_list.{layer}.weight", kernel))
        if biases:
            shapes.append((f"module_list.{layer}.bias", (out,)))
        column += length
    return tuple(shapes)


def _architectures(
    shapes: Shapes, table: pd.DataFrame | None, rows: int, options: Options
) -> tuple[dict[int, Architecture], list[Skipped]]:
    if options.architecture is not None:
        return dict.fromkeys(range(rows), options.architecture), []
    column = next((name for name in _ACTIVATIONS if table is not None and name in table), None)
    if options.activation is not None or column is None or table is None:
        return dict.fromkeys(range(rows), infer(shapes, options.activation)), []
    said = [scalar(value) for value in table[column]]
    known = {name: infer(shapes, name) for name in {value for value in said if isinstance(value, str)}}
    found = {row: known[name] for row, name in enumerate(said) if isinstance(name, str)}
    skipped = [
        Skipped(f"row {row}", "the table does not say its activation")
        for row in range(rows)
        if row not in found
    ]
    return found, skipped


def _matrices(root: Path) -> list[Path]:
    if root.is_file():
        return [root] if root.suffix in SUFFIXES else []
    return sorted(path for path in root.iterdir() if path.suffix in SUFFIXES and path.name != "dataset.pt")


def _row_table(folder: Path, file: Path, rows: int) -> pd.DataFrame | None:
    """The table with a line per row; of several, one of the right length.

    Raises:
        StoreError: there are tables, and none has the right length.
    """
    tables = {path.name: read_table(folder, path) for path in find_tables(folder)}
    tables = {name: table for name, table in tables.items() if len(table)}
    for table in tables.values():
        if len(table) == rows:
            return table
    if not tables:
        return None
    lines = ", ".join(f"{name} has {len(table)} lines" for name, table in tables.items())
    raise StoreError(
        f"{file} has {rows} rows, but {lines}; a table needs a line for every row, or goes elsewhere"
    )
