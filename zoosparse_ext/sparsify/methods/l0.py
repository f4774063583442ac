"""L0 regularization: a gate on every weight, open or closed at random, whose chance of being open is learned."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from zoosparse_ext import random
from zoosparse_ext.options import option
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.forward import StepNoise
from zoosparse_ext.population.learning import Matrices, Perturbed
from zoosparse_ext.population.population import Population
from zoosparse_ext.sparsify.methods.base import register
from zoosparse_ext.sparsify.methods.learned import LearnedMethod

MATRIX = "gate_logits"
_STEEP = 30.0  # where 1 − sigmoid vanishes in float32


@register
@dataclass(frozen=True)
class L0(LearnedMethod):
    """Hard concrete gates: in training a weight is w · z, z being a concrete random number in (0, 1), stretched beyond
    both ends and clipped to [0, 1], so that it is sometimes exactly 0 or 1; the loss penalizes the expected number of
    open gates.

    Twins use the gate without noise: their weights are w · z, pruned where z is at most `threshold`. Only prunable
    weights have gates. A gate that begins nearly open (a small `drop_rate`) leaves a trained
    network as it is at first, and has a way to go before it closes.

    Source: Louizos, Welling, Kingma, "Learning Sparse Neural Networks through L0 Regularization", ICLR 2018.
    """

    name: ClassVar[str] = "l0"
    label: ClassVar[str] = "L0"
    phrase: ClassVar[str] = "L0 regularization"
    source: ClassVar[str] = "Louizos et al. 2018"

    strength: float = option(
        1.0, "λ: cost of an open gate; it is divided by the number of training images.", low=0, below=math.inf
    )
    temperature: float = option(
        2 / 3,
        "β of the concrete distribution: smaller values bring gates nearer to 0 or 1.",
        above=0,
        below=math.inf,
    )
    stretch_low: float = option(-0.1, "γ: lower end of the stretched gate.", above=-math.inf, below=0)
    stretch_high: float = option(1.1, "ζ: upper end of the stretched gate.", above=1, below=math.inf)
    drop_rate: float = option(
        0.1, "Initial probability that a gate is closed, before stretching.", above=0, below=1
    )
    threshold: float = option(
        0.0, "A weight is pruned where its gate without noise is at most this.", low=0, below=1
    )
    gate_lr: float = option(
        10.0, "Learning rate of the gates, as a multiple of that of the weights.", above=0, below=math.inf
    )

    @property
    def start(self) -> dict[str, float]:
        return {MATRIX: math.log(1 - self.drop_rate) - math.log(self.drop_rate)}

    @property
    def rate(self) -> float:
        return self.gate_lr

    def perturb(
        self, architecture: Architecture, weights: Tensor, matrices: Matrices, noise: StepNoise
    ) -> Perturbed:
        """Weights through gates of this step's noise: element e of the stream is of column e."""
        stream = random.stream_id(random.GATES)
        count = weights.shape[1]
        numbers = random.uniform(noise.seeds, noise.seed, count, step=noise.step, stream=stream)[:, 0]
        numbers = numbers.to(weights.dtype)  # (0, 1]
        logistic = numbers.log() - (1 - numbers).log()
        gates = self._stretched((logistic + matrices[MATRIX]) / self.temperature)
        return Perturbed(_gated(architecture, weights, gates))

    def penalty(self, architecture: Architecture, weights: Tensor, matrices: Matrices) -> Tensor:
        """Expected number of open gates of each model [N]."""
        shift = self.temperature * math.log(-self.stretch_low / self.stretch_high)
        return _sigmoid(matrices[MATRIX] - shift)[:, _prunable(architecture, weights)].sum(1)

    def penalty_weight(self, epoch: int, epochs: int, images: int) -> float:
        return self.strength / images

    def keep(self, trained: Population, ratios: Tensor | None) -> tuple[Tensor, Tensor]:
        weights = trained.weights.detach()
        gates = self._stretched(trained.learned[MATRIX])
        closed = (gates <= self.threshold) & _prunable(trained.architecture, weights)
        return ~closed, _gated(trained.architecture, weights, gates)

    def _stretched(self, logits: Tensor) -> Tensor:
        width = self.stretch_high - self.stretch_low
        return (_sigmoid(logits) * width + self.stretch_low).clamp(0.0, 1.0)


def _gated(architecture: Architecture, weights: Tensor, gates: Tensor) -> Tensor:
    """Weights times gates, where there is a gate."""
    return torch.where(_prunable(architecture, weights), weights * gates, weights)


def _prunable(architecture: Architecture, like: Tensor) -> Tensor:
    """bool [P]: which columns have a gate."""
    chosen = torch.zeros(like.shape[1], dtype=torch.bool, device=like.device)
    for segment in architecture.prunable_segments:
        chosen[segment.slice] = True
    return chosen


def _sigmoid(values: Tensor) -> Tensor:
    """By the exponential function, whose bits are the same wherever a number lies; those of `torch.sigmoid` are not."""
    return 1 / (1 + (-values.clamp(-_STEEP, _STEEP)).exp())
