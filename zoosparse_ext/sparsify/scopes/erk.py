"""Erdős–Rényi kernel: the larger a layer, the sparser."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import ClassVar

import torch
from torch import Tensor

from zoosparse_ext.population.architecture import Architecture, Segment
from zoosparse_ext.sparsify.scopes.base import Scope, register, weights_of
from zoosparse_ext.sparsify.scopes.budget import to_prune, whole


@register
class Erk(Scope):
    """The density of a layer is proportional to the sum of the dimensions of its weight divided by their product.

    >>> import zoosparse_ext as zs
    >>> population = zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(2))
    >>> twins = zs.magnitude_prune(population, 0.8, scope="erk")
    >>> twins.sparsity()[0].item() == round(0.8 * 2416) / 2416
    True
    >>> [f"{share:.2f}" for share in twins.sparsity(by_layer=True)[0]]
    ['0.68', '0.93', '0.51', '0.74', '0.49']

    Layers whose density would exceed 1 stay dense, and the others share what is left. Numbers of weights are rounded
    so that k = round(sparsity × prunable weights) go in all; within a layer the smallest scores. Dimensions are those
    of the weight as it is stored: outputs, inputs, height and width of the kernel; of a grouped convolution, inputs of
    a group; of a recurrent layer, gates × hidden size and inputs. Biases, where they are pruned, have the density of
    their layer.

    Source: Evci, Gale, Menick, Castro, Elsen, "Rigging the Lottery: Making All Tickets Winners", ICML 2020; without
    kernels: Mocanu et al., "Scalable training of artificial neural networks with adaptive sparse connectivity inspired
    by network science", Nature Communications 2018.
    """

    name: ClassVar[str] = "erk"
    label: ClassVar[str] = "ERK"
    phrase: ClassVar[str] = "ERK"

    def lots(
        self, architecture: Architecture, segments: Sequence[Segment], ratios: Tensor
    ) -> tuple[list[int], Tensor]:
        sizes = [segment.size for segment in segments]
        shapes = [architecture.prunable_segments[place].shape for place in weights_of(architecture, segments)]
        kept = sum(sizes) - to_prune(ratios, sizes)
        counts = whole(_targets(sizes, [_density(shape) for shape in shapes], kept), kept)
        numbers = torch.tensor(sizes, dtype=torch.float64)
        return sizes, (numbers - counts) / numbers


def _density(shape: tuple[int, ...]) -> float:
    """Of a layer, up to a factor that all layers share; a vector or a single number is dense."""
    return sum(shape) / prod(shape) if len(shape) > 1 else 1.0


def _targets(sizes: Sequence[int], densities: Sequence[float], kept: Tensor) -> Tensor:
    """How many weights of each tensor stay, before they are rounded: float64 [N, S] for float64 [N] in all."""
    numbers = torch.tensor(sizes, dtype=torch.float64)
    wanted = numbers * torch.tensor(densities, dtype=torch.float64)
    dense = torch.zeros(len(kept), len(sizes), dtype=torch.bool)
    while True:
        left = kept - _sum(torch.where(dense, numbers, 0.0))
        factor = left / _sum(torch.where(dense, 0.0, wanted)).clamp(min=1e-300)
        targets = torch.where(dense, numbers, factor.unsqueeze(1) * wanted)
        over = ~dense & (targets > numbers)
        if not bool(over.any()):
            return targets
        dense |= over


def _sum(values: Tensor) -> Tensor:
    """Of every row, one after the other: the same bits whatever the number of rows."""
    return values.cumsum(1)[:, -1]
