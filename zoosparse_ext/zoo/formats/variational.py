"""The state dicts of variational dropout in Ray trees: `weight`, `bias`, `log_sigma2`, `log_sigma2_bias`."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from zoosparse_ext import ops
from zoosparse_ext.errors import StoreError
from zoosparse_ext.ops import vardrop
from zoosparse_ext.population.architecture import Architecture, Segment
from zoosparse_ext.zoo.formats.checkpoint import State
from zoosparse_ext.zoo.formats.plan import Record, Row

WEIGHT_NOISE, BIAS_NOISE = "log_sigma2", "log_sigma2_bias"
INITIAL = -10.0  # of log σ² in the published twins
_CLAMP = {4: 8.0, 2: 10.0}  # of log α by the axes of the weight: convolution, linear


def is_variational(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is that of a twin."""
    return any(name.endswith(f".{WEIGHT_NOISE}") for name in state)


def split_state(state: State) -> tuple[State, State]:
    """Weights and biases; and log σ² by the name of the weight or bias it belongs to."""
    weights, noise = {}, {}
    for name, tensor in state.items():
        layer, _, kind = name.rpartition(".")
        if kind == WEIGHT_NOISE:
            noise[f"{layer}.weight"] = tensor
        elif kind == BIAS_NOISE:
            noise[f"{layer}.bias"] = tensor
        else:
            weights[name] = tensor
    return weights, noise


def noise_row(
    architecture: Architecture, noise: State, path: object, *, linear_biases: bool = False
) -> Tensor:
    """log σ² as a row [P].

    In linear layers of the published twins, `log_sigma2_bias` is memory that was never written: unless `linear_biases`,
    those columns are the initial −10, as in twins that are made here.

    Raises:
        StoreError: a layer has no log σ², or one of another shape, or it holds NaN.
    """
    convolutional = {s.layer for s in architecture.segments if len(s.shape) == 4}
    row = torch.full((architecture.n_parameters,), INITIAL)
    for segment in architecture.segments:
        wanted = segment.prunable or linear_biases or segment.layer in convolutional
        tensor = noise.get(segment.name)
        if tensor is None and segment.prunable:
            raise StoreError(f"{path} lacks {segment.layer}.{WEIGHT_NOISE}")
        if tensor is None or not wanted:
            continue
        if tuple(tensor.shape) != segment.shape:
            raise StoreError(
                f"{path}: log σ² of {segment.name!r} has shape {list(tensor.shape)}, expected {list(segment.shape)}"
            )
        row[segment.slice] = tensor.reshape(-1).to(torch.float32)
        if segment.prunable and bool(torch.isnan(row[segment.slice]).any()):
            raise StoreError(f"{path}: log σ² of {segment.name!r} holds NaN")
    return row


def twin_masks(architecture: Architecture, rows: list[Row], threshold: float) -> None:
    """Add `packed_masks` to rows and set dropped weights to 0: those whose log α reaches the threshold.

    The threshold is not stored in the files; the published twins use 3.
    """
    for row in rows:
        weights, log_sigma2 = row.tensors["weights"], row.tensors["log_sigma2"]
        kept = torch.ones(len(weights), dtype=torch.bool)
        for segment in architecture.prunable_segments:
            part = segment.slice
            alpha = vardrop.log_alpha(weights[part], log_sigma2[part], _clamp(segment))
            kept[part] = vardrop.keep(alpha, threshold)
        packed = ops.pack_mask(kept[None])
        ops.apply_mask_(weights[None], packed)
        row.tensors["packed_masks"] = packed[0]


def twin_record(architecture: Architecture, weights: Tensor | None, ratio: float | None) -> Record:
    """Sparsity in all and by layer, from a row of weights [P]; without one, `sparsity_ratio` of result.json."""
    names = [f"sparsity_layer.{segment.layer}" for segment in architecture.prunable_segments]
    if weights is None:
        value = math.nan if ratio is None else ratio
        return {"sparsity": value / 100 if value > 1 else value, **dict.fromkeys(names, math.nan)}
    counts = [int((weights[segment.slice] == 0).sum()) for segment in architecture.prunable_segments]
    shares = [count / s.size for count, s in zip(counts, architecture.prunable_segments, strict=True)]
    return {"sparsity": sum(counts) / architecture.n_prunable, **dict(zip(names, shares, strict=True))}


def _clamp(segment: Segment) -> float:
    return _CLAMP.get(len(segment.shape), 10.0)
