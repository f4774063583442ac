"""The usual PyTorch layers of variational dropout, for one model, written without this package's formulas."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Noise = Callable[[int, Tensor], Tensor]  # index of the layer in the chain, mean [B, …] → standard normal


class ARDLayer(nn.Module):
    """A convolution or linear layer with a variance for every weight."""

    def __init__(
        self, layer: nn.Conv2d | nn.Linear, index: int, noise: Noise, initial: float, with_bias: bool
    ) -> None:
        super().__init__()
        self.layer, self.index, self.noise = layer, index, noise
        self.conv = isinstance(layer, nn.Conv2d)
        self.log_sigma2 = nn.Parameter(torch.full_like(layer.weight, initial))
        self.bias_is_variational = with_bias and self.conv and layer.bias is not None
        if self.bias_is_variational:
            self.log_sigma2_bias = nn.Parameter(torch.full_like(layer.bias, initial))

    def log_alpha(self, weight: Tensor, log_sigma2: Tensor) -> Tensor:
        bound = 8.0 if self.conv else 10.0
        return torch.clamp(log_sigma2 - 2 * torch.log(torch.abs(weight) + 1e-15), -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.layer.weight, self.layer.bias
        affine = partial(F.conv2d, padding=self.layer.padding) if self.conv else F.linear
        variance = torch.exp(self.log_alpha(weight, self.log_sigma2)) * weight**2
        bias_variance = None
        if self.bias_is_variational:
            bias_variance = torch.exp(self.log_alpha(bias, self.log_sigma2_bias)) * bias**2
        mean = affine(x, weight, bias)
        std = torch.sqrt(affine(x**2, variance, bias_variance) + 1e-15)
        return mean + std * self.noise(self.index, mean)

    def kl(self) -> Tensor:
        total = self._kl(self.log_alpha(self.layer.weight, self.log_sigma2))
        if self.bias_is_variational:
            total = total + self._kl(self.log_alpha(self.layer.bias, self.log_sigma2_bias))
        return total

    @staticmethod
    def _kl(log_alpha: Tensor) -> Tensor:
        negative = 0.63576 * torch.sigmoid(1.8732 + 1.48695 * log_alpha) - 0.63576
        return -(negative - 0.5 * torch.log1p(torch.exp(-log_alpha))).sum()


def variational(module: nn.Sequential, noise: Noise, initial: float, with_bias: bool) -> nn.Sequential:
    """The chain with its layers made variational; they share their weights with the module."""
    return nn.Sequential(
        *(
            ARDLayer(child, index, noise, initial, with_bias)
            if isinstance(child, nn.Conv2d | nn.Linear)
            else child
            for index, child in enumerate(module)
        )
    )
