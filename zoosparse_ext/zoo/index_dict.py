"""The `index_dict` of vectorised zoos: where in a row each layer lies, as weight-space learning code reads it."""

from __future__ import annotations

from math import prod
from typing import Any

from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.program import Conv2d


def index_dict(architecture: Architecture) -> dict[str, list[int]] | None:
    """Aligned lists over the weight layers; None unless every layer is numbered and has a weight and then a bias.

    >>> from zoosparse_ext.population.networks import architecture
    >>> index_dict(architecture("cnn-s"))["idx_start"]
    [0, 208, 1414, 1514, 2254]
    """
    if architecture.program is None or not architecture.program.is_chain:
        return None
    rows: list[dict[str, Any]] = []
    for op in architecture.program.layers:
        number = op.name.rpartition(".")[2]
        if not op.bias or not number.isdigit():
            return None
        out, channels = op.weight_shape[:2]
        rows.append(
            {
                "layer": int(number),
                "idx_start": architecture.offsets[f"{op.name}.weight"],
                "idx_length": prod(op.weight_shape) + out,
                "kernel_no": out,
                "kernel_size": prod(op.kernel_size) if isinstance(op, Conv2d) else 1,
                "channels_in": channels,
            }
        )
    return {key: [row[key] for row in rows] for key in rows[0]}
