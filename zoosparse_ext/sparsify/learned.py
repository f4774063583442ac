"""Twins by methods that learn, beside the weights, which of them to keep."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from zoosparse_ext import ops
from zoosparse_ext.data import Dataset, Split
from zoosparse_ext.errors import InputError
from zoosparse_ext.population import batch_norm
from zoosparse_ext.population.gradients import make_trainable_, with_gradients
from zoosparse_ext.population.hooks import Hooks
from zoosparse_ext.population.learning import Learned
from zoosparse_ext.population.population import Population, require_numbers
from zoosparse_ext.population.tensors import as_arguments, tensors_of
from zoosparse_ext.population.train import run_training
from zoosparse_ext.population.training import Training, gathered, shows_training
from zoosparse_ext.sparsify.collapse import warn_of_collapse
from zoosparse_ext.sparsify.fine_tuning import require_prunable
from zoosparse_ext.sparsify.methods import METHODS, LearnedMethod, chosen_method
from zoosparse_ext.sparsify.ratios import ratio_text, ratios_of
from zoosparse_ext.sparsify.series import Series, named
from zoosparse_ext.sparsify.twins import MATCHED_EPOCH, predictions_of, twin_rows, with_identity

EPOCHS = 25  # of the published twins


@with_gradients
@shows_training(epochs=EPOCHS)
def learn(
    population: Population,
    data: Dataset,
    method: str | LearnedMethod,
    sparsity: float | Sequence[float] | Tensor | None = None,
    *,
    training: Training | None = None,
    recalibrate: Split | None = None,
    allow_nan: bool = False,
    series: Series | str | None = None,
    keep: Sequence[int] = (),
    **options: Any,
) -> Population:
    """Sparse twins by a method that learns which weights to keep while it trains them.

    >>> import zoosparse_ext as zs
    >>> from zoosparse_ext.sparsify.methods.variational import VariationalDropout
    >>> data = zs.load_dataset("digits").limit(100)
    >>> population = zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(1, 5))
    >>> twins = zs.learn(population, data, VariationalDropout(kl_scale=30), epochs=2)
    >>> twins.ids[0], list(twins.learned)
    ('cnn-s-tanh-0001/variational-kl_30', ['log_sigma2'])

    Args:
        population: N models; stays as it is. What their masks prune stays pruned.
        data: images and labels.
        method: its name or an object, see :mod:`zoosparse_ext.sparsify.methods`.
        sparsity: what methods are told that keep a number of weights that is asked for: a number, or a sequence of
            ratios, which gives (ratios × N) twins of one training. Others find the sparsity by themselves.
        training: see :class:`zoosparse_ext.Training`; its options are keywords as well. By default there are 25 epochs
            by the usual optimizer of the method; 0 epochs give twins that keep what the method keeps before it has
            learned anything.
        recalibrate: training images on which running statistics of batch norm are measured for the sparse networks,
            which have other activations than the trained ones; see :func:`~zoosparse_ext.magnitude_prune`.
        allow_nan: keep NaN weights instead of raising.
        series: what the twins are called as a group, in their ids and tables. Default: the name of the method, with
            those of its options that are not the usual ones.
        keep: epochs after which the twins are kept, in `kept` of the result, as they were evaluated; see
            :func:`zoosparse_ext.train`.
        options: of `Training`, and `engine`, `device`, `checkpoint` and `progress`, see
            :class:`~zoosparse_ext.population.training.Execution`.

    Returns:
        A `Population` of twins with `learned`, `packed_masks` (pruned weights are exactly 0.0), `predictions` on the
        test images and `history`, the rows of the `twins` table with the trajectory from epoch 0 on.

    Raises:
        InputError: an unknown method or one that does not learn; a sparsity that is missing, that nothing asks for, or
            that is out of range; weights that are NaN; what `train` refuses.
    """
    chosen = _chosen(method)
    training, execution = gathered("learn", training, options, epochs=EPOCHS, optimizer=chosen.optimizer)
    epochs = training.epochs
    ratios = _asked(chosen, sparsity)
    make_trainable_(population)
    if chosen.asks_sparsity:
        require_prunable(population)
    if not allow_nan:
        require_numbers(population)
    batch_norm.require_other_split(population, recalibrate, data)
    if series is None:
        scope = "global" if chosen.asks_sparsity else None
        series = Series(chosen.name, scope, options=chosen.series_options(epochs, len(data.train)))
    table = _table(population, chosen, named(series), ratios)
    trained = _started(population, chosen, population.models if ratios is not None else table)
    of_twins = None if ratios is None else ratios.repeat_interleave(len(population))

    def sparse() -> Population:
        twins = _sparse(trained, chosen, table, of_twins)
        return twins if recalibrate is None else batch_norm.recalibrate(twins, recalibrate)

    source_predictions = predictions_of(population, data, execution.device)
    source_predictions = source_predictions.repeat(len(table) // max(1, len(population)), 1)

    def hooks(method: LearnedMethod, earlier: Hooks | None = None) -> Hooks:
        asked = "" if ratios is None else f" {ratios.tolist()}"
        key = method.training_key(epochs, len(data.train)) + asked + batch_norm.key(population, recalibrate)
        return Hooks(
            rows=lambda r: twin_rows(r.population, r.epoch, r.evaluations["test"], source_predictions),
            evaluated=lambda _: sparse(),
            models=table,
            penalty_weight=lambda epoch: method.penalty_weight(epoch, epochs, len(data.train)),
            key=key,
            earlier=earlier,
        )

    before = chosen.earlier(epochs)
    history = run_training(
        trained,
        data,
        training,
        execution,
        splits=("test",),
        keep=keep,
        learned=Learned(chosen, trained.learned),
        hooks=hooks(chosen, None if before is None else replace(hooks(before[0]), told=before[1])),
    )
    twins = sparse()
    twins.predictions, twins.history = trained.predictions, with_identity(history, twins)
    twins.kept = trained.kept
    warn_of_collapse(twins.history, source_predictions)
    return twins


def _chosen(method: str | LearnedMethod) -> LearnedMethod:
    chosen = chosen_method(method)
    if not isinstance(chosen, LearnedMethod):
        learned = ", ".join(name for name, cls in METHODS.items() if issubclass(cls, LearnedMethod))
        raise InputError(
            f"method must be one that learns what to keep: {learned}; {chosen.name!r} ranks weights"
        )
    return chosen


def _asked(method: LearnedMethod, sparsity: float | Sequence[float] | Tensor | None) -> Tensor | None:
    """The ratios that are asked for, float64 [ratios]; None where the method finds the sparsity by itself."""
    if method.asks_sparsity:
        if sparsity is None:
            raise InputError(
                f"method {method.name!r} keeps a number of weights: pass sparsity=…, such as 0.8"
            )
        return ratios_of(sparsity)
    if sparsity is not None:
        raise InputError(
            f"method {method.name!r} finds the sparsity by itself, got sparsity={sparsity!r:.40}"
        )
    return None


def _table(
    population: Population, method: LearnedMethod, series: Series, ratios: Tensor | None
) -> pd.DataFrame:
    """The rows of the twins: all at the first ratio, then all at the second, …"""
    copies = 1 if ratios is None else len(ratios)
    table = pd.concat([population.models] * copies, ignore_index=True)
    table = table.drop(columns=MATCHED_EPOCH, errors="ignore")  # that of the model
    table["source_id"] = population.ids * copies
    table["method"], table["scope"], table["matched"] = method.name, series.scope, None
    table["target"], table[Series.column] = math.nan, series.key
    ends = [""] * len(table)
    if ratios is not None:
        table["target"] = ratios.repeat_interleave(len(population)).numpy()
        ends = [f"-{ratio_text(ratio)}" for ratio in table["target"]]
    table["twin_id"] = [
        f"{source}/{series.key}{end}" for source, end in zip(table["source_id"], ends, strict=True)
    ]
    return table


def _started(population: Population, method: LearnedMethod, models: pd.DataFrame) -> Population:
    """A copy of the models with the matrices that the method learns."""
    weights = population.weights.detach().clone()
    return Population.from_rows(
        weights,
        population.architecture,
        models,
        packed_masks=population.packed_masks,
        counts=None if population.counts is None else population.counts.clone(),
        optimizer_state=population.optimizer_state,
        learned={name: torch.full_like(weights, value) for name, value in method.start.items()},
    )


def _sparse(
    trained: Population, method: LearnedMethod, table: pd.DataFrame, ratios: Tensor | None
) -> Population:
    """The twins inside of trained networks."""
    whole = trained if ratios is None else _repeated(trained, table)
    kept, weights = method.keep(whole, ratios)
    if (masks := whole.masks) is not None:
        kept = kept & masks
    packed = ops.pack_mask(kept)
    return Population(
        ops.apply_mask_(weights.clone(), packed),
        trained.architecture,
        table,
        packed_masks=packed,
        counts=whole.counts,
        learned=whole.learned,
    )


def _repeated(trained: Population, table: pd.DataFrame) -> Population:
    """As many copies of networks as a table has rows for, all, then all again, …"""
    copies = len(table) // len(trained)
    tensors = {
        name: tensor.detach().repeat(copies, 1)
        for name, tensor in tensors_of(trained).items()
        if name != "predictions"
    }
    return Population.from_rows(architecture=trained.architecture, models=table, **as_arguments(tensors))
