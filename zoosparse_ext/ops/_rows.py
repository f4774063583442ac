"""Arguments of the row-wise operators, checked and brought into the one form that the kernels take."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ..errors import InputError

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def check_matrix(op: str, name: str, tensor: Tensor) -> None:
    """The tensor must have two dimensions."""
    if tensor.dim() != 2:
        raise InputError(
            f"{op}: {name} must be a matrix with one row per model, got shape {list(tensor.shape)}"
            + (f"; for a single model pass {name}[None]" if tensor.dim() == 1 else "")
        )


def check_dtype(op: str, name: str, tensor: Tensor, *expected: torch.dtype) -> None:
    """The tensor must have one of the dtypes."""
    if tensor.dtype not in expected:
        names = " or ".join(str(dtype) for dtype in expected)
        raise InputError(f"{op}: {name} must be {names}, got {tensor.dtype}")


def segment_offsets(op: str, p: int, segments: Sequence[int] | Tensor | None) -> list[int]:
    """Boundaries [0, o1, …, P] as a list; None is the whole row."""
    if segments is None:
        return [0, p]
    offsets = [int(offset) for offset in segments]
    rising = all(a <= b for a, b in pairwise(offsets))
    if len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != p or not rising:
        raise InputError(f"{op}: segments must rise from 0 to the number of columns {p}, got {offsets}")
    return offsets


def counts(
    op: str, weights: Tensor, k: int | Tensor | Sequence[int], offsets: list[int], whole: bool
) -> Tensor:
    """`k` as int64 [N, S] on the device of `weights`, checked against the widths of the segments.

    `whole` says that the caller gave no segments: a vector then holds one count per row, else one per segment.
    """
    n, s = weights.shape[0], len(offsets) - 1
    widths = [end - start for start, end in pairwise(offsets)]
    if isinstance(k, int):
        if not 0 <= k <= min(widths, default=0):
            raise InputError(_count_message(op, k, widths, whole))
        return torch.full((n, s), k, dtype=torch.int64, device=weights.device)
    given = torch.as_tensor(k, device=weights.device)
    if given.is_floating_point() or given.is_complex() or given.dtype == torch.bool:
        raise InputError(f"{op}: k must be an int or an integer tensor, got {given.dtype}")
    shapes = [(n,)] if whole else [(s,), (n, s)]
    if given.dim() and tuple(given.shape) not in shapes:
        expected = " or ".join(str(list(shape)) for shape in shapes)
        raise InputError(f"{op}: k must be an int or of shape {expected}, got {list(given.shape)}")
    full = (given[:, None] if whole and given.dim() else given).to(torch.int64).expand(n, s).contiguous()
    outside = (full < 0) | (full > torch.tensor(widths, device=full.device))
    if bool(outside.any()):
        row, segment = outside.nonzero()[0].tolist()
        raise InputError(_count_message(op, int(full[row, segment]), widths, whole, row, segment))
    return full


def _count_message(
    op: str, k: int, widths: list[int], whole: bool, row: int | None = None, segment: int | None = None
) -> str:
    if segment is None:
        segment = widths.index(min(widths)) if widths else 0
    where = ("" if row is None else f" in row {row}") + ("" if whole else f" for segment {segment}")
    width = widths[segment] if widths else 0
    return f"{op}: k = {k}{where}, but it must lie between 0 and the {width} weights that are there"
