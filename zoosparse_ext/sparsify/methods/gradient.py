"""Gradient magnitude: what removing a weight changes in the loss, to first order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from zoosparse_ext.data import Split
from zoosparse_ext.population.forward import forward
from zoosparse_ext.population.modules import forward_modules
from zoosparse_ext.population.population import Population, chunks
from zoosparse_ext.sparsify.gradients import require_finite, thawed
from zoosparse_ext.sparsify.methods.base import Ranking, register

MODELS, IMAGES = 16, 128  # whose activations are held at a time


@register
@dataclass(frozen=True)
class Gradient(Ranking):
    """|w · ∂L/∂w|, L being the mean cross-entropy on the training images.

    Source: Mozer, Smolensky, "Skeletonization", NeurIPS 1988; as a baseline of whole networks ("gradient magnitude"):
    Blalock, Gonzalez Ortiz, Frankle, Guttag, "What is the State of Neural Network Pruning?", MLSys 2020.
    """

    name: ClassVar[str] = "gradient"
    label: ClassVar[str] = "gradient"
    phrase: ClassVar[str] = "gradient pruning"
    source: ClassVar[str] = "Mozer, Smolensky 1988"
    needs_images: ClassVar[bool] = True

    def score(self, population: Population, images: Split | None, seed: int) -> Tensor:
        assert images is not None
        scores = (population.weights.detach() * loss_gradient(population, images)).abs()
        return require_finite(self.name, population, scores)


def loss_gradient(population: Population, images: Split) -> Tensor:
    """The gradient [N, P] of every model's mean cross-entropy on the images, in evaluation mode."""
    architecture = population.architecture
    if any(segment.prunable and not segment.trainable for segment in architecture.segments):
        architecture = thawed(architecture)
    run = forward_modules if architecture.program is None else forward
    total = torch.zeros_like(population.weights)
    for columns in chunks(len(images), IMAGES):
        pixels = images.normalized(columns).to(total)
        labels = images.labels[columns].to(total.device)
        for rows in chunks(len(population), MODELS):
            weights = population.weights[rows].detach().requires_grad_()
            logits = run(architecture, weights, pixels)  # [n, B, classes]
            targets = labels.expand(logits.shape[0], -1).reshape(-1)
            loss = F.cross_entropy(logits.flatten(0, 1), targets, reduction="sum")
            total[rows] += torch.autograd.grad(loss, weights)[0]
    return total / len(images)
