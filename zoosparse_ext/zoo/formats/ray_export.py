"""Exporting to the Ray Tune tree of modelzoos.cc, so that existing loaders read our zoos and twins unchanged.

Every population is a tree of its own: ``DST/original``, ``DST/variational``, … A twin names its original in
``training::init_checkpoint_path``.
"""

from __future__ import annotations

import csv
import json
import pickle
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.utils.data import TensorDataset

from zoosparse_ext.data import Dataset
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.population import Population
from zoosparse_ext.population.program import Activation
from zoosparse_ext.zoo.epochs import base_epochs, row_epochs
from zoosparse_ext.zoo.formats.contents import FOLDER, write_contents
from zoosparse_ext.zoo.formats.infer import network_name
from zoosparse_ext.zoo.formats.plan import Record
from zoosparse_ext.zoo.formats.states import state_dict, write_beside
from zoosparse_ext.zoo.index_dict import index_dict
from zoosparse_ext.zoo.plain import plain
from zoosparse_ext.zoo.store import Zoo

TYPES = {"cnn-s": "CNN", "cnn-m": "CNN2", "cnn-l": "CNN3"}
_DATE = "2000-01-01_00-00-00"  # names and times carry no meaning; constant, so that an export depends on the zoo alone
_RESULTS = {
    "train_loss": "train_loss",
    "train_accuracy": "train_acc",
    "val_loss": "val_loss",
    "val_accuracy": "val_acc",
    "test_loss": "test_loss",
    "test_accuracy": "test_acc",
    "loss": "test_loss",  # of twins
    "accuracy": "test_acc",
    "sparsity": "sparsity_ratio",
}
_OPTIMIZERS: dict[str, Record] = {  # settings of torch.optim that no table has
    "adam": {"betas": (0.9, 0.999), "eps": 1e-8, "amsgrad": False},
    "adamw": {"betas": (0.9, 0.999), "eps": 1e-8, "amsgrad": False},
    "rmsprop": {"alpha": 0.99, "eps": 1e-8, "centered": False},
    "sgd": {"dampening": 0, "nesterov": False},
}


def export_modelzoos(zoo: Zoo, dst: Path, data: Dataset | None = None) -> None:
    """Write trees, and what they cannot hold into ``DST/zoosparse``."""
    folders = _folders(zoo)
    entries: dict[str, list[Record]] = {}
    for base, names in base_epochs(zoo).items():
        root = dst / base
        root.mkdir(parents=True)
        for name in names:
            entries[name] = [
                _write_checkpoints(zoo, dst, base, name, number, group, folders)
                for number, group in enumerate(zoo.populations[name])
            ]
        params = [
            record for group in zoo.populations[base] for record in _write_trials(zoo, root, group, folders)
        ]
        _write_root(zoo, root, base, params, data)
    write_contents(dst / FOLDER, zoo, "modelzoos", entries)


def _folders(zoo: Zoo) -> dict[str, str]:
    """Folder names of all models and twins, in Ray's manner."""
    names: dict[str, str] = {}
    for base in base_epochs(zoo):
        number = 0
        for group in zoo.populations[base]:
            for id, seed in zip(group.ids, group.models["seed"], strict=True):
                trial = f"{zoo.id[:5]}_{number:05d}"
                names[id] = f"NN_tune_trainable_{trial}_{number}_seed={seed}_{_DATE}"
                number += 1
    return names


def _write_checkpoints(
    zoo: Zoo, dst: Path, base: str, name: str, number: int, group: Population, folders: dict[str, str]
) -> Record:
    files = []
    records: list[Any] = group.models.to_dict("records")
    for row, (id, epoch) in enumerate(zip(group.ids, row_epochs(zoo, name, group), strict=True)):
        folder = dst / base / folders[id] / f"checkpoint_{epoch:06d}"
        folder.mkdir(parents=True)
        state = state_dict(group, row)
        torch.save(state, folder / "checkpoints")
        torch.save(_optimizer_state(len(group.layers()), records[row]), folder / "optimizer")
        (folder / ".is_checkpoint").write_bytes(b"")
        (folder / ".tune_metadata").write_bytes(pickle.dumps({"iteration": epoch}, protocol=2))
        files.append((folder / "checkpoints").relative_to(dst).as_posix())
    return {"files": files, **write_beside(dst / FOLDER, f"{name}-{number}", group)}


def _write_trials(zoo: Zoo, root: Path, group: Population, folders: dict[str, str]) -> list[Record]:
    twins = "twin_id" in group.models
    table, key = (zoo.twins, "twin_id") if twins else (zoo.history, "model_id")
    history = dict(iter(table.groupby(key))) if len(table) else {}
    written = []
    epochs = row_epochs(zoo, "", group)
    for id, epoch, row in zip(group.ids, epochs, group.models.to_dict("records"), strict=True):
        source = folders.get(row["source_id"]) if twins else None
        params = _params({str(k): v for k, v in row.items()}, group.architecture, epoch, source)
        folder = root / folders[id]
        (folder / "params.json").write_text(json.dumps(params, indent=2, allow_nan=False))
        lines = _results(history.get(id), epoch, params, folders[id])
        (folder / "result.json").write_text(
            "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
        )
        _write_progress(folder / "progress.csv", lines)
        written.append(params)
    return written


