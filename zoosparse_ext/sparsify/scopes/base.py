"""What a scope of pruning is, and the registry of them all.

A scope says which weights are compared with each other, and how many of them go. It is a class in a file of this
folder, under `@register`. Tables name a scope by `name`, figures and names of series by `label`, sentences by `phrase`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from zoosparse_ext.errors import InputError
from zoosparse_ext.population.architecture import Architecture, Segment


class Scope:
    """Which weights are compared with each other: lots, which follow each other in the order of the columns.

    Class variables:
        name: in tables, on disk, on the command line: ``"layer"``.
        label: behind the name of a method: ``"per layer"``, as in "MP per layer".
        phrase: before the name of a method: ``"per-layer"``, as in "per-layer magnitude pruning".
        by_layer: it takes one sparsity for each prunable layer, [N, S], as well as one for each model, [N].
    """

    name: ClassVar[str]
    label: ClassVar[str]
    phrase: ClassVar[str]
    by_layer: ClassVar[bool] = False

    def lots(
        self, architecture: Architecture, segments: Sequence[Segment], ratios: Tensor
    ) -> tuple[list[int], Tensor]:
        """The sizes of the L lots, and the share of each to prune: float64 [N, L].

        Args:
            architecture: of the models.
            segments: the tensors that may be pruned, in the order of their columns.
            ratios: float64 [N], or [N, S] per prunable layer where the scope takes it.

        Raises:
            InputError: a tensor or a sparsity that the scope cannot prune.
        """
        raise NotImplementedError


Class = TypeVar("Class", bound=type[Scope])
SCOPES: dict[str, Scope] = {}


def register(cls: Class) -> Class:
    """Enter a scope into the registry, under its name.

    Raises:
        ValueError: another scope has that name.
    """
    if cls.name in SCOPES:
        raise ValueError(
            f"there are two scopes {cls.name!r}: {type(SCOPES[cls.name]).__name__}, {cls.__name__}"
        )
    SCOPES[cls.name] = cls()
    return cls


def chosen_scope(name: str) -> Scope:
    """A scope by its name.

    >>> chosen_scope("layer").phrase
    'per-layer'

    Raises:
        InputError: there is none.
    """
    if name not in SCOPES:
        raise InputError(f"scope must be one of {', '.join(SCOPES)}; got {name!r}")
    return SCOPES[name]


def outputs(segment: Segment) -> int:
    """How many outputs a tensor has, whose weights lie one after the other; of a bias, 1.

    Raises:
        InputError: they do not lie so.
    """
    if not segment.prunable:
        return 1
    if segment.output_axis != 0:
        raise InputError(
            f"{segment.name!r} is of a transposed convolution, whose outputs lie apart in its weight: scope 'output' "
            "and N:M patterns cannot prune it; take scope 'layer', or leave it out with prunable=…"
        )
    return segment.shape[0]


def spread(
    architecture: Architecture, segments: Sequence[Segment], ratios: Tensor, counts: Sequence[int]
) -> tuple[list[int], Tensor]:
    """Lots of one sparsity each, `counts` equal ones of every tensor; a bias goes with the weights of its layer."""
    sizes = [
        size for segment, count in zip(segments, counts, strict=True) for size in [segment.size // count] * count
    ]  # fmt: skip
    if ratios.dim() == 2:
        ratios = ratios[:, weights_of(architecture, segments)]
        return sizes, ratios.repeat_interleave(torch.tensor(counts), dim=1)
    return sizes, ratios.view(-1, 1).expand(-1, len(sizes))


def weights_of(architecture: Architecture, segments: Sequence[Segment]) -> list[int]:
    """Which prunable tensor each tensor goes with: itself, or, of a bias, the weights that it is added behind."""
    names = [segment.name for segment in architecture.prunable_segments]
    layers = [segment.layer for segment in architecture.prunable_segments]
    weights = [
        segment.name if segment.prunable else segment.name.replace("bias", "weight") for segment in segments
    ]
    return [
        names.index(name) if name in names else layers.index(segment.layer)
        for name, segment in zip(weights, segments, strict=True)
    ]
