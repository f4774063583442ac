"""The noisiest weights of variational dropout, exactly so many of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from zoosparse_ext.ops import vardrop
from zoosparse_ext.population.population import Population
from zoosparse_ext.sparsify.methods.base import register
from zoosparse_ext.sparsify.methods.variational import MATRIX, WithVariances
from zoosparse_ext.sparsify.selection import Lots, prune_

_RANGE = 1024.0  # of log α that is told apart


@register
@dataclass(frozen=True)
class LogAlpha(WithVariances):
    """Trained as variational dropout is; then, instead of what lies above a threshold, the k weights with the largest
    log α = log σ² − 2·log|w| are pruned, k = round(sparsity × prunable weights).

    At the sparsity that the threshold of variational dropout reaches, the masks are the same.

    Source: the criterion of Molchanov, Ashukha, Vetrov, "Variational Dropout Sparsifies Deep Neural Networks", ICML
    2017, as a ranking.
    """

    name: ClassVar[str] = "log_alpha"
    label: ClassVar[str] = "log α"
    phrase: ClassVar[str] = "log α pruning"
    source: ClassVar[str] = "Molchanov et al. 2017"
    asks_sparsity: ClassVar[bool] = True

    def keep(self, trained: Population, ratios: Tensor | None) -> tuple[Tensor, Tensor]:
        assert ratios is not None
        twins = Population.from_rows(
            trained.weights.clone(), trained.architecture, trained.models, packed_masks=trained.packed_masks
        )
        alpha = vardrop.log_alpha(twins.weights, trained.learned[MATRIX], math.inf)
        scores = _RANGE - alpha.to(torch.float64).clamp(-_RANGE, _RANGE)  # ≥ 0, in float64 without new ties
        lots = Lots.of(twins, ratios)
        prune_(twins, scores, lots, lots.counts)
        assert twins.masks is not None
        return twins.masks, twins.weights
