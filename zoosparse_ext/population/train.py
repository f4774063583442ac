"""Training of whole populations."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from zoosparse_ext import ops, random
from zoosparse_ext.data import Dataset
from zoosparse_ext.errors import InputError, require_kind
from zoosparse_ext.population.augment import Augment
from zoosparse_ext.population.batch_norm import check_batches
from zoosparse_ext.population.checkpoint import Checkpoint, fingerprint
from zoosparse_ext.population.devices import by_rows, device_of
from zoosparse_ext.population.engines import ChosenEngine, choose_engine
from zoosparse_ext.population.evaluate import check_split, evaluate
from zoosparse_ext.population.gradients import make_trainable_, with_gradients
from zoosparse_ext.population.hooks import EpochResult, Hooks, Progress
from zoosparse_ext.population.kept import checked_epochs, snapshot
from zoosparse_ext.population.learning import Learned
from zoosparse_ext.population.optimizer_state import OptimizerState, starting_state
from zoosparse_ext.population.optimizers import Optimizer, chosen_optimizer
from zoosparse_ext.population.population import Population
from zoosparse_ext.population.schedules import Constant, schedule
from zoosparse_ext.population.steps import Steps, TrainState

log = logging.getLogger(__name__)


@with_gradients
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
    drop_last: bool = False,
    seed: int = 0,
    splits: tuple[str, ...] = ("val", "test"),
    engine: str = "auto",
    device: torch.device | str | None = None,
    checkpoint: str | Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    keep: Sequence[int] = (),
    optimizer_state: str = "new",
    keep_optimizer_state: bool = False,
    learned: Learned | None = None,
    hooks: Hooks | None = None,
) -> pd.DataFrame:
    """Train all models of a population, in place, each on its own; returns the history, one row per model and epoch.

    Equal to training each model alone with PyTorch on the same order of samples with the same optimizer. A model's
    result depends on its own seed and `seed`, not on its neighbours, the chunks or the threads.

    >>> import zoosparse_ext as zs
    >>> data = zs.load_dataset("digits").limit(100)
    >>> population = zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(1, 5))
    >>> history = zs.train(population, data, epochs=2, optimizer=zs.Adam(lr=[1e-2, 3e-3, 1e-3, 3e-4]))
    >>> history.groupby("epoch")["test_accuracy"].count().to_dict()
    {0: 4, 1: 4, 2: 4}
    >>> history = zs.train(population, data, epochs=3, keep=(1, 2))
    >>> {epoch: len(then) for epoch, then in population.kept.items()}
    {1: 4, 2: 4}

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
        drop_last: leave out the last batch of an epoch where it is smaller than the others.
        seed: second half of the key of all random numbers; the first is each model's own seed.
        splits: names of the splits to evaluate (one that the data lack is passed over); () for none. With
            ``"test"`` among them the population keeps its predictions.
        engine: ``"auto"``, ``"native"`` or ``"reference"``.
        device: where to compute, ``"cpu"`` or ``"cuda"``; None: where the weights are. The population stays where it
            is. Where the memory of a GPU ends, it goes on with fewer models at a time and says so in the log.
        checkpoint: a file that keeps the state after every epoch. If it exists, training goes on from it, to the same
            bits; an interrupted call can be repeated as it was. It stays until the caller removes it.
        progress: called with a `Progress` after every chunk of models.
        keep: epochs, 0 … `epochs`, after which the population is kept as it is evaluated: weights, masks, predictions.
            They become `population.kept`, by epoch; the last one is the population itself and not among them. Each is
            N × P floats in memory, and on disk beside the checkpoint if there is one.
        optimizer_state: ``"new"``, or ``"source"`` to go on where the training of this population ended: with the
            moments and the step of its optimizer, and the order of images of the epochs that would have come next.
            With a constant learning rate and an equal `seed`, 3 + 2 epochs are then 5, to the same bits.
        keep_optimizer_state: keep them at the end as `population.optimizer_state`, 2 × N × P floats. What the
            population had of an earlier training is dropped in any case.
        learned: what is learned beside the weights, in place; use :func:`zoosparse_ext.learn`.
        hooks: for methods built on training, see `Hooks`.

    Raises:
        InputError: an argument of another kind, a batch size below 1, negative epochs, epochs to keep that the run does
            not have, that are named twice or that an unfinished run did not keep, ``"source"`` where the population
            has no state or one of another kind of optimizer, a vector of another length than N, images or labels that
            do not fit, an unknown order, loss, split, schedule or engine, a device that is not there or too small for
            one model, a checkpoint of another training; batches that batch norm cannot take, for there is one value
            per channel.

    Frozen parameters (`Segment.trainable`) keep their bits. Models whose weights or loss become NaN or infinite are
    named in a warning after the epoch in which they do.
    """
    optimizer = chosen_optimizer(optimizer)
    _check(population, data, epochs, batch_size, order, loss, splits)
    where = device_of(device, population.weights)
    make_trainable_(population)
    chosen = choose_engine(engine, population, where, None if learned is None else learned.learner)
    kept_epochs = checked_epochs(keep, epochs)
    start = starting_state(population, optimizer_state, optimizer.kind)
    table = optimizer.table(len(population))
    samples = len(data.train) // batch_size * batch_size if drop_last else len(data.train)
    check_batches(population.architecture, data.train, batch_size, samples)
    factors = schedule(lr_schedule).factors(math.ceil(samples / batch_size) * epochs)
    if masks is not None:
        population.packed_masks = _packed(masks, population)
    settings = (epochs, batch_size, optimizer.kind, order, seed, splits, str(lr_schedule), loss, augment)
    recipe = _Recipe(*settings, table, factors, samples, start)
    training = _Training(
        population,
        data,
        recipe,
        chosen,
        where,
        learned,
        hooks or Hooks(),
        progress,
        checkpoint,
        kept_epochs,
    )
    training.begin()
    while training.epoch < epochs:
        training.learn_an_epoch()
    if epochs and keep_optimizer_state:
        population.optimizer_state = training.optimizer_state()
    return pd.concat(training.history, ignore_index=True)


@dataclass(frozen=True)
class _Recipe:
    """What decides the result, beside the population, the data and the hooks."""

    epochs: int
    batch_size: int
    kind: str  # of the optimizer
    order: str
    seed: int
    splits: tuple[str, ...]
    lr_schedule: str
    loss: str
    augment: Augment | None
    table: Tensor  # float64 [N, 6], hyperparameters
    factors: Tensor  # float64 [steps], of the learning rate
    samples: int  # images an epoch
    start: OptimizerState | None  # None: a new one

    @property
    def steps(self) -> int:
        """Steps an epoch."""
        return math.ceil(self.samples / self.batch_size)

    def fingerprint(self, population: Population, data: Dataset, key: str) -> str:
        names = ("epochs", "batch_size", "kind", "order", "seed", "splits", "lr_schedule", "loss")
        settings = [getattr(self, name) for name in names] + [repr(self.augment), data.fingerprint, key]
        if self.samples != len(data.train):
            settings.append(f"{self.samples} images an epoch")
        tensors = [population.weights, population.seeds, population.packed_masks, population.dropout]
        if self.start is not None:
            settings.append(f"after {self.start.epochs} epochs, {self.start.step} steps")
            tensors += [self.start.first, self.start.second]
        return fingerprint(settings, self.table, self.factors, *tensors)


class _Training:
    """A population on its way: `epoch` epochs done, with the state of the optimizer and the history so far."""

    def __init__(
        self,
        population: Population,
        data: Dataset,
        recipe: _Recipe,
        engine: ChosenEngine,
        device: torch.device,
        learned: Learned | None,
        hooks: Hooks,
        progress: Callable[[Progress], None] | None,
        checkpoint: str | Path | None,
        keep: frozenset[int],
    ) -> None:
        self.population, self.data, self.recipe = population, data, recipe
        self.engine, self.device = engine, device
        self.learned, self.hooks, self.progress = learned, hooks, progress
        self.state = TrainState.fresh(population.weights, () if learned is None else learned.matrices)
        self.epochs_before = 0
        self.keep = keep - {recipe.epochs}  # the last is the population itself
        if recipe.start is not None:
            self._start_from(recipe.start)
        self.epoch, self.started = 0, time.monotonic()
        self.diverged: set[int] = set()
        self.history: list[pd.DataFrame] = []
        self.checkpoint: Checkpoint | None = None
        if checkpoint is not None:
            self._open_checkpoint(Path(checkpoint))

    def _start_from(self, start: OptimizerState) -> None:
        """Moments of what is learned beside the weights stay 0: as if its gradients had been 0 until now."""
        self.state.step, self.epochs_before = start.step, start.epochs
        self.state.first.copy_(start.first)
        self.state.second.copy_(start.second)

    def optimizer_state(self) -> OptimizerState:
        """That of the weights, as far as training has come."""
        state, epochs = self.state, self.epochs_before + self.epoch
        return OptimizerState(self.recipe.kind, state.step, epochs, state.first, state.second)

    def _open_checkpoint(self, path: Path) -> None:
        """The checkpoint at a path; if an earlier version began it, training goes on as that version did."""

        def of(hooks: Hooks) -> Checkpoint:
            return Checkpoint(path, self.recipe.fingerprint(self.population, self.data, hooks.key))

        self.checkpoint, earlier = of(self.hooks), self.hooks.earlier
        if earlier is not None and path.exists() and not self.checkpoint.is_begun():
            began = of(earlier)
            if began.is_begun():
                log.warning("%s was begun by an earlier version and goes on with %s", path, earlier.told)
                self.checkpoint, self.hooks = began, earlier

    def begin(self) -> None:
        """Take up the checkpoint where there is one; else evaluate what is there as epoch 0."""
        population, restored = self.population, None
        if self.checkpoint is not None:
            restored = self.checkpoint.restore(population, self.state, self.keep, self.hooks.models)
        if (
            self.recipe.epochs
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
        self.hooks.before_epoch(self.epoch, self.population)
        self._apply_masks_()

        def learn(rows: slice) -> None:
            result = self.engine.run(self.population.architecture, self.data.train, self._steps(rows))
            loss[rows], accuracy[rows] = result.loss / result.samples, result.correct / result.samples
            if self.progress is not None:
                seconds, so_far = time.monotonic() - self.started, float(accuracy[: rows.stop].mean())
                self.progress(Progress(self.epoch, self.recipe.epochs, rows.stop, n, so_far, seconds))

        if n > 0:
            by_rows(n, learn, self.engine.models_per_call)
        self.state.step += self.recipe.steps
        self._tell_diverged(loss)
        self._conclude(loss, accuracy)

    def _steps(self, rows: slice) -> Steps:
        """This epoch's work on some models."""
        population, recipe, learned = self.population, self.recipe, self.learned
        if learned is not None:
            weight = self.hooks.penalty_weight(self.epoch - 1)
            learned = replace(learned, weight=weight).map(lambda matrix: matrix[rows])
        seeds = population.seeds[rows]
        images, steps = len(self.data.train), recipe.steps
        order = _order(recipe.order, seeds, recipe.seed, images, self.epochs_before + self.epoch - 1)
        return Steps(
            population.weights.detach()[rows],
            self.state.at_rows(rows),
            order if recipe.samples == images else order[:, : recipe.samples].contiguous(),
            recipe.batch_size,
            recipe.kind,
            recipe.table[rows],
            recipe.factors[(self.epoch - 1) * steps : self.epoch * steps],
            seeds,
            recipe.seed,
            packed_masks=None if population.packed_masks is None else population.packed_masks[rows],
            dropout=None if population.dropout is None else population.dropout[rows],
            learned=learned,
            loss=recipe.loss,
            augment=recipe.augment,
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
        splits = {name: getattr(self.data, name) for name in self.recipe.splits}
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


def _check(
    population: Population,
    data: Dataset,
    epochs: int,
    batch_size: int,
    order: str,
    loss: str,
    splits: tuple[str, ...],
) -> None:
    require_kind("data", data, Dataset, "a zs.Dataset, from zs.load_dataset or zs.Dataset.from_tensors")
    require_kind("epochs", epochs, Integral, "a whole number, 0 or more")
    require_kind("batch_size", batch_size, Integral, "a whole number, 1 or more")
    require_kind("splits", splits, (tuple, list), 'names of splits, such as ("test",)')
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


def _not_finite(weights: Tensor) -> Tensor:
    """Which rows [N, P] hold NaN or infinity: bool [N], on the CPU."""
    if weights.shape[1] == 0:
        return torch.zeros(len(weights), dtype=torch.bool)
    smallest, largest = torch.aminmax(weights, dim=1)  # NaN wherever there is one
    return ~(torch.isfinite(smallest) & torch.isfinite(largest)).cpu()


def _packed(masks: Tensor, population: Population) -> Tensor:
    require_kind("masks", masks, Tensor, "a tensor, bool [N, P] or packed uint8 [N, ceil(P/8)]")
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
