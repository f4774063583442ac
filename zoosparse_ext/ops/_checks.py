"""Arguments of operators, checked before a kernel sees them: kinds, dtypes, shapes, devices."""

from __future__ import annotations

import operator
from collections.abc import Collection, Mapping, Sequence
from typing import TypeGuard

import numpy as np
import torch
from torch import Tensor

from zoosparse_ext.errors import InputError

INTEGERS = (
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint64, torch.uint32, torch.uint16, torch.uint8,
)  # fmt: skip
_INTS = (int, torch.SymInt)
_ARRAYS = (Tensor, np.ndarray, np.generic)


def check_tensor(op: str, name: str, value: object) -> None:
    """The value must be a tensor with a place in memory for every element."""
    if not isinstance(value, Tensor):
        raise InputError(
            f"{op}: {name} must be a tensor, got {kind(value)}; torch.as_tensor({name}) makes one of an array"
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
            f"{op}: {name} must be a matrix with one row per model, got shape {shape_text(tensor.shape)}"
            + (f"; for a single model pass {name}[None]" if tensor.dim() == 1 else "")
        )


def check_dtype(op: str, name: str, tensor: Tensor, *expected: torch.dtype) -> None:
    """The tensor must have one of the dtypes."""
    if tensor.dtype not in expected:
        names = " or ".join(str(dtype) for dtype in expected)
        raise InputError(f"{op}: {name} must be {names}, got {tensor.dtype}")


def check_integer(op: str, name: str, value: object) -> int:
    """The value as an int: it must be a whole number, of Python or of NumPy.

    Compiled code cannot look at one in an array.
    """
    if is_int(value):
        return value
    if torch.compiler.is_compiling():
        way_out = f"; pass int({name}), found outside of compiled code" if is_array(value) else ""
        raise InputError(f"{op}: {name} must be an int, got {kind(value)}{way_out}")
    try:
        if not isinstance(value, bool):
            return operator.index(value)  # type: ignore[arg-type]
    except (TypeError, RuntimeError):  # a tensor of fractions or of many numbers
        pass
    raise InputError(f"{op}: {name} must be an int, got {kind(value)}")


def check_int64(op: str, name: str, value: object) -> None:
    """The value must be a whole number that fits in 64 bits."""
    check_integer(op, name, value)
    if not -(2**63) <= value < 2**63:  # type: ignore[operator]
        shown = "" if torch.compiler.is_compiling() else f", got {value}"
        raise InputError(f"{op}: {name} must lie between -2^63 and 2^63 - 1{shown}")


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


def is_int(value: object) -> TypeGuard[int]:
    """Whether the value is an int, also one that compiled code knows by name alone."""
    return isinstance(value, _INTS) and not isinstance(value, bool)


def is_array(value: object) -> bool:
    """Whether the value is a tensor, or an array or a number of NumPy."""
    return isinstance(value, _ARRAYS)


def as_tensor(value: object) -> Tensor:
    """The tensor of an int or an array, which shares its memory where it can."""
    if isinstance(value, Tensor):
        return value
    return torch.full((), value) if is_int(value) else torch.as_tensor(value)


def shape_text(shape: Sequence[int]) -> str:
    """A shape as messages show it, also where compiled code knows a size by name alone."""
    return "[" + ", ".join([f"{size}" for size in shape]) + "]"


def kind(value: object) -> str:
    """The type of a value as messages show it."""
    return f"{type(value).__module__}.{type(value).__name__}".removeprefix("builtins.")
