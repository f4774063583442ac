"""Magnitude pruning: the smallest weights go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from zoosparse_ext.data import Split
from zoosparse_ext.population.population import Population
from zoosparse_ext.sparsify.methods.base import Ranking, register


@register
@dataclass(frozen=True)
class Magnitude(Ranking):
    """|w|.

    Source: Han, Pool, Tran, Dally, "Learning both Weights and Connections for Efficient Neural Networks", NeurIPS 2015.
    """

    name: ClassVar[str] = "magnitude"
    label: ClassVar[str] = "MP"
    phrase: ClassVar[str] = "magnitude pruning"
    color: ClassVar[str | None] = "#0072b2"
    source: ClassVar[str] = "Han et al. 2015"

    def score(self, population: Population, images: Split | None, seed: int) -> Tensor:
        return population.weights.detach().abs()
