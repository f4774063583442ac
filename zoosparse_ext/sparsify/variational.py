"""Variational dropout of whole populations: networks that sparsify themselves while they train."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from numbers import Real
from typing import Any

import torch

from zoosparse_ext import ops
from zoosparse_ext.data import Dataset, Split
from zoosparse_ext.errors import InputError, require_kind
from zoosparse_ext.ops import vardrop
from zoosparse_ext.population import batch_norm
from zoosparse_ext.population.forward import Variational
from zoosparse_ext.population.gradients import make_trainable_, with_gradients
from zoosparse_ext.population.hooks import Hooks
from zoosparse_ext.population.optimizers import Adam
from zoosparse_ext.population.population import Population, require_numbers
from zoosparse_ext.population.train import run_training
from zoosparse_ext.population.training import Training, gathered, shows_training
from zoosparse_ext.sparsify.collapse import warn_of_collapse
from zoosparse_ext.sparsify.series import Series, named
from zoosparse_ext.sparsify.settings import differences
from zoosparse_ext.sparsify.twins import predictions_of, twin_rows, with_identity
from zoosparse_ext.words import digest, number_text


@dataclass(frozen=True)
class Preset:
    """How the variational objective is weighed.

    Args:
        initial_log_sigma2: where log σ² starts.
        conv_clamp, linear_clamp: bounds of log α.
        conv_biases: biases of convolutions are variational too.
        kl_weight: of epoch (counted from 0), epochs in all, and training images; multiplies ΣKL beside the mean
            cross-entropy.
    """

    initial_log_sigma2: float
    conv_clamp: float
    linear_clamp: float
    conv_biases: bool
    kl_weight: Callable[[int, int, int], float]


PRESETS: dict[str, Preset] = {
    # The published twin zoos of "Sparsified Model Zoo Twins" (Honegger, Schürholt, Borth, 2023).
    "modelzoos": Preset(
        -10.0, 8.0, 10.0, True, lambda epoch, epochs, images: min(1.0, 0.01 * epoch / epochs)
    ),
    # The objective of Molchanov et al. (2017): the KL once per data set, warmed up over the first fifth.
    "molchanov": Preset(
        -10.0,
        8.0,
        10.0,
        False,
        lambda epoch, epochs, images: min(1.0, (epoch + 1) / max(1.0, epochs / 5)) / images,
    ),
}
# Version 0.1 divided by 25, whatever the epochs of the run: the same for the published zoos, which have 25.
_MODELZOOS_OF_0_1 = replace(
    PRESETS["modelzoos"], kl_weight=lambda epoch, epochs, images: min(1.0, 0.01 * epoch / 25)
)


@with_gradients
@shows_training(epochs=25, optimizer=Adam(lr=3e-4))
def variational_dropout(
    population: Population,
    data: Dataset,
    training: Training | None = None,
    *,
    preset: str | Preset = "modelzoos",
    threshold: float = vardrop.THRESHOLD,
    kl_scale: float = 1.0,
    recalibrate: Split | None = None,
    allow_nan: bool = False,
    series: Series | str | None = None,
    keep: Sequence[int] = (),
    **options: Any,
) -> Population:
    """Sparse twins by variational dropout: train on with noise of learned size, then drop what is mostly noise.

    A weight is dropped where log α = log σ² − 2·log|w| reaches `threshold`. Which weights, and how many, the training
    finds by itself.

    >>> import zoosparse_ext as zs
    >>> data = zs.load_dataset("digits").limit(100)
    >>> population = zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(1, 5))
    >>> twins = zs.variational_dropout(population, data, epochs=2)
    >>> twins, bool((twins.weights[~twins.masks] == 0).all())
    (Population(4 × cnn-s-tanh, P = 2464 (2416 prunable), pruned), True)
    >>> twins.history.groupby("epoch")["sparsity"].count().to_dict()  # the trajectory
    {0: 4, 1: 4, 2: 4}

    Args:
        population: N models; stays as it is. Weights of convolution and linear layers are variational; what is pruned
            stays pruned.
        data: images and labels.
        training: see :class:`zoosparse_ext.Training`; its options are keywords as well. By default there are 25 epochs
            of `Adam(lr=3e-4)`, as for the published MNIST zoo; 0 epochs give twins that drop what the initial noise
            drops: weights below 0.0015 or so. With the moments of the source those of log σ², which it has not, start
            at 0 all the same; they count the steps of the source, as if its gradients had been 0 there: Adam's first
            hundreds of steps are then larger in them.
        preset: ``"modelzoos"`` (the published twin zoos), ``"molchanov"`` (the original objective), or a `Preset`.
        threshold: of log α.
        kl_scale: multiplies the KL weight of the preset, 0 or more: the larger, the sparser the twins end up.
        keep: epochs after which the sparse twins are kept, in `kept` of the result, with their weights, masks, log σ²
            and predictions as they were evaluated; see :func:`zoosparse_ext.train`.
        recalibrate: training images on which running statistics of batch norm are measured for the sparse networks,
            which have other activations than the noisy ones; see `magnitude_prune`.
        allow_nan: keep NaN weights instead of raising.
        series: what the twins are called as a group, in their ids and tables. Default: ``"variational"``, with
            preset, threshold and `kl_scale` if they are not the usual ones. Twins that differ in their training alone
            need names of their own before they can stand in one zoo: ``series="variational-50_epochs"``.
        options: of `Training`, and `engine`, `device`, `checkpoint` and `progress`, see
            :class:`~zoosparse_ext.population.training.Execution`.

    Returns:
        A `Population` of twins with `log_sigma2`, `packed_masks` (dropped weights are exactly 0.0), `predictions` on
        the test images and `history`, the rows of the `twins` table with the sparsity trajectory from epoch 0 on.

    Raises:
        InputError: an unknown preset; a threshold or weights that are NaN; a `kl_scale` that is negative, infinite or
            no number; a layer of a module that is no chain whose weights are used without calling it; what `train`
            refuses.

    Source: Molchanov, Ashukha, Vetrov, "Variational Dropout Sparsifies Deep Neural Networks", ICML 2017.
    """
    training, execution = gathered(
        "variational_dropout", training, options, epochs=25, optimizer=Adam(lr=3e-4)
    )
    epochs = training.epochs
    chosen = _preset(preset)
    if math.isnan(threshold):
        raise InputError("the threshold of log α is nan; give a number, such as 3")
    kl_scale = _checked_scale(kl_scale)
    make_trainable_(population)
    if not allow_nan:
        require_numbers(population)
    if series is None:
        texts = objective_texts(chosen, threshold, epochs, len(data.train), kl_scale)
        series = Series("variational", options=differences(texts, objective_texts()))
    noisy = _noisy_population(population, named(series))
    noisy.optimizer_state = population.optimizer_state
    assert noisy.log_sigma2 is not None
    noisy.log_sigma2.fill_(chosen.initial_log_sigma2)
    variational = Variational(
        noisy.log_sigma2, 0.0, chosen.conv_clamp, chosen.linear_clamp, chosen.conv_biases
    )
    batch_norm.require_other_split(population, recalibrate, data)

    def sparse() -> Population:
        dropped = drop(noisy, variational, threshold)
        return dropped if recalibrate is None else batch_norm.recalibrate(dropped, recalibrate)

    source_predictions = predictions_of(population, data, execution.device)

    def hooks(preset: Preset, earlier: Hooks | None = None) -> Hooks:
        objective = preset
        if kl_scale != 1:
            objective = replace(preset, kl_weight=lambda *run: kl_scale * preset.kl_weight(*run))
        return Hooks(
            rows=lambda r: twin_rows(r.population, r.epoch, r.evaluations["test"], source_predictions),
            evaluated=lambda _: sparse(),
            kl_weight=lambda epoch: objective.kl_weight(epoch, epochs, len(data.train)),
            key=_key(objective, epochs, len(data.train), threshold) + batch_norm.key(population, recalibrate),
            earlier=earlier,
        )

    of_0_1 = None
    if chosen == PRESETS["modelzoos"] and kl_scale == 1:
        told = (
            f"KL weights of version 0.1, 0.01 · epoch / 25; the same as kl_scale={number_text(epochs / 25)}"
        )
        of_0_1 = replace(hooks(_MODELZOOS_OF_0_1), told=told)
    history = run_training(
        noisy,
        data,
        training,
        execution,
        splits=("test",),
        keep=keep,
        variational=variational,
        hooks=hooks(chosen, of_0_1),
    )
    twins = sparse()
    twins.predictions, twins.history = noisy.predictions, with_identity(history, twins)
    twins.kept = noisy.kept
    warn_of_collapse(twins.history, source_predictions)
    return twins


def drop(
    population: Population, variational: Variational, threshold: float = vardrop.THRESHOLD
) -> Population:
    """The sparse network inside a variational one: weights whose log α reaches the threshold are exactly 0."""
    architecture = population.architecture
    masks = population.masks
    kept = torch.ones_like(population.weights, dtype=torch.bool) if masks is None else masks
    for segment in architecture.prunable_segments:
        columns, clamp = segment.slice, variational.clamp(segment.shape)
        alpha = vardrop.log_alpha(population.weights[:, columns], variational.log_sigma2[:, columns], clamp)
        kept[:, columns] &= vardrop.keep(alpha, threshold)
    packed = ops.pack_mask(kept)
    weights = ops.apply_mask_(population.weights.clone(), packed)
    return Population(
        weights,
        architecture,
        population.models,
        packed_masks=packed,
        log_sigma2=variational.log_sigma2,
        counts=population.counts,
    )


def _preset(preset: str | Preset) -> Preset:
    if isinstance(preset, Preset):
        return preset
    if preset not in PRESETS:
        raise InputError(f"unknown preset {preset!r}; known: {', '.join(PRESETS)}")
    return PRESETS[preset]


def _checked_scale(kl_scale: float) -> float:
    require_kind("kl_scale", kl_scale, Real, "a number, 0 or more")
    if isinstance(kl_scale, bool) or not 0 <= kl_scale < math.inf:  # NaN as well
        raise InputError(f"kl_scale multiplies the KL weight and must be finite, 0 or more; got {kl_scale}")
    return float(kl_scale)


def _key(preset: Preset, epochs: int, images: int, threshold: float) -> str:
    """What identifies the objective in a checkpoint: values, for functions have no name that outlives a process."""
    kl_weights = [preset.kl_weight(epoch, epochs, images) for epoch in range(epochs)]
    plain = {item.name: getattr(preset, item.name) for item in fields(preset) if item.name != "kl_weight"}
    return f"variational {plain} {kl_weights} {threshold}"


def objective_texts(
    preset: str | Preset = "modelzoos",
    threshold: float = vardrop.THRESHOLD,
    epochs: int = 25,
    images: int = 1,
    kl_scale: float = 1.0,
) -> dict[str, str]:
    """What decides which weights variational dropout takes, in short words."""
    chosen = _preset(preset)
    name = next((name for name, known in PRESETS.items() if known == chosen), None)
    return {
        "preset": name or f"preset {digest(_key(chosen, epochs, images, threshold))}",
        "threshold": f"threshold {number_text(threshold)}",
        "kl": f"kl {number_text(kl_scale)}",
    }


def _noisy_population(population: Population, series: Series) -> Population:
    table = population.models.copy()
    table["source_id"] = population.ids
    table["method"], table["scope"], table["target"], table["matched"] = "variational", None, math.nan, None
    table[Series.column] = series.key
    table["twin_id"] = [f"{source}/{series.key}" for source in table["source_id"]]
    weights = population.weights.detach().clone()
    return Population(
        weights,
        population.architecture,
        table,
        packed_masks=population.packed_masks,
        log_sigma2=torch.zeros_like(weights),
        counts=None if population.counts is None else population.counts.clone(),
    )
