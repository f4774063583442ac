"""Counts of the row-wise operators, brought into the one form that the kernels take.

Numbers that are in a tensor are left to the kernels, which look at them where they are: reading them here would stop
`torch.compile` and `torch.vmap`, and on a GPU wait for all its work. Compiled code leaves all of them to the kernels,
so that it need not be compiled again for others; and since it cannot catch what PyTorch raises, kinds are looked at
before PyTorch sees them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from zoosparse_ext.errors import InputError

from ._checks import (
    INTEGERS,
    as_tensor,
    check_devices,
    check_int64,
    check_tensor,
    is_array,
    is_int,
    kind,
    shape_text,
)

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)

Count = int | Tensor | Sequence[int]


def counts(
    op: str, weights: Tensor, k: Count, offsets: list[int] | Tensor, whole: bool, masks: bool = False
) -> Tensor:
    """`k` as int64 [N, S] on the device of `weights`; for many `masks` [K, N, S].

    `whole` says that the caller gave no segments: a vector then holds one count per row, else one per segment.
    """
    n, s = weights.shape[0], len(offsets) - 1
    if is_int(k) and not masks:
        _check_count(op, k, offsets, whole)
        return torch.full((n, s), k, dtype=torch.int64, device=weights.device)
    if masks and isinstance(k, list | tuple):
        for count in k:
            if is_int(count):
                _check_count(op, count, offsets, whole)
    given = _count_tensor(op, k)
    if masks and given.dim() == 0:
        shown = "k" if torch.compiler.is_compiling() else given.item()
        raise InputError(f"{op}: k must hold one count for each mask, got {shown}; pass [{shown}]")
    if given.device.type == "meta":
        check_devices(op, {"weights": weights, "k": given})
    lead = given.shape[: int(masks)]
    each = given.shape[int(masks) :]
    shapes = [(n,)] if whole else [(s,), (n, s)]
    if each and not any(_is_shape(each, shape) for shape in shapes):
        expected = " or ".join([shape_text(shape) for shape in shapes])
        of_each = " for each mask" if masks else ""
        raise InputError(f"{op}: k{of_each} must be an int or of shape {expected}, got {shape_text(each)}")
    if not each:
        given = given[..., None, None]
    elif len(each) == 1:
        given = given[..., :, None] if whole else given[..., None, :]
    full = given.expand(*lead, n, s)
    full = _signed(op, full, offsets) if full.dtype == torch.uint64 else full.to(torch.int64)
    known = not torch.compiler.is_compiling() and not isinstance(offsets, Tensor)
    if known and full.device.type == "cpu" and weights.device.type == "cuda":
        assert not isinstance(offsets, Tensor)
        check_counts(op, full, offsets)  # the kernels there cannot raise
    return full.to(weights.device).contiguous()


def _is_shape(shape: Sequence[int], expected: Sequence[int]) -> bool:
    """Whether two shapes are equal, also where compiled code knows a size by name alone."""
    return len(shape) == len(expected) and all(a == b for a, b in zip(shape, expected, strict=True))


def _signed(op: str, k: Tensor, offsets: list[int] | Tensor) -> Tensor:
    """Counts of uint64 [..., N, S] as int64: what exceeds it exceeds every row, and does so still."""
    signed = k.view(torch.int64)
    data = isinstance(offsets, Tensor) or k.device.type != "cpu" or torch.compiler.is_compiling()
    if not data and not torch._C._functorch.is_batchedtensor(k) and bool((signed < 0).any()):
        assert not isinstance(offsets, Tensor)
        place = (signed < 0).nonzero()[0].tolist()
        raise InputError(_outside(op, int(k[tuple(place)].item()), place, offsets))
    return torch.where(signed < 0, torch.iinfo(torch.int64).max, signed)


def check_counts(op: str, k: Tensor, offsets: list[int]) -> None:
    """All of `k` [N, S] or [K, N, S] must lie between 0 and the widths of the segments."""
    widths = [end - start for start, end in pairwise(offsets)]
    outside = (k < 0) | (k > torch.tensor(widths, device=k.device))
    if bool(outside.any()):
        place = outside.nonzero()[0].tolist()
        raise InputError(_outside(op, int(k[tuple(place)]), place, offsets))


def _outside(op: str, k: int, place: list[int], offsets: list[int]) -> str:
    """The message of one count, at `place` in [N, S] or [K, N, S]."""
    row, segment = place[-2:]
    where = f" in row {row}" + (f" for segment {segment}" if len(offsets) > 2 else "")
    return _count_message(op, k, where, offsets[segment + 1] - offsets[segment])


def _check_count(op: str, k: int, offsets: list[int] | Tensor, whole: bool) -> None:
    if torch.compiler.is_compiling() or isinstance(offsets, Tensor):
        return
    for segment, (start, end) in enumerate(pairwise(offsets)):
        if not 0 <= k <= end - start:
            raise InputError(_count_message(op, k, "" if whole else f" for segment {segment}", end - start))


def _count_message(op: str, k: int, where: str, width: int) -> str:
    return f"{op}: k = {k}{where}, but it must lie between 0 and the {width} weights that are there"


def _count_tensor(op: str, k: object) -> Tensor:
    if isinstance(k, Tensor):
        check_tensor(op, "k", k)
        given = k
    elif torch.compiler.is_compiling():
        given = _compiled_counts(op, k)
    else:
        try:
            given = torch.tensor(k)
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise InputError(f"{op}: k must be an int or integers, got {k!r} ({error})") from None
    if given.numel() == 0:
        given = given.to(torch.int64)
    if given.dtype not in INTEGERS:
        raise InputError(f"{op}: k must be an int or an integer tensor, got {given.dtype}")
    return given


def _compiled_counts(op: str, k: object) -> Tensor:
    """The tensor that `torch.tensor` makes of `k`."""
    if is_int(k) or is_array(k):
        return as_tensor(k)
    if isinstance(k, range):
        return torch.arange(k.start, k.stop, k.step)
    if not isinstance(k, list | tuple):
        raise InputError(f"{op}: k must be an int or integers, got {kind(k)}")
    items = list(k)
    if all(is_int(item) for item in items):
        for item in items:
            check_int64(op, "k", item)
        return torch.tensor(items, dtype=torch.int64)
    parts = [_compiled_counts(op, item) for item in items]
    if not all(_is_shape(part.shape, parts[0].shape) for part in parts):
        raise InputError(f"{op}: k must be an int or integers, got lists of several lengths")
    return torch.stack(parts)
