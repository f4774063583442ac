"""Random pruning: the baseline that any score must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from zoosparse_ext import random
from zoosparse_ext.data import Split
from zoosparse_ext.population.population import Population
from zoosparse_ext.sparsify.methods.base import Ranking, register


@register
@dataclass(frozen=True)
class Random(Ranking):
    """Uniform numbers of each model's own stream."""

    name: ClassVar[str] = "random"
    label: ClassVar[str] = "random"
    phrase: ClassVar[str] = "random pruning"
    is_random: ClassVar[bool] = True

    def score(self, population: Population, images: Split | None, seed: int) -> Tensor:
        p = population.weights.shape[1]
        stream = random.stream_id(random.RANDOM_PRUNING)
        numbers = random.uniform(population.seeds, seed, p, step=0, stream=stream)  # [N, 1, P]
        return numbers[:, 0].to(population.weights)
