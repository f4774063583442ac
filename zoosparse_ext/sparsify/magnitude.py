"""Magnitude pruning of whole populations, with fine-tuning under the mask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from zoosparse_ext.data import Dataset
from zoosparse_ext.errors import InputError
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.augment import Augment
from zoosparse_ext.population.gradients import make_trainable_, with_gradients
from zoosparse_ext.population.hooks import Hooks, Progress
from zoosparse_ext.population.optimizers import Optimizer
from zoosparse_ext.population.population import Population, require_numbers
from zoosparse_ext.population.schedules import Constant
from zoosparse_ext.population.train import train
from zoosparse_ext.sparsify.schedules import Cubic, Iterative, OneShot, sparsity_schedule
from zoosparse_ext.sparsify.scores import SCORES
from zoosparse_ext.sparsify.selection import SCOPES, Pattern, pattern_sparsity, prune_
from zoosparse_ext.sparsify.twins import predictions_of, twin_rows

Sparsity = float | Sequence[float] | Tensor | str


@with_gradients
def magnitude_prune(
    population: Population,
    sparsity: Sparsity = 0.8,
    scope: str = "global",
    *,
    data: Dataset | None = None,
    epochs: int = 0,
    schedule: str | OneShot | Iterative | Cubic = "one-shot",
    score: str = "magnitude",
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
    device: torch.device | str | None = None,
    checkpoint: str | Path | None = None,
    progress: Callable[[Progress], None] | None = None,
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
        scope: ``"global"`` (smallest weights of the whole model), ``"layer"`` (the same share of every layer) or
            ``"output"`` (of the weights of every output).
        data: needed for fine-tuning, for scores that look at images, and for the performance and agreement columns
            of `history`.
        epochs: of fine-tuning with the mask held: pruned weights are exactly 0.0 after every step.
        schedule: ``"one-shot"``, ``"iterative"`` or ``"cubic"``.
        score: what is compared: ``"magnitude"``, ``"gradient"``, ``"wanda"`` or ``"random"``, see
            :mod:`zoosparse_ext.sparsify.scores`. Other than magnitude, it is the `method` of the twins.
        batch_size, optimizer, lr_schedule, loss, augment, order, seed, engine, device, checkpoint, progress: as in
            :func:`zoosparse_ext.train`.
        biases: prune biases as well; they then count in k, though never in `Population.sparsity`.
        allow_nan: keep NaN weights (they sort above infinity) instead of raising.
        matched: `twin_id` of the variational twin whose sparsity each model is given, kept in the table.

    Returns:
        A `Population` of twins with `packed_masks`, `predictions` on the test images and `history`, the rows of the
        `twins` table, epoch 0 being the pruned model before fine-tuning.

    Raises:
        InputError: no ratio, or one outside [0, 1); NaN weights (names row and layer); a scope, schedule, score or
            pattern that is not known, a pattern with a schedule in phases; epochs or a score without the data they
            need; an architecture without convolution and linear layers.
    """
    if epochs and data is None:
        raise InputError(f"{epochs} epochs of fine-tuning need data=…")
    for what, name, known in (("scope", scope, SCOPES), ("score", score, tuple(SCORES))):
        if name not in known:
            raise InputError(f"{what} must be one of {', '.join(known)}; got {name!r}")
    if population.architecture.n_prunable == 0:
        name = population.architecture.name
        raise InputError(
            f"{name!r} has no weights of convolution or linear layers: there is nothing to prune"
        )
    make_trainable_(population)
    if not allow_nan:
        require_numbers(population)
    phases = sparsity_schedule(schedule).phases(epochs)
    starts = dict(zip(accumulate((phase.epochs for phase in phases), initial=1), phases, strict=False))
    if isinstance(sparsity, str) and len(phases) > 1:
        raise InputError(f"the pattern {sparsity!r} is pruned at once; schedules in phases need ratios")
    twins, ratios = _twin_population(population, sparsity, scope, score, matched)
    images = None if data is None else data.train
    scores = SCORES[score](population, images, seed)
    scores = scores.repeat(len(twins) // len(population), 1)
    prune_(twins, scores, _scaled(ratios, phases[0].fraction), scope, biases)
    if data is None:
        twins.history = twin_rows(twins, 0, None, None)
        return twins
    source_predictions = predictions_of(population, data, device).repeat(len(twins) // len(population), 1)

    def prune_further(epoch: int, trained: Population) -> None:
        if epoch in starts and epoch > 1:
            again = SCORES[score](trained, images, seed)
            prune_(trained, again, _scaled(ratios, starts[epoch].fraction), scope, biases)

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
        device=device,
        checkpoint=checkpoint,
        progress=progress,
        hooks=Hooks(
            rows=lambda result: twin_rows(
                twins, result.epoch, result.evaluations["test"], source_predictions
            ),
            before_epoch=prune_further,
            key=f"{score} {sparsity if isinstance(sparsity, str) else scope} {schedule} {biases}",
        ),
    )
    return twins


def _twin_population(
    population: Population, sparsity: Sparsity, scope: str, score: str, matched: Sequence[str] | None
) -> tuple[Population, Tensor | Pattern]:
    """Copies of the models, one for each ratio, and the ratio of each twin: float64 [N] or [N, S], or the pattern."""
    n = len(population)
    pattern = Pattern.parse(sparsity) if isinstance(sparsity, str) else None
    if pattern is not None:
        share = pattern_sparsity(population.architecture, pattern)
        ratios, copies, scope = torch.full((n,), share, dtype=torch.float64), 1, str(pattern)
    elif isinstance(sparsity, Tensor) and sparsity.dim() > 0:
        ratios, copies = sparsity.to("cpu", torch.float64), 1
        shapes = [(n,), (n, len(population.architecture.prunable_segments))][: 1 if scope == "global" else 2]
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
    table["method"], table["scope"] = score, scope
    table["target"] = (ratios if ratios.dim() == 1 else _overall(ratios, population.architecture)).numpy()
    table["matched"] = None if matched is None else list(matched)
    label = [f"{target:.4g}" if matched is None else "matched" for target in table["target"]]
    table["twin_id"] = [
        f"{source}/{score}-{scope}-{at}" for source, at in zip(table["source_id"], label, strict=True)
    ]
    return Population(weights, population.architecture, table), ratios if pattern is None else pattern


def _scaled(ratios: Tensor | Pattern, fraction: float) -> Tensor | Pattern:
    return ratios if isinstance(ratios, Pattern) else ratios * fraction


def _overall(ratios: Tensor, architecture: Architecture) -> Tensor:
    """Sparsity of the whole model from one per prunable layer [N, S]."""
    sizes = torch.tensor([s.size for s in architecture.prunable_segments], dtype=torch.float64)
    return (ratios * sizes).round().sum(1) / sizes.sum()
