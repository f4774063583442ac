"""Arguments of operators, checked before a kernel sees them: kinds, dtypes, shapes, devices."""

from __future__ import annotations

import operator
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from ..errors import InputError


def check_tensor(op: str, name: str, value: object) -> None:
    """The value must be a tensor with a place in memory for every element."""
    if not isinstance(value, Tensor):
        raise InputError(
            f"{op}: {name} must be a tensor, got {_kind(value)}; torch.as_tensor({name}) makes one of an array"
        )
    if value.is_nested:
        raise InputError(
            f"{op}: {name} must be one array, got a nested tensor; torch.nested.to_padded_tensor({name}, 0.0) makes one"
        )
    if value.layout != torch.strided:
        raise InputError(f"{op}: {name} must be dense, got layout {value.layout}; pass {name}.to_dense()")


def check_matrix(op: str, name: str, tensor: object) -> None:
    """The value must be a tensor of two dimensions."""
    check_tensor(op, name, tensor)
    assert isinstance(tensor, Tensor)
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


def check_integer(op: str, name: str, value: object) -> None:
    """The value must be a whole number, of Python or of NumPy."""
    try:
        whole = not isinstance(value, bool) and (
            isinstance(value, int | torch.SymInt) or isinstance(operator.index(value), int)  # type: ignore[arg-type]
        )
    except (TypeError, RuntimeError):  # a tensor of fractions or of many numbers
        whole = False
    if not whole:
        raise InputError(f"{op}: {name} must be an int, got {_kind(value)}")


def check_int64(op: str, name: str, value: object) -> None:
    """The value must be a whole number that fits in 64 bits."""
    check_integer(op, name, value)
    if not -(2**63) <= value < 2**63:  # type: ignore[operator]
        raise InputError(f"{op}: {name} must lie between -2^63 and 2^63 - 1, got {value}")


def check_devices(op: str, tensors: Mapping[str, Tensor], anywhere: Collection[str] = ()) -> None:
    """All tensors must be where the first one is; those of `anywhere` may be on the CPU as well.

    A meta tensor has no numbers, so it goes with meta tensors alone.
    """
    first, *_ = tensors
    home = tensors[first].device
    for name, tensor in tensors.items():
        if tensor.device == home or (
            name in anywhere and (tensor.device.type == "cpu" or home.type == "meta")
        ):
            continue
        raise InputError(f"{op}: {name} is on {tensor.device}, expected {home}, where {first} is")


def _kind(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__name__}".removeprefix("builtins.")
