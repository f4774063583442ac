"""Counts and segments of the row-wise operators, brought into the one form that the kernels take.

Numbers that are in a tensor are left to the kernels, which look at them where they are: reading them here would stop
`torch.compile` and `torch.vmap`, and on a GPU wait for all its work. Compiled code leaves all of them to the kernels,
so that it need not be compiled again for others.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ..errors import InputError
from ._checks import check_devices, check_integer, check_tensor

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)

_INTEGERS = (
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint64, torch.uint32, torch.uint16, torch.uint8,
)  # fmt: skip

Count = int | Tensor | Sequence[int]


def segment_offsets(op: str, p: int, segments: Sequence[int] | Tensor | None) -> list[int]:
    """Boundaries [0, o1, …, P] as a list; None is the whole row."""
    if segments is None:
        return [0, p]
    given = _numbers(op, segments) if isinstance(segments, Tensor) else segments
    if isinstance(given, str) or not hasattr(given, "__iter__"):
        raise InputError(f"{op}: segments must be a list of columns, got {segments!r}")
    offsets = [_integer(op, "a boundary of segments", offset) for offset in given]
    if not torch.compiler.is_compiling():
        check_offsets(op, p, offsets)
    return offsets


def _numbers(op: str, segments: Tensor) -> object:
    check_tensor(op, "segments", segments)
    if segments.device.type == "meta":
        raise InputError(f"{op}: segments is on the meta device, which holds no data; pass a list of columns")
    if not torch.compiler.is_compiling() and torch._C._functorch.is_batchedtensor(segments):
        raise InputError(
            f"{op}: segments must be the same for all that vmap goes over; pass a list of columns"
        )
    return segments.tolist()


def check_offsets(op: str, p: int, offsets: list[int]) -> None:
    """The boundaries must rise from 0 to the number of columns."""
    rising = all(a <= b for a, b in pairwise(offsets))
    if len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != p or not rising:
        raise InputError(f"{op}: segments must rise from 0 to the number of columns {p}, got {offsets}")


def counts(
    op: str, weights: Tensor, k: Count, offsets: list[int], whole: bool, masks: bool = False
) -> Tensor:
    """`k` as int64 [N, S] on the device of `weights`; for many `masks` [K, N, S].

    `whole` says that the caller gave no segments: a vector then holds one count per row, else one per segment.
    """
    n, s = weights.shape[0], len(offsets) - 1
    if isinstance(k, int) and not isinstance(k, bool) and not masks:
        _check_count(op, k, offsets, whole)
        return torch.full((n, s), k, dtype=torch.int64, device=weights.device)
    if masks and isinstance(k, list | tuple):
        for count in k:
            if isinstance(count, int) and not isinstance(count, bool):
                _check_count(op, count, offsets, whole)
    given = _count_tensor(op, k)
    if masks and given.dim() == 0:
        raise InputError(
            f"{op}: k must hold one count for each mask, got {given.item()}; pass [{given.item()}]"
        )
    if given.device.type == "meta":
        check_devices(op, {"weights": weights, "k": given})
    lead = given.shape[: int(masks)]
    each = tuple(given.shape[int(masks) :])
    shapes = [(n,)] if whole else [(s,), (n, s)]
    if each and each not in shapes:
        expected = " or ".join(str(list(shape)) for shape in shapes)
        of_each = " for each mask" if masks else ""
        raise InputError(f"{op}: k{of_each} must be an int or of shape {expected}, got {list(each)}")
    if not each:
        given = given[..., None, None]
    elif len(each) == 1:
        given = given[..., :, None] if whole else given[..., None, :]
    full = given.expand(*lead, n, s)
    full = _signed(op, full, offsets) if full.dtype == torch.uint64 else full.to(torch.int64)
    if full.device.type == "cpu" and weights.device.type == "cuda" and not torch.compiler.is_compiling():
        check_counts(op, full, offsets)  # the kernels there cannot raise
    return full.to(weights.device).contiguous()


def _signed(op: str, k: Tensor, offsets: list[int]) -> Tensor:
    """Counts of uint64 [..., N, S] as int64: what exceeds it exceeds every row, and does so still."""
    signed = k.view(torch.int64)
    known = k.device.type == "cpu" and not torch.compiler.is_compiling()
    if known and not torch._C._functorch.is_batchedtensor(k) and bool((signed < 0).any()):
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


def _check_count(op: str, k: int, offsets: list[int], whole: bool) -> None:
    if torch.compiler.is_compiling():
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
    else:
        try:
            given = torch.tensor(k)
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise InputError(f"{op}: k must be an int or integers, got {k!r} ({error})") from None
        if given.numel() == 0:
            given = given.to(torch.int64)
    if given.dtype not in _INTEGERS:
        raise InputError(f"{op}: k must be an int or an integer tensor, got {given.dtype}")
    return given


def _integer(op: str, name: str, value: object) -> int:
    check_integer(op, name, value)
    return value if isinstance(value, int) else int(value)  # type: ignore[call-overload]
