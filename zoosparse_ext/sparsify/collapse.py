"""What sparsification emptied: layers without weights, outputs without inputs, networks with one answer.

Source: Tanaka, Kunin, Yamins, Ganguli, "Pruning neural networks without any data by iteratively conserving synaptic
flow", NeurIPS 2020, which names layer collapse.
"""

from __future__ import annotations

import logging
import math

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.population import Population

log = logging.getLogger(__name__)

_NAMED = 3  # twins, and layers, named in a warning


def collapse_columns(
    twins: Population, by_layer: Tensor, predictions: Tensor | None
) -> dict[str, npt.NDArray[np.int64] | npt.NDArray[np.float64] | float]:
    """The columns of the `twins` table that count what is empty.

    >>> from torch import nn
    >>> models = [nn.Sequential(nn.Flatten(), nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))]
    >>> twins = Population.from_modules(models)
    >>> twins.weights.copy_(torch.tensor([[0.0, 0, 1, 0, 1, 1, 9, 9, 9, 0, 0, 0, 0, 0, 0, 9, 9]])).shape
    torch.Size([1, 17])
    >>> columns = collapse_columns(twins, twins.sparsity(by_layer=True), predictions=torch.tensor([[1, 1, 1]]))
    >>> {name: values.tolist() for name, values in columns.items()}
    {'empty_layers': [1], 'dead_outputs': [3], 'one_answer': [1.0]}

    Args:
        twins: N networks.
        by_layer: their sparsity by prunable tensor [N, S].
        predictions: classes on the test images [N, M]; None: not evaluated.

    Returns:
        `empty_layers`: prunable tensors that are all zero; `dead_outputs`: outputs (of a linear layer), channels (of a
        convolution) whose incoming weights are all zero, in all prunable tensors; both int64 [N]. `one_answer`: 1.0
        where a network answers one class for all test images, 0.0 where it does not, float64 [N]; NaN where it was not
        evaluated. A network whose scores are NaN answers class 0.
    """
    one_answer: npt.NDArray[np.float64] | float = math.nan
    if predictions is not None and predictions.shape[1]:
        one_answer = _one_answer(predictions).astype(np.float64)
    return {
        "empty_layers": (by_layer == 1).sum(1).cpu().numpy(),
        "dead_outputs": _dead_outputs(twins.weights, twins.architecture).cpu().numpy(),
        "one_answer": one_answer,
    }


def warn_of_collapse(history: pd.DataFrame, source_predictions: Tensor | None = None) -> None:
    """Log one warning that counts and names the twins with something empty, if there are any.

    Args:
        history: rows of the `twins` table; those of the last epoch count.
        source_predictions: classes that each twin's original predicts on the test images [N, M]; a twin whose original
            gives one answer as well is not warned of for giving one.
    """
    final = history[history["epoch"] == history["epoch"].max()]
    if "empty_layers" not in final:  # a checkpoint of an earlier version
        return
    one_answer = final["one_answer"].to_numpy() == 1
    if source_predictions is not None and len(source_predictions) == len(final):
        one_answer &= ~_one_answer(source_predictions)
    found = [
        (final["sparsity"].to_numpy() == 1, "has no weight left", "have no weight left"),
        (final["empty_layers"].to_numpy() > 0, "has an empty layer", "have an empty layer"),
        (one_answer, *(f"{verb} one class for all test images" for verb in ("answers", "answer"))),
        (
            final["dead_outputs"].to_numpy() > 0,
            *(f"{v} outputs without incoming weights" for v in ("has", "have")),
        ),
    ]
    counts = [(int(rows.sum()), one, many) for rows, one, many in found if rows.any()]
    if not counts:
        return
    first, *others = [(count, one if count == 1 else many) for count, one, many in counts]
    told = [f"{first[0]} of {len(final)} twins {first[1]}", *(f"{count} {what}" for count, what in others)]
    worst = next(final[rows] for rows, *_ in found if rows.any())
    log.warning("%s: %s", ", ".join(told), _named(worst))


def empty_layers(rows: pd.DataFrame) -> dict[str, int]:
    """How many of some rows of the `twins` table have each layer empty; layers that none has empty are left out."""
    prefix = "sparsity_layer."
    columns = [name for name in rows.columns if str(name).startswith(prefix)]
    counts = {name.removeprefix(prefix): int((rows[name] == 1).sum()) for name in columns}
    return {name: count for name, count in counts.items() if count}


def layers_in_words(layers: dict[str, int]) -> str:
    """The layers that are empty most often, and in how many twins: "fc in 12, conv in 3"; "" without any."""
    ordered = sorted(layers.items(), key=lambda item: -item[1])  # stable: the network's order among equals
    more = f" and {len(ordered) - _NAMED} more" if len(ordered) > _NAMED else ""
    return ", ".join(f"{name} in {count}" for name, count in ordered[:_NAMED]) + more


def _named(rows: pd.DataFrame) -> str:
    """The first few twins, and the layers that are empty in them."""
    names = ", ".join(map(str, rows["twin_id"][:_NAMED]))
    more = f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
    layers = layers_in_words(empty_layers(rows))
    return f"{names}{more}{'; empty: ' if layers else ''}{layers}"


def _one_answer(predictions: Tensor) -> npt.NDArray[np.bool_]:
    """bool [N]: one class for all images."""
    classes = predictions.cpu().numpy()  # which compares every type of integer
    return np.asarray((classes == classes[:, :1]).all(1))


def _dead_outputs(weights: Tensor, architecture: Architecture) -> Tensor:
    """int64 [N]: outputs whose incoming prunable weights are all zero; not of grouped transposed convolutions."""
    dead = torch.zeros(len(weights), dtype=torch.int64, device=weights.device)
    for segment in architecture.prunable_segments:
        if segment.size and segment.shape and segment.output_axis is not None:
            weight = weights[:, segment.slice].detach().unflatten(1, segment.shape)
            incoming = (
                weight.movedim(1 + segment.output_axis, 1).flatten(2)
                if weight.dim() > 2
                else weight[..., None]
            )
            dead += (incoming.abs().amax(2) == 0).sum(1)
    return dead
