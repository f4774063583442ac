"""Importing Ray Tune trees of modelzoos.cc: zoos, and their twins by variational dropout.

Source: Schürholt et al., "Model Zoos: A Dataset of Diverse Populations of Neural Network Models", NeurIPS 2022.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from zoosparse_ext.errors import InputError, StoreError, ZoosparseError
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.zoo.formats.checkpoint import (
    CheckpointReader,
    checkpoint_reader,
    fold_pruning,
    pruning_row,
)
from zoosparse_ext.zoo.formats.infer import infer
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
)
from zoosparse_ext.zoo.formats.ray_trials import Trial, find_trials, number, read_results, text
from zoosparse_ext.zoo.formats.variational import (
    is_variational,
    noise_row,
    split_state,
    twin_masks,
    twin_record,
)

_HISTORY = {
    "train_loss": "train_loss",
    "train_accuracy": "train_acc",
    "val_loss": "val_loss",
    "val_accuracy": "val_acc",
    "test_loss": "test_loss",
    "test_accuracy": "test_acc",
}


def plan_trees(roots: Sequence[str | os.PathLike[str]], options: Options) -> Plan:
    """Look at the trees and sort their trials into groups of one architecture.

    Raises:
        StoreError: no trials, or none that can be read; with `strict`, the first broken one.
    """
    trials: list[Trial] = []
    skipped: list[Skipped] = []
    for root in roots:
        found, broken = find_trials(root)
        trials += found
        skipped += broken
    originals: dict[Any, list[Trial]] = {}
    noisy: list[tuple[Trial, Any]] = []
    for trial in trials:
        reason = _sort(trial, options, originals, noisy)
        if reason is not None:
            skipped.append(Skipped(trial.name, reason))
    groups = [_originals(members, shapes, options) for (shapes, *_), members in originals.items()]
    twins, unpaired = _twins(noisy, groups, options)
    plan = Plan([*groups, *twins], skipped + unpaired)
    plan.source = {"format": "modelzoos", "trials": len(trials)}
    return plan


def read_originals(architecture: Architecture, items: Sequence[tuple[int, Trial]], options: Options) -> Block:
    """Weights, table rows and training history of trials."""
    block = Block()
    for index, trial in items:
        try:
            results = read_results(trial)
            settings, rows = model_settings(trial, index, architecture), []
            for epoch, path in trial.checkpoints:
                state, masks = fold_pruning(_reader(trial, options).read(path), path)
                weights = architecture.flatten(state)
                check_finite(weights, architecture, options.allow_nan)
                result = results.get(epoch, {})
                measured = {"loss": _value(result, "test_loss"), "accuracy": _value(result, "test_acc")}
                record = {**settings, "epoch": epoch, **measured}
                name = epoch_population("original", epoch, trial.last)
                rows.append(Row(name, index, record, {"weights": weights}))
                if trial.pruned:
                    rows[-1].tensors["packed_masks"] = pruning_row(architecture, masks)
        except ZoosparseError as error:
            block.skipped.append(Skipped(trial.id, str(error)))
            continue
        block.rows += rows
        block.models.append(rows[-1].record)
        block.history += [
            _history_record(trial.id, epoch, result) for epoch, result in sorted(results.items())
        ]
    return block


def read_twins(architecture: Architecture, items: Sequence[tuple[int, Trial]], options: Options) -> Block:
    """Twins by variational dropout: weights, log σ², the masks that follow from them, and their trajectory."""
    block = Block()
    for index, trial in items:
        try:
            results = read_results(trial)
            rows = []
            for epoch, path in trial.checkpoints:
                state, noise = split_state(_reader(trial, options).read(path))
                weights = architecture.flatten(state)
                check_finite(weights, architecture, options.allow_nan)
                log_sigma2 = noise_row(architecture, noise, path)
                name = epoch_population("variational", epoch, trial.last)
                record = {**(trial.source or {}), **_identity(trial), "epoch": epoch}
                rows.append(Row(name, index, record, {"weights": weights, "log_sigma2": log_sigma2}))
        except ZoosparseError as error:
            block.skipped.append(Skipped(trial.name, str(error)))
            continue
        twin_masks(architecture, rows, options.threshold)
        block.rows += rows
        block.twins += _trajectory(architecture, trial, rows, results)
    return block


def model_settings(trial: Trial, index: int, architecture: Architecture) -> Record:
    """What the table `models` says of an original at any epoch. Channels, classes and biases are not taken from
    params.json."""
    params = trial.params
    seed = number(params, "seed")
    functions = [] if architecture.program is None else architecture.program.operations
    return {
        "model_id": trial.id,
        "architecture": architecture.name,
        "seed": int(seed) if seed is not None and math.isfinite(seed) else index,
        "activation": next((op.function for op in functions if hasattr(op, "function")), None),
        "init": text(params, "model::init_type"),
        "optimizer": text(params, "optim::optimizer"),
        "lr": _value(params, "optim::lr"),
        "weight_decay": _value(params, "optim::wd"),
        "momentum": _value(params, "optim::momentum"),
        "dropout": _dropout(params),
        "batch_size": _value(params, "training::batchsize"),
        "epochs": _value(params, "training::epochs_train"),
    }


def _reader(trial: Trial, options: Options) -> CheckpointReader:
    return checkpoint_reader(trial.root, options.trust_pickle)


def _chosen(trial: Trial, options: Options) -> Trial:
    """The trial with the checkpoints that were asked for."""
    chosen = tuple(pair for pair in trial.checkpoints if options.wants(pair[0], trial.last))
    if not isinstance(options.epochs, str):
        missing = set(options.epochs) - {epoch for epoch, _ in chosen}
        if missing:
            raise StoreError(f"it has no checkpoint of epoch {min(missing)}")
    return replace(trial, checkpoints=chosen)


def _sort(
    trial: Trial,
    options: Options,
    originals: dict[Any, list[Trial]],
    noisy: list[tuple[Trial, Any]],
) -> str | None:
    """Put a trial to its likes, as its last checkpoint tells; the reason why not, if it cannot be read."""
    try:
        chosen = _chosen(trial, options)
        state, masks = fold_pruning(_reader(chosen, options).outline(chosen.checkpoints[-1][1]), chosen.name)
        weights, _ = split_state(state)
        shapes = tuple((name, tuple(tensor.shape)) for name, tensor in weights.items())
        if is_variational(state):
            noisy.append((chosen, shapes))
        else:
            activation = options.activation or text(trial.params, "model::nlin")
            architecture = _architecture(shapes, activation, options)
            chosen = replace(chosen, pruned=bool(masks))
            originals.setdefault((shapes, architecture.name, chosen.pruned), []).append(chosen)
    except ZoosparseError as error:
        return str(error)
    return None


def _architecture(shapes: Any, activation: str | None, options: Options, rate: float = 0.0) -> Architecture:
    if options.architecture is None:
        return infer(shapes, activation, rate)
    expected = {segment.name: segment.shape for segment in options.architecture.segments}
    for name, shape in shapes:
        if expected.get(name) != shape:
            wanted = list(expected[name]) if name in expected else "nothing"
            raise InputError(
                f"{name!r} has shape {list(shape)}, the architecture that was given expects {wanted}"
            )
    return options.architecture


def _originals(trials: list[Trial], shapes: Any, options: Options) -> Group:
    """A group; models with dropout layers may differ in their rates, which their rows then carry."""
    rates = {_dropout(trial.params) for trial in trials}
    rate = rates.pop() if len(rates) == 1 else 0.0
    activation = options.activation or text(trials[0].params, "model::nlin")
    architecture = _architecture(shapes, activation, options, rate if 0.0 <= rate < 1.0 else 0.0)
    p = architecture.n_parameters
    columns = {"weights": (torch.float32, p)}
    if trials[0].pruned:
        columns["packed_masks"] = (torch.uint8, (p + 7) // 8)
    return Group(_populations("original", trials), architecture, trials, read_originals, columns)


def _twins(
    noisy: Iterable[tuple[Trial, Any]], originals: list[Group], options: Options
) -> tuple[list[Group], list[Skipped]]:
    """Pair twins with originals, by nothing but the name of the folder, and group them as their originals are."""
    sources: dict[str, list[tuple[int, int, Trial]]] = {}
    for which, group in enumerate(originals):
        for index, trial in enumerate(group.items):
            sources.setdefault(trial.name, []).append((which, index, trial))
    members: dict[Any, list[tuple[int, Trial]]] = {}
    skipped: list[Skipped] = []
    taken: dict[str, int] = {}
    for trial, shapes in noisy:
        try:
            which, index, source = _source(trial, sources)
            record = None
            if source is None:
                architecture = _architecture(
                    shapes, options.activation or text(trial.params, "model::nlin"), options
                )
            else:
                architecture = originals[which].architecture
                record = model_settings(source, index, architecture)
            if {s.name: s.shape for s in architecture.segments} != dict(shapes):
                raise StoreError(f"its tensors are not those of its original {trial.source_name!r}")
        except ZoosparseError as error:
            skipped.append(Skipped(trial.name, str(error)))
            continue
        source_id = source.id if source is not None else (trial.source_name or trial.name)
        taken[source_id] = taken.get(source_id, 0) + 1
        twin_id = f"{source_id}/variational" + (f"-{taken[source_id]}" if taken[source_id] > 1 else "")
        twin = replace(trial, id=twin_id, source=record or _stranger(source_id, architecture, index))
        members.setdefault((which, architecture), []).append((index, twin))
    groups = []
    for (_, architecture), pairs in sorted(members.items(), key=lambda item: item[0][0]):
        trials = [twin for _, twin in sorted(pairs, key=lambda pair: pair[0])]
        p = architecture.n_parameters
        columns = {
            "weights": (torch.float32, p),
            "log_sigma2": (torch.float32, p),
            "packed_masks": (torch.uint8, (p + 7) // 8),
        }
        groups.append(Group(_populations("variational", trials), architecture, trials, read_twins, columns))
    return groups, skipped


def _source(trial: Trial, sources: dict[str, list[tuple[int, int, Trial]]]) -> tuple[int, int, Trial | None]:
    if not sources:  # a zoo of twins alone
        return 0, 0, None
    found = sources.get(trial.source_name or "", [])
    if len(found) == 1:
        return found[0]
    if found:
        raise StoreError(f"its original {trial.source_name!r} is the name of {len(found)} models")
    raise StoreError(
        f"its original {trial.source_name!r} (training::init_checkpoint_path) is not among the models"
    )


def _stranger(source_id: str, architecture: Architecture, index: int) -> Record:
    """What is known of an original that was not imported; a twin's own params.json is wrong about it."""
    return {"model_id": source_id, "architecture": architecture.name, "seed": index}


