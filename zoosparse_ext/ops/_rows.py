"""Checks of what the row-wise operators are given."""

from __future__ import annotations

from torch import Tensor

from ..errors import InputError


def check_matrix(op: str, name: str, tensor: Tensor) -> None:
    """The tensor must have two dimensions."""
    if tensor.dim() != 2:
        raise InputError(
            f"{op}: {name} must be a matrix with one row per model, got shape {list(tensor.shape)}"
            + (f"; for a single model pass {name}[None]" if tensor.dim() == 1 else "")
        )
