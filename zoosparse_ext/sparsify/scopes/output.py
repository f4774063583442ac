"""Per output: weights are compared with those that come into the same output, as Wanda wants it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from zoosparse_ext.population.architecture import Architecture, Segment
from zoosparse_ext.sparsify.scopes.base import Scope, outputs, register, spread


@register
class Output(Scope):
    """The same share of the weights of every output of a layer, or channel of a convolution; biases as per layer."""

    name: ClassVar[str] = "output"
    label: ClassVar[str] = "per output"
    phrase: ClassVar[str] = "per-output"
    by_layer: ClassVar[bool] = True

    def lots(
        self, architecture: Architecture, segments: Sequence[Segment], ratios: Tensor
    ) -> tuple[list[int], Tensor]:
        return spread(architecture, segments, ratios, [outputs(segment) for segment in segments])
