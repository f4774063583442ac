"""Importing the preprocessed data sets of modelzoos.cc: one `.pt` file with the checkpoints of many models.

``{"trainset", "valset", "testset": ModelDatasetBase}``, pickled objects of a class that is not needed here: stand-ins
take their place and keep the attributes. Those read are `data_in` (state dicts, or vectors), `paths`, `epochs` and
`properties`, lists with an entry per model and epoch.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoosparse_ext.errors import InputError, StoreError, ZoosparseError
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.zoo.formats.archive import Record as Place
from zoosparse_ext.zoo.formats.archive import read_record, read_tensor, zip_records
from zoosparse_ext.zoo.formats.checkpoint import run_pickle
from zoosparse_ext.zoo.formats.files import MAX_CHECKPOINT, open_inside, read_bytes
from zoosparse_ext.zoo.formats.infer import infer
from zoosparse_ext.zoo.formats.model_tables import model_row, scalar
from zoosparse_ext.zoo.formats.plan import (
    Block,
    Group,
    Options,
    Plan,
    Record,
    Row,
    Skipped,
    check_finite,
    epoch_population,
    repeated,
)
from zoosparse_ext.zoo.formats.unpickle import Call, StandIn, StoredTensor, load_pickle

SPLITS = {"trainset": "train", "valset": "val", "testset": "test"}
_RENAMED = {
    "model::nlin": "activation",
    "model::init_type": "init",
    "model::dropout": "dropout",
    "optim::optimizer": "optimizer",
    "optim::lr": "lr",
    "optim::wd": "weight_decay",
    "optim::momentum": "momentum",
    "training::batchsize": "batch_size",
    "training::epochs_train": "epochs",
}
_HISTORY = {
    "train_loss": "train_loss",
    "train_accuracy": "train_acc",
    "val_loss": "val_loss",
    "val_accuracy": "val_acc",
    "test_loss": "test_loss",
    "test_accuracy": "test_acc",
}
_NOT_KEPT = {"training_iteration", *_HISTORY.values()} - {"test_acc", "test_loss"}

Weights = Any  # named tensors, or one vector; stored, or read already if the pickle was run


class Sample(NamedTuple):
    """A model at an epoch, as a data set lists it."""

    path: str
    epoch: int
    split: str
    weights: Weights
    record: Record  # properties by their published names


class Item(NamedTuple):
    """A model: its epochs, ascending."""

    root: str
    file: str
    id: str
    stamp: tuple[int, int, int]
    samples: tuple[Sample, ...]
    records: tuple[Record, ...]  # rows of each epoch


def is_preprocessed(root: Path) -> bool:
    """Whether a file (or the only checkpoint file of a folder) is such a data set; looks at names in the pickle."""
    file = _file(root)
    if file is None:
        return False
    try:
        content, records = _archive(os.fspath(file), _stamp(file))
        place = records["data.pkl"]
        head = content[place.offset : place.offset + min(place.size, 2**20)]
    except (ZoosparseError, KeyError):
        return False
    return b"data_in" in head and any(name.encode() in head for name in SPLITS)


def plan_preprocessed(roots: Sequence[str | os.PathLike[str]], options: Options) -> Plan:
    """The plan of an import.

    Raises:
        StoreError: the file is damaged, or its lists do not fit together.
    """
    models: dict[tuple[str, str], list[Sample]] = {}
    for root in roots:
        file = _file(Path(root))
        if file is None:
            raise StoreError(f"{root} holds no file of data sets, or several; name one")
        for sample in _samples(file, options.trust_pickle):
            models.setdefault((os.fspath(file), sample.path), []).append(sample)
    plan = Plan([], source={"format": "preprocessed", "models": len(models)})
    members: dict[Architecture, list[Item]] = {}
    ids = _ids([path for _, path in models])
    for number, (id, (file_name, _), samples) in enumerate(zip(ids, models, models.values(), strict=True)):
        samples.sort(key=lambda sample: sample.epoch)
        try:
            twice = repeated([sample.epoch for sample in samples])
            if twice is not None:
                raise StoreError(f"the data sets list its epoch {twice} more than once")
            chosen = [sample for sample in samples if options.wants(sample.epoch, samples[-1].epoch)]
            if not isinstance(options.epochs, str) and len(chosen) < len(options.epochs):
                raise StoreError("it lacks an epoch that was asked for")
            architecture = _architecture(chosen[-1], options)
        except ZoosparseError as error:
            plan.skipped.append(Skipped(id, str(error)))
            continue
        rows = tuple(_row(sample, id, architecture.name, number) for sample in chosen)
        item = Item(os.path.dirname(file_name), file_name, id, _stamp(Path(file_name)), tuple(chosen), rows)
        members.setdefault(architecture, []).append(item)
    for architecture, items in members.items():
        earlier = sorted({sample.epoch for item in items for sample in item.samples[:-1]})
        names = ["original", *(f"original@{epoch}" for epoch in earlier)]
        width = {"weights": (torch.float32, architecture.n_parameters)}
        plan.groups.append(Group(names, architecture, items, read_preprocessed, width))
    return plan


def read_preprocessed(
    architecture: Architecture, items: Sequence[tuple[int, Item]], options: Options
) -> Block:
    """Rows from the records of the file."""
    block = Block()
    for place, item in items:
        rows = []
        try:
            content, records = _archive(item.file, item.stamp)
            for sample, record in zip(item.samples, item.records, strict=True):
                weights = _weights(architecture, sample.weights, content, records, item.file)
                check_finite(weights, architecture, options.allow_nan)
                name = epoch_population("original", sample.epoch, item.samples[-1].epoch)
                rows.append(Row(name, place, record, {"weights": weights}))
        except ZoosparseError as error:
            block.skipped.append(Skipped(item.id, str(error)))
            continue
        block.rows += rows
        block.models.append(rows[-1].record)
        for sample in item.samples:
            measured = {ours: _number(sample.record.get(theirs)) for ours, theirs in _HISTORY.items()}
            if any(value == value for value in measured.values()):
                block.history.append({"model_id": item.id, "epoch": sample.epoch, **measured})
    return block


def _samples(file: Path, trusted: bool) -> Iterator[Sample]:
    """Everything that the data sets of a file list."""
    try:
        value = _parse(file)
    except StoreError:
        if not trusted:
            raise
        value = run_pickle(read_bytes(file.parent, file, MAX_CHECKPOINT), file, trusted=True)
    sets = value if isinstance(value, Mapping) else {"trainset": value}
    found = False
    for name, split in SPLITS.items():
        data = sets.get(name)
        attributes = data if isinstance(data, Mapping) else getattr(data, "__dict__", {})
        if "data_in" not in attributes:
            continue
        found = True
        weights = attributes["data_in"]
        if isinstance(weights, StoredTensor | Tensor):
            weights = [_line(weights, row) for row in range(weights.shape[0] if weights.shape else 0)]
        lists = [weights, attributes.get("paths"), attributes.get("epochs")]
        if not all(isinstance(values, list) and len(values) == len(weights) for values in lists):
            came = ", ".join(
                f"{key} {_length(attributes.get(key))}" for key in ("data_in", "paths", "epochs")
            )
            raise StoreError(f"{file}: {name} needs lists of one length, has {came}")
        properties = attributes.get("properties")
        known = properties if isinstance(properties, Mapping) else {}
        columns = {str(k): v for k, v in known.items() if isinstance(v, list) and len(v) == len(weights)}
        for place, (tensors, path, epoch) in enumerate(zip(*lists, strict=True)):
            if not isinstance(epoch, int) or not 0 <= epoch < 2**53:
                raise StoreError(f"{file}: {name} lists epoch {epoch!s:.40}")
            record = {key: scalar(values[place]) for key, values in columns.items()}
            yield Sample(str(path), epoch, split, tensors, record)
    if not found:
        raise StoreError(f"{file} holds no data sets: expected {', '.join(SPLITS)}, objects with data_in")


def _length(value: Any) -> str:
    if isinstance(value, list):
        return f"of {len(value)}"
    return "of a class that is not loaded" if isinstance(value, StandIn) else f"as {type(value).__name__}"


def _parse(file: Path) -> Any:
    content, records = _archive(os.fspath(file), _stamp(file))
    return load_pickle(read_record(content, records, "data.pkl", file), file, _stand_in)


def _stand_in(module: str, name: str) -> Any:
    """Paths are text; any other class keeps its attributes and has no behaviour."""
    if module.partition(".")[0] == "pathlib":
        return Call(_path)
    return StandIn


def _path(*parts: Any) -> str:
    return "/".join(part.rstrip("/") for part in parts if isinstance(part, str))


def _line(matrix: StoredTensor | Tensor, row: int) -> StoredTensor | Tensor:
    """One row of a matrix that may still be in the file."""
    if isinstance(matrix, Tensor):
        return matrix[row]
    return matrix._replace(
        offset=matrix.offset + row * matrix.stride[0], shape=matrix.shape[1:], stride=matrix.stride[1:]
    )


def _architecture(sample: Sample, options: Options) -> Architecture:
    if options.architecture is not None:
        return options.architecture
    if not isinstance(sample.weights, Mapping):
        raise InputError(
            "its weights are a vector, which does not say what it means; pass architecture=… (--arch)"
        )
    shapes = tuple(
        (str(name), tuple(tensor.shape))
        for name, tensor in sample.weights.items()
        if isinstance(tensor, StoredTensor | Tensor)
    )
    activation = options.activation or sample.record.get("model::nlin") or sample.record.get("nlin")
    rate = sample.record.get("model::dropout")
    dropout = float(rate) if isinstance(rate, int | float) and 0 < rate < 1 else 0.0
    return infer(shapes, activation if isinstance(activation, str) else None, dropout)


def _weights(
    architecture: Architecture,
    weights: Weights,
    content: mmap.mmap,
    records: Mapping[str, Place],
    file: str,
) -> Tensor:
    """A row [P]."""

    def read(tensor: Any) -> Tensor:
        return read_tensor(content, records, tensor, file) if isinstance(tensor, StoredTensor) else tensor

    if isinstance(weights, Mapping):
        kept = {str(k): read(t) for k, t in weights.items() if isinstance(t, StoredTensor | Tensor)}
        return architecture.flatten(kept)
    vector = read(weights)
    if not isinstance(vector, Tensor) or tuple(vector.shape) != (architecture.n_parameters,):
        came = list(vector.shape) if isinstance(vector, Tensor) else type(vector).__name__
        raise StoreError(
            f"its weights are {came}, architecture {architecture.name!r} expects {architecture.n_parameters}"
        )
    return vector.to(torch.float32)


def _row(sample: Sample, id: str, architecture: str, number: int) -> Record:
    known = {_RENAMED.get(k, k): v for k, v in sample.record.items() if v is not None and k not in _NOT_KEPT}
    return {
        **model_row(known, id, architecture, number),
        "published_split": sample.split,
        "epoch": sample.epoch,
    }


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and abs(value) < 2**63 else math.nan


def _ids(paths: list[str]) -> list[str]:
    """The last part of every path, as in the trees that the data sets were made of; the whole path where two agree."""
    last = [path.replace("\\", "/").rstrip("/").rpartition("/")[2] for path in paths]
    counts = {name: last.count(name) for name in set(last)} if len(set(last)) < len(last) else {}
    return [name if counts.get(name, 1) == 1 else path for name, path in zip(last, paths, strict=True)]


def _file(root: Path) -> Path | None:
    """The file of data sets; beside it, `dataset.pt` is what the models were trained on."""
    if root.is_file():
        return root
    try:
        files = [name for name in os.listdir(root) if name.endswith(".pt")]
    except OSError:
        return None
    chosen = [name for name in files if name != "dataset.pt"] or files
    return root / chosen[0] if len(chosen) == 1 else None


def _stamp(file: Path) -> tuple[int, int, int]:
    """Tells a file from what it was when an interrupted import began, or when it was mapped."""
    try:
        status = os.stat(file)
    except OSError as error:
        raise StoreError(f"cannot read {file}: {error.strerror}") from error
    return status.st_size, status.st_mtime_ns, status.st_ino


@lru_cache(maxsize=1)  # a process reads many chunks of one file
def _archive(file: str, stamp: tuple[int, int, int]) -> tuple[mmap.mmap, dict[str, Place]]:
    """A file, mapped into memory, and its records."""
    with open_inside(os.path.dirname(file) or ".", file) as opened:
        try:
            content = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY)
        except (ValueError, OSError) as error:
            raise StoreError(f"{file} is empty or cannot be mapped: {error}") from error
    return content, zip_records(content, file)
