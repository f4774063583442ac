"""Training of twins with their masks held, the same for pruned twins and for their controls."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zoosparse_ext.data import Dataset, Split
from zoosparse_ext.errors import InputError
from zoosparse_ext.population import batch_norm
from zoosparse_ext.population.hooks import Hooks
from zoosparse_ext.population.population import Population
from zoosparse_ext.population.rounds import Rounds
from zoosparse_ext.population.train import run_training
from zoosparse_ext.population.training import Execution, Training
from zoosparse_ext.sparsify.collapse import warn_of_collapse
from zoosparse_ext.sparsify.twins import predictions_of, twin_rows, with_identity


def require_prunable(population: Population) -> None:
    """Raise InputError unless there are models, and weights in them that can be pruned."""
    if len(population) == 0:
        raise InputError("the population has no models: there is nothing to prune")
    if population.architecture.n_prunable == 0:
        name = population.architecture.name
        raise InputError(
            f"{name!r} has nothing that is prunable; choose it when the population is made: prunable=…"
        )


def fine_tune_(
    twins: Population,
    source: Population,
    data: Dataset,
    *,
    key: str,
    before_epoch: Callable[[int, Population], None] = Hooks.before_epoch,
    rounds: Rounds | None = None,
    recalibrate: Split | None = None,
    training: Training,
    execution: Execution,
    keep: Sequence[int] = (),
) -> None:
    """Train twins in place; they get a history, predictions on the test images, and the epochs to keep.

    Args:
        twins: R × N networks with masks, N for each ratio.
        source: the N models that they come from.
        key: what else than their weights and masks tells these twins from others in a checkpoint.
        before_epoch, rounds: as of `Hooks`.
        recalibrate: where running statistics are measured.
        training, execution, keep: as of :func:`zoosparse_ext.train`.
    """
    batch_norm.require_other_split(source, recalibrate, data)
    source_predictions = predictions_of(source, data, execution.device).repeat(len(twins) // len(source), 1)
    history = run_training(
        twins,
        data,
        training,
        execution,
        splits=("test",),
        keep=keep,
        hooks=Hooks(
            rows=lambda result: twin_rows(
                twins, result.epoch, result.evaluations["test"], source_predictions
            ),
            before_epoch=before_epoch,
            rounds=rounds,
            key=key + batch_norm.key(source, recalibrate),
        ),
    )
    twins.history = with_identity(history, twins)
    warn_of_collapse(twins.history, source_predictions)


def recalibrate_(twins: Population, split: Split | None) -> None:
    """Measure the statistics of batch norm anew, in place."""
    if split is not None:
        twins.weights.copy_(batch_norm.recalibrate(twins, split).weights)
