"""Magnitude pruning of whole populations, with fine-tuning under the mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from zoosparse_ext.data import Dataset, Split
from zoosparse_ext.errors import InputError, require_kind
from zoosparse_ext.options import taken
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.gradients import make_trainable_, with_gradients
from zoosparse_ext.population.kept import checked_epochs
from zoosparse_ext.population.optimizer_state import starting_state
from zoosparse_ext.population.population import Population, require_numbers
from zoosparse_ext.population.training import Training, gathered, shows_training
from zoosparse_ext.sparsify.collapse import warn_of_collapse
from zoosparse_ext.sparsify.fine_tuning import fine_tune_, recalibrate_, require_prunable
from zoosparse_ext.sparsify.methods import Ranking, chosen_method
from zoosparse_ext.sparsify.pruning import Pruning
from zoosparse_ext.sparsify.ratios import in_range, numbers_of, ratio_text, require_once
from zoosparse_ext.sparsify.rewinding import Rewinding, require_new_optimizer
from zoosparse_ext.sparsify.schedules import Phase
from zoosparse_ext.sparsify.scopes import Pattern, chosen_scope, pattern_sparsity
from zoosparse_ext.sparsify.selection import Lots, prune_
from zoosparse_ext.sparsify.series import Series, named
from zoosparse_ext.sparsify.settings import differences, epoch_text
from zoosparse_ext.sparsify.twins import MATCHED_EPOCH, twin_rows
from zoosparse_ext.words import number_text

Sparsity = float | Sequence[float] | Tensor | str


@with_gradients
@shows_training(Pruning, epochs=0)
def magnitude_prune(
    population: Population,
    sparsity: Sparsity = 0.8,
    scope: str = "global",
    *,
    data: Dataset | None = None,
    training: Training | None = None,
    score: str | Ranking = "magnitude",
    recalibrate: Split | None = None,
    allow_nan: bool = False,
    matched: Sequence[str] | None = None,
    matched_epoch: int | None = None,
    series: Series | str | None = None,
    keep: Sequence[int] = (),
    rewound: Population | None = None,
    **options: Any,
) -> Population:
    """Sparse twins of every model: the smallest weights are set to zero, the rest fine-tuned with the mask held.

    >>> import zoosparse_ext as zs
    >>> data = zs.load_dataset("digits").limit(100)
    >>> population = zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(1, 5))
    >>> zs.magnitude_prune(population, sparsity=0.8).sparsity()[0].item() == round(0.8 * 2416) / 2416
    True
    >>> sweep = zs.magnitude_prune(population, sparsity=[0.5, 0.75], data=data, epochs=1)
    >>> len(sweep), sweep.history.groupby(["target", "epoch"])["sparsity"].median().to_dict()
    (8, {(0.5, 0): 0.5, (0.5, 1): 0.5, (0.75, 0): 0.75, (0.75, 1): 0.75})

    Args:
        population: N models; stays as it is.
        sparsity: share of the prunable weights to remove, in [0, 1): a number; a sequence of ratios, which gives a
            population of (ratios × N) twins; a tensor [N] with one per model; with scope ``"layer"`` or
            ``"output"``, a tensor [N, S] with one per model and prunable layer; or an N:M pattern such as ``"2:4"``
            (see `Pattern`), which takes the place of the scope. k = round(sparsity × prunable weights), as in
            `torch.nn.utils.prune`.
        scope: ``"global"`` (smallest weights of the whole model), ``"layer"`` (the same share of every layer),
            ``"output"`` (of the weights of every output), or another of :mod:`zoosparse_ext.sparsify.scopes`.
        data: needed for fine-tuning, for scores that look at images, and for the performance and agreement columns
            of `history`.
        training: of the fine-tuning with the mask held, see :class:`zoosparse_ext.Training`: pruned weights are exactly
            0.0 after every step. Its options are keywords as well; by default there are no epochs. A hyperparameter
            with one value per model is that of all twins of the model.
        score: what is compared: ``"magnitude"``, ``"gradient"``, ``"wanda"`` or ``"random"``, see
            :mod:`zoosparse_ext.sparsify.methods`. Other than magnitude, it is the `method` of the twins.
        recalibrate: training images on which running statistics of batch norm are measured anew after each pruning,
            see :func:`~zoosparse_ext.population.batch_norm.recalibrate`. Default: those of the dense network stay, so
            that epoch 0 measures them and not only the mask.
        allow_nan: keep NaN weights (they sort above infinity) instead of raising.
        matched: `twin_id` of the variational twin whose sparsity each model is given, kept in the table.
        matched_epoch: the epoch of that twin's training after which it had this sparsity, kept in the table as well.
            Default: the last.
        series: what the twins are called as a group, in their ids and tables, a `Series` or its key. Default: by
            method, scope, and a schedule or biases if there are any. Twins that differ in their fine-tuning alone need
            names of their own before they can stand in one zoo: ``series="magnitude-global-lr_0.0001"``.
        keep: epochs after which the twins are kept, in `kept` of the result, see :func:`zoosparse_ext.train`.
        rewound: with `rewind_to`, the models as they were after that epoch, found by `model_id`. Default:
            ``population.kept[rewind_to]``, which `train` fills where it is asked to keep that epoch. Twins that are
            pruned further have kept epochs of their own fine-tuning; this names those of the original training.
        options: of the pruning, such as `schedule`, `min_kept` and `rewind_to`, see
            :class:`~zoosparse_ext.sparsify.pruning.Pruning`; of `Training`; and `engine`, `device`, `checkpoint` and
            `progress`, see :class:`~zoosparse_ext.population.training.Execution`.

    A population of twins can be pruned further: what their masks prune stays pruned, whatever the scores say.

    Returns:
        A `Population` of twins with `packed_masks`, `predictions` on the test images and `history`, the rows of the
        `twins` table, epoch 0 being the pruned model before fine-tuning.

    Raises:
        InputError: no models; no ratio, one outside [0, 1), or the same twice; several ratios for matched twins; a
            matched epoch that is none, or without `matched`; a sparsity or a schedule that is none, an empty series; a
            sparsity below what the masks of a model prune already (names model, layer and both); one that `min_kept`
            does not allow, or masks that prune more already (names model, layer or output, and numbers); NaN weights
            (names row and layer); a scope, schedule, score or pattern that is not known, a pattern with a schedule in
            phases; an epoch to rewind to that was not kept, or of other models; epochs or a score without the data they
            need; what `train` refuses; an architecture without convolution and linear layers.
    """
    pruning, options = taken(Pruning, options)
    training, execution = gathered("magnitude_prune", training, options, epochs=0)
    if training.epochs and data is None:
        raise InputError(f"{training.epochs} epochs of fine-tuning need data=…")
    phases, rounds = pruning.phases(training.epochs), pruning.rounds(training.epochs)
    training = training.but(epochs=pruning.all_epochs(training.epochs))
    checked_epochs(keep, training.epochs)
    _check_matched(matched, matched_epoch)
    chosen_scope(scope)
    method = _ranking(score, data)
    require_prunable(population)
    require_new_optimizer(pruning, training.optimizer_state)
    state = starting_state(population, training.optimizer_state, training.optimizer.kind)
    make_trainable_(population)
    if not allow_nan:
        require_numbers(population)
    rewinding = Rewinding.of(pruning, population, rewound, allow_nan=allow_nan)
    starts = dict(zip(accumulate((phase.epochs for phase in phases), initial=1), phases, strict=False))
    if isinstance(sparsity, str) and len(phases) > 1:
        raise InputError(f"the pattern {sparsity!r} is pruned at once; schedules in phases need ratios")
    chosen = (
        _series(sparsity, scope, method, pruning, training.seed, matched, matched_epoch)
        if series is None
        else series
    )
    twins, ratios = _twin_population(
        population, sparsity, scope, method.name, matched, matched_epoch, named(chosen)
    )
    copies = len(twins) // len(population)
    if state is not None:
        twins.optimizer_state = state.map(lambda moments: moments.repeat(copies, 1))
    images = None if data is None else data.train
    lots = Lots.of(twins, ratios, scope, pruning.biases, pruning.min_kept)
    _prune_in_rounds_(twins, population, method, lots, images, training.seed, phases[0], rewinding)
    recalibrate_(twins, recalibrate)
    if data is None:
        twins.history = twin_rows(twins, 0, None, None)
        warn_of_collapse(twins.history)
        return twins

    def prune_further(epoch: int, trained: Population) -> None:
        if epoch in starts and epoch > 1:
            rewinding.before_(trained)
            scores = method.score(trained, images, training.seed)
            prune_(trained, scores, lots, lots.at_phase(starts[epoch]))
            rewinding.after_(trained)
            recalibrate_(trained, recalibrate)

    fine_tune_(
        twins,
        population,
        data,
        key=f"{method.key} {sparsity if isinstance(sparsity, str) else scope} {pruning.key}",
        before_epoch=prune_further,
        rounds=rounds,
        recalibrate=recalibrate,
        training=training.but(optimizer=training.optimizer.repeated(len(population), copies)),
        execution=execution,
        keep=keep,
    )
    return twins


def _ranking(score: str | Ranking, data: Dataset | None) -> Ranking:
    """The method of this name, if it ranks weights, and what it looks at is there."""
    method = chosen_method(score)
    if not isinstance(method, Ranking):
        raise InputError(f"score must be a method that ranks weights; {score!r} is none")
    if method.needs_images and data is None:
        raise InputError(f"{method.name} looks at training images; pass data=…")
    return method


def _prune_in_rounds_(
    twins: Population,
    source: Population,
    method: Ranking,
    lots: Lots,
    images: Split | None,
    seed: int,
    phase: Phase,
    rewinding: Rewinding,
) -> None:
    """Prune in the rounds of the method, as far as a phase goes; the first scores are those of the source, which all
    its twins share."""
    rewinding.before_(twins)
    scores = method.score(rewinding.scored(source), images, seed).repeat(len(twins) // len(source), 1)
    for number in range(1, method.rounds):
        prune_(twins, scores, lots, lots.at_density(number / method.rounds, lots.at_phase(phase)))
        scores = method.score(twins, images, seed)
    prune_(twins, scores, lots, lots.at_phase(phase))
    rewinding.after_(twins)


def _series(
    sparsity: Sparsity,
    scope: str,
    method: Ranking,
    pruning: Pruning,
    seed: int,
    matched: Sequence[str] | None,
    matched_epoch: int | None,
) -> Series:
    """What decides which weights go."""
    texts, usual = pruning.texts(), Pruning().texts()
    schedule = texts.pop("schedule")
    options = [*differences(method.texts(), type(method)().texts()), *differences(texts, usual)]
    if isinstance(sparsity, Tensor) and sparsity.dim() == 2 and matched is None:
        options.append("own ratios")  # of layers, which a uniform ratio must not be compared with
    if method.is_random and seed != 0:
        options.append(f"seed {number_text(seed)}")
    if matched_epoch is not None:
        options.append(epoch_text(matched_epoch))
    where = str(Pattern.parse(sparsity)) if isinstance(sparsity, str) else scope
    return Series(
        method.name,
        where,
        None if schedule == usual["schedule"] else schedule,
        tuple(options),
        matched is not None,
    )


def _twin_population(
    population: Population,
    sparsity: Sparsity,
    scope: str,
    method: str,
    matched: Sequence[str] | None,
    matched_epoch: int | None,
    series: Series,
) -> tuple[Population, Tensor | Pattern]:
    """Copies of the models, one for each ratio, and the ratio of each twin: float64 [N] or [N, S], or the pattern."""
    n = len(population)
    pattern = Pattern.parse(sparsity) if isinstance(sparsity, str) else None
    if pattern is not None:
        share = pattern_sparsity(population.architecture, pattern)
        ratios, copies, scope = torch.full((n,), share, dtype=torch.float64), 1, str(pattern)
    elif isinstance(sparsity, Tensor) and sparsity.dim() > 0:
        ratios, copies = sparsity.to("cpu", torch.float64), 1
        shapes = [(n,), (n, len(population.architecture.prunable_segments))][
            : 2 if chosen_scope(scope).by_layer else 1
        ]
        if tuple(ratios.shape) not in shapes:
            expected = " or ".join(str(list(shape)) for shape in shapes)
            raise InputError(f"sparsity has shape {list(ratios.shape)}, scope {scope!r} expects {expected}")
    else:
        values = numbers_of(sparsity)
        if values is None:
            raise InputError(
                "sparsity must be a number, a sequence of numbers, a tensor with one per model, or a pattern such as "
                f"'2:4', got {sparsity!r:.80}"
            )
        if matched is not None and len(values) > 1:
            raise InputError(
                f"matched names one twin for each of {n} models, sparsity has {len(values)} ratios for every one; give "
                f"a tensor [{n}] with one per model"
            )
        require_once(values)
        ratios, copies = values.repeat_interleave(n), values.numel()
    ratios = in_range(ratios)
    if matched is not None and len(matched) != copies * n:
        raise InputError(f"matched names {len(matched)} twins for {copies * n} models")
    weights = population.weights.detach().repeat(copies, 1)
    masks = None if population.packed_masks is None else population.packed_masks.repeat(copies, 1)
    table = pd.concat([population.models] * copies, ignore_index=True)
    table["source_id"] = population.ids * copies
    table["method"], table["scope"] = method, scope
    table["target"] = (ratios if ratios.dim() == 1 else _overall(ratios, population.architecture)).numpy()
    table["matched"] = None if matched is None else list(matched)
    table = table.drop(columns=MATCHED_EPOCH, errors="ignore")  # that of the model
    if matched_epoch is not None:
        table[MATCHED_EPOCH] = float(matched_epoch)
    table[Series.column] = series.key
    told = table["target"].to_numpy(np.float64)
    if str(getattr(sparsity, "dtype", None)) in ("torch.float32", "float32") and ratios.dim() == 1:
        told = told.astype(np.float32)  # of which 0.9 is one, as of float64
    if matched is not None:
        label = ["matched"] * len(table)
    else:
        label = [f"{target:.4g}" if pattern is not None else ratio_text(target) for target in told]
    group = replace(series, matched=False).key  # the label says it
    table["twin_id"] = [
        f"{source}/{group}-{at}" for source, at in zip(table["source_id"], label, strict=True)
    ]
    counts = None if population.counts is None else population.counts.repeat(copies, 1)
    twins = Population(weights, population.architecture, table, packed_masks=masks, counts=counts)
    return twins, ratios if pattern is None else pattern


def _check_matched(matched: Sequence[str] | None, epoch: int | None) -> None:
    if epoch is None:
        return
    require_kind(
        "matched_epoch", epoch, () if isinstance(epoch, bool) else Integral, "a whole number, 0 or more"
    )
    if epoch < 0:
        raise InputError(f"matched_epoch must be 0 or more, got {epoch}")
    if matched is None:
        raise InputError(f"matched_epoch is {epoch}, of no twins: name them with matched=…")


def _overall(ratios: Tensor, architecture: Architecture) -> Tensor:
    """Sparsity of the whole model from one per prunable layer [N, S]."""
    sizes = torch.tensor([s.size for s in architecture.prunable_segments], dtype=torch.float64)
    return (ratios * sizes).round().sum(1) / sizes.sum()
