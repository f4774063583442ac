"""Importing folders of checkpoints with a table, and repositories in the manner of the Hugging Face Hub.

``FOLDER/{*.pt, *.safetensors, …, models.csv}``, or one folder a model, ``FOLDER/<model>/{model.safetensors,
config.json}``. Models whose state is that of `torch.nn.utils.prune` have masks; they are twins if the table names their
source, else models that were pruned.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from zoosparse_ext.errors import ZoosparseError
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.zoo.folder import MANIFEST
from zoosparse_ext.zoo.formats.checkpoint import (
    SUFFIXES,
    CheckpointReader,
    checkpoint_reader,
    fold_pruning,
    pruning_row,
)
from zoosparse_ext.zoo.formats.infer import infer
from zoosparse_ext.zoo.formats.model_tables import ModelTable, model_row
from zoosparse_ext.zoo.formats.plan import Block, Group, Options, Plan, Record, Row, Skipped, check_finite
from zoosparse_ext.zoo.formats.variational import twin_record

_ACTIVATIONS = ("activation", "nlin", "hidden_act", "model::nlin", "config.activation")
_SINGLE = ("model.safetensors", "pytorch_model.bin", "model.pt", "model.pth")
_MAX_DEPTH = 6


class Item(NamedTuple):
    """A model: its file, and its row of the table."""

    root: str
    file: str
    id: str
    record: Record
    stamp: tuple[int, int]


def is_collection(root: Path) -> bool:
    """Whether a folder holds checkpoints, or is one."""
    return next(iter(_checkpoints(root)), None) is not None


def plan_collections(roots: Sequence[str | os.PathLike[str]], options: Options) -> Plan:
    """Find checkpoints and tables, and sort the models into groups of one architecture."""
    groups: dict[tuple[Architecture, bool, bool], list[Item]] = {}
    skipped: list[Skipped] = []
    number = 0
    for root in map(Path, roots):
        base = root if root.is_dir() else root.parent
        reader, table = checkpoint_reader(os.fspath(base), options.trust_pickle), ModelTable(base)
        for file in _checkpoints(root):
            found = _look(base, file, reader, table, options, number)
            if isinstance(found, Skipped):
                skipped.append(found)
                continue
            item, architecture, masked = found
            groups.setdefault((architecture, masked, "source_id" in item.record), []).append(item)
            number += 1
        if root.is_dir():
            skipped += table.unused()
    plan = Plan([], skipped, source={"format": "checkpoints", "models": number})
    for (architecture, masked, twins), items in groups.items():
        p = architecture.n_parameters
        columns = {"weights": (torch.float32, p)}
        if masked:
            columns["packed_masks"] = (torch.uint8, (p + 7) // 8)
        name = str(items[0].record.get("method", "magnitude")) if twins else "original"
        plan.groups.append(Group([name], architecture, items, read_collection, columns))
    return plan


def read_collection(architecture: Architecture, items: Sequence[tuple[int, Item]], options: Options) -> Block:
    """Rows from checkpoints."""
    block = Block()
    for place, item in items:
        reader = checkpoint_reader(item.root, options.trust_pickle)
        row = _read(architecture, place, item, reader, options)
        if isinstance(row, Skipped):
            block.skipped.append(row)
            continue
        block.rows.append(row)
        if "twin_id" not in item.record:
            block.models.append(row.record)
        else:
            measured = {name: item.record.get(name, math.nan) for name in _MEASURED}
            identity = {name: item.record[name] for name in _IDENTITY}
            sparsity = twin_record(architecture, row.tensors["weights"], None)
            block.twins.append({**identity, "epoch": item.record.get("epoch", 0), **sparsity, **measured})
    return block


_IDENTITY = ("twin_id", "source_id", "method", "scope", "target", "matched")
_MEASURED = ("loss", "accuracy", "agreement", "kappa", "agreement_on_errors")


def _read(
    architecture: Architecture, place: int, item: Item, reader: CheckpointReader, options: Options
) -> Row | Skipped:
    try:
        state, masks = fold_pruning(reader.read(item.file), item.file)
        weights = architecture.flatten(state)
        check_finite(weights, architecture, options.allow_nan)
    except ZoosparseError as error:
        return Skipped(item.id, str(error))
    tensors = {"weights": weights}
    if masks:
        tensors["packed_masks"] = pruning_row(architecture, masks)
    population = str(item.record.get("method", "magnitude")) if "source_id" in item.record else "original"
    return Row(population, place, item.record, tensors)


def _look(
    base: Path, file: str, reader: CheckpointReader, table: ModelTable, options: Options, number: int
) -> tuple[Item, Architecture, bool] | Skipped:
    name = file.removeprefix(os.fspath(base)).lstrip(os.sep)
    id = _id(name)
    try:
        state, masks = fold_pruning(reader.outline(file), file)
        record = table.row(name, id)
        shapes = tuple(
            (name, tuple(tensor.shape)) for name, tensor in state.items() if tensor.is_floating_point()
        )
        architecture = options.architecture
        if architecture is None:
            said = (record[name] for name in _ACTIVATIONS if isinstance(record.get(name), str))
            rate = record.get("dropout")
            has_rate = isinstance(rate, int | float) and 0 < rate < 1
            architecture = infer(shapes, options.activation or next(said, None), rate if has_rate else 0.0)
        else:
            architecture.flatten(state)
    except ZoosparseError as error:
        return Skipped(id, str(error))
    status = os.stat(file)
    row = _record(record, id, architecture, number)
    item = Item(os.fspath(base), file, id, row, (status.st_size, status.st_mtime_ns))
    return item, architecture, bool(masks)


def _record(known: Record, id: str, architecture: Architecture, number: int) -> Record:
    """The row of a model; of a twin, if the table names its source."""
    row = model_row(known, id, architecture.name, number)
    if not isinstance(row.get("source_id"), str):
        row.pop("source_id", None)
        return row
    row = {"twin_id": id, "method": "magnitude", "scope": None, "target": math.nan, "matched": None, **row}
    return {**row, "model_id": row["source_id"]}


def _checkpoints(root: Path, above: int = 0) -> list[str]:
    """Checkpoint files below a folder; in a folder of one model, the best known name alone."""
    if root.is_file():
        return [os.fspath(root)] if root.name.endswith(SUFFIXES) else []
    try:
        entries = sorted(os.scandir(root), key=lambda entry: entry.name)
    except OSError:
        return []
    names = {entry.name for entry in entries}
    if MANIFEST in names and "shards" in names:  # a zoo of ours, which is opened, not imported
        return []
    single = next((name for name in _SINGLE if name in names), None)
    if single is not None:
        return [os.path.join(root, single)]
    files = [
        entry.path for entry in entries if entry.name.endswith(SUFFIXES) and entry.name not in _NOT_MODELS
    ]
    if above < _MAX_DEPTH:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                files += _checkpoints(Path(entry.path), above + 1)
    return files


_NOT_MODELS = ("dataset.pt", "optimizer.pt", "optimizer.bin", "scheduler.pt", "training_args.bin")


def _id(path: str) -> str:
    """Path without the suffix; of a folder of one model, the folder."""
    folder, name = os.path.split(path)
    stem = folder if folder and name in _SINGLE else os.path.splitext(path)[0]
    return stem.replace(os.sep, "/")
