"""Populations on disk: sharded safetensors of the matrix and what belongs to its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from zoosparse_ext.errors import StoreError
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.population import Population, chunks
from zoosparse_ext.zoo import tables
from zoosparse_ext.zoo.folder import FileEntry, check_file, write_file

SHARD_BYTES = 64 * 2**20
_TENSORS = ("weights", "packed_masks", "log_sigma2", "predictions")


def write_group(folder: Path, population: Population) -> dict[str, Any]:
    """Write one matrix and its table; returns the entry for the manifest. Shards that are there already stay."""
    tensors = {name: getattr(population, name) for name in _TENSORS if getattr(population, name) is not None}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    row_bytes = sum(tensor[:1].numel() * tensor.element_size() for tensor in tensors.values())
    rows = max(1, SHARD_BYTES // max(1, row_bytes))
    shards = []
    for part in chunks(len(population), rows):
        content = save({name: tensor[part].contiguous() for name, tensor in tensors.items()})
        entry = write_file(folder, "shards/rows", ".safetensors", content)
        shards.append({**entry.to_dict(), "rows": part.stop - part.start})
    table = write_file(folder, "tables/rows", ".parquet", tables.to_bytes(population.models))
    return {
        "architecture": population.architecture.to_dict(),
        "rows": len(population),
        "tensors": {
            name: [str(tensor.dtype).removeprefix("torch."), *tensor.shape[1:]]
            for name, tensor in tensors.items()
        },
        "shards": shards,
        "table": table.to_dict(),
    }


def read_group(folder: Path, entry: dict[str, Any], *, verify: bool) -> Population:
    """One matrix and its table; tensors are memory-mapped where one shard holds all rows.

    Raises:
        StoreError: a file is missing, truncated or altered, or does not hold what the manifest says.
    """
    architecture = Architecture.from_dict(entry["architecture"])
    parts: dict[str, list[Tensor]] = {name: [] for name in entry["tensors"]}
    for shard in entry["shards"]:
        path = check_file(folder, _file(shard), content=verify)
        try:
            tensors = load_file(path)
        except (SafetensorError, OSError) as error:
            raise StoreError(f"{path} is damaged: {error}") from error
        for name, (dtype, *shape) in entry["tensors"].items():
            expected = (shard["rows"], *shape)
            tensor = tensors.get(name)
            if tensor is None or tuple(tensor.shape) != expected or tensor.dtype != getattr(torch, dtype):
                came = "nothing" if tensor is None else f"{tensor.dtype} {list(tensor.shape)}"
                raise StoreError(f"{path} holds {came} as {name!r}, expected {dtype} {list(expected)}")
            parts[name].append(tensor)
    joined = {
        name: tensors[0] if len(tensors) == 1 else torch.cat(tensors) for name, tensors in parts.items()
    }
    table = pd.read_parquet(check_file(folder, _file(entry["table"]), content=verify))
    return Population(joined.pop("weights"), architecture, table, **joined)  # type: ignore[arg-type]


def _file(entry: dict[str, Any]) -> FileEntry:
    return FileEntry(entry["file"], entry["bytes"], entry["sha256"])
