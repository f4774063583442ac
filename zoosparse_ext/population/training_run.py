"""A population on its way through a training: epoch by epoch, with checkpoint, history and the epochs to keep."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from zoosparse_ext import ops, random
from zoosparse_ext.data import Dataset
from zoosparse_ext.population.batch_norm import check_batches
from zoosparse_ext.population.checkpoint import Checkpoint, fingerprint
from zoosparse_ext.population.devices import by_rows, device_of
from zoosparse_ext.population.engines import choose_engine
from zoosparse_ext.population.evaluate import evaluate
from zoosparse_ext.population.hooks import EpochResult, Hooks, Progress
from zoosparse_ext.population.kept import snapshot
from zoosparse_ext.population.learning import Learned
from zoosparse_ext.population.optimizer_state import OptimizerState, starting_state
from zoosparse_ext.population.population import Population
from zoosparse_ext.population.schedules import schedule
from zoosparse_ext.population.steps import Steps, TrainState
from zoosparse_ext.population.training import Execution, Training

log = logging.getLogger(__name__)


class TrainingRun:
    """A population on its way: `epoch` epochs done, with the state of the optimizer and the history so far."""

    def __init__(
        self,
        population: Population,
        data: Dataset,
        training: Training,
        execution: Execution,
        *,
        splits: tuple[str, ...],
        keep: frozenset[int],
        learned: Learned | None,
        hooks: Hooks,
    ) -> None:
        self.population, self.data, self.training, self.execution = population, data, training, execution
        self.splits, self.learned, self.hooks = splits, learned, hooks
        self.device = device_of(execution.device, population.weights)
        learner = None if learned is None else learned.learner
        self.engine = choose_engine(execution.engine, population, self.device, learner)
        self.start = starting_state(population, training.optimizer_state, training.optimizer.kind)
        self.table = training.optimizer.table(len(population))  # float64 [N, 6]
        images, batch = len(data.train), training.batch_size
        self.samples = images // batch * batch if training.drop_last else images  # of an epoch
        check_batches(population.architecture, data.train, batch, self.samples)
        self.steps = math.ceil(self.samples / batch)  # of an epoch
        factors, rounds = schedule(training.lr_schedule), hooks.rounds
        self.factors = (  # of the rate, by step
            factors.factors(self.steps * training.epochs)
            if rounds is None
            else rounds.factors(factors, self.steps)
        )
        self.state = TrainState.fresh(population.weights, () if learned is None else learned.matrices)
        self.epochs_before = 0
        self.keep = keep - {training.epochs}  # the last is the population itself
        if self.start is not None:
            self._start_from(self.start)
        self.epoch, self.started = 0, time.monotonic()
        self.diverged: set[int] = set()
        self.history: list[pd.DataFrame] = []
        self.checkpoint: Checkpoint | None = None

    def _fingerprint(self, key: str) -> str:
        """What decides the result; `key` stands for the hooks."""
        population = self.population
        settings = [*self.training.key(self.splits), self.data.fingerprint, key]
        if self.samples != len(self.data.train):
            settings.append(f"{self.samples} images an epoch")
        program, learns = population.architecture.program, self.learned is not None
        if program is not None and program.has_own_streams and (program.draws or learns):
            settings.append("random numbers of the operations")  # version 0.1 drew those of the module
        tensors = [population.weights, population.seeds, population.packed_masks, population.dropout]
        if (rounds := self.hooks.rounds) is not None:
            settings.append(f"rounds of {rounds.epochs} epochs after epoch {rounds.start}")
        if self.start is not None:
            settings.append(f"after {self.start.epochs} epochs, {self.start.step} steps")
            tensors += [self.start.first, self.start.second]
        return fingerprint(settings, self.table, self.factors, *tensors)

    def _start_from(self, start: OptimizerState) -> None:
        """Moments of what is learned beside the weights stay 0: as if its gradients had been 0 until now."""
        self.state.step, self.epochs_before = start.step, start.epochs
        self.state.first.copy_(start.first)
        self.state.second.copy_(start.second)

    def optimizer_state(self) -> OptimizerState:
        """That of the weights, as far as training has come."""
        state, epochs = self.state, self.epochs_before + self.epoch
        return OptimizerState(self.training.optimizer.kind, state.step, epochs, state.first, state.second)

    def _open_checkpoint(self, path: Path) -> None:
        """The checkpoint at a path; if an earlier version began it, training goes on as that version did."""

        def of(hooks: Hooks) -> Checkpoint:
            return Checkpoint(path, self._fingerprint(hooks.key))

        self.checkpoint, earlier = of(self.hooks), self.hooks.earlier
        if earlier is not None and path.exists() and not self.checkpoint.is_begun():
            began = of(earlier)
            if began.is_begun():
                log.warning("%s was begun by an earlier version and goes on with %s", path, earlier.told)
                self.checkpoint, self.hooks = began, earlier

    def begin(self) -> None:
        """Take up the checkpoint where there is one; else evaluate what is there as epoch 0."""
        population, restored = self.population, None
        if self.execution.checkpoint is not None:
            self._open_checkpoint(Path(self.execution.checkpoint))
        if self.checkpoint is not None:
            restored = self.checkpoint.restore(population, self.state, self.keep, self.hooks.models)
        if (
            self.training.epochs
        ):  # what is kept of an earlier training does not belong to these weights any more
            population.kept, population.optimizer_state = {}, None
        if restored is not None:
            self.epoch, history, population.kept = restored
            self.history.append(history)
            return
        self._apply_masks_()
        self.diverged.update(_not_finite(population.weights).nonzero()[:, 0].tolist())
        unknown = torch.full((len(population),), math.nan, dtype=torch.float64)
        self._conclude(unknown, unknown)

    def learn_an_epoch(self) -> None:
        """One pass over the training images for every model, chunk by chunk, then evaluation and checkpoint."""
        self.epoch += 1
        n = len(self.population)
        loss, accuracy = torch.zeros(2, n, dtype=torch.float64)
        if self.hooks.rounds is not None and self.hooks.rounds.begins(self.epoch):
            self.state.restart_()
        self.hooks.before_epoch(self.epoch, self.population)
        self._apply_masks_()

        def learn(rows: slice) -> None:
            result = self.engine.run(self.population.architecture, self.data.train, self._steps(rows))
            loss[rows], accuracy[rows] = result.loss / result.samples, result.correct / result.samples
            if self.execution.progress is not None:
                seconds, so_far = time.monotonic() - self.started, float(accuracy[: rows.stop].mean())
                self.execution.progress(
                    Progress(self.epoch, self.training.epochs, rows.stop, n, so_far, seconds)
                )

        if n > 0:
            by_rows(n, learn, self.engine.models_per_call)
        self.state.step += self.steps
        self._tell_diverged(loss)
        self._conclude(loss, accuracy)

    def _steps(self, rows: slice) -> Steps:
        """This epoch's work on some models."""
        population, training, learned = self.population, self.training, self.learned
        if learned is not None:
            weight = self.hooks.penalty_weight(self.epoch - 1)
            learned = replace(learned, weight=weight).map(lambda matrix: matrix[rows])
        seeds = population.seeds[rows]
        images, steps = len(self.data.train), self.steps
        rounds = self.hooks.rounds
        before = self.epochs_before + self.epoch - 1 if rounds is None else rounds.before(self.epoch)
        order = _order(training.order, seeds, training.seed, images, before)
        return Steps(
            population.weights.detach()[rows],
            self.state.at_rows(rows),
            order if self.samples == images else order[:, : self.samples].contiguous(),
            training.batch_size,
            training.optimizer.kind,
            self.table[rows],
            self.factors[(self.epoch - 1) * steps : self.epoch * steps],
            seeds,
            training.seed,
            packed_masks=None if population.packed_masks is None else population.packed_masks[rows],
            dropout=None if population.dropout is None else population.dropout[rows],
            learned=learned,
            loss=training.loss,
            augment=training.augment,
            counts=None if population.counts is None else population.counts[rows],
        )

    def _tell_diverged(self, loss: Tensor) -> None:
        """Name the models whose weights or loss are no numbers any more, once."""
        bad = ~torch.isfinite(loss) | _not_finite(self.population.weights)
        new = [number for number in bad.nonzero()[:, 0].tolist() if number not in self.diverged]
        self.diverged.update(new)
        if new:
            names = [self.population.ids[number] for number in new]
            shown = ", ".join(names[:10]) + f" and {len(names) - 10} more" * (len(names) > 10)
            log.warning(
                "epoch %d: %d of %d models diverged, weights or loss are NaN or infinite: %s",
                *(self.epoch, len(new), len(self.population), shown),
            )

    def _conclude(self, loss: Tensor, accuracy: Tensor) -> None:
        """Evaluate, extend the history, save."""
        judged = self.hooks.evaluated(self.population)
        splits = {name: getattr(self.data, name) for name in self.splits}
        evaluations = {
            name: evaluate(judged, split, device=self.device)
            for name, split in splits.items()
            if split is not None
        }
        predictions = evaluations["test"].predictions if "test" in evaluations else None
        self.population.predictions = judged.predictions = predictions
        if self.epoch in self.keep:
            self.population.kept[self.epoch] = snapshot(judged)
            if self.checkpoint is not None:
                self.checkpoint.keep(self.epoch, judged)
        self.history.append(self.hooks.rows(EpochResult(self.epoch, judged, loss, accuracy, evaluations)))
        if self.checkpoint is not None:
            history = pd.concat(self.history, ignore_index=True)
            self.checkpoint.save(self.epoch, self.population, self.state, history)

    def _apply_masks_(self) -> None:
        if self.population.packed_masks is not None:
            for tensor in (self.population.weights, self.state.first, self.state.second):
                ops.apply_mask_(tensor.detach(), self.population.packed_masks)


def _not_finite(weights: Tensor) -> Tensor:
    """Which rows [N, P] hold NaN or infinity: bool [N], on the CPU."""
    if weights.shape[1] == 0:
        return torch.zeros(len(weights), dtype=torch.bool)
    smallest, largest = torch.aminmax(weights, dim=1)  # NaN wherever there is one
    return ~(torch.isfinite(smallest) & torch.isfinite(largest)).cpu()


def _order(kind: str, seeds: Tensor, seed: int, samples: int, epoch: int) -> Tensor:
    keys = seeds if kind == "per-model" else torch.zeros(1, dtype=torch.int64)
    return random.permutation(keys, seed, samples, epoch=epoch)
