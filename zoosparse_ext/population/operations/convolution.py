"""Convolutions and transposed convolutions, of images and signals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoosparse_ext.errors import InputError
from zoosparse_ext.population.operations.base import (
    MODULES,
    NotAProgram,
    Operation,
    Pair,
    Shape,
    flat_models,
    register,
    require_rank,
    several,
    shown,
)
from zoosparse_ext.population.operations.linear import Layer


@dataclass(frozen=True)
class _Convolution(Layer):
    """Fields and rules of convolutions of any number of axes."""

    dims: ClassVar[int]
    run_by: ClassVar[Callable[..., Tensor]]
    made_by: ClassVar[type[nn.Module]]
    later = ("groups", "dilation", "padding_mode")

    name: str
    in_channels: int
    out_channels: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    bias: bool
    groups: int
    dilation: tuple[int, ...]
    padding_mode: str

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return (self.out_channels, self.in_channels // self.groups, *self.kernel_size)

    def output_shape(self, *sizes: Shape) -> Shape:
        (size,) = sizes
        require_rank(f"layer {self.name!r}", size, self.dims + 1)
        if size[0] != self.in_channels:
            raise InputError(f"layer {self.name!r} expects {self.in_channels} channels, got {size[0]}")
        least = {"zeros": 0, "replicate": 1}.get(self.padding_mode)
        for length, pad in zip(size[1:], self.padding, strict=True):
            if length < (pad + (self.padding_mode == "reflect") if least is None else least):
                raise InputError(
                    f"layer {self.name!r} pads {shown(size)} by {pad}, which {self.padding_mode} cannot"
                )
        fields = zip(size[1:], self.kernel_size, self.stride, self.padding, self.dilation, strict=True)
        return (self.out_channels, *((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in fields))

    def _padded(self, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """A value, padded where the convolution itself cannot, and what is left to pad."""
        if self.padding_mode == "zeros" or not any(self.padding):
            return x, self.padding
        pads = [pad for size in reversed(self.padding) for pad in (size, size)]
        return F.pad(x, pads, self.padding_mode), (0,) * self.dims

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        n = weight.shape[0]
        if x.shape[1] == 1 and self.groups == 1:  # all models see the same: one convolution with all outputs
            hidden, groups = x[:, 0], 1
        elif self._is_pointwise:
            return self._by_matrices(x, weight, bias)
        else:
            hidden, groups = x.expand(-1, n, *x.shape[2:]).flatten(1, 2), n * self.groups
        hidden, padding = self._padded(hidden)
        flat_bias = None if bias is None else bias.flatten()
        result = type(self).run_by(
            hidden, flat_models(weight), flat_bias, self.stride, padding, self.dilation, groups
        )
        return result.unflatten(1, (n, -1))

    @property
    def _is_pointwise(self) -> bool:
        return self.groups == 1 and not any(self.padding) and set(self.kernel_size) == {1}

    def _by_matrices(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """A kernel of one position, as one product of matrices for each model: faster than many groups."""
        places = (slice(None),) * 3 + tuple(slice(None, None, step) for step in self.stride)
        seen = x[places]
        columns = seen.movedim(0, 2).flatten(3).flatten(2)  # [N, C, B·positions]
        if bias is None:
            result = torch.bmm(weight.flatten(2), columns)
        else:
            result = torch.baddbmm(bias.unsqueeze(2), weight.flatten(2), columns)
        return result.unflatten(2, (x.shape[0], *seen.shape[3:])).movedim(2, 0).contiguous()

    def windows(self, x: Tensor) -> Tensor:
        if self.groups != 1:
            return super().windows(x)
        hidden, padding = self._padded(x.flatten(0, 1))
        lead = (1,) * (2 - self.dims)  # a signal is an image of one row
        image = hidden.unflatten(-1, (*lead, -1)) if lead else hidden
        zeros = (0,) * len(lead)
        columns = F.unfold(
            image,
            (*lead, *self.kernel_size),
            (*lead, *self.dilation),
            (*zeros, *padding),
            (*lead, *self.stride),
        )  # [B·N, in·k, positions]
        return columns.unflatten(0, x.shape[:2]).permute(1, 2, 0, 3).flatten(2)

    def module(self) -> nn.Module:
        return type(self).made_by(
            self.in_channels, self.out_channels, self.kernel_size, self.stride, self.padding, self.dilation,
            self.groups, self.bias, self.padding_mode,
        )  # fmt: skip


@dataclass(frozen=True)
class Conv2d(_Convolution):
    """Convolution of images; `name` is the layer that holds weight and bias."""

    kind = "conv2d"
    dims = 2
    run_by = F.conv2d
    made_by = nn.Conv2d
    name: str
    in_channels: int
    out_channels: int
    kernel_size: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    bias: bool = True
    groups: int = 1
    dilation: Pair = (1, 1)
    padding_mode: str = "zeros"

    def why_not_native(self) -> str:
        lacks = {
            "groups": self.groups != 1,
            "dilation": self.dilation != (1, 1),
            f"padding mode {self.padding_mode}": self.padding_mode != "zeros",
        }
        found = [what for what, there in lacks.items() if there]
        return f"{found[0]} in {self.told}" if found else ""

    def encoded(self, before: Shape) -> dict[str, int]:
        return windows_encoded(self.kernel_size, self.stride, self.padding)


@dataclass(frozen=True)
class Conv1d(_Convolution):
    """Convolution of signals [C, L]."""

    kind = "conv1d"
    dims = 1
    run_by = F.conv1d
    made_by = nn.Conv1d
    name: str
    in_channels: int
    out_channels: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...] = (1,)
    padding: tuple[int, ...] = (0,)
    bias: bool = True
    groups: int = 1
    dilation: tuple[int, ...] = (1,)
    padding_mode: str = "zeros"


@dataclass(frozen=True)
class _Transposed(Layer):
    """Fields and rules of transposed convolutions."""

    dims: ClassVar[int]
    run_by: ClassVar[Callable[..., Tensor]]
    made_by: ClassVar[type[nn.Module]]

    name: str
    in_channels: int
    out_channels: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    output_padding: tuple[int, ...]
    bias: bool = True
    groups: int = 1
    dilation: tuple[int, ...] = ()

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return (self.in_channels, self.out_channels // self.groups, *self.kernel_size)

    @property
    def outputs(self) -> int:
        return self.out_channels

    def output_shape(self, *sizes: Shape) -> Shape:
        (size,) = sizes
        require_rank(f"layer {self.name!r}", size, self.dims + 1)
        if size[0] != self.in_channels:
            raise InputError(f"layer {self.name!r} expects {self.in_channels} channels, got {size[0]}")
        fields = zip(
            size[1:], self.kernel_size, self.stride, self.padding, self.output_padding, self.dilation, strict=True
        )  # fmt: skip
        return (
            self.out_channels,
            *((n - 1) * s - 2 * p + d * (k - 1) + o + 1 for n, k, s, p, o, d in fields),
        )

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        n = weight.shape[0]
        hidden = x.expand(-1, n, *x.shape[2:]).flatten(1, 2)
        flat_bias = None if bias is None else bias.flatten()
        result = type(self).run_by(
            hidden, flat_models(weight), flat_bias, self.stride, self.padding, self.output_padding,
            n * self.groups, self.dilation,
        )  # fmt: skip
        return result.unflatten(1, (n, -1))

    def module(self) -> nn.Module:
        return type(self).made_by(
            self.in_channels, self.out_channels, self.kernel_size, self.stride, self.padding, self.output_padding,
            self.groups, self.bias, self.dilation,
        )  # fmt: skip


@dataclass(frozen=True)
class ConvTranspose2d(_Transposed):
    """Transposed convolution of images."""

    kind = "conv_transpose2d"
    dims = 2
    run_by = F.conv_transpose2d
    made_by = nn.ConvTranspose2d


@dataclass(frozen=True)
class ConvTranspose1d(_Transposed):
    """Transposed convolution of signals."""

    kind = "conv_transpose1d"
    dims = 1
    run_by = F.conv_transpose1d
    made_by = nn.ConvTranspose1d


def windows_encoded(kernel: Pair, stride: Pair, padding: Pair = (0, 0)) -> dict[str, int]:
    """Fields of a window that slides over an image."""
    names = (
        "kernel_height",
        "kernel_width",
        "stride_height",
        "stride_width",
        "padding_height",
        "padding_width",
    )
    return dict(zip(names, (*kernel, *stride, *padding), strict=True))


def _padding(name: str, module: Any, dims: int) -> tuple[int, ...]:
    """Padding as numbers, the same on both sides.

    Raises:
        NotAProgram: ``"same"`` where the two sides differ.
    """
    if module.padding == "valid":
        return (0,) * dims
    if module.padding != "same":
        return several(module.padding, dims)
    totals = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
    if any(total % 2 for total in totals):
        raise NotAProgram(
            f"convolution {name!r} pads its two sides differently: padding='same' and an even kernel"
        )
    return tuple(total // 2 for total in totals)


def _convolution(kind: type[_Convolution]) -> Callable[[str, Any], list[Operation]]:
    def recognize(name: str, m: Any) -> list[Operation]:
        padding = _padding(name, m, kind.dims)
        bias = m.bias is not None
        return [
            kind(
                name, m.in_channels, m.out_channels, tuple(m.kernel_size), tuple(m.stride), padding, bias,
                m.groups, tuple(m.dilation), m.padding_mode,
            )
        ]  # fmt: skip

    return recognize


def _transposed(kind: type[_Transposed]) -> Callable[[str, Any], list[Operation]]:
    def recognize(name: str, m: Any) -> list[Operation]:
        sizes = (m.kernel_size, m.stride, m.padding, m.output_padding)
        kernel, stride, padding, more = (several(size, kind.dims) for size in sizes)
        bias, dilation = m.bias is not None, several(m.dilation, kind.dims)
        return [
            kind(name, m.in_channels, m.out_channels, kernel, stride, padding, more, bias, m.groups, dilation)
        ]

    return recognize


register(Conv2d, Conv1d, ConvTranspose2d, ConvTranspose1d)
MODULES[nn.Conv2d], MODULES[nn.Conv1d] = _convolution(Conv2d), _convolution(Conv1d)
MODULES[nn.ConvTranspose2d] = _transposed(ConvTranspose2d)
MODULES[nn.ConvTranspose1d] = _transposed(ConvTranspose1d)
