"""Dropout of single numbers and of whole channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoosparse_ext.errors import InputError
from zoosparse_ext.population.operations.base import (
    CALLED,
    MODULES,
    Call,
    NotAProgram,
    Operation,
    Run,
    Shape,
    Steps,
    Value,
    register,
    require_rank,
)

_SELU_BOTTOM = -1.7580993408473766  # −scale·alpha of SELU, what alpha dropout puts for a dropped number


@dataclass(frozen=True)
class Dropout(Operation):
    """Element-wise dropout; `rate` is the default, a population may give every model its own."""

    kind = "dropout"
    draws = True
    rate: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.rate < 1.0:
            raise InputError(
                f"dropout rate must lie in [0, 1), got {self.rate}: a rate of 1 drops everything"
            )

    def output_shape(self, *sizes: Shape) -> Shape:
        return sizes[0]

    def reference(self, run: Run, *values: Tensor) -> Tensor:
        x = values[0]
        if run.noise is None or (run.noise.dropout is None and self.rate == 0.0):
            return x
        x = run.of_each(x)
        rate = run.rate(self.rate, x.dim())
        return self.dropped(x, run.kept(self._units(x), rate), rate)

    def _units(self, x: Tensor) -> Tensor:
        """Of the shape of what is kept or dropped as a whole."""
        return x

    def dropped(self, x: Tensor, kept: Tensor, rate: float | Tensor) -> Tensor:
        rate = rate.to(x.dtype) if isinstance(rate, Tensor) else rate
        return torch.where(kept, x / (1.0 - rate), torch.zeros((), dtype=x.dtype, device=x.device))

    def module(self) -> nn.Module:
        return nn.Dropout(self.rate)

    def why_not_native(self) -> str:
        return ""

    def value(self) -> float:
        return self.rate


@dataclass(frozen=True)
class ChannelDropout(Dropout):
    """`nn.Dropout1d` and `nn.Dropout2d`: dropout of whole channels with `dims` axes."""

    kind = "channel_dropout"
    dims: int = 2

    def output_shape(self, *sizes: Shape) -> Shape:
        require_rank(self.kind, sizes[0], self.dims + 1)
        return sizes[0]

    def _units(self, x: Tensor) -> Tensor:
        return x.flatten(-self.dims)[..., :1].reshape(*x.shape[: -self.dims], *[1] * self.dims)

    def module(self) -> nn.Module:
        return (nn.Dropout2d if self.dims == 2 else nn.Dropout1d)(self.rate)

    def why_not_native(self) -> str:
        return self.told


@dataclass(frozen=True)
class AlphaDropout(Dropout):
    """Dropout that keeps mean and variance of what SELU gives.

    Source: Klambauer, Unterthiner, Mayr, Hochreiter, "Self-Normalizing Neural Networks", NeurIPS 2017.
    """

    kind = "alpha_dropout"

    def dropped(self, x: Tensor, kept: Tensor, rate: float | Tensor) -> Tensor:
        given = torch.as_tensor(rate, dtype=x.dtype, device=x.device)
        scale = ((_SELU_BOTTOM**2 * given + 1) * (1 - given)).rsqrt()
        shift = -scale * _SELU_BOTTOM * given
        return (
            torch.where(kept, x, torch.full((), _SELU_BOTTOM, dtype=x.dtype, device=x.device)) * scale + shift
        )

    def module(self) -> nn.Module:
        return nn.AlphaDropout(self.rate)

    def why_not_native(self) -> str:
        return self.told


def _called(kind: type[Dropout], *settings: int) -> Any:
    """A function that drops while the module is trained, which it must be told."""

    def recognize(call: Call) -> Steps | Value:
        given = call.bound("input", "p", "training", "inplace", p=0.5, training=True, inplace=False)
        if given["training"] is not call.training:
            raise NotAProgram(f"{call.name} drops also in evaluation mode, or never")
        return [(kind(float(given["p"]), *settings), (given["input"],))]

    return recognize


register(Dropout, ChannelDropout, AlphaDropout)
MODULES[nn.Dropout] = lambda _, m: [Dropout(m.p)]
MODULES[nn.Dropout1d] = lambda _, m: [ChannelDropout(m.p, 1)]
MODULES[nn.Dropout2d] = lambda _, m: [ChannelDropout(m.p, 2)]
MODULES[nn.AlphaDropout] = lambda _, m: [AlphaDropout(m.p)]
CALLED[F.dropout] = _called(Dropout)
CALLED[F.dropout1d], CALLED[F.dropout2d] = _called(ChannelDropout, 1), _called(ChannelDropout, 2)
CALLED[F.alpha_dropout] = _called(AlphaDropout)