def _params(row: Record, architecture: Architecture, epoch: int, source: str | None) -> Record:
    network = network_name(architecture)
    program = architecture.program
    operations = () if program is None else program.operations
    function = next((op.function for op in operations if isinstance(op, Activation)), None)
    first = architecture.prunable_segments[0].shape
    params = {
        "model::type": TYPES.get(network or "", architecture.name),
        "model::channels_in": first[1] if len(first) == 4 else (architecture.input_shape or (1,))[0],
        "model::o_dim": architecture.prunable_segments[-1].shape[0],
        "model::nlin": {"leaky_relu": "leakyrelu"}.get(function or "", function),
        "model::dropout": row.get("dropout") or 0.0,
        "model::init_type": row.get("init"),
        "model::use_bias": any(segment.name.endswith(".bias") for segment in architecture.segments),
        "optim::optimizer": row.get("optimizer"),
        "optim::lr": row.get("lr"),
        "optim::wd": row.get("weight_decay"),
        "optim::momentum": row.get("momentum"),
        "seed": row.get("seed"),
        "cuda": False,
        "training::batchsize": row.get("batch_size"),
        "training::epochs_train": epoch,
        "training::start_epoch": 1,
        "training::output_epoch": 1,
        "training::val_epochs": 1,
        "training::idx_out": 500,
        "training::checkpoint_dir": None,
        "dataset::dump": "dataset.pt",
    }
    if source is not None:
        params |= {"training::init_checkpoint_path": f"../original/{source}", "training::sample_epoch": epoch}
    return plain(params)


def _results(history: pd.DataFrame | None, epoch: int, params: Record, folder: str) -> list[Record]:
    """Lines of `result.json`; unknown numbers are null, as Ray writes NaN."""
    rows = [{"epoch": epoch}] if history is None else history.sort_values("epoch").to_dict("records")
    lines = []
    for position, row in enumerate(rows):
        metrics = {theirs: row[ours] for ours, theirs in _RESULTS.items() if ours in row}
        lines.append(
            plain(
                {
                    **metrics,
                    "training_iteration": int(row["epoch"]),
                    "trial_id": "_".join(folder.split("_")[3:5]),
                    "experiment_id": folder.split("_")[3],
                    "date": _DATE,
                    "timestamp": 0,
                    "time_this_iter_s": 0.0,
                    "time_total_s": 0.0,
                    "pid": 0,
                    "hostname": "localhost",
                    "node_ip": "127.0.0.1",
                    "time_since_restore": 0.0,
                    "iterations_since_restore": position,
                    "done": position == len(rows) - 1,
                    "config": params,
                }
            )
        )
    return lines


def _write_progress(path: Path, lines: list[Record]) -> None:
    """`progress.csv`: the lines of result.json as a table, `config/<name>` for each hyperparameter."""
    flat = [
        {k: v for k, v in line.items() if k != "config"}
        | {f"config/{k}": v for k, v in line["config"].items()}
        for line in lines
    ]
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(flat[0]))
        writer.writeheader()
        writer.writerows(flat)


def _write_root(zoo: Zoo, root: Path, base: str, params: list[Record], data: Dataset | None) -> None:
    common = {key: _common([record.get(key) for record in params]) for key in params[0]}
    (root / "config.json").write_text(json.dumps(plain(common), indent=2, allow_nan=False))
    columns = index_dict(zoo.populations[base][0].architecture)
    if columns is not None:
        (root / "index_dict.json").write_text(json.dumps(columns))
    groups = ", ".join(f"{len(group)} × {group.architecture.name}" for group in zoo.populations[base])
    (root / "readme.md").write_text(
        f"# {base}\n\n{groups}. A Ray Tune tree in the layout of modelzoos.cc, written by zoosparse_ext.\n"
    )
    if data is not None:
        torch.save(dataset_dump(data), root / "dataset.pt")


def dataset_dump(data: Dataset) -> dict[str, Any]:
    """What `dataset.pt` holds: normalised images and labels of the three splits."""
    dump: dict[str, Any] = {"dataset_seed": 42}
    for name in ("train", "val", "test"):
        split = data.splits.get(name, data.test)
        dump[f"{name}set"] = TensorDataset(split.normalized(), split.labels)
    return dump


def _common(values: list[Any]) -> Any:
    """A value that all models share, or the list of all."""
    return values[0] if all(value == values[0] for value in values) else values


def _optimizer_state(n_tensors: int, row: Record) -> Record:
    """State of a fresh optimizer of the kind that the model was trained with: no moments, the published zoos' loaders
    read the settings only."""
    kind = str(row.get("optimizer"))
    named = {"lr": row.get("lr"), "weight_decay": row.get("weight_decay"), "momentum": row.get("momentum")}
    known = {key: float(value) for key, value in named.items() if value is not None and value == value}
    settings = {"lr": 1e-3, "weight_decay": 0.0, **_OPTIMIZERS.get(kind, _OPTIMIZERS["sgd"]), **known}
    if kind in ("adam", "adamw"):
        settings.pop("momentum", None)
    return {"state": {}, "param_groups": [{**settings, "params": list(range(n_tensors))}]}
