"""Layers with weights: convolutions, transposed convolutions, linear layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
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
    Run,
    Shape,
    flat_models,
    register,
    require_rank,
    several,
    shown,
)

_MODES = ("zeros", "reflect", "replicate", "circular")


class Layer(Operation):
    """An operation that is linear in a weight, on which variational noise can be put."""

    name: str
    bias: bool

    @property
    def weight_shape(self) -> tuple[int, ...]:
        raise NotImplementedError

    @property
    def outputs(self) -> int:
        """Number of outputs, or output channels."""
        return self.weight_shape[0]

    def tensors(self) -> dict[str, Shape]:
        bias = {f"{self.name}.bias": (self.outputs,)} if self.bias else {}
        return {f"{self.name}.weight": self.weight_shape, **bias}

    def reference(self, run: Run, *values: Tensor) -> Tensor:
        bias = run.tensors[f"{self.name}.bias"] if self.bias else None
        return self.apply(values[0], run.tensors[f"{self.name}.weight"], bias)

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The layer on a value [B, N or 1, …] with weights [N, …] and biases [N, out]."""
        raise NotImplementedError

    def windows(self, x: Tensor) -> Tensor:
        """What each weight of an output is multiplied with: [N or 1, in·kernel, B·positions].

        Raises:
            InputError: outputs do not all see the same.
        """
        raise InputError(f"what enters {self.told} differs from output to output")


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
        else:
            hidden, groups = x.expand(-1, n, *x.shape[2:]).flatten(1, 2), n * self.groups
        hidden, padding = self._padded(hidden)
        flat_bias = None if bias is None else bias.flatten()
        result = type(self).run_by(
            hidden, flat_models(weight), flat_bias, self.stride, padding, self.dilation, groups
        )
        return result.unflatten(1, (n, -1))

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


@dataclass(frozen=True)
class Linear(Layer):
    """Fully connected layer on features, or on those of each element of a sequence [T, F]."""

    kind: ClassVar[str] = "linear"
    name: str
    in_features: int
    out_features: int
    bias: bool = True

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return (self.out_features, self.in_features)

    def output_shape(self, *sizes: Shape) -> Shape:
        (size,) = sizes
        if len(size) == 3 and size == (self.in_features, 1, 1):  # what native engines call flat
            return (self.out_features, 1, 1)
        if len(size) not in (1, 2) or size[-1] != self.in_features:
            came = shown(size) if len(size) < 2 else f"{shown(size)} (not flat)"
            raise InputError(f"layer {self.name!r} expects {self.in_features} features, got {came}")
        return (*size[:-1], self.out_features)

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        n, shape = weight.shape[0], x.shape[2:]
        if shape[1:] == (1, 1) and shape[0] == self.in_features:
            return self.apply(x.flatten(2), weight, bias)[..., None, None]
        batch = x.shape[0]
        if x.shape[1] == 1 and n > 1:  # all models see the same: one matrix product
            product = x.reshape(-1, self.in_features) @ flat_models(weight).T
            product = product.unflatten(0, (batch, prod(shape[:-1]))).unflatten(-1, (n, -1)).movedim(2, 1)
        else:
            rows = x.transpose(0, 1).reshape(n, -1, self.in_features)  # [N, B·…, in]
            if bias is None:
                product = torch.bmm(rows, weight.transpose(1, 2))
            else:
                product = torch.baddbmm(bias.unsqueeze(1), rows, weight.transpose(1, 2))
                bias = None
            product = product.unflatten(1, (batch, -1)).transpose(0, 1)  # [B, N, …, out]
        if bias is not None:
            product = product + bias.unsqueeze(1)
        return product.reshape(batch, n, *shape[:-1], self.out_features)

    def windows(self, x: Tensor) -> Tensor:
        return x.flatten(2, -2).permute(1, 3, 0, 2).flatten(2) if x.dim() > 3 else x.permute(1, 2, 0)

    def module(self) -> nn.Module:
        return nn.Linear(self.in_features, self.out_features, bias=self.bias)

    def why_not_native(self) -> str:
        return ""


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


register(Conv2d, Conv1d, ConvTranspose2d, ConvTranspose1d, Linear)
MODULES[nn.Conv2d], MODULES[nn.Conv1d] = _convolution(Conv2d), _convolution(Conv1d)
MODULES[nn.ConvTranspose2d] = _transposed(ConvTranspose2d)
MODULES[nn.ConvTranspose1d] = _transposed(ConvTranspose1d)
MODULES[nn.Linear] = lambda name, m: [Linear(name, m.in_features, m.out_features, m.bias is not None)]
