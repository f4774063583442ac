"""Global: all weights of a model are compared with each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from zoosparse_ext.population.architecture import Architecture, Segment
from zoosparse_ext.sparsify.scopes.base import Scope, register


@register
class Global(Scope):
    """The smallest scores of the whole model."""

    name: ClassVar[str] = "global"
    label: ClassVar[str] = "global"
    phrase: ClassVar[str] = "global"

    def lots(
        self, architecture: Architecture, segments: Sequence[Segment], ratios: Tensor
    ) -> tuple[list[int], Tensor]:
        return [sum(segment.size for segment in segments)], ratios.view(-1, 1)
