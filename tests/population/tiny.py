"""Tiny networks: chains, and modules that are none."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

import zoosparse_ext as zs

CLASSES = 4
SHAPE = (1, 8, 8)


def chain(activation: type[nn.Module] = nn.Tanh, dropout: float | None = None) -> nn.Module:
    """Convolution, pooling and two linear layers; P = 138."""
    drop = [] if dropout is None else [nn.Dropout(dropout)]
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.MaxPool2d(2), activation(), *drop, nn.Conv2d(3, 2, 2), activation(),
        nn.Flatten(), nn.Linear(8, 6), activation(), *drop, nn.Linear(6, CLASSES),
    )  # fmt: skip


class Residual(nn.Module):
    """A block with a skip connection, and a head."""

    def __init__(self, norm: Callable[[], nn.Module] = nn.Identity, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = norm()
        plain = isinstance(self.norm, nn.Identity)
        self.stem = nn.Conv2d(1, 3, 3, padding=1, bias=plain)  # before a norm, a bias has no effect
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.drop = nn.Dropout(dropout) if dropout else nn.Identity()
        self.head = nn.Linear(3, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        hidden = torch.tanh(self.norm(self.stem(images)))
        hidden = hidden + self.drop(torch.tanh(self.conv(hidden)))
        return self.head(hidden.mean((2, 3)))


def batch_normed() -> nn.Module:
    return Residual(norm=lambda: nn.BatchNorm2d(3))


def make(build: Callable[[], nn.Module], n: int = 3, draw: int = 0) -> list[nn.Module]:
    """N modules with weights of their own."""
    torch.manual_seed(draw)
    modules = [build() for _ in range(n)]
    with torch.no_grad():
        for module in modules:
            for buffer in module.buffers():
                if buffer.is_floating_point():
                    buffer.add_(torch.rand_like(buffer))
    return [module.eval() for module in modules]


def population(build: Callable[[], nn.Module] = chain, n: int = 3, **options: object) -> zs.Population:
    return zs.Population.from_modules(make(build, n), **options)  # type: ignore[arg-type]
