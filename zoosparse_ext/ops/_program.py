"""The table that encodes a program, checked for the reference as `csrc/common/program_table.cpp` does for the kernels.

Columns of the table int64 [L, 18]: kind, in channels, height, width, out channels, height, width, kernel height, width,
stride height, width, padding height, width, weight column, bias column (−1 without), activation, frozen
(1: the weight, 2: the bias, 3: both), one reserved.
"""

from __future__ import annotations

from collections.abc import Sequence

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
COLUMNS = 18
_MOST_ELEMENTS, _MOST_WEIGHTS, _MOST_OPERATIONS = 2**24, 2**31 - 1, 2**16


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
        if not (0 <= row[0] < len(KINDS) and 0 <= row[15] < len(ACTIVATIONS)):
            raise InputError(f"{op}: operation {index} is of unknown kind {row[0]} or activation {row[15]}")
        if not 0 <= row[16] <= 3:
            raise InputError(
                f"{op}: operation {index} has {row[16]} in column 16 of the program; frozen are 0 to 3"
            )
        _check_sizes(f"{op}: operation {index}", row)
        kind = KINDS[row[0]]
        if row[1:4] != shape or not _is_consistent(kind, row):
            raise InputError(
                f"{op}: operation {index} has other shapes than what comes before it gives, or than its own sizes give"
            )
        if kind in ("conv2d", "linear"):
            _check_columns(f"{op}: operation {index}", row, p)
        if kind == "dropout" and not 0 <= value < 1:
            raise InputError(f"{op}: operation {index} drops at a rate of {value}; expected one in [0, 1)")
        shape = row[4:7]
        kinds.add(kind)
    if not kinds & {"conv2d", "linear"}:
        raise InputError(f"{op}: the program has no weights")
    if shape[1:] != [1, 1]:
        raise InputError(f"{op}: the program must end in one score per class, got {shape}")


def _check_sizes(what: str, row: list[int]) -> None:
    for column in range(1, 13):
        least = 1 if column <= 10 else 0  # paddings may be 0
        if not least <= row[column] <= _MOST_ELEMENTS:
            raise InputError(f"{what} has {row[column]} in column {column} of the program")
    padded = row[1] * (row[2] + 2 * row[11]) * (row[3] + 2 * row[12])
    if max(padded, row[4] * row[5] * row[6]) > _MOST_ELEMENTS:
        raise InputError(f"{what} is too large: more than {_MOST_ELEMENTS} elements")


def _is_consistent(kind: str, row: list[int]) -> bool:
    channels, plane, out_channels, out_plane = row[1], row[2:4], row[4], row[5:7]
    kernel, stride, padding = row[7:9], row[9:11], row[11:13]
    rest = [size + 2 * pad - k for size, pad, k in zip(plane, padding, kernel, strict=True)]
    fits = min(rest) >= 0 and out_plane == [r // s + 1 for r, s in zip(rest, stride, strict=True)]
    same, flat, not_padded = channels == out_channels, out_plane == [1, 1], padding == [0, 0]
    return {
        "conv2d": fits,
        "linear": flat and plane == [1, 1] and kernel == [1, 1] and not_padded,
        "max_pool2d": same and fits and all(2 * pad <= k for pad, k in zip(padding, kernel, strict=True)),
        "avg_pool2d": same and fits and not_padded,
        "global_avg_pool2d": same and flat and kernel == plane and not_padded,
        "flatten": flat and out_channels == channels * plane[0] * plane[1],
    }.get(kind, same and plane == out_plane)


def _check_columns(what: str, row: list[int], p: int) -> None:
    size = row[4] * row[1] * row[7] * row[8]
    weight, bias = row[13:15]
    if size > _MOST_WEIGHTS:
        raise InputError(f"{what} has more than {_MOST_WEIGHTS} weights")
    if not 0 <= weight <= p - size or not (bias == -1 or 0 <= bias <= p - row[4]):
        raise InputError(f"{what} uses columns beyond the {p} of the weights")
