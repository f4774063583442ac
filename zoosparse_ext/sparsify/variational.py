"""Variational dropout of whole populations: networks that sparsify themselves while they train."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zoosparse_ext.data import Dataset, Split
from zoosparse_ext.ops import vardrop
from zoosparse_ext.population.population import Population
from zoosparse_ext.population.training import Training, shows_training
from zoosparse_ext.sparsify.learned import EPOCHS, learn
from zoosparse_ext.sparsify.methods.variational import PRESETS, Preset, VariationalDropout
from zoosparse_ext.sparsify.series import Series

__all__ = ["PRESETS", "Preset", "variational_dropout"]


@shows_training(epochs=EPOCHS, optimizer=VariationalDropout.optimizer)
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
    method = VariationalDropout(preset, kl_scale, threshold)
    return learn(
        population,
        data,
        method,
        training=training,
        recalibrate=recalibrate,
        allow_nan=allow_nan,
        series=series,
        keep=keep,
        **options,
    )
