"""The table that encodes a program, checked for the reference as `csrc/common/program_table.cpp` does for the kernels.

`KINDS`, `ACTIVATIONS` and `FIELDS` are what Python knows of it, by name; a test holds them against the enumerations of
the kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import torch
from torch import Tensor

from zoosparse_ext.errors import InputError

from ._checks import check_dtype

KINDS = (
    "conv2d", "linear", "max_pool2d", "avg_pool2d", "activation", "dropout", "flatten", "global_avg_pool2d",
)  # fmt: skip
ACTIVATIONS = (
    "identity", "relu", "leaky_relu", "tanh", "sigmoid", "silu", "gelu",
)  # fmt: skip
FIELDS = (  # of one operation: columns of the table int64 [L, 18]
    "kind",
    "in_channels", "in_height", "in_width", "out_channels", "out_height", "out_width",
    "kernel_height", "kernel_width", "stride_height", "stride_width", "padding_height", "padding_width",
    "weight", "bias",  # first columns of the matrix; a bias of -1: none
    "activation",
    "frozen",  # 1: the weight, 2: the bias, 3: both
    "reserved",
)  # fmt: skip
DEFAULTS = dict.fromkeys(FIELDS, 0) | dict.fromkeys(
    ("kernel_height", "kernel_width", "stride_height", "stride_width"), 1
) | {"weight": -1, "bias": -1}  # fmt: skip
COLUMNS = len(FIELDS)
_SIZES = FIELDS[1:13]
_PADDINGS = ("padding_height", "padding_width")
_MOST_ELEMENTS, _MOST_WEIGHTS, _MOST_OPERATIONS = 2**24, 2**31 - 1, 2**16


def named(row: Sequence[int]) -> SimpleNamespace:
    """A row of the table by the names of its fields."""
    return SimpleNamespace(**dict(zip(FIELDS, row, strict=True)))


def check_program(op: str, program: Tensor, values: Tensor, image: Sequence[int], p: int) -> None:
    """Every operation fits its own sizes, what comes before it, and the `p` columns of the weights.

    Raises:
        InputError: names the operation.
    """
    check_dtype(op, "program", program, torch.int64)
    check_dtype(op, "values", values, torch.float64)
    length = program.shape[0] if program.dim() == 2 else 0
    if program.shape != (length, COLUMNS) or not 0 < length <= _MOST_OPERATIONS:
        raise InputError(f"{op}: program must be a table [L, {COLUMNS}], got shape {list(program.shape)}")
    if values.shape != (length,):
        raise InputError(f"{op}: values must have shape [{length}], got {list(values.shape)}")
    shape = list(image)
    kinds = set()
    numbers = values.to(torch.float32)
    if not torch.equal(numbers.isfinite(), values.isfinite()):
        raise InputError(f"{op}: values holds numbers that no float32 holds")
    for index, (row, value) in enumerate(zip(program.tolist(), numbers.tolist(), strict=True)):
        fields, what = named(row), f"{op}: operation {index}"
        if not (0 <= fields.kind < len(KINDS) and 0 <= fields.activation < len(ACTIVATIONS)):
            raise InputError(f"{what} is of unknown kind {fields.kind} or activation {fields.activation}")
        if not 0 <= fields.frozen <= 3:
            raise InputError(f"{what} has frozen = {fields.frozen}; expected 0 to 3")
        _check_sizes(what, fields)
        kind = KINDS[fields.kind]
        if row[1:4] != shape or not _is_consistent(kind, fields):
            raise InputError(
                f"{what} has other shapes than what comes before it gives, or than its own sizes give"
            )
        if kind in ("conv2d", "linear"):
            _check_columns(what, fields, p)
        if kind == "dropout" and not 0 <= value < 1:
            raise InputError(f"{what} drops at a rate of {value}; expected one in [0, 1)")
        shape = row[4:7]
        kinds.add(kind)
    if not kinds & {"conv2d", "linear"}:
        raise InputError(f"{op}: the program has no weights")
    if shape[1:] != [1, 1]:
        raise InputError(f"{op}: the program must end in one score per class, got {shape}")


def _check_sizes(what: str, fields: SimpleNamespace) -> None:
    for name in _SIZES:
        least, value = 0 if name in _PADDINGS else 1, getattr(fields, name)
        if not least <= value <= _MOST_ELEMENTS:
            raise InputError(f"{what} has {name} = {value}")
    padded = fields.in_channels * (fields.in_height + 2 * fields.padding_height)
    padded *= fields.in_width + 2 * fields.padding_width
    if max(padded, fields.out_channels * fields.out_height * fields.out_width) > _MOST_ELEMENTS:
        raise InputError(f"{what} is too large: more than {_MOST_ELEMENTS} elements")


def _is_consistent(kind: str, f: SimpleNamespace) -> bool:
    plane, out_plane = (f.in_height, f.in_width), (f.out_height, f.out_width)
    kernel, stride = (f.kernel_height, f.kernel_width), (f.stride_height, f.stride_width)
    padding = (f.padding_height, f.padding_width)
    rest = [size + 2 * pad - k for size, pad, k in zip(plane, padding, kernel, strict=True)]
    gives = tuple(r // s + 1 for r, s in zip(rest, stride, strict=True))
    fits = min(rest) >= 0 and out_plane == gives
    same, flat, not_padded = f.in_channels == f.out_channels, out_plane == (1, 1), padding == (0, 0)
    return {
        "conv2d": fits,
        "linear": flat and plane == (1, 1) and kernel == (1, 1) and not_padded,
        "max_pool2d": same and fits and all(2 * pad <= k for pad, k in zip(padding, kernel, strict=True)),
        "avg_pool2d": same and fits and not_padded,
        "global_avg_pool2d": same and flat and kernel == plane and not_padded,
        "flatten": flat and f.out_channels == f.in_channels * plane[0] * plane[1],
    }.get(kind, same and plane == out_plane)


def _check_columns(what: str, f: SimpleNamespace, p: int) -> None:
    size = f.out_channels * f.in_channels * f.kernel_height * f.kernel_width
    if size > _MOST_WEIGHTS:
        raise InputError(f"{what} has more than {_MOST_WEIGHTS} weights")
    if not 0 <= f.weight <= p - size or not (f.bias == -1 or 0 <= f.bias <= p - f.out_channels):
        raise InputError(f"{what} uses columns beyond the {p} of the weights")
