"""Controls: unpruned models that are trained on as twins are, so that more training is not mistaken for sparsity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from zoosparse_ext import ops
from zoosparse_ext.data import Dataset, Split
from zoosparse_ext.population.gradients import make_trainable_, with_gradients
from zoosparse_ext.population.kept import snapshot
from zoosparse_ext.population.population import Population, require_numbers
from zoosparse_ext.population.training import Training, gathered, shows_training
from zoosparse_ext.sparsify.fine_tuning import fine_tune_, recalibrate_, require_prunable
from zoosparse_ext.sparsify.series import CONTROL, Series, named
from zoosparse_ext.sparsify.twins import MATCHED_EPOCH


@with_gradients
@shows_training()
def continue_training(
    population: Population,
    data: Dataset,
    training: Training | None = None,
    *,
    recalibrate: Split | None = None,
    allow_nan: bool = False,
    series: Series | str | None = None,
    keep: Sequence[int] = (),
    **options: Any,
) -> Population:
    """Control twins: every model trained on without pruning, to compare sparse twins of equal training with.

    They equal :func:`~zoosparse_ext.magnitude_prune` at a sparsity of 0, to the same bits.

    >>> import zoosparse_ext as zs
    >>> data = zs.load_dataset("digits").limit(100)
    >>> population = zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(1, 5))
    >>> control = zs.continue_training(population, data, epochs=2)
    >>> control.ids[0], control.history.groupby("epoch")["accuracy"].count().to_dict()
    ('cnn-s-tanh-0001/control', {0: 4, 1: 4, 2: 4})

    Args:
        population: N models; stays as it is. What its masks prune stays pruned.
        data: images and labels.
        training: how, see :class:`zoosparse_ext.Training`; its options are keywords as well.
        recalibrate: training images on which running statistics of batch norm are measured anew before the first
            epoch, as `magnitude_prune` does after pruning.
        allow_nan: keep NaN weights instead of raising.
        series: what the twins are called as a group, in their ids and tables. Default: ``"control"``. A control of
            other training needs a name of its own before it can stand in the same zoo: ``series="control-lr_0.003"``.
        keep: epochs after which the models are kept, in `kept` of the result, see :func:`zoosparse_ext.train`.
        options: of `Training`, and `engine`, `device`, `checkpoint` and `progress`, see
            :class:`~zoosparse_ext.population.training.Execution`.

    Returns:
        A `Population` of twins of method ``"control"`` and target 0 with `packed_masks`, `predictions` on the test
        images and `history`, the rows of the `twins` table, epoch 0 being the models as they came.

    Raises:
        InputError: no models; NaN weights (names row and layer); an architecture in which nothing is prunable; what
            `train` refuses.
    """
    training, execution = gathered("continue_training", training, options)
    require_prunable(population)
    make_trainable_(population)
    if not allow_nan:
        require_numbers(population)
    control = _control_population(population, named(series if series is not None else Series(CONTROL)))
    recalibrate_(control, recalibrate)
    fine_tune_(
        control,
        population,
        data,
        key=CONTROL,
        recalibrate=recalibrate,
        training=training,
        execution=execution,
        keep=keep,
    )
    return control


def _control_population(population: Population, series: Series) -> Population:
    table = population.models.drop(columns=MATCHED_EPOCH, errors="ignore")
    table["source_id"] = population.ids
    table["method"], table["scope"], table["target"], table["matched"] = CONTROL, None, 0.0, None
    table[Series.column] = series.key
    table["twin_id"] = [f"{source}/{series.key}" for source in table["source_id"]]
    control = snapshot(population)
    masks = control.packed_masks
    if masks is None:
        masks = ops.pack_mask(torch.ones_like(control.weights, dtype=torch.bool))
    return Population(
        control.weights,
        control.architecture,
        table,
        packed_masks=masks,
        counts=control.counts,
        optimizer_state=population.optimizer_state,
    )
