"""Uniform: the first layer stays dense, all others have one sparsity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from zoosparse_ext.errors import InputError
from zoosparse_ext.population.architecture import Architecture, Segment
from zoosparse_ext.sparsify.scopes.base import Scope, register, weights_of
from zoosparse_ext.sparsify.scopes.budget import to_prune, whole


@register
class Uniform(Scope):
    """The same share of every layer but the first, such that the sparsity of the model is what was asked for.

    >>> import zoosparse_ext as zs
    >>> population = zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(2))
    >>> twins = zs.magnitude_prune(population, 0.8, scope="uniform")
    >>> twins.sparsity()[0].item() == round(0.8 * 2416) / 2416
    True
    >>> [f"{share:.2f}" for share in twins.sparsity(by_layer=True)[0]]
    ['0.00', '0.87', '0.88', '0.87', '0.87']

    The first layer is the tensor that a chain uses first; of other modules, the first prunable one among their
    parameters. Numbers of weights are rounded so that k = round(sparsity × prunable weights) go in all; within a layer
    the smallest scores. Biases, where they are pruned, go with the weights of their layer.

    Source: Evci, Gale, Menick, Castro, Elsen, "Rigging the Lottery: Making All Tickets Winners", ICML 2020.
    """

    name: ClassVar[str] = "uniform"
    label: ClassVar[str] = "uniform"
    phrase: ClassVar[str] = "uniform"

    def lots(
        self, architecture: Architecture, segments: Sequence[Segment], ratios: Tensor
    ) -> tuple[list[int], Tensor]:
        """As of every scope.

        Raises:
            InputError: more weights are to go than the other layers have; names the layer that stays dense.
        """
        sizes = [segment.size for segment in segments]
        dense = _first(architecture)
        others = [
            0 if place == dense else size
            for place, size in zip(weights_of(architecture, segments), sizes, strict=True)
        ]
        pruned = to_prune(ratios, sizes)
        if bool((pruned > sum(others)).any()):
            worst = float(ratios[int(pruned.argmax())])
            highest = sum(others) / sum(sizes)
            raise InputError(
                f"scope 'uniform' keeps {architecture.prunable_segments[dense].name!r} of {architecture.name!r} dense: "
                f"a sparsity of {worst:.6g} cannot be reached, {highest:.4g} is the highest that can; ask for less, or "
                "take scope 'layer' or 'erk'"
            )
        numbers = torch.tensor(others, dtype=torch.float64)
        share = pruned / max(1, sum(others))
        counts = whole(share.unsqueeze(1) * numbers, pruned)
        return sizes, counts / torch.tensor(sizes, dtype=torch.float64)


def _first(architecture: Architecture) -> int:
    """The prunable tensor that is used first."""
    names = [segment.name for segment in architecture.prunable_segments]
    if architecture.program is not None:
        used = [f"{layer.name}.weight" for layer in architecture.program.layers]
        return names.index(next(name for name in used if name in names))
    return 0
