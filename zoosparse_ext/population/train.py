"""Training of whole populations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from zoosparse_ext import ops
from zoosparse_ext.data import Dataset
from zoosparse_ext.errors import InputError, require_kind
from zoosparse_ext.population.evaluate import check_split
from zoosparse_ext.population.gradients import make_trainable_, with_gradients
from zoosparse_ext.population.hooks import Hooks
from zoosparse_ext.population.kept import checked_epochs
from zoosparse_ext.population.learning import Learned
from zoosparse_ext.population.population import Population
from zoosparse_ext.population.training import Execution, Training, gathered, shows_training
from zoosparse_ext.population.training_run import TrainingRun


@with_gradients
@shows_training()
def train(
    population: Population,
    data: Dataset,
    training: Training | None = None,
    *,
    masks: Tensor | None = None,
    splits: tuple[str, ...] = ("val", "test"),
    keep: Sequence[int] = (),
    keep_optimizer_state: bool = False,
    learned: Learned | None = None,
    hooks: Hooks | None = None,
    **options: Any,
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
        training: the options of the training, see `Training`; each of them is a keyword as well.
        masks: bool [N, P] or packed uint8 [N, ceil(P/8)], becomes `population.packed_masks`; pruned weights are
            exactly 0 after every step. Default: the masks that the population has, if any.
        splits: names of the splits to evaluate (one that the data lack is passed over); () for none. With
            ``"test"`` among them the population keeps its predictions.
        keep: epochs, 0 … `epochs`, after which the population is kept as it is evaluated: weights, masks, predictions.
            They become `population.kept`, by epoch; the last one is the population itself and not among them. Each is
            N × P floats in memory, and on disk beside the checkpoint if there is one.
        keep_optimizer_state: keep them at the end as `population.optimizer_state`, 2 × N × P floats. What the
            population had of an earlier training is dropped in any case.
        learned: what is learned beside the weights, in place; use :func:`zoosparse_ext.learn`.
        hooks: for methods built on training, see `Hooks`.
        options: of `Training`, and `engine`, `device`, `checkpoint` and `progress`, see `Execution`.

    Raises:
        InputError: an argument of another kind, a batch size below 1, negative epochs, epochs to keep that the run does
            not have, that are named twice or that an unfinished run did not keep, ``"source"`` where the population
            has no state or one of another kind of optimizer, a vector of another length than N, images or labels that
            do not fit, an unknown order, loss, split, schedule or engine, a device that is not there or too small for
            one model, a checkpoint of another training; batches that batch norm cannot take, for there is one value
            per channel.

    The population has the options in `trained_by` then, and the history as well, unless it holds twins, whose history
    is that of their making. Frozen parameters (`Segment.trainable`) keep their bits. Models whose weights or loss
    become NaN or infinite are named in a warning after the epoch in which they do.
    """
    training, execution = gathered("train", training, options)
    if masks is not None:
        masks = _packed(masks, population)
    history = run_training(
        population,
        data,
        training,
        execution,
        masks=masks,
        splits=splits,
        keep=keep,
        keep_optimizer_state=keep_optimizer_state,
        learned=learned,
        hooks=hooks,
    )
    if training.epochs:
        population.trained_by = training.record()
    if "twin_id" not in population.models:  # the history of twins is a table of its own, made with them
        population.history = history.copy()
    return history


def run_training(
    population: Population,
    data: Dataset,
    training: Training,
    execution: Execution,
    *,
    masks: Tensor | None = None,
    splits: tuple[str, ...] = ("val", "test"),
    keep: Sequence[int] = (),
    keep_optimizer_state: bool = False,
    learned: Learned | None = None,
    hooks: Hooks | None = None,
) -> pd.DataFrame:
    """What `train` does, its options being objects and its masks packed."""
    require_kind("data", data, Dataset, "a zs.Dataset, from zs.load_dataset or zs.Dataset.from_tensors")
    require_kind("splits", splits, (tuple, list), 'names of splits, such as ("test",)')
    for name in set(splits) - {"train", "val", "test"}:
        raise InputError(f"unknown split {name!r}; known: train, val, test")
    check_split(population, data.train)
    make_trainable_(population)
    kept_epochs = checked_epochs(keep, training.epochs)
    run = TrainingRun(
        population,
        data,
        training,
        execution,
        splits=splits,
        keep=kept_epochs,
        learned=learned,
        hooks=hooks or Hooks(),
    )
    if masks is not None:
        population.packed_masks = masks
    run.begin()
    while run.epoch < training.epochs:
        run.learn_an_epoch()
    if training.epochs and keep_optimizer_state:
        population.optimizer_state = run.optimizer_state()
    return pd.concat(run.history, ignore_index=True)


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
