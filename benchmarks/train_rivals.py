"""What a user would write today to train many networks: loops of modules, grouped convolutions, ARD layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoosparse_ext.ops import vardrop
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.program import Conv2d, Flatten, Linear


def module_loop(job: Any, weights: Tensor, first: int, make: Callable[[], nn.Module], lr: float) -> Tensor:
    """Each model [P] alone: module, autograd, `torch.optim.Adam`; its order is row `first + i` of the job's."""
    rows = []
    for row, order in zip(weights, job.order[first : first + len(weights)], strict=True):
        module = make()
        named = dict(module.named_parameters())
        for name, value in job.architecture.unflatten(row).items():
            named[name].data.copy_(value)
        optimizer = torch.optim.Adam(module.parameters(), lr=lr)
        for index in order.long().split(job.batch):
            images, labels = job.batch_of(index)
            optimizer.zero_grad()
            loss = F.cross_entropy(module(images), labels)
            if isinstance(module, ArdModel):
                loss = loss + 1e-4 * module.kl()
            loss.backward()
            optimizer.step()
        rows.append(torch.cat([named[s.name].detach().flatten() for s in job.architecture.segments]))
    return torch.stack(rows)


def grouped_scores(architecture: Architecture, parameters: dict[str, Tensor], images: Tensor) -> Tensor:
    """Logits [N, B, classes] of images [N, B, C, H, W]: models as groups of one convolution, then batched products."""
    n, batch = images.shape[:2]
    assert architecture.program is not None
    hidden = images.transpose(0, 1).flatten(1, 2)  # [B, N * C, H, W]
    for op in architecture.program.operations:
        if isinstance(op, Conv2d):
            weight, bias = parameters[f"{op.name}.weight"], parameters[f"{op.name}.bias"]
            hidden = F.conv2d(hidden, weight.flatten(0, 1), bias.flatten(), op.stride, op.padding, groups=n)
        elif isinstance(op, Flatten):
            hidden = hidden.view(batch, n, -1).transpose(0, 1)  # [N, B, features]
        elif isinstance(op, Linear):
            weight, bias = parameters[f"{op.name}.weight"], parameters[f"{op.name}.bias"]
            hidden = torch.baddbmm(bias.unsqueeze(1), hidden, weight.transpose(1, 2))
        else:
            hidden = op.module()(hidden)
    return hidden


class _Ard:
    """Local reparameterisation: mean and variance of the outputs from two passes, as the usual ARD layers do it."""

    weight: Tensor
    log_sigma2: nn.Parameter

    def log_alpha(self) -> Tensor:
        return vardrop.log_alpha(self.weight, self.log_sigma2, 8.0)

    def noisy(self, mean: Tensor, variance: Tensor) -> Tensor:
        return mean + (variance + vardrop.EPSILON).sqrt() * torch.randn_like(mean)


class ArdConv2d(_Ard, nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        variance = F.conv2d(
            x.square(), self.log_alpha().exp() * self.weight.square(), None, self.stride, self.padding
        )
        return self.noisy(super().forward(x), variance)


class ArdLinear(_Ard, nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        variance = F.linear(x.square(), self.log_alpha().exp() * self.weight.square())
        return self.noisy(super().forward(x), variance)


class ArdModel(nn.Module):
    """A chain whose convolutions and linear layers are variational; parameter names stay those of the chain."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        chain = architecture.module()
        for module in chain.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.__class__ = ArdConv2d if isinstance(module, nn.Conv2d) else ArdLinear
                module.log_sigma2 = nn.Parameter(torch.full_like(module.weight, -10.0))
        self.layers = [module for module in chain.modules() if isinstance(module, _Ard)]
        for name, child in chain.named_children():
            self.add_module(name, child)
        self.run = chain.forward

    def forward(self, images: Tensor) -> Tensor:
        return self.run(images)

    def kl(self) -> Tensor:
        return torch.stack([vardrop.kl_divergence(layer.log_alpha()).sum() for layer in self.layers]).sum()
