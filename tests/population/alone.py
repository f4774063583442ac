"""Every model trained alone: an `nn.Module`, autograd, `torch.optim`, and the documented order of samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import zoosparse_ext as zs
from zoosparse_ext import random

MakeOptimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


def train_alone(
    module: nn.Module,
    data: zs.Dataset,
    make_optimizer: MakeOptimizer,
    *,
    epochs: int,
    batch_size: int,
    order_of: int,
    seed: int = 0,
    kept: dict[str, Tensor] | None = None,
    factors: Tensor | None = None,
    loss_of: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    transform: Callable[[Tensor, int], Tensor] = lambda images, step: images,
) -> list[float]:
    """Train in place; `order_of` is the model seed of the order. Returns the mean training loss of every epoch."""
    optimizer = make_optimizer(module.parameters())
    lr = optimizer.param_groups[0]["lr"]
    masks = {name: torch.ones_like(p) for name, p in module.named_parameters()} | (kept or {})
    losses, step = [], 0
    module.train()
    for epoch in range(epochs):
        total = 0.0
        order = random.permutation(torch.tensor([order_of]), seed, len(data.train), epoch=epoch)[0]
        for batch in order.long().split(batch_size):
            if factors is not None:
                optimizer.param_groups[0]["lr"] = lr * float(factors[step])
            images = transform(data.train.normalized(batch), step)
            loss = loss_of(module(images), data.train.labels[batch])
            optimizer.zero_grad()
            loss.backward()
            for name, parameter in module.named_parameters():
                if parameter.grad is not None:
                    parameter.grad *= masks[name]
            optimizer.step()
            for name, parameter in module.named_parameters():
                parameter.data *= masks[name]
            total, step = total + loss.item() * len(batch), step + 1
        losses.append(total / len(data.train))
    module.eval()
    return losses
