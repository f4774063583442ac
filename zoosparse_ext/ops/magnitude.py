"""Exact selection by magnitude: of every row, exactly k weights are pruned.

The order is total, by |w| and then by column, so every implementation and device gives the same mask to the
bit. Ties are pruned from the lowest column on. NaN of any sign or payload counts as one value above infinity:
NaN weights are the last to go, the lowest column first, and only where k exceeds the number of other weights.

With ``segments=[0, o1, …, P]`` each range of columns (a layer, say) is a selection of its own.

None of these functions is differentiable: a mask is constant between ties, and the threshold is detached.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ..errors import InputError
from ._registry import define
from ._rows import DTYPES, check_dtype, check_matrix, counts, segment_offsets
from .masks import pack_mask

Count = int | Tensor | Sequence[int]


def magnitude_threshold(weights: Tensor, k: Count, segments: Sequence[int] | None = None) -> Tensor:
    """The magnitude of the k-th smallest weight of each row.

    >>> magnitude_threshold(torch.tensor([[3.0, -1.0, 2.0, 0.5]]), k=2)
    tensor([1.])

    Every weight with ``|w| < threshold`` is pruned and every weight with ``|w| > threshold`` is kept; how many of
    those equal to it are pruned, only the mask says. For k = 0 the threshold is −inf: no magnitude lies below it.

    Args:
        weights: [N, P], float32, float64, float16 or bfloat16.
        k: how many to prune, an int or an integer tensor [N]; with segments an int, [S] or [N, S].
        segments: boundaries [0, o1, …, P] of the columns of each selection; default: the whole row.

    Returns:
        [N] in the dtype of `weights`; [N, S] with segments.

    Raises:
        InputError: k is negative or exceeds the number of weights (names the row); segments do not rise from
            0 to P; `weights` is no matrix of these dtypes.
    """
    matrix, k_matrix, offsets = _arguments("magnitude_threshold", weights, k, segments)
    thresholds = torch.ops.zoosparse.magnitude_threshold(matrix, k_matrix, offsets)
    return thresholds[:, 0] if segments is None else thresholds


def magnitude_mask(weights: Tensor, k: Count, segments: Sequence[int] | None = None) -> Tensor:
    """Which weights stay when the k smallest of each row are pruned: exactly k are False.

    >>> magnitude_mask(torch.tensor([[3.0, -1.0, 2.0, 1.0]]), k=1)  # of equals, the lower column goes
    tensor([[ True, False,  True,  True]])
    >>> magnitude_mask(torch.tensor([[3.0, -1.0, 2.0, 1.0]]), k=[0, 2], segments=[0, 1, 4])
    tensor([[ True, False,  True, False]])

    Args:
        weights: [N, P], float32, float64, float16 or bfloat16.
        k: how many to prune, an int or an integer tensor [N]; with segments an int, [S] or [N, S].
        segments: boundaries [0, o1, …, P] of the columns of each selection; default: the whole row.

    Returns:
        bool [N, P], True = kept.

    Raises:
        InputError: k is negative or exceeds the number of weights (names the row); segments do not rise from
            0 to P; `weights` is no matrix of these dtypes.
    """
    return torch.ops.zoosparse.magnitude_mask(*_arguments("magnitude_mask", weights, k, segments))


def magnitude_prune_(weights: Tensor, k: Count, segments: Sequence[int] | None = None) -> Tensor:
    """Set the k smallest weights of each row to exactly +0.0, in place, and return the mask.

    >>> weights = torch.tensor([[3.0, -1.0, 2.0, 0.5]])
    >>> magnitude_prune_(weights, k=2), weights
    (tensor([[ True, False,  True, False]]), tensor([[3., 0., 2., 0.]]))

    Selection, mask and zeros in one go over a row. Where gradients are recorded and `weights` requires them,
    pruning is ``weights.masked_fill_(~mask, 0)``: the gradient of pruned weights is 0, and a leaf raises PyTorch's
    usual error for in-place operations.

    Args:
        weights: [N, P], float32, float64, float16 or bfloat16.
        k: how many to prune, an int or an integer tensor [N]; with segments an int, [S] or [N, S].
        segments: boundaries [0, o1, …, P] of the columns of each selection; default: the whole row.

    Returns:
        bool [N, P], True = kept.

    Raises:
        InputError: k is negative or exceeds the number of weights (names the row); segments do not rise from
            0 to P; `weights` is no matrix of these dtypes.
    """
    arguments = _arguments("magnitude_prune_", weights, k, segments)
    if weights.requires_grad and torch.is_grad_enabled():
        mask = torch.ops.zoosparse.magnitude_mask(*arguments)
        weights.masked_fill_(~mask, 0)
        return mask
    mask = torch.ops.zoosparse.magnitude_prune_(*arguments)
    torch.autograd.graph.increment_version(weights)
    return mask


def magnitude_masks(
    weights: Tensor, k: Tensor | Sequence[int], segments: Sequence[int] | None = None
) -> Tensor:
    """The masks of many sparsities in one pass over the weights, as bits.

    Mask i is ``pack_mask(magnitude_mask(weights, k[i], segments))``; all nine of a study take less than a
    third of the time of nine calls.

    >>> from zoosparse_ext.ops import unpack_mask
    >>> masks = magnitude_masks(torch.tensor([[3.0, -1.0, 2.0, 0.5]]), k=[1, 2, 3])
    >>> unpack_mask(masks[1], 4)
    tensor([[ True, False,  True, False]])

    Args:
        weights: [N, P], float32, float64, float16 or bfloat16.
        k: how many to prune for each of K masks: integers [K] or [K, N]; with segments [K], [K, S] or [K, N, S].
        segments: boundaries [0, o1, …, P] of the columns of each selection; default: the whole row.

    Returns:
        uint8 [K, N, ceil(P/8)], see :func:`pack_mask`.

    Raises:
        InputError: as :func:`magnitude_mask`; `k` is a single number.
    """
    check_matrix("magnitude_masks", "weights", weights)
    given = torch.as_tensor(k)  # where it is: reading numbers back from a GPU would wait for all its work
    if given.dim() == 0:
        raise InputError(
            f"magnitude_masks: k must hold one count for each mask, got {int(given)}; pass [{int(given)}]"
        )
    numbers = given.dim() == 1 and given.dtype == torch.int64  # one for all rows: no tensors to look through
    each = [
        _arguments("magnitude_masks", weights, count, segments)[1]
        for count in (given.tolist() if numbers else given)
    ]
    matrix, _, offsets = _arguments("magnitude_masks", weights, 0, segments)
    stacked = (
        torch.stack(each) if each else given.new_empty((0, len(weights), len(offsets) - 1), dtype=torch.int64)
    )
    return torch.ops.zoosparse.magnitude_masks(matrix, stacked, offsets)


def _arguments(
    op: str, weights: Tensor, k: Count, segments: Sequence[int] | None
) -> tuple[Tensor, Tensor, list[int]]:
    check_matrix(op, "weights", weights)
    check_dtype(op, "weights", weights, *DTYPES)
    offsets = segment_offsets(op, weights.shape[1], segments)
    return weights.detach(), counts(op, weights, k, offsets, whole=segments is None), offsets


def _threshold_reference(weights: Tensor, k: Tensor, segments: list[int]) -> Tensor:
    thresholds = weights.new_full(k.shape, -math.inf)
    for s, (start, end) in enumerate(pairwise(segments)):
        if start < end:
            ordered = weights[:, start:end].abs().sort(dim=1).values  # NaN last
            kth = ordered.gather(1, (k[:, s : s + 1] - 1).clamp(min=0))[:, 0]
            thresholds[:, s] = torch.where(k[:, s] > 0, kth, -math.inf)
    return thresholds


def _mask_reference(weights: Tensor, k: Tensor, segments: list[int]) -> Tensor:
    mask = torch.ones_like(weights, dtype=torch.bool, memory_format=torch.contiguous_format)
    for s, (start, end) in enumerate(pairwise(segments)):
        order = weights[:, start:end].abs().argsort(dim=1, stable=True)  # NaN last, equals by column
        kept = torch.arange(end - start, device=weights.device) >= k[:, s : s + 1]
        mask[:, start:end] = torch.empty_like(kept).scatter_(1, order, kept)
    return mask


def _masks_reference(weights: Tensor, k: Tensor, segments: list[int]) -> Tensor:
    masks = [pack_mask(_mask_reference(weights, each, segments)) for each in k]
    return torch.stack(masks) if masks else _masks_fake(weights, k, segments)


def _prune_reference(weights: Tensor, k: Tensor, segments: list[int]) -> Tensor:
    mask = _mask_reference(weights, k, segments)
    weights.masked_fill_(~mask, 0)
    return mask


def _threshold_fake(weights: Tensor, k: Tensor, segments: list[int]) -> Tensor:
    return weights.new_empty(k.shape)


def _mask_fake(weights: Tensor, k: Tensor, segments: list[int]) -> Tensor:
    return weights.new_empty(weights.shape, dtype=torch.bool)


def _masks_fake(weights: Tensor, k: Tensor, segments: list[int]) -> Tensor:
    return weights.new_empty((k.shape[0], weights.shape[0], (weights.shape[1] + 7) // 8), dtype=torch.uint8)


_SELECT = "Tensor k, int[] segments) -> Tensor"
define(f"magnitude_threshold(Tensor weights, {_SELECT}", _threshold_reference, _threshold_fake)
define(f"magnitude_mask(Tensor weights, {_SELECT}", _mask_reference, _mask_fake)
define(f"magnitude_prune_(Tensor(a!) weights, {_SELECT}", _prune_reference, _mask_fake)
define(f"magnitude_masks(Tensor weights, {_SELECT}", _masks_reference, _masks_fake)
