"""Boundaries of segments, in the forms that operators take: a list, or in compiled code a tensor.

A list is part of the graph of compiled code. A tensor is data there: the operators named ``…_at`` read and check it
when they run, so that one graph serves all boundaries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from itertools import pairwise

import torch
from torch import Tensor

from zoosparse_ext.errors import InputError

from ._checks import INTEGERS, as_tensor, check_integer, check_tensor, is_array, is_int, kind, shape_text

Segments = Sequence[int] | Tensor
_NO_LISTS = (str, bytes, Mapping, Set)  # of columns in their order, though Python goes over them


def segment_offsets(op: str, p: int, segments: Segments | None) -> list[int] | Tensor:
    """Boundaries [0, o1, …, P] as a list, or in compiled code as a tensor [S + 1]; None is the whole row.

    Code that something traces is as compiled code: numbers that are read there become constants.
    """
    if segments is None:
        return [0, p]
    if torch.compiler.is_compiling() or (
        isinstance(segments, Tensor) and torch._C._len_torch_dispatch_stack() > 0
    ):
        return _compiled_offsets(op, segments)
    given = _numbers(op, segments) if isinstance(segments, Tensor) else segments
    if isinstance(given, _NO_LISTS) or not hasattr(given, "__iter__"):
        raise InputError(f"{op}: segments must be a list of columns, got {segments!r}")
    offsets = [check_integer(op, "a boundary of segments", offset) for offset in given]
    check_offsets(op, p, offsets)
    return offsets


def read_offsets(op: str, p: int, segments: Tensor) -> list[int]:
    """The boundaries that a tensor [S + 1] holds."""
    if segments.dim() != 1 or segments.dtype not in INTEGERS:
        raise InputError(
            f"{op}: segments must be integers [S + 1], got {segments.dtype} {list(segments.shape)}"
        )
    offsets: list[int] = segments.tolist()
    check_offsets(op, p, offsets)
    return offsets


def check_offsets(op: str, p: int, offsets: list[int]) -> None:
    """The boundaries must rise from 0 to the number of columns."""
    rising = all(a <= b for a, b in pairwise(offsets))
    if len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != p or not rising:
        raise InputError(f"{op}: segments must rise from 0 to the number of columns {p}, got {offsets}")


def _compiled_offsets(op: str, segments: object) -> list[int] | Tensor:
    if isinstance(segments, range):
        return torch.arange(segments.start, segments.stop, segments.step)
    if isinstance(segments, list | tuple):
        given = _compiled_list(op, list(segments))
    elif is_array(segments):
        given = as_tensor(segments)
        check_tensor(op, "segments", given)
        if given.dim() != 1:
            raise InputError(f"{op}: segments must be a list of columns, got shape {shape_text(given.shape)}")
        if given.dtype not in INTEGERS:
            raise InputError(f"{op}: a boundary of segments must be an int, got {given.dtype}")
    else:
        raise InputError(f"{op}: segments must be a list of columns, got {kind(segments)}")
    if len(given) < 2:
        raise InputError(f"{op}: segments must rise from 0 to the number of columns, got fewer than two")
    return given


def _compiled_list(op: str, segments: list[object]) -> list[int] | Tensor:
    if all(is_int(offset) for offset in segments):
        return segments  # type: ignore[return-value]
    offsets = []
    for offset in segments:
        number = as_tensor(offset) if is_int(offset) or is_array(offset) else None
        if number is None or number.dim() or number.dtype not in INTEGERS:
            raise InputError(f"{op}: a boundary of segments must be an int, got {kind(offset)}")
        offsets.append(number.to(torch.int64))
    return torch.stack(offsets)


def _numbers(op: str, segments: Tensor) -> object:
    check_tensor(op, "segments", segments)
    if segments.device.type == "meta":
        raise InputError(f"{op}: segments is on the meta device, which holds no data; pass a list of columns")
    if torch._C._functorch.is_batchedtensor(segments):
        raise InputError(
            f"{op}: segments must be the same for all that vmap goes over; pass a list of columns"
        )
    return segments.tolist()
