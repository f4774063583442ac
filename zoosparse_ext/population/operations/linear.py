"""Layers with weights, and the fully connected one."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import torch
from torch import Tensor, nn

from zoosparse_ext.errors import InputError
from zoosparse_ext.population.operations.base import (
    MODULES,
    Operation,
    Run,
    Shape,
    flat_models,
    register,
    shown,
)


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


register(Linear)
MODULES[nn.Linear] = lambda name, m: [Linear(name, m.in_features, m.out_features, m.bias is not None)]
