"""Rows of the `twins` table: how a twin compares with the model it came from."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from zoosparse_ext.data import Dataset
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.evaluate import Evaluation, evaluate
from zoosparse_ext.population.population import Population
from zoosparse_ext.sparsify.collapse import collapse_columns
from zoosparse_ext.sparsify.series import Series, series_keys

IDENTITY = ("twin_id", "source_id", "method", "scope", "target", "matched")
MATCHED_EPOCH = "matched_epoch"  # of the training of that twin, where it is not the last


def twin_rows(
    twins: Population,
    epoch: int,
    evaluation: Evaluation | None,
    source_predictions: Tensor | None,  # [N, M], of each twin's source
) -> pd.DataFrame:
    """One row per twin: identity, sparsity in all and by layer, what is empty, accuracy, agreement with the source."""
    frame = _identity(twins)
    frame["epoch"] = epoch
    frame["sparsity"] = twins.sparsity().cpu().numpy()
    by_layer = twins.sparsity(by_layer=True)
    for name, values in zip(layer_columns(twins.architecture), by_layer.cpu().numpy().T, strict=True):
        frame[name] = values
    frame["loss"] = math.nan if evaluation is None else evaluation.loss.numpy()
    frame["accuracy"] = math.nan if evaluation is None else evaluation.accuracy.numpy()
    for column in ("agreement", "kappa", "agreement_on_errors"):
        frame[column] = math.nan
    if evaluation is not None and source_predictions is not None:
        compared = compare_predictions(source_predictions, evaluation.predictions, evaluation.labels)
        for column, values in compared.items():
            frame[column] = values.numpy()
    predictions = None if evaluation is None else evaluation.predictions
    for column, counts in collapse_columns(twins, by_layer, predictions).items():
        frame[column] = counts
    return frame


def with_identity(history: pd.DataFrame, twins: Population) -> pd.DataFrame:
    """Rows of the twins, epoch by epoch, that all name them as they are called now.

    A checkpoint of an earlier version brings rows that name no series.
    """
    epochs = len(history) // max(1, len(twins))
    named = pd.concat([_identity(twins)] * epochs, ignore_index=True) if epochs else _identity(twins)
    others = history.drop(columns=named.columns, errors="ignore").reset_index(drop=True)
    return pd.concat([named, others], axis=1)


def _identity(twins: Population) -> pd.DataFrame:
    frame = twins.models[[*IDENTITY, *{MATCHED_EPOCH} & set(twins.models)]].copy()
    frame[Series.column] = series_keys(twins.models)
    return frame


def predictions_of(population: Population, data: Dataset, device: torch.device | str | None = None) -> Tensor:
    """Predicted classes on the test images [N, M]: those the population carries, else evaluated now."""
    known = population.predictions
    if known is not None and known.shape[1] == len(data.test):
        return known
    return evaluate(population, data.test, device=device).predictions


def layer_columns(architecture: Architecture) -> list[str]:
    """`sparsity_layer.<layer>` for every prunable tensor."""
    names = layer_names([segment.name for segment in architecture.prunable_segments])
    return [f"sparsity_layer.{name}" for name in names]


def layer_names(tensors: Sequence[str]) -> list[str]:
    """What tables call prunable tensors: by the layer, or by the whole name where a layer has several.

    >>> layer_names(["conv.weight", "gru.weight_ih_l0", "gru.weight_hh_l0"])
    ['conv', 'gru.weight_ih_l0', 'gru.weight_hh_l0']
    """
    layers = [name.rpartition(".")[0] or name for name in tensors]
    several = Counter(layers)
    return [layer if several[layer] == 1 else name for layer, name in zip(layers, tensors, strict=True)]


def compare_predictions(source: Tensor, twin: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Agreement, Cohen's κ, and agreement on the images that the source got wrong; float64 [N] each.

    κ = (p_o − p_e) / (1 − p_e) is NaN where both always predict one and the same class (p_e = 1); agreement on errors
    is NaN where the source made none.

    >>> source, twin = torch.tensor([[0, 1, 1, 0]]), torch.tensor([[0, 1, 0, 0]])
    >>> result = compare_predictions(source, twin, labels=torch.tensor([0, 1, 0, 0]))
    >>> [round(float(values), 3) for values in result.values()]
    [0.75, 0.5, 0.0]
    """
    source, twin = source.to(torch.int64), twin.to(torch.int64)
    m = source.shape[1]
    equal = source == twin
    agreement = equal.to(torch.float64).mean(1)
    classes = int(max(source.max(), twin.max(), labels.max())) + 1 if m else 1

    def shares(predictions: Tensor) -> Tensor:  # [N, classes]
        counts = torch.zeros(len(predictions), classes, dtype=torch.float64)
        return counts.scatter_add_(1, predictions, torch.ones_like(predictions, dtype=torch.float64)) / m

    chance = (shares(source) * shares(twin)).sum(1)
    kappa = torch.where(chance < 1, (agreement - chance) / (1 - chance), torch.nan)
    wrong = source != labels
    on_errors = (equal & wrong).sum(1).to(torch.float64) / wrong.sum(1)  # 0/0 is NaN
    return {"agreement": agreement, "kappa": kappa, "agreement_on_errors": on_errors}
