"""Pooling: maximum, average, adaptive, of images and signals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from zoosparse_ext.population.operations.base import (
    CALLED_MODULES,
    MODULES,
    NotAProgram,
    Operation,
    Pair,
    Run,
    Shape,
    register,
    require_rank,
    several,
)
from zoosparse_ext.population.operations.convolution import windows_encoded


class Pool(Operation):
    """An operation on the planes of each channel."""

    dims: ClassVar[int] = 2

    def pooled(self, planes: Tensor) -> Tensor:
        """The result for planes [B, C, *plane]."""
        raise NotImplementedError

    def reference(self, run: Run, *values: Tensor) -> Tensor:
        x = values[0]
        return self.pooled(x.flatten(1, 2)).unflatten(1, x.shape[1:3])


def _length(n: int, kernel: int, stride: int, padding: int, dilation: int, ceil: bool) -> int:
    """Windows on an axis; with `ceil` also one that begins within it and ends outside."""
    rest = n + 2 * padding - dilation * (kernel - 1) - 1
    length = (rest + (stride - 1 if ceil else 0)) // stride + 1
    return length - 1 if ceil and (length - 1) * stride >= n + padding else length


class _Windows(Pool):
    """Pooling by windows that slide over a plane."""

    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    ceil_mode: bool

    def output_shape(self, *sizes: Shape) -> Shape:
        (size,) = sizes
        require_rank(f"{self.kind}", size, self.dims + 1)
        dilation = getattr(self, "dilation", (1,) * self.dims)
        fields = zip(size[1:], self.kernel_size, self.stride, self.padding, dilation, strict=True)
        return (size[0], *(_length(n, k, s, p, d, self.ceil_mode) for n, k, s, p, d in fields))


@dataclass(frozen=True)
class MaxPool2d(_Windows):
    kind = "max_pool2d"
    later = ("dilation", "ceil_mode")
    kernel_size: Pair
    stride: Pair
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    ceil_mode: bool = False

    def pooled(self, planes: Tensor) -> Tensor:
        return F.max_pool2d(
            planes, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        )

    def module(self) -> nn.Module:
        return nn.MaxPool2d(
            self.kernel_size, self.stride, self.padding, self.dilation, ceil_mode=self.ceil_mode
        )

    def why_not_native(self) -> str:
        if self.ceil_mode or self.dilation != (1, 1):
            return f"{'ceil_mode' if self.ceil_mode else 'dilation'} in {self.told}"
        return ""

    def encoded(self, before: Shape) -> dict[str, int]:
        return windows_encoded(self.kernel_size, self.stride, self.padding)


@dataclass(frozen=True)
class MaxPool1d(_Windows):
    kind = "max_pool1d"
    dims = 1
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...] = (0,)
    dilation: tuple[int, ...] = (1,)
    ceil_mode: bool = False

    def pooled(self, planes: Tensor) -> Tensor:
        return F.max_pool1d(
            planes, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        )

    def module(self) -> nn.Module:
        return nn.MaxPool1d(
            self.kernel_size[0], self.stride[0], self.padding[0], self.dilation[0], ceil_mode=self.ceil_mode
        )


@dataclass(frozen=True)
class AvgPool2d(_Windows):
    kind = "avg_pool2d"
    later = ("padding", "ceil_mode", "count_include_pad", "divisor_override")
    kernel_size: Pair
    stride: Pair
    padding: Pair = (0, 0)
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: int | None = None

    def pooled(self, planes: Tensor) -> Tensor:
        return F.avg_pool2d(
            planes, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad,
            self.divisor_override,
        )  # fmt: skip

    def module(self) -> nn.Module:
        return nn.AvgPool2d(
            self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad,
            self.divisor_override,
        )  # fmt: skip

    def why_not_native(self) -> str:
        lacks = {
            "padding": self.padding != (0, 0),
            "ceil_mode": self.ceil_mode,
            "divisor_override": self.divisor_override is not None,
        }
        found = [what for what, there in lacks.items() if there]
        return f"{found[0]} in {self.told}" if found else ""

    def encoded(self, before: Shape) -> dict[str, int]:
        return windows_encoded(self.kernel_size, self.stride)


@dataclass(frozen=True)
class AvgPool1d(_Windows):
    kind = "avg_pool1d"
    dims = 1
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...] = (0,)
    ceil_mode: bool = False
    count_include_pad: bool = True

    def pooled(self, planes: Tensor) -> Tensor:
        return F.avg_pool1d(
            planes, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad
        )

    def module(self) -> nn.Module:
        return nn.AvgPool1d(
            self.kernel_size[0], self.stride[0], self.padding[0], self.ceil_mode, self.count_include_pad
        )


@dataclass(frozen=True)
class GlobalAvgPool2d(Pool):
    """`nn.AdaptiveAvgPool2d(1)`."""

    kind = "global_avg_pool2d"

    def output_shape(self, *sizes: Shape) -> Shape:
        require_rank(self.kind, sizes[0], 3)
        return (sizes[0][0], 1, 1)

    def pooled(self, planes: Tensor) -> Tensor:
        return planes.mean((-2, -1), keepdim=True)

    def module(self) -> nn.Module:
        return nn.AdaptiveAvgPool2d(1)

    def why_not_native(self) -> str:
        return ""

    def encoded(self, before: Shape) -> dict[str, int]:
        return windows_encoded((before[1], before[2]), (1, 1))


@dataclass(frozen=True)
class AdaptivePool(Pool):
    """Pooling to a given size of plane: `function` is ``"avg"`` or ``"max"``; None keeps the size of an axis."""

    kind = "adaptive_pool"
    function: str
    size: tuple[int | None, ...]

    def output_shape(self, *sizes: Shape) -> Shape:
        require_rank(f"{self.kind} of {len(self.size)} axes", sizes[0], len(self.size) + 1)
        wanted = zip(self.size, sizes[0][1:], strict=True)
        return (sizes[0][0], *(there if size is None else size for size, there in wanted))

    def pooled(self, planes: Tensor) -> Tensor:
        size: Any = self.size
        if len(self.size) == 1:
            return (F.adaptive_avg_pool1d if self.function == "avg" else F.adaptive_max_pool1d)(planes, size)
        return (F.adaptive_avg_pool2d if self.function == "avg" else F.adaptive_max_pool2d)(planes, size)

    def module(self) -> nn.Module:
        kinds: dict[tuple[str, int], Any] = {
            ("avg", 1): nn.AdaptiveAvgPool1d,
            ("avg", 2): nn.AdaptiveAvgPool2d,
            ("max", 1): nn.AdaptiveMaxPool1d,
            ("max", 2): nn.AdaptiveMaxPool2d,
        }
        made: nn.Module = kinds[self.function, len(self.size)](self.size)
        return made


def _require_no_indices(name: str, module: Any) -> None:
    if getattr(module, "return_indices", False):
        raise NotAProgram(f"pooling {name!r} uses return_indices")


def _max(kind: Any) -> Callable[[str, Any], list[Operation]]:
    def recognize(name: str, m: Any) -> list[Operation]:
        _require_no_indices(name, m)
        sizes = [several(v, kind.dims) for v in (m.kernel_size, m.stride, m.padding, m.dilation)]
        return [kind(*sizes, m.ceil_mode)]

    return recognize


def _average2d(name: str, m: nn.AvgPool2d) -> list[Operation]:
    kernel, stride, padding = (several(v, 2) for v in (m.kernel_size, m.stride, m.padding))
    # Without padding, windows that hang over by ceil_mode are the same either way: one form for equal pools.
    counted = m.count_include_pad or padding == (0, 0)
    settings: Any = (kernel, stride, padding, m.ceil_mode, counted, m.divisor_override)
    return [AvgPool2d(*settings)]


def _average1d(name: str, m: nn.AvgPool1d) -> list[Operation]:
    kernel, stride, padding = (several(v, 1) for v in (m.kernel_size, m.stride, m.padding))
    return [AvgPool1d(kernel, stride, padding, m.ceil_mode, m.count_include_pad)]


def _adaptive(function: str, dims: int) -> Callable[[str, Any], list[Operation]]:
    def recognize(name: str, m: Any) -> list[Operation]:
        _require_no_indices(name, m)
        size = (m.output_size,) * dims if isinstance(m.output_size, int | None) else tuple(m.output_size)
        return [GlobalAvgPool2d() if (function, size) == ("avg", (1, 1)) else AdaptivePool(function, size)]

    return recognize


def _called_max(kind: Any) -> Callable[..., nn.Module]:
    """The module of a function whose last two arguments are the other way round."""

    def make(
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> nn.Module:
        made: nn.Module = kind(kernel_size, stride, padding, dilation, return_indices, ceil_mode)
        return made

    return make


register(MaxPool2d, MaxPool1d, AvgPool2d, AvgPool1d, GlobalAvgPool2d, AdaptivePool)
MODULES[nn.MaxPool2d], MODULES[nn.MaxPool1d] = _max(MaxPool2d), _max(MaxPool1d)
MODULES[nn.AvgPool2d], MODULES[nn.AvgPool1d] = _average2d, _average1d
MODULES[nn.AdaptiveAvgPool2d] = _adaptive("avg", 2)
MODULES[nn.AdaptiveAvgPool1d] = _adaptive("avg", 1)
MODULES[nn.AdaptiveMaxPool2d] = _adaptive("max", 2)
MODULES[nn.AdaptiveMaxPool1d] = _adaptive("max", 1)
CALLED_MODULES.update(
    {
        F.max_pool2d: _called_max(nn.MaxPool2d),
        F.max_pool1d: _called_max(nn.MaxPool1d),
        F.avg_pool2d: nn.AvgPool2d,
        F.avg_pool1d: nn.AvgPool1d,
        F.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
        F.adaptive_avg_pool1d: nn.AdaptiveAvgPool1d,
        F.adaptive_max_pool2d: nn.AdaptiveMaxPool2d,
        F.adaptive_max_pool1d: nn.AdaptiveMaxPool1d,
    }
)
