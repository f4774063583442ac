"""Populations on disk: safetensors of the matrix and what belongs to its rows.

A matrix is one file, whose weights are one contiguous run of bytes that is mapped into memory. A sparse one, whose
weights have to be restored, is cut into shards; in older zoos a large dense one is as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from zoosparse_ext.errors import StoreError
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.optimizer_state import OptimizerState
from zoosparse_ext.population.population import Population, chunks
from zoosparse_ext.population.safetensors_parts import safetensors_parts
from zoosparse_ext.population.tensors import LEARNED, as_arguments, tensors_of
from zoosparse_ext.zoo import compressed, tables
from zoosparse_ext.zoo.folder import MANIFEST, FileEntry, check_file, file_entries, understood, write_file

SHARD_BYTES = 64 * 2**20  # of rows that are compressed or restored at a time
_MOMENTS = ("first", "second")  # of an optimizer state


@dataclass
class Described:
    """What is known of a matrix on disk without reading it."""

    architecture: Architecture
    models: pd.DataFrame

    def __len__(self) -> int:
        return len(self.models)

    @property
    def ids(self) -> list[str]:
        """`twin_id` of every row of a twin population, else `model_id`."""
        return list(self.models["twin_id" if "twin_id" in self.models else "model_id"])


@dataclass
class MappedGroup(Described):
    """A matrix that stays on disk: the weights of its shards, mapped into memory, and its table.

    Args:
        weights: float32 [n, P] each; a row is read when it is looked at.
        masked: whether its networks have masks.
    """

    weights: list[Tensor]
    masked: bool = False


def write_group(folder: Path, population: Population, compress: bool = True) -> dict[str, Any]:
    """Write one matrix and its table; returns the entry for the manifest. Files that are there already stay.

    With `compress`, the weights of a population with masks are stored as bits and values where that saves a quarter.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors_of(population).items()}
    table = tables.write_table(folder, "rows", population.models)
    n, sparse = len(population), False
    if compress and population.packed_masks is not None:
        sparse = compressed.is_worth_it(tensors["weights"])
    row_bytes = sum(tensor.nbytes for tensor in tensors.values()) // max(1, n)
    shards = []
    for part in chunks(n, max(1, SHARD_BYTES // row_bytes)) if sparse else [slice(0, n)]:
        of_part = {name: tensor[part] for name, tensor in tensors.items()}
        entry = write_tensors(folder, "rows", compressed.compress(of_part) if sparse else of_part)
        shards.append({**entry, "rows": part.stop - part.start, "compressed": sparse})
    kinds = {
        name: [str(tensor.dtype).removeprefix("torch."), *tensor.shape[1:]]
        for name, tensor in tensors.items()
    }
    entry = {
        "architecture": population.architecture.to_dict(),
        "rows": len(population),
        "tensors": {name: kind for name, kind in kinds.items() if not name.startswith(LEARNED)},
        "shards": shards,
        "table": table,
    }
    if learned := {name: kind for name, kind in kinds.items() if name.startswith(LEARNED)}:
        entry["learned"] = learned  # which earlier versions leave alone
    if population.optimizer_state is not None:
        entry["optimizer_state"] = write_state(folder, population.optimizer_state)
    return entry


def read_group(folder: Path, entry: dict[str, Any], *, verify: bool) -> Population:
    """One matrix and its table; tensors are memory-mapped where one file holds all rows, uncompressed.

    Raises:
        StoreError: a file is missing, truncated or altered, or does not hold what the manifest says.
    """
    with understood(folder):
        architecture, table = read_description(folder, entry, verify=verify)
        kinds = _kinds(entry)
        shards = (_read_shard(folder, shard, kinds, verify) for shard in entry["shards"])
        tensors = next(shards) if len(entry["shards"]) == 1 else _join(shards, len(table))
        state = read_state(folder, entry, verify=verify)
        return Population.from_rows(
            architecture=architecture, models=table, optimizer_state=state, **as_arguments(tensors)
        )


def write_state(folder: Path, state: OptimizerState) -> dict[str, Any]:
    """Write the state of an optimizer to a file of its own, which earlier versions leave alone; returns its entry."""
    moments = {name: getattr(state, name).detach().cpu().contiguous() for name in _MOMENTS}
    told = {"kind": state.kind, "step": state.step, "epochs": state.epochs}
    return {**told, "shard": write_tensors(folder, "optimizer", moments)}


def read_state(folder: Path, entry: dict[str, Any], *, verify: bool) -> OptimizerState | None:
    """The state of the optimizer that belongs to a matrix; None in zoos that have none.

    Raises:
        StoreError: the file is missing, truncated or altered, or its moments are not of the columns of the weights.
    """
    if (told := entry.get("optimizer_state")) is None:
        return None
    path, tensors = read_tensors(folder, told["shard"], verify=verify)
    kind = entry["tensors"]["weights"]
    moments = {name: check_tensor(path, name, tensors.get(name), kind, entry["rows"]) for name in _MOMENTS}
    return OptimizerState(str(told["kind"]), int(told["step"]), int(told["epochs"]), **moments)


def read_description(
    folder: Path, entry: dict[str, Any], *, verify: bool
) -> tuple[Architecture, pd.DataFrame]:
    """Architecture and table of a matrix.

    Raises:
        StoreError: the table is missing, truncated or altered, or has not as many rows as the manifest says.
    """
    table = tables.read_table(folder, entry["table"], verify=verify)
    rows = sum(shard["rows"] for shard in entry["shards"])
    if not entry["rows"] == rows == len(table):
        came = f"{entry['rows']} rows, shards with {rows} and a table with {len(table)}"
        raise StoreError(f"{folder / MANIFEST} is damaged: it says a matrix has {came}")
    return Architecture.from_dict(entry["architecture"]), table


def map_group(folder: Path, entry: dict[str, Any]) -> MappedGroup:
    """One matrix without reading it: neither its weights nor their checksums. Compressed weights are read.

    Raises:
        StoreError: a file is missing or truncated, or does not hold what the manifest says.
    """
    with understood(folder):
        kinds = {"weights": entry["tensors"]["weights"]}
        shards = [_read_shard(folder, shard, kinds, verify=False)["weights"] for shard in entry["shards"]]
        table = tables.read_table(folder, entry["table"], verify=False)
        masked = "packed_masks" in entry["tensors"]
        return MappedGroup(Architecture.from_dict(entry["architecture"]), table, shards, masked)


def groups_size(groups: list[Population]) -> tuple[int, int]:
    """Rows of matrices in memory, and bytes of all that belongs to these rows but their table."""
    tensors = [tensor for group in groups for tensor in tensors_of(group).values()]
    states = [group.optimizer_state for group in groups if group.optimizer_state is not None]
    tensors += [getattr(state, name) for state in states for name in _MOMENTS]
    return sum(map(len, groups)), sum(tensor.nbytes for tensor in tensors)


def entry_size(entry: dict[str, Any]) -> tuple[int, int]:
    """The same of a matrix on disk, from its entry in the manifest."""
    moments = len(_MOMENTS) * tensor_bytes(entry, "weights") if "optimizer_state" in entry else 0
    return entry["rows"], sum(tensor_bytes(entry, name) for name in _kinds(entry)) + moments


def tensor_bytes(entry: dict[str, Any], name: str) -> int:
    """Bytes of one tensor of a matrix in memory, from its entry in the manifest."""
    dtype, *shape = _kinds(entry)[name]
    return int(entry["rows"] * getattr(torch, dtype).itemsize * prod(shape))


def _kinds(entry: dict[str, Any]) -> dict[str, list[Any]]:
    """Type and width of every tensor of a matrix, from its entry in the manifest."""
    return {**entry["tensors"], **entry.get("learned", {})}


def entry_disk_size(entry: dict[str, Any]) -> int:
    """Bytes of the files of a matrix, from its entry in the manifest."""
    return sum(file.bytes for file in file_entries(entry))


def write_tensors(folder: Path, name: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Write tensors as one shard; returns its entry for the manifest."""
    return write_file(folder, f"shards/{name}", ".safetensors", safetensors_parts(tensors)).to_dict()


def read_tensors(folder: Path, entry: dict[str, Any], *, verify: bool) -> tuple[Path, dict[str, Tensor]]:
    """The tensors of a shard, memory-mapped, and the file they lie in.

    Raises:
        StoreError: the file is missing, truncated, altered or no safetensors.
    """
    path = check_file(folder, FileEntry.from_dict(entry), content=verify)
    try:
        return path, load_file(path)
    except (SafetensorError, OSError) as error:
        raise StoreError(f"{path} is damaged: {error}") from error


def _join(shards: Iterator[dict[str, Tensor]], rows: int) -> dict[str, Tensor]:
    """The rows of several shards together, one of which is in memory at a time."""
    joined: dict[str, Tensor] = {}
    start = 0
    for shard in shards:
        if not joined:
            joined = {name: tensor.new_empty(rows, *tensor.shape[1:]) for name, tensor in shard.items()}
        stop = start + len(shard["weights"])
        for name, tensor in shard.items():
            joined[name][start:stop] = tensor
        start = stop
    return joined


def _read_shard(
    folder: Path, entry: dict[str, Any], kinds: dict[str, list[Any]], verify: bool
) -> dict[str, Tensor]:
    """The tensors of a shard, after a check of their types and shapes."""
    path, tensors = read_tensors(folder, entry, verify=verify)
    if entry.get("compressed", False):
        try:
            tensors["weights"] = compressed.restore(tensors, entry["rows"], *kinds["weights"][1:])
        except StoreError as error:
            raise StoreError(f"{path} {error}") from None
    for name, kind in kinds.items():
        check_tensor(path, name, tensors.get(name), kind, entry["rows"])
    return {name: tensors[name] for name in kinds}


def check_tensor(path: Path, name: str, tensor: Tensor | None, kind: list[Any], rows: int) -> Tensor:
    """A tensor of a shard, if it has the type and shape that the manifest says."""
    dtype, *shape = kind
    expected = (rows, *shape)
    if tensor is None or tuple(tensor.shape) != expected or str(tensor.dtype) != f"torch.{dtype}":
        came = "nothing" if tensor is None else f"{tensor.dtype} {list(tensor.shape)}"
        raise StoreError(f"{path} holds {came} as {name!r}, expected {dtype} {list(expected)}")
    return tensor
