"""LAMP: the size of a weight among those of its layer that would stay with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from zoosparse_ext.data import Split
from zoosparse_ext.population.population import Population, chunks
from zoosparse_ext.sparsify.gradients import require_finite
from zoosparse_ext.sparsify.methods.base import Ranking, register

MODELS = 256  # whose weights are sorted at a time


@register
@dataclass(frozen=True)
class Lamp(Ranking):
    """w² divided by the sum of w² over the weights of its tensor that are pruned after it, itself among them.

    >>> import zoosparse_ext as zs
    >>> from torch import nn
    >>> population = zs.Population.from_modules([nn.Sequential(nn.Flatten(), nn.Linear(3, 1, bias=False))])
    >>> _ = population.weights.copy_(torch.tensor([[3.0, -1.0, 2.0]]))
    >>> Lamp().score(population, None, seed=0)  # 9 / 9, 1 / (1 + 4 + 9), 4 / (4 + 9)
    tensor([[1.0000, 0.0714, 0.3077]], dtype=torch.float64)

    Meant for scope ``"global"``, in which it chooses the sparsity of every layer. The largest weight of a tensor scores
    1, so that none is emptied before all others have one weight left; within a tensor the order is that of |w|. Of
    equal weights the lower column is pruned first, as everywhere. Biases, where they are pruned, are a tensor of their
    own.

    Source: Lee, Park, Mo, Ahn, Shin, "Layer-adaptive Sparsity for the Magnitude-based Pruning", ICLR 2021.
    """

    name: ClassVar[str] = "lamp"
    label: ClassVar[str] = "LAMP"
    phrase: ClassVar[str] = "LAMP pruning"
    source: ClassVar[str] = "Lee et al. 2021"

    def score(self, population: Population, images: Split | None, seed: int) -> Tensor:
        weights = population.weights.detach()
        scores = torch.empty_like(weights, dtype=torch.float64)  # in which scores are equal where weights are
        for rows in chunks(len(weights), MODELS):
            for segment in population.layers():
                scores[rows, segment.slice] = _shares(weights[rows, segment.slice].double().square())
        return require_finite(self.name, population, scores)


def _shares(squares: Tensor) -> Tensor:
    """Each square [n, size] divided by the sum of those that are not smaller; 0 where all are."""
    ascending, places = squares.sort(dim=1, stable=True)  # NaN, which does not count, comes last
    left = ascending.nan_to_num(nan=0.0, posinf=torch.inf).flip(1).cumsum(1).flip(1)
    shares = torch.where(left > 0, ascending / left, 0.0)
    return torch.empty_like(squares).scatter_(1, places, shares)
