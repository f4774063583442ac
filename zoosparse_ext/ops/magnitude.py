"""Exact selection by magnitude: of every row, exactly k weights are pruned.

The order is total, by |w| and then by column, so every implementation and device gives the same mask to the
bit. Ties are pruned from the lowest column on. NaN of any sign or payload counts as one value above infinity:
NaN weights are the last to go, the lowest column first, and only where k exceeds the number of other weights.

With ``segments=[0, o1, …, P]`` each range of columns (a layer, say) is a selection of its own. Boundaries in a tensor
are read before the selection; on a GPU that waits for the work that makes them.

A count must lie between 0 and the number of weights. Counts that are in a GPU tensor are not read back, which would
wait for all work there: the kernel clamps them to these bounds.

None of these functions is differentiable: a mask is constant between ties, and the threshold is detached.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ._checks import check_dtype, check_matrix
from ._registry import call, define
from ._rows import DTYPES, Count, check_counts, counts
from ._segments import Segments, check_offsets, read_offsets, segment_offsets
from ._vmap import Rows
from .masks import pack_mask


def magnitude_threshold(weights: Tensor, k: Count, segments: Segments | None = None) -> Tensor:
    """The magnitude of the k-th smallest weight of each row.

    >>> magnitude_threshold(torch.tensor([[3.0, -1.0, 2.0, 0.5]]), k=2)
    tensor([1.])

    Every weight with ``|w| < threshold`` is pruned and every weight with ``|w| > threshold`` is kept; how many of
    those equal to it are pruned, only the mask says. For k = 0 the threshold is −inf: no magnitude lies below it.

    Args:
        weights: [N, P], float32, float64, float16 or bfloat16.
        k: how many to prune, an int or an integer tensor [N]; with segments an int, [S] or [N, S].
        segments: boundaries [0, o1, …, P] of the columns of each selection, a list or an integer tensor; default:
            the whole row.

    Returns:
        [N] in the dtype of `weights`; [N, S] with segments.

    Raises:
        InputError: k is negative or exceeds the number of weights (names the row); segments do not rise from
            0 to P; `weights` is no matrix of these dtypes.
    """
    weights, numbers, offsets = _arguments("magnitude_threshold", weights, k, segments)
    thresholds: Tensor = _run("magnitude_threshold", weights.detach(), numbers, offsets)
    return thresholds[:, 0] if segments is None else thresholds


def magnitude_mask(weights: Tensor, k: Count, segments: Segments | None = None) -> Tensor:
    """Which weights stay when the k smallest of each row are pruned: exactly k are False.

    >>> magnitude_mask(torch.tensor([[3.0, -1.0, 2.0, 1.0]]), k=1)  # of equals, the lower column goes
    tensor([[ True, False,  True,  True]])
    >>> magnitude_mask(torch.tensor([[3.0, -1.0, 2.0, 1.0]]), k=[0, 2], segments=[0, 1, 4])
    tensor([[ True, False,  True, False]])

    Args:
        weights: [N, P], float32, float64, float16 or bfloat16.
        k: how many to prune, an int or an integer tensor [N]; with segments an int, [S] or [N, S].
        segments: boundaries [0, o1, …, P] of the columns of each selection, a list or an integer tensor; default:
            the whole row.

    Returns:
        bool [N, P], True = kept.

    Raises:
        InputError: k is negative or exceeds the number of weights (names the row); segments do not rise from
            0 to P; `weights` is no matrix of these dtypes.
    """
    weights, numbers, offsets = _arguments("magnitude_mask", weights, k, segments)
    mask: Tensor = _run("magnitude_mask", weights.detach(), numbers, offsets)
    return mask


def magnitude_prune_(weights: Tensor, k: Count, segments: Segments | None = None) -> Tensor:
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
        segments: boundaries [0, o1, …, P] of the columns of each selection, a list or an integer tensor; default:
            the whole row.

    Returns:
        bool [N, P], True = kept.

    Raises:
        InputError: k is negative or exceeds the number of weights (names the row); segments do not rise from
            0 to P; `weights` is no matrix of these dtypes.
    """
    weights, numbers, offsets = _arguments("magnitude_prune_", weights, k, segments)
    mask: Tensor = _run("magnitude_prune_", weights, numbers, offsets)
    return mask


