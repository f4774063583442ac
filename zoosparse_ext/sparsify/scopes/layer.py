"""Per layer: weights are compared within their tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from zoosparse_ext.population.architecture import Architecture, Segment
from zoosparse_ext.sparsify.scopes.base import Scope, register, spread


@register
class Layer(Scope):
    """The same share of every tensor, or a share of its own."""

    name: ClassVar[str] = "layer"
    label: ClassVar[str] = "per layer"
    phrase: ClassVar[str] = "per-layer"
    by_layer: ClassVar[bool] = True

    def lots(
        self, architecture: Architecture, segments: Sequence[Segment], ratios: Tensor
    ) -> tuple[list[int], Tensor]:
        return spread(architecture, segments, ratios, [1] * len(segments))
