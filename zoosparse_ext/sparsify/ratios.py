"""Sparsities that are asked for: numbers in [0, 1), each once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoosparse_ext.errors import InputError


def ratios_of(sparsity: float | Sequence[float] | Tensor) -> Tensor:
    """A number or a sequence of them, float64 [ratios].

    >>> ratios_of([0.5, 0.8])
    tensor([0.5000, 0.8000], dtype=torch.float64)

    Raises:
        InputError: no numbers, one outside of [0, 1), or the same twice.
    """
    values = numbers_of(sparsity)
    if values is None:
        raise InputError(f"sparsity must be a number or a sequence of numbers, got {sparsity!r:.80}")
    values = in_range(values)
    require_once(values)
    return values


def numbers_of(sparsity: object) -> Tensor | None:
    """A number or a sequence of them, float64 [n]; None of anything else."""
    try:
        values = torch.as_tensor(sparsity, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):  # no number, or of several lengths
        return None
    return None if values.dim() > 1 or isinstance(sparsity, bool) else values.reshape(-1)


def in_range(ratios: Tensor) -> Tensor:
    """Ratios, without a sign where they are 0.

    Raises:
        InputError: there are none, or one is outside of [0, 1).
    """
    if ratios.numel() == 0:
        raise InputError("no sparsity was given; give at least one ratio, such as 0.8")
    bad = ratios[~((ratios >= 0) & (ratios < 1))]  # NaN as well
    if len(bad):
        raise InputError(f"sparsity must be in [0, 1), got {float(bad[0])}")
    return ratios + 0.0  # −0 is 0


def require_once(ratios: Tensor) -> None:
    """Raise InputError if a ratio is there twice."""
    if twice := [ratio for ratio, times in Counter(ratios.tolist()).items() if times > 1]:
        raise InputError(
            f"sparsity {', '.join(map(ratio_text, twice))} was given more than once; give each once"
        )


def ratio_text(ratio: float | np.floating[Any]) -> str:
    """A ratio with four digits, or with as many as tell it from others.

    >>> ratio_text(0.8), ratio_text(0.80001)
    ('0.8', '0.80001')
    """
    short = f"{ratio:.4g}"
    return short if type(ratio)(short) == ratio else str(ratio)
