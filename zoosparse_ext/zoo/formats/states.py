"""Our exports with one state dict a file (Ray trees, folders of modules), on their way back.

What a state dict cannot hold (masks, predictions, what was learned beside the weights) lies in one file a population
beside them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

from zoosparse_ext.errors import StoreError, ZoosparseError
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.population import Population
from zoosparse_ext.population.tensors import is_known, tensors_of
from zoosparse_ext.zoo.formats.checkpoint import CheckpointReader, checkpoint_reader
from zoosparse_ext.zoo.formats.contents import plan_contents, read_architecture, read_tensors, write_tensors
from zoosparse_ext.zoo.formats.files import resolve_all, resolve_inside
from zoosparse_ext.zoo.formats.plan import Block, Group, Options, Plan, Record, Row, Skipped
from zoosparse_ext.zoo.formats.variational import BIAS_NOISE, WEIGHT_NOISE, noise_row, split_state

_IN_STATE = ("weights", "log_sigma2")  # the rest lies beside


class Item(NamedTuple):
    """A row: its state dict, and its row in the file beside."""

    root: str
    file: str
    id: str
    population: str
    beside: str | None
    names: tuple[str, ...]
    row: int
    noisy: bool


def state_dict(population: Population, row: int) -> dict[str, Tensor]:
    """The state dict of a row, with log σ² as the published twins have it, and batch norm's counts of batches."""
    state: dict[str, Tensor] = {}
    weights = population.architecture.unflatten(population.weights[row].detach().cpu())
    noise = population.log_sigma2
    named = {} if noise is None else population.architecture.unflatten(noise[row].detach().cpu())
    prunable = population.architecture.prunable_names
    for name, tensor in weights.items():
        state[name] = tensor.clone()
        layer, _, kind = name.rpartition(".")
        if named and f"{layer}.weight" in prunable and kind in ("weight", "bias"):
            state[f"{layer}.{WEIGHT_NOISE if kind == 'weight' else BIAS_NOISE}"] = named[name].clone()
    if population.counts is not None:
        state |= dict(zip(population.architecture.counters, population.counts[row].clone(), strict=True))
    return state


def write_beside(folder: Path, name: str, population: Population) -> Record:
    """Write what state dicts cannot hold; returns what `zoosparse.json` says of it."""
    tensors = {name: tensor for name, tensor in tensors_of(population).items() if _is_beside(name)}
    entry: Record = {"noisy": population.log_sigma2 is not None, "beside": None, "tensors": {}}
    if tensors:
        folder.mkdir(parents=True, exist_ok=True)
        entry["beside"] = f"{name}.safetensors"
        write_tensors(folder / entry["beside"], tensors)
        entry["tensors"] = {
            key: [str(t.dtype).removeprefix("torch."), t.shape[1]] for key, t in tensors.items()
        }
    return entry


def _is_beside(name: str) -> bool:
    return is_known(name) and name not in _IN_STATE


def plan_states(folder: Path, root: Path, options: Options) -> Plan:
    """The plan to read an export back; `entry["files"]` are relative to `root`."""

    def group(folder: Path, population: str, entry: Record, table: pd.DataFrame) -> Group:
        files = resolve_all(root, entry["files"])
        if len(files) != len(table):
            raise StoreError(
                f"population {population!r} has {len(files)} files and a table of {len(table)} rows"
            )
        sizes = [os.path.getsize(file) for file in files if os.path.exists(file)]
        architecture = read_architecture(entry, max(sizes, default=0))
        columns = {"weights": (torch.float32, architecture.n_parameters)}
        if entry["noisy"]:
            columns["log_sigma2"] = columns["weights"]
        beside = None
        if entry["beside"] is not None:
            beside = os.fspath(resolve_inside(folder, entry["beside"]))
            tensors = read_tensors(folder, beside, list(entry["tensors"]))
            for name, tensor in tensors.items():
                if not _is_beside(name) or tensor.dim() != 2 or len(tensor) != len(table):
                    raise StoreError(
                        f"{beside} holds {name!s:.40} {list(tensor.shape)} for {len(table)} rows"
                    )
                columns[name] = (tensor.dtype, tensor.shape[1])
        names = tuple(name for name in columns if _is_beside(name))
        ids = table["twin_id" if "twin_id" in table else "model_id"]
        items = [
            Item(os.fspath(root), file, str(id), population, beside, names, row, bool(entry["noisy"]))
            for row, (file, id) in enumerate(zip(files, ids, strict=True))
        ]
        return Group([population], architecture, items, read_states, columns, table)

    return plan_contents(folder, options, group)


def read_states(architecture: Architecture, items: Sequence[tuple[int, Item]], options: Options) -> Block:
    """Rows from state dicts."""
    block = Block()
    if not items:
        return block
    first = items[0][1]
    reader = checkpoint_reader(first.root)
    beside: dict[str, Tensor] = {}
    if first.beside is not None:
        beside = read_tensors(Path(first.beside).parent, first.beside, first.names)
    for place, item in items:
        row = _row(architecture, place, item, reader, beside)
        if isinstance(row, Skipped):
            block.skipped.append(row)
        else:
            block.rows.append(row)
    return block


def _row(
    architecture: Architecture, place: int, item: Item, reader: CheckpointReader, beside: dict[str, Tensor]
) -> Row | Skipped:
    try:
        weights, noise = split_state(reader.read(item.file))
        tensors = {"weights": architecture.flatten(weights)}
        if item.noisy:
            tensors["log_sigma2"] = noise_row(architecture, noise, item.file, linear_biases=True)
    except ZoosparseError as error:
        return Skipped(item.id, str(error))
    tensors |= {name: tensor[item.row] for name, tensor in beside.items()}
    return Row(item.population, place, {}, tensors)
