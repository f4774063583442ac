"""Budgets of layers: from shares that a scope wants to whole numbers of weights whose sum is exact."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def to_prune(ratios: Tensor, sizes: Sequence[int]) -> Tensor:
    """How many weights of a model go: float64 [N], whole numbers, k = round(sparsity × weights)."""
    return (ratios * float(sum(sizes))).round()


def whole(targets: Tensor, total: Tensor) -> Tensor:
    """Whole numbers next to targets: each rounded down, then one more for those that lost most, the first of equals.

    >>> whole(torch.tensor([[1.5, 0.75, 2.75]], dtype=torch.float64), torch.tensor([5.0], dtype=torch.float64))
    tensor([[1., 1., 3.]], dtype=torch.float64)

    Args:
        targets: float64 [N, S], whose rows add up to the totals within rounding.
        total: float64 [N], whole numbers.

    Returns:
        float64 [N, S] whose rows add up to the totals.

    Source: the method of largest remainders, by which seats of a parliament are given.
    """
    down = targets.floor()
    places = (targets - down).argsort(dim=1, descending=True, stable=True)
    missing = total - down.sum(1)  # of whole numbers, which is exact
    rank = torch.arange(targets.shape[1]).expand_as(places)
    more = torch.zeros_like(down).scatter_(1, places, (rank < missing.unsqueeze(1)).to(down.dtype))
    return down + more
