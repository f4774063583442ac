"""Variational dropout of whole populations: networks that sparsify themselves while they train."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from zoosparse_ext.data import Dataset, Split
from zoosparse_ext.ops import vardrop
from zoosparse_ext.population.augment import Augment
from zoosparse_ext.population.gradients import with_gradients
from zoosparse_ext.population.hooks import Progress
from zoosparse_ext.population.optimizers import Optimizer
from zoosparse_ext.population.population import Population
from zoosparse_ext.population.schedules import Constant
from zoosparse_ext.sparsify.learned import learn
from zoosparse_ext.sparsify.methods.variational import PRESETS, Preset, VariationalDropout, preset_text
from zoosparse_ext.sparsify.series import Series

__all__ = ["PRESETS", "Preset", "objective_texts", "variational_dropout"]


@with_gradients
def variational_dropout(
    population: Population,
    data: Dataset,
    *,
    epochs: int = 25,
    preset: str | Preset = "modelzoos",
    threshold: float = vardrop.THRESHOLD,
    kl_scale: float = 1.0,
    batch_size: int = 10,
    optimizer: Optimizer | None = None,
    lr_schedule: str | Constant = "constant",
    loss: str = "cross_entropy",
    augment: Augment | None = None,
    order: str = "per-model",
    drop_last: bool = False,
    recalibrate: Split | None = None,
    seed: int = 0,
    allow_nan: bool = False,
    series: Series | str | None = None,
    engine: str = "auto",
    device: torch.device | str | None = None,
    checkpoint: str | Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    keep: Sequence[int] = (),
    optimizer_state: str = "new",
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
        epochs: of training; 0 gives twins that drop what the initial noise drops: weights below 0.0015 or so.
        preset: ``"modelzoos"`` (the published twin zoos), ``"molchanov"`` (the original objective), or a `Preset`.
        threshold: of log α.
        kl_scale: multiplies the KL weight of the preset, 0 or more: the larger, the sparser the twins end up.
        optimizer: default `Adam(lr=3e-4)`, as for the published MNIST zoo.
        batch_size, lr_schedule, loss, augment, order, drop_last, seed, engine, device, checkpoint, progress: as in
            :func:`zoosparse_ext.train`.
        keep: epochs after which the sparse twins are kept, in `kept` of the result, with their weights, masks, log σ²
            and predictions as they were evaluated; see :func:`zoosparse_ext.train`.
        optimizer_state: ``"new"``, or ``"source"`` to start from the moments of the weights that `population` has
            kept, see :func:`zoosparse_ext.train`. Those of log σ², which the source has not, start at 0 in either
            case; with ``"source"`` they count the steps of the source, as if its gradients had been 0 there: Adam's
            first hundreds of steps are then larger in them.
        recalibrate: training images on which running statistics of batch norm are measured for the sparse networks,
            which have other activations than the noisy ones; see `magnitude_prune`.
        allow_nan: keep NaN weights instead of raising.
        series: what the twins are called as a group, in their ids and tables. Default: ``"variational"``, with
            preset, threshold and `kl_scale` if they are not the usual ones. Twins that differ in their training alone
            need names of their own before they can stand in one zoo: ``series="variational-50_epochs"``.

    Returns:
        A `Population` of twins with `log_sigma2`, `packed_masks` (dropped weights are exactly 0.0), `predictions` on
        the test images and `history`, the rows of the `twins` table with the sparsity trajectory from epoch 0 on.

    Raises:
        InputError: an unknown preset; a threshold or weights that are NaN; a `kl_scale` that is negative, infinite or
            no number; a layer of a module that is no chain whose weights are used without calling it; what `train`
            refuses.

    Source: Molchanov, Ashukha, Vetrov, "Variational Dropout Sparsifies Deep Neural Networks", ICML 2017.
    """
    method = VariationalDropout(preset, kl_scale, threshold)
    return learn(
        population,
        data,
        method,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=optimizer,
        lr_schedule=lr_schedule,
        loss=loss,
        augment=augment,
        order=order,
        drop_last=drop_last,
        recalibrate=recalibrate,
        seed=seed,
        allow_nan=allow_nan,
        series=series,
        engine=engine,
        device=device,
        checkpoint=checkpoint,
        progress=progress,
        keep=keep,
        optimizer_state=optimizer_state,
    )


def objective_texts(
    preset: str | Preset = "modelzoos",
    threshold: float = vardrop.THRESHOLD,
    epochs: int = 25,
    images: int = 1,
    kl_scale: float = 1.0,
) -> dict[str, str]:
    """What decides which weights variational dropout takes, in short words."""
    texts = VariationalDropout(preset, kl_scale, threshold).texts()
    named = preset_text(preset, epochs, images, threshold)
    return {"preset": named, "threshold": texts["threshold"], "kl": texts["kl_scale"]}
