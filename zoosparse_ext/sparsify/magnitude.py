"""Magnitude pruning of whole populations, with fine-tuning under the mask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from zoosparse_ext import ops
from zoosparse_ext.data import Dataset
from zoosparse_ext.errors import InputError
from zoosparse_ext.population.architecture import Architecture, Segment
from zoosparse_ext.population.augment import Augment
from zoosparse_ext.population.hooks import Hooks, Progress
from zoosparse_ext.population.optimizers import Optimizer
from zoosparse_ext.population.population import Population, find_nan
from zoosparse_ext.population.schedules import Constant
from zoosparse_ext.population.train import train
from zoosparse_ext.sparsify.schedules import Cubic, Iterative, OneShot, sparsity_schedule
from zoosparse_ext.sparsify.twins import predictions_of, twin_rows

Sparsity = float | Sequence[float] | Tensor


def magnitude_prune(
    population: Population,
    sparsity: Sparsity = 0.8,
    scope: str = "global",
    *,
    data: Dataset | None = None,
    epochs: int = 0,
    schedule: str | OneShot | Iterative | Cubic = "one-shot",
    batch_size: int = 10,
    optimizer: Optimizer | None = None,
    lr_schedule: str | Constant = "constant",
    loss: str = "cross_entropy",
    augment: Augment | None = None,
    order: str = "per-model",
    seed: int = 0,
    biases: bool = False,
    allow_nan: bool = False,
    matched: Sequence[str] | None = None,
    engine: str = "auto",
    checkpoint: str | Path | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Population:
    """Sparse twins of every model: the smallest weights are set to zero, the rest fine-tuned with the mask held.

    Example::

        twins = zs.magnitude_prune(population, sparsity=0.8)
        sweep = zs.magnitude_prune(population, sparsity=[0.5, 0.8, 0.9], data=data, epochs=15)
        sweep.history.groupby(["target", "epoch"]).accuracy.median()

    Args:
        population: N models; stays as it is.
        sparsity: share of the prunable weights to remove, in [0, 1): a number; a sequence of ratios, which gives a
            population of (ratios × N) twins; a tensor [N] with one per model; or, with scope ``"layer"``, a tensor
            [N, S] with one per model and prunable layer. k = round(sparsity × prunable weights), as in
            `torch.nn.utils.prune`.
        scope: ``"global"`` (smallest weights of the whole model) or ``"layer"`` (the same share of every layer).
        data: needed for fine-tuning, and for the performance and agreement columns of `history`.
        epochs: of fine-tuning with the mask held: pruned weights are exactly 0.0 after every step.
        schedule: ``"one-shot"``, ``"iterative"`` or ``"cubic"``.
        batch_size, optimizer, lr_schedule, loss, augment, order, seed, engine, checkpoint, progress: as in
            :func:`zoosparse_ext.train`.
        biases: prune biases as well; they then count in k, though never in `Population.sparsity`.
        allow_nan: keep NaN weights (they sort above infinity) instead of raising.
        matched: `twin_id` of the variational twin whose sparsity each model is given, kept in the table.

    Returns:
        A `Population` of twins with `packed_masks`, `predictions` on the test images and `history`, the rows of the
        `twins` table, epoch 0 being the pruned model before fine-tuning.

    Raises:
        InputError: no ratio, or one outside [0, 1); NaN weights (names row and layer); a scope or schedule that is
            not known; epochs without data; an architecture without convolution and linear layers.
    """
    if epochs and data is None:
        raise InputError(f"{epochs} epochs of fine-tuning need data=…")
    if scope not in ("global", "layer"):
        raise InputError(f"scope must be 'global' or 'layer', got {scope!r}")
    if population.architecture.n_prunable == 0:
        name = population.architecture.name
        raise InputError(
            f"{name!r} has no weights of convolution or linear layers: there is nothing to prune"
        )
    nan = None if allow_nan else find_nan(population)
    if nan is not None:
        raise InputError(f"weights are NaN: {nan}; pass allow_nan=True (--allow-nan) to keep them")
    twins, ratios = _twin_population(population, sparsity, scope, matched)
    phases = sparsity_schedule(schedule).phases(epochs)
    starts = dict(zip(accumulate((phase.epochs for phase in phases), initial=1), phases, strict=False))
    _prune_(twins, ratios * phases[0].fraction, scope, biases)
    if data is None:
        twins.history = twin_rows(twins, 0, None, None)
        return twins
    source_predictions = predictions_of(population, data).repeat(len(twins) // len(population), 1)

    def prune_further(epoch: int, trained: Population) -> None:
        if epoch in starts and epoch > 1:
            _prune_(trained, ratios * starts[epoch].fraction, scope, biases)

    twins.history = train(
        twins,
        data,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=optimizer,
        lr_schedule=lr_schedule,
        loss=loss,
        augment=augment,
        order=order,
        seed=seed,
        splits=("test",),
        engine=engine,
        checkpoint=checkpoint,
        progress=progress,
        hooks=Hooks(
            rows=lambda result: twin_rows(
                twins, result.epoch, result.evaluations["test"], source_predictions
            ),
            before_epoch=prune_further,
            key=f"magnitude {scope} {schedule} {biases}",
        ),
    )
    return twins


def _twin_population(
    population: Population, sparsity: Sparsity, scope: str, matched: Sequence[str] | None
) -> tuple[Population, Tensor]:
    """Copies of the models, one for each ratio, and the ratio of each twin: float64 [N] or [N, S]."""
    n = len(population)
    if isinstance(sparsity, Tensor) and sparsity.dim() > 0:
        ratios, copies = sparsity.to("cpu", torch.float64), 1
        shapes = [(n,), (n, len(population.architecture.prunable_segments))][: 2 if scope == "layer" else 1]
        if tuple(ratios.shape) not in shapes:
            expected = " or ".join(str(list(shape)) for shape in shapes)
            raise InputError(f"sparsity has shape {list(ratios.shape)}, scope {scope!r} expects {expected}")
    else:
        values = torch.as_tensor(sparsity, dtype=torch.float64).reshape(-1)
        ratios, copies = values.repeat_interleave(n), values.numel()
    if ratios.numel() == 0:
        raise InputError("no sparsity was given: magnitude pruning needs at least one ratio")
    bad = ratios[~((ratios >= 0) & (ratios < 1))]  # NaN as well
    if len(bad):
        raise InputError(
            f"sparsity ratios lie in [0, 1), got {float(bad[0])}: a model without weights is no twin"
        )
    if matched is not None and len(matched) != copies * n:
        raise InputError(f"matched names {len(matched)} twins for {copies * n} models")
    weights = population.weights.detach().repeat(copies, 1)
    table = pd.concat([population.models] * copies, ignore_index=True)
    table["source_id"] = population.ids * copies
    table["method"], table["scope"] = "magnitude", scope
    table["target"] = (ratios if ratios.dim() == 1 else _overall(ratios, population.architecture)).numpy()
    table["matched"] = None if matched is None else list(matched)
    label = [f"{target:.4g}" if matched is None else "matched" for target in table["target"]]
    table["twin_id"] = [
        f"{source}/magnitude-{scope}-{at}" for source, at in zip(table["source_id"], label, strict=True)
    ]
    return Population(weights, population.architecture, table), ratios


def _overall(ratios: Tensor, architecture: Architecture) -> Tensor:
    """Sparsity of the whole model from one per prunable layer [N, S]."""
    sizes = torch.tensor([s.size for s in architecture.prunable_segments], dtype=torch.float64)
    return (ratios * sizes).round().sum(1) / sizes.sum()


def _prune_(twins: Population, ratios: Tensor, scope: str, biases: bool) -> None:
    """Prune in place to the given ratios and set the masks; what an earlier phase pruned is zero and goes first."""
    chosen = _candidates(twins.architecture, biases)
    columns = torch.cat([torch.arange(s.slice.start, s.slice.stop) for s in chosen])
    candidates = twins.weights[:, columns]  # [N, candidates]
    if scope == "global":
        k = (ratios * columns.numel()).round().to(torch.int64)
        kept = ops.magnitude_mask(candidates, k)
    else:
        if ratios.dim() == 2:  # one per layer; a bias goes with the weights of its layer
            layers = [segment.layer for segment in twins.architecture.prunable_segments]
            ratios = ratios[:, [layers.index(segment.layer) for segment in chosen]]
        sizes = torch.tensor([segment.size for segment in chosen], dtype=torch.float64)
        k = (ratios.view(len(twins), -1) * sizes).round().to(torch.int64)
        boundaries = list(accumulate((segment.size for segment in chosen), initial=0))
        kept = ops.magnitude_mask(candidates, k, segments=boundaries)
    masks = torch.ones_like(twins.weights, dtype=torch.bool)
    masks[:, columns] = kept
    twins.packed_masks = ops.pack_mask(masks)
    ops.apply_mask_(twins.weights, twins.packed_masks)


def _candidates(architecture: Architecture, biases: bool) -> list[Segment]:
    """The tensors that may be pruned, in the order of their columns."""
    layers = {segment.layer for segment in architecture.prunable_segments}
    return [s for s in architecture.segments if s.prunable or (biases and s.trainable and s.layer in layers)]