def _populations(name: str, trials: list[Trial]) -> list[str]:
    earlier = {epoch for trial in trials for epoch, _ in trial.checkpoints[:-1]}
    return [name, *(f"{name}@{epoch}" for epoch in sorted(earlier))]


def _identity(trial: Trial) -> Record:
    source = trial.source or {}
    twin = {"twin_id": trial.id, "source_id": source.get("model_id"), "method": "variational"}
    return {**twin, "scope": None, "target": math.nan, "matched": None}


def _trajectory(
    architecture: Architecture, trial: Trial, rows: list[Row], results: dict[int, Record]
) -> list[Record]:
    """Rows of the table `twins`: what result.json says of each epoch, and what the weights say where they were read."""
    read = {row.record["epoch"]: row.tensors["weights"] for row in rows}
    records = []
    for epoch in sorted(results.keys() | read.keys()):
        result = results.get(epoch, {})
        weights: Tensor | None = read.get(epoch)
        record = {**_identity(trial), "epoch": epoch}
        record |= twin_record(architecture, weights, number(result, "sparsity_ratio"))
        record |= {"loss": _value(result, "test_loss"), "accuracy": _value(result, "test_acc")}
        records.append(record | {"agreement": math.nan, "kappa": math.nan, "agreement_on_errors": math.nan})
    return records


def _history_record(model_id: str, epoch: int, result: Record) -> Record:
    return {
        "model_id": model_id,
        "epoch": epoch,
        **{ours: _value(result, theirs) for ours, theirs in _HISTORY.items()},
    }


def _dropout(params: Record) -> float:
    return number(params, "model::dropout") or 0.0


def _value(record: Record, key: str) -> float:
    """A number of a record, NaN where there is none."""
    found = number(record, key)
    return math.nan if found is None else found
