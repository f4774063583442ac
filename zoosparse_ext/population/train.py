"""Training of whole populations."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from zoosparse_ext import ops, random
from zoosparse_ext.data import Dataset
from zoosparse_ext.errors import InputError
from zoosparse_ext.population import native
from zoosparse_ext.population.augment import Augment
from zoosparse_ext.population.checkpoint import Checkpoint, fingerprint
from zoosparse_ext.population.evaluate import Evaluation, check_split, evaluate
from zoosparse_ext.population.forward import Variational
from zoosparse_ext.population.optimizers import Adam, Optimizer
from zoosparse_ext.population.population import Population, chunks
from zoosparse_ext.population.schedules import Constant, schedule
from zoosparse_ext.population.steps import Engine, Steps, TrainState, reference_steps

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """Where a training stands, for progress bars; sent after every chunk of models."""

    epoch: int  # counted from 1
    epochs: int
    models: int  # of this epoch done
    population: int
    accuracy: float  # mean training accuracy of the models of this epoch done so far
    seconds: float  # since the start of this training


@dataclass(frozen=True)
class EpochResult:
    """What is known after an epoch (0: before the first)."""

    epoch: int
    population: Population  # as it was evaluated
    train_loss: Tensor  # float64 [N]; NaN at epoch 0
    train_accuracy: Tensor
    evaluations: dict[str, Evaluation]  # by split name

    def rows(self) -> pd.DataFrame:
        """One row per model, columns of the `history` table."""
        frame = {
            "model_id": self.population.ids,
            "epoch": self.epoch,
            "train_loss": self.train_loss.numpy(),
            "train_accuracy": self.train_accuracy.numpy(),
        }
        for split in ("val", "test"):
            evaluation = self.evaluations.get(split)
            frame[f"{split}_loss"] = math.nan if evaluation is None else evaluation.loss.numpy()
            frame[f"{split}_accuracy"] = math.nan if evaluation is None else evaluation.accuracy.numpy()
        return pd.DataFrame(frame)


@dataclass(frozen=True)
class Hooks:
    """What a method built on training changes.

    Args:
        rows: the rows of the history for an epoch.
        before_epoch: called with the epoch (from 1) and the population; may change its masks.
        evaluated: the population to evaluate in place of the one that is trained.
        kl_weight: of an epoch counted from 0, for variational dropout.
        key: what identifies these hooks in a checkpoint.
    """

    rows: Callable[[EpochResult], pd.DataFrame] = EpochResult.rows
    before_epoch: Callable[[int, Population], None] = lambda epoch, population: None
    evaluated: Callable[[Population], Population] = lambda population: population
    kl_weight: Callable[[int], float] = lambda epoch: 1.0
    key: str = ""


def train(
    population: Population,
    data: Dataset,
    *,
    epochs: int,
    batch_size: int = 10,
    optimizer: Optimizer | None = None,
    lr_schedule: str | Constant = "constant",
    loss: str = "cross_entropy",
    augment: Augment | None = None,
    masks: Tensor | None = None,
    order: str = "per-model",
    seed: int = 0,
    splits: tuple[str, ...] = ("val", "test"),
    engine: str = "auto",
    checkpoint: str | Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    variational: Variational | None = None,
    hooks: Hooks | None = None,
) -> pd.DataFrame:
    """Train all models of a population, in place, each on its own; returns the history, one row per model and epoch.

    Equal to training each model alone with PyTorch on the same order of samples with the same optimizer. A model's
    result depends on its own seed and `seed`, not on its neighbours, the chunks or the threads.

    Example::

        history = zs.train(population, data, epochs=20, batch_size=10, optimizer=zs.Adam(lr=3e-4))

    Args:
        population: N models; `population.weights` is changed.
        data: images and labels; the `train` split is learned, the `splits` are evaluated after every epoch.
        epochs: passes over the training images; 0 is a no-op that returns the evaluation of what is there.
        batch_size: images a step; the last batch of an epoch may be smaller.
        optimizer: hyperparameters are numbers or one per model [N]. Default: `Adam(lr=1e-3)`.
        lr_schedule: ``"constant"``, ``"step"``, ``"cosine"``, ``"onecycle"``, or an object from `schedules`.
        loss: of the training: ``"cross_entropy"``, or ``"mse"``, the mean square distance of the scores to the one-hot
            vector of the label. Evaluations of the splits are cross-entropies in any case.
        augment: random crops and flips of the training images, see `Augment`. Default: none.
        masks: bool [N, P] or packed uint8 [N, ceil(P/8)], becomes `population.packed_masks`; pruned weights are
            exactly 0 after every step. Default: the masks that the population has, if any.
        order: ``"per-model"`` (each model its own shuffle) or ``"shared"``.
        seed: second half of the key of all random numbers; the first is each model's own seed.
        splits: names of the splits to evaluate (one that the data lack is passed over); () for none. With
            ``"test"`` among them the population keeps its predictions.
        engine: ``"auto"``, ``"native"`` or ``"reference"``.
        checkpoint: a file that keeps the state after every epoch. If it exists, training goes on from it, to the same
            bits; an interrupted call can be repeated as it was. It stays until the caller removes it.
        progress: called with a `Progress` after every chunk of models.
        variational: variational dropout; use :func:`zoosparse_ext.variational_dropout`.
        hooks: for methods built on training, see `Hooks`.

    Raises:
        InputError: a batch size below 1, negative epochs, a vector of another length than N, images or labels that do
            not fit, an unknown order, loss, split, schedule or engine, a checkpoint of another training.
    """
    optimizer = optimizer if optimizer is not None else Adam()
    hooks = hooks if hooks is not None else Hooks()
    _check(population, data, epochs, batch_size, order, loss, splits)
    run = _choose_engine(engine, population)
    table, dropout = optimizer.table(len(population)), population.dropout
    steps_per_epoch = math.ceil(len(data.train) / batch_size)
    factors = schedule(lr_schedule).factors(steps_per_epoch * epochs)
    if masks is not None:
        population.packed_masks = _packed(masks, population)
    state = TrainState.fresh(population.weights, variational=variational is not None)
    history: list[pd.DataFrame] = []
    started = time.monotonic()

    saved = None
    if checkpoint is not None:
        settings = (
            epochs,
            batch_size,
            optimizer.kind,
            order,
            seed,
            splits,
            data.fingerprint,
            hooks.key,
            str(lr_schedule),
            loss,
            repr(augment),
        )
        key = fingerprint(
            settings, table, factors, dropout, population.weights, population.seeds, population.packed_masks
        )
        saved = Checkpoint(Path(checkpoint), key)

    def report(epoch: int, train_loss: Tensor, accuracy: Tensor) -> None:
        judged = hooks.evaluated(population)
        evaluations = {
            name: evaluate(judged, getattr(data, name)) for name in splits if getattr(data, name) is not None
        }
        predictions = evaluations["test"].predictions if "test" in evaluations else None
        population.predictions = judged.predictions = predictions
        history.append(hooks.rows(EpochResult(epoch, judged, train_loss, accuracy, evaluations)))
        if saved is not None:
            saved.save(epoch, population, state, pd.concat(history, ignore_index=True))

    restored = None if saved is None else saved.restore(population, state)
    if restored is not None:
        history.append(restored[1])
    else:
        _apply_masks_(population, state)
        unknown = torch.full((len(population),), math.nan, dtype=torch.float64)
        report(0, unknown, unknown)
    for epoch in range(1 if restored is None else restored[0] + 1, epochs + 1):
        train_loss = torch.zeros(len(population), dtype=torch.float64)
        accuracy = torch.zeros_like(train_loss)
        hooks.before_epoch(epoch, population)
        _apply_masks_(population, state)
        if variational is not None:
            variational = replace(variational, kl_weight=hooks.kl_weight(epoch - 1))
        for rows in chunks(len(population), run.models_per_call):
            seeds = population.seeds[rows]
            steps = Steps(
                population.weights[rows],
                state.at_rows(rows),
                _order(order, seeds, seed, len(data.train), epoch - 1),
                batch_size,
                optimizer.kind,
                table[rows],
                factors[(epoch - 1) * steps_per_epoch : epoch * steps_per_epoch],
                seeds,
                seed,
                packed_masks=None if population.packed_masks is None else population.packed_masks[rows],
                dropout=None if dropout is None else dropout[rows],
                variational=_rows_of(variational, rows),
                loss=loss,
                augment=augment,
            )
            result = run.engine(population.architecture, data.train, steps)
            train_loss[rows], accuracy[rows] = result.loss / result.samples, result.correct / result.samples
            if progress is not None:
                so_far = float(accuracy[: rows.stop].mean())
                progress(
                    Progress(epoch, epochs, rows.stop, len(population), so_far, time.monotonic() - started)
                )
        state.step += steps_per_epoch
        report(epoch, train_loss, accuracy)
    return pd.concat(history, ignore_index=True)


def _apply_masks_(population: Population, state: TrainState) -> None:
    if population.packed_masks is not None:
        for tensor in (population.weights, state.first, state.second):
            ops.apply_mask_(tensor, population.packed_masks)


@dataclass(frozen=True)
class _Run:
    engine: Engine
    models_per_call: int  # bounds memory; results do not depend on it


def _choose_engine(name: str, population: Population) -> _Run:
    if name not in ("auto", "native", "reference"):
        raise InputError(f"engine must be 'auto', 'native' or 'reference', got {name!r}")
    missing = native.why_not(population)
    if name != "reference" and not missing:
        return _Run(native.native_steps, 64)
    if name == "native":
        raise InputError(f"the native training engine cannot run {population.architecture.name!r}: {missing}")
    log.info("training %s on the PyTorch reference: %s", population.architecture.name, missing or "asked for")
    return _Run(reference_steps, 16)


def _check(
    population: Population,
    data: Dataset,
    epochs: int,
    batch_size: int,
    order: str,
    loss: str,
    splits: tuple[str, ...],
) -> None:
    if epochs < 0:
        raise InputError(f"epochs must be 0 or more, got {epochs}")
    if batch_size < 1:
        raise InputError(f"batch_size must be 1 or more, got {batch_size}")
    if order not in ("per-model", "shared"):
        raise InputError(f"order must be 'per-model' or 'shared', got {order!r}")
    if loss not in ops.train.LOSSES:
        raise InputError(f"loss must be 'cross_entropy' or 'mse', got {loss!r}")
    for name in set(splits) - {"train", "val", "test"}:
        raise InputError(f"unknown split {name!r}; known: train, val, test")
    check_split(population, data.train)


def _packed(masks: Tensor, population: Population) -> Tensor:
    packed = ops.pack_mask(masks) if masks.dtype == torch.bool else masks
    expected = (len(population), (population.weights.shape[1] + 7) // 8)
    if tuple(packed.shape) != expected or packed.dtype != torch.uint8:
        raise InputError(
            f"masks are {masks.dtype} {list(masks.shape)}, expected bool {list(population.weights.shape)} or "
            f"packed uint8 {list(expected)}"
        )
    return packed


def _order(kind: str, seeds: Tensor, seed: int, samples: int, epoch: int) -> Tensor:
    keys = seeds if kind == "per-model" else torch.zeros(1, dtype=torch.int64)
    return random.permutation(keys, seed, samples, epoch=epoch)


def _rows_of(variational: Variational | None, rows: slice) -> Variational | None:
    return None if variational is None else replace(variational, log_sigma2=variational.log_sigma2[rows])