def magnitude_masks(weights: Tensor, k: Tensor | Sequence[int], segments: Segments | None = None) -> Tensor:
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
        segments: boundaries [0, o1, …, P] of the columns of each selection, a list or an integer tensor; default:
            the whole row.

    Returns:
        uint8 [K, N, ceil(P/8)], see :func:`pack_mask`.

    Raises:
        InputError: as :func:`magnitude_mask`; `k` is a single number.
    """
    weights, numbers, offsets = _arguments("magnitude_masks", weights, k, segments, masks=True)
    packed: Tensor = _run("magnitude_masks", weights.detach(), numbers, offsets)
    return packed


def _arguments(
    op: str, weights: Tensor, k: Count, segments: Segments | None, masks: bool = False
) -> tuple[Tensor, Tensor, list[int] | Tensor]:
    """The weights as they are, counts [N, S] or for many `masks` [K, N, S], and boundaries."""
    check_matrix(op, "weights", weights)
    check_dtype(op, "weights", weights, *DTYPES)
    offsets = segment_offsets(op, weights.shape[1], segments)
    return weights, counts(op, weights, k, offsets, whole=segments is None, masks=masks), offsets


def _run(op: str, weights: Tensor, k: Tensor, offsets: list[int] | Tensor) -> Tensor:
    name = _AT[op] if isinstance(offsets, Tensor) else op
    result: Tensor = call(getattr(torch.ops.zoosparse, name), weights, k, offsets)
    return result


def _check_selection(op: str, weights: Tensor, k: Tensor, segments: list[int]) -> None:
    check_offsets(op, weights.shape[1], segments)
    check_counts(op, k, segments)


def _threshold_reference(weights: Tensor, k: Tensor, segments: list[int]) -> Tensor:
    _check_selection("magnitude_threshold", weights, k, segments)
    thresholds = weights.new_full(k.shape, -math.inf)
    for s, (start, end) in enumerate(pairwise(segments)):
        if start < end:
            ordered = weights[:, start:end].abs().sort(dim=1).values  # NaN last
            kth = ordered.gather(1, (k[:, s : s + 1] - 1).clamp(min=0))[:, 0]
            thresholds[:, s] = torch.where(k[:, s] > 0, kth, -math.inf)
    return thresholds


def _mask_reference(weights: Tensor, k: Tensor, segments: list[int]) -> Tensor:
    _check_selection("magnitude_mask", weights, k, segments)
    mask = torch.ones_like(weights, dtype=torch.bool, memory_format=torch.contiguous_format)
    for s, (start, end) in enumerate(pairwise(segments)):
        order = weights[:, start:end].abs().argsort(dim=1, stable=True)  # NaN last, equals by column
        kept = torch.arange(end - start, device=weights.device) >= k[:, s : s + 1]
        mask[:, start:end] = torch.empty_like(kept).scatter_(1, order, kept)
    return mask


def _masks_reference(weights: Tensor, k: Tensor, segments: list[int]) -> Tensor:
    _check_selection("magnitude_masks", weights, k, segments)
    masks = [pack_mask(_mask_reference(weights, each, segments)) for each in k]
    return torch.stack(masks) if masks else _masks_fake(weights, k, segments)


def _prune_reference(weights: Tensor, k: Tensor, segments: list[int]) -> Tensor:
    _check_selection("magnitude_prune_", weights, k, segments)
    mask = _mask_reference(weights, k, segments)
    weights.masked_fill_(~mask, 0)
    return mask


def _prune_recorded(weights: Tensor, k: Tensor, segments: list[int] | Tensor) -> Tensor:
    mask = _run("magnitude_mask", weights.detach(), k, segments)
    weights.masked_fill_(~mask, 0)
    return mask


def _threshold_fake(weights: Tensor, k: Tensor, segments: list[int]) -> Tensor:
    return weights.new_empty(k.shape)


def _mask_fake(weights: Tensor, k: Tensor, segments: list[int]) -> Tensor:
    return weights.new_empty(weights.shape, dtype=torch.bool)


def _masks_fake(weights: Tensor, k: Tensor, segments: list[int]) -> Tensor:
    return weights.new_empty((k.shape[0], weights.shape[0], (weights.shape[1] + 7) // 8), dtype=torch.uint8)


def _at(op: str) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The operator where boundaries are data: it reads them when it runs."""
    operator = getattr(torch.ops.zoosparse, op)

    def read_and_run(weights: Tensor, k: Tensor, segments: Tensor) -> Tensor:
        result: Tensor = call(operator, weights, k, read_offsets(op, weights.shape[1], segments))
        return result

    return read_and_run


_AT = {
    "magnitude_threshold": "magnitude_threshold_at",
    "magnitude_mask": "magnitude_mask_at",
    "magnitude_prune_": "magnitude_prune_at_",
    "magnitude_masks": "magnitude_masks_at",
}
_ROWS = Rows((0, 0), 0)


def _define(
    op: str,
    weights: str,
    reference: Callable[..., Tensor],
    fake: Callable[..., Tensor],
    rows: Rows = _ROWS,
    **kernels: Any,
) -> None:
    """An operator in both its forms."""
    define(f"{op}({weights}, Tensor k, SymInt[] segments) -> Tensor", reference, fake, rows=rows, **kernels)
    define(
        f"{_AT[op]}({weights}, Tensor k, Tensor segments) -> Tensor",
        _at(op),
        fake,
        rows=rows,
        anywhere=("segments",),
        over=op,
        **kernels,
    )


_define("magnitude_threshold", "Tensor weights", _threshold_reference, _threshold_fake, numbers=True)
_define("magnitude_mask", "Tensor weights", _mask_reference, _mask_fake)
_define("magnitude_prune_", "Tensor(a!) weights", _prune_reference, _mask_fake, recorded=_prune_recorded)
_define("magnitude_masks", "Tensor weights", _masks_reference, _masks_fake, rows=Rows((0, 1), 1))
