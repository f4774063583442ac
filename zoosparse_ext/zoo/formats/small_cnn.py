"""Importing the Small CNN Zoo: `weights.npy` [about 270,000, 4,970], `metrics.csv.gz`, `layout.csv`.

Networks of Keras: convolutions of stride 2 without padding, each with an activation and perhaps dropout, global
average pooling, one linear layer. A row holds each layer's bias and then its kernel, in Keras' order of axes.

Source: Unterthiner, Keysers, Gelly, Bousquet, Tolstikhin, "Predicting Neural Network Accuracy from Weights", 2020.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from zoosparse_ext.errors import InputError, StoreError
from zoosparse_ext.population.architecture import Architecture, Segment
from zoosparse_ext.population.program import (
    Activation,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    Operation,
    Program,
)
from zoosparse_ext.zoo.formats.infer import activation_name
from zoosparse_ext.zoo.formats.matrix import matrix_groups, open_matrix
from zoosparse_ext.zoo.formats.model_tables import read_table, scalar
from zoosparse_ext.zoo.formats.plan import Options, Plan, Skipped

LAYOUT = "layout.csv"
_COLUMNS = ("varname", "start_idx", "end_idx", "shape")
_MATRICES = ("weights.npy", "all_weights.npy")
_METRICS = ("metrics.csv.gz", "metrics.csv", "all_metrics.csv")
Kernels = tuple[tuple[int, ...], ...]


def is_small_cnn(root: Path) -> bool:
    """Whether a folder holds the zoo of one data set."""
    return root.is_dir() and (root / LAYOUT).is_file() and any((root / name).is_file() for name in _MATRICES)


def plan_small_cnn(roots: Sequence[str | os.PathLike[str]], options: Options) -> Plan:
    """The plan of an import.

    Raises:
        StoreError: a file is missing or damaged, or they do not fit together.
    """
    plan = Plan([], source={"format": "small-cnn-zoo"})
    for root in map(Path, roots):
        file = _present(root, _MATRICES)
        kernels, columns = read_layout(read_table(root, root / LAYOUT), root / LAYOUT)
        table = read_table(root, _present(root, _METRICS))
        rows, width = open_matrix(root, file).shape
        if len(table) != rows or width != len(columns):
            raise StoreError(
                f"{file} is [{rows}, {width}], its table has {len(table)} lines, {LAYOUT} {len(columns)} columns"
            )
        architecture_of: dict[int, Architecture] = {}
        said = table.get("config.activation", pd.Series([None] * rows))
        rates = pd.to_numeric(table.get("config.dropout", pd.Series([0.0] * rows)), errors="coerce")
        for row, (name, rate) in enumerate(zip(said, rates, strict=True)):
            found = _architecture(kernels, options.activation or scalar(name), bool(rate > 0))
            if isinstance(found, str):
                plan.skipped.append(Skipped(f"row {row}", found))
            else:
                architecture_of[row] = found
        groups, lacking = matrix_groups(root, file, table, architecture_of, columns, options)
        plan.groups += groups
        plan.skipped += lacking
    return plan


def read_layout(layout: pd.DataFrame, name: object) -> tuple[Kernels, np.ndarray]:
    """Shapes of the kernels in PyTorch's order of axes, and the columns of the matrix in our order.

    Our order is kernel and then bias, layer by layer; kernels [out, in, height, width], Keras has [height, width, in,
    out].

    Raises:
        StoreError: it is no layout of such networks.
    """
    if not set(_COLUMNS) <= set(layout):
        raise StoreError(f"{name} needs the columns {', '.join(_COLUMNS)}")
    tensors: dict[str, dict[str, np.ndarray]] = {}
    total = 0
    for line in layout.to_dict("records"):
        module, _, kind = str(line["varname"]).removesuffix(":0").rpartition("/")
        shape = tuple(int(digits) for digits in re.findall(r"\d{1,6}", str(line["shape"])))
        start, end = (scalar(line[column]) for column in ("start_idx", "end_idx"))
        size = int(np.prod(shape, dtype=object)) if shape else 0
        if kind not in ("kernel", "bias") or start != total or end != total + size or not 0 < size < 2**31:
            raise StoreError(
                f"{name}: {line['varname']!s:.60} does not fit: columns {start!s:.20} to {end!s:.20}, shape {shape}; "
                f"expected a kernel or bias from column {total} on, one column a number"
            )
        tensors.setdefault(module, {})[kind] = np.arange(total, end).reshape(shape)
        total = end
    kernels, columns = [], []
    for module, parts in tensors.items():
        kernel, bias = parts.get("kernel"), parts.get("bias")
        if kernel is None or bias is None or kernel.ndim not in (2, 4) or bias.shape != kernel.shape[-1:]:
            raise StoreError(f"{name}: {module:.60} needs a kernel of two or four axes and a bias")
        turned = kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T
        kernels.append(turned.shape)
        columns += [turned.reshape(-1), bias]
    if not kernels:
        raise StoreError(f"{name} is empty")
    return tuple(kernels), np.concatenate(columns)


@lru_cache(maxsize=64)
def _architecture(kernels: Kernels, activation: str | None, dropout: bool) -> Architecture | str:
    """The network; or why there is none."""
    try:
        function = activation_name(activation)
    except InputError as error:
        return str(error)
    if len(kernels) < 2 or any(len(kernel) != 4 for kernel in kernels[:-1]) or len(kernels[-1]) != 2:
        return "the layout is not that of convolutions and one linear layer"
    operations: list[Operation] = []
    segments: list[Segment] = []
    for number, kernel in enumerate(kernels):
        name = f"layers.{number}"
        if len(kernel) == 4:
            operations += [
                Conv2d(name, kernel[1], kernel[0], (kernel[2], kernel[3]), (2, 2)),
                Activation(function),
            ]
            operations += [Dropout(0.0)] if dropout else []
        else:
            operations += [GlobalAvgPool2d(), Flatten(), Linear(name, kernel[1], kernel[0])]
        for kind, shape in (("weight", kernel), ("bias", kernel[:1])):
            offset = segments[-1].slice.stop if segments else 0
            segments.append(Segment(f"{name}.{kind}", offset, shape, prunable=kind == "weight"))
    suffix = "-dropout" if dropout else ""
    return Architecture(f"small-cnn-{function}{suffix}", tuple(segments), Program(tuple(operations)))


def _present(root: Path, names: Sequence[str]) -> Path:
    found = next((root / name for name in names if (root / name).is_file()), None)
    if found is None:
        raise StoreError(f"{root} lacks {' or '.join(names)}")
    return found
