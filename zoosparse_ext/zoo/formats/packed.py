"""Zoos packed into few files: one matrix a population, as safetensors or npz, tables beside it.

Thousands of models with all their epochs are a handful of files this way, far below the limits of the Hugging Face Hub.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from zoosparse_ext.errors import StoreError
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.population import Population, chunks
from zoosparse_ext.population.tensors import is_known, tensors_of
from zoosparse_ext.zoo.formats.contents import (
    plan_contents,
    read_architecture,
    read_tensors,
    write_contents,
    write_tensors,
)
from zoosparse_ext.zoo.formats.files import resolve_inside
from zoosparse_ext.zoo.formats.npy import map_npz
from zoosparse_ext.zoo.formats.plan import Block, Group, Options, Plan, Record, Row
from zoosparse_ext.zoo.index_dict import index_dict
from zoosparse_ext.zoo.store import Zoo

FILE_BYTES = 2**28  # of one file, which is in memory twice while it is written


class Item(NamedTuple):
    """A row of a file."""

    folder: str
    file: str
    row: int
    population: str
    names: tuple[str, ...]


def write_packed(zoo: Zoo, dst: Path, kind: str) -> None:
    """Write `weights/<population>-<group>-<part>`, `index_dict.json`, and the description and tables beside them.

    Args:
        kind: ``"safetensors"`` or ``"npz"``.
    """
    (dst / "weights").mkdir(parents=True)
    entries: dict[str, list[Record]] = {}
    columns: dict[str, dict[str, list[int]] | None] = {}
    for name, groups in zoo.populations.items():
        entries[name] = [
            _write_group(dst, f"{name}-{number}", group, kind) for number, group in enumerate(groups)
        ]
        columns |= {group.architecture.name: index_dict(group.architecture) for group in groups}
    (dst / "index_dict.json").write_text(json.dumps(columns, indent=1))
    write_contents(dst, zoo, kind, entries)


def plan_packed(folder: Path, options: Options) -> Plan:
    """The plan to read it back."""

    def group(folder: Path, population: str, entry: Record, table: pd.DataFrame) -> Group:
        items: list[Item] = []
        columns: dict[str, tuple[torch.dtype, int]] = {}
        for part in entry["parts"]:
            resolve_inside(folder, part["file"])
            file = os.path.join(folder, part["file"])  # what a link leads to may have another suffix
            found = _tensors(folder, file)
            if any(tensor.dim() != 2 for tensor in found.values()):
                raise StoreError(f"{file} holds something else than matrices")
            columns = {name: (tensor.dtype, tensor.shape[1]) for name, tensor in found.items()}
            rows = {len(tensor) for tensor in found.values()}
            if rows != {part["rows"]} or "weights" not in columns or not all(map(is_known, columns)):
                shown = ", ".join(f"{name:.40} {list(tensor.shape)}" for name, tensor in found.items())
                raise StoreError(
                    f"{file} holds {shown or 'nothing':.200}, its description says {part['rows']!s:.20} rows of weights"
                )
            items += [
                Item(os.fspath(folder), file, row, population, tuple(columns)) for row in range(part["rows"])
            ]
        architecture = read_architecture(entry, os.path.getsize(items[0].file) if items else 0)
        if len(items) != len(table) or columns["weights"] != (torch.float32, architecture.n_parameters):
            raise StoreError(f"population {population!r}: files, table and architecture do not fit")
        return Group([population], architecture, items, read_packed, columns, table)

    return plan_contents(folder, options, group)


def read_packed(architecture: Architecture, items: Sequence[tuple[int, Item]], options: Options) -> Block:
    """Rows of packed files, a slice of each file at a time."""
    block = Block()
    for file, members in itertools.groupby(items, key=lambda pair: pair[1].file):
        run = list(members)
        first, last = run[0][1].row, run[-1][1].row
        tensors = _tensors(Path(run[0][1].folder), file, run[0][1].names, slice(first, last + 1))
        block.rows += [
            Row(
                item.population,
                place,
                {},
                {name: tensor[item.row - first] for name, tensor in tensors.items()},
            )
            for place, item in run
        ]
    return block


def _write_group(dst: Path, stem: str, group: Population, kind: str) -> Record:
    tensors = {name: tensor.detach().cpu() for name, tensor in tensors_of(group).items()}
    row_bytes = sum(tensor[:1].numel() * tensor.element_size() for tensor in tensors.values())
    parts = []
    for number, rows in enumerate(chunks(len(group), max(1, FILE_BYTES // row_bytes))):
        file = f"weights/{stem}-{number}.{kind}"
        part = {name: tensor[rows].contiguous() for name, tensor in tensors.items()}
        if kind == "npz":
            arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in part.items()}
            np.savez(dst / file, **arrays)
        else:
            write_tensors(dst / file, part, {"architecture": group.architecture.name})
        parts.append({"file": file, "rows": rows.stop - rows.start})
    return {"parts": parts}


def _tensors(
    folder: Path, file: str, names: Sequence[str] | None = None, rows: slice = slice(None)
) -> dict[str, Tensor]:
    if not file.endswith(".npz"):
        return read_tensors(folder, file, names, rows)
    arrays = map_npz(folder, file)
    try:
        return {name: torch.from_numpy(arrays[name][rows]) for name in (arrays if names is None else names)}
    except (KeyError, TypeError, IndexError) as error:
        raise StoreError(f"{file} is damaged: {error!s:.200}") from error
