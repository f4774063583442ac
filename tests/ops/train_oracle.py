"""One model trained alone in plain PyTorch: autograd, `torch.optim`, random numbers of `zoosparse_ext.random`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from zoosparse_ext import random
from zoosparse_ext.ops import train
from zoosparse_ext.population.program import (
    Activation,
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    MaxPool2d,
    Program,
)

MEAN, STD = 0.3, 0.5


@dataclass
class Problem:
    """Weights [N, P], images [M, C, H, W] and an order [N, T] for a program; everything drawn from `draw`."""

    program: Program
    shape: tuple[int, int, int]
    n: int = 3
    samples: int = 8
    batch: int = 4
    draw: int = 0
    shared: bool = False
    as_float: bool = False
    dropout: Tensor | None = None
    columns: dict[str, slice] = field(default_factory=dict)

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(self.draw)
        start = 0
        scale = []
        for op in self.program.layers:
            size, fan = math.prod(op.weight_shape), math.prod(op.weight_shape[1:])
            self.columns[f"{op.name}.weight"] = slice(start, start + size)
            scale.append(torch.full((size,), fan**-0.5))
            start += size
            if op.bias:
                self.columns[f"{op.name}.bias"] = slice(start, start + op.weight_shape[0])
                scale.append(torch.full((op.weight_shape[0],), 0.1))
                start += op.weight_shape[0]
        self.p = start
        self.weights = torch.randn(self.n, start, generator=generator) * torch.cat(scale)
        images = 24
        self.images = torch.randint(0, 256, (images, *self.shape), generator=generator, dtype=torch.uint8)
        if self.as_float:
            self.images = self.images.float() / 255
        self.labels = torch.randint(0, self.program.classes, (images,), generator=generator)
        rows = 1 if self.shared else self.n
        picks = [torch.randint(0, images, (self.samples,), generator=generator) for _ in range(rows)]
        self.order = (
            torch.stack(picks).to(torch.int32) if picks else torch.empty(0, self.samples, dtype=torch.int32)
        )
        self.seeds = (
            torch.arange(self.n, dtype=torch.int64) * 7 + 2**33 + self.draw
        )  # only the low 32 bits count
        self.seed = 11

    @property
    def steps(self) -> int:
        return math.ceil(self.samples / self.batch)

    def arguments(self, **changes: object) -> dict[str, object]:
        """Keyword arguments of `train_steps_` but for the optimizer's."""
        table, values = self.program.encode(self.shape, {name: s.start for name, s in self.columns.items()})
        arguments: dict[str, object] = {
            "program": table,
            "values": values,
            "images": self.images,
            "mean": torch.full((self.shape[0],), MEAN),
            "std": torch.full((self.shape[0],), STD),
            "labels": self.labels,
            "order": self.order,
            "batch_size": self.batch,
            "lr_factor": torch.ones(self.steps, dtype=torch.float64),
            "seeds": self.seeds,
            "seed": self.seed,
            "dropout": self.dropout,
        }
        return arguments | changes

    def normalized(self, indices: Tensor, dtype: torch.dtype) -> Tensor:
        images = self.images[indices].to(dtype)
        return ((images if self.as_float else images / 255) - MEAN) / STD


@dataclass
class Variational:
    log_sigma2: Tensor  # [N, P]
    kl_weight: float
    conv_clamp: float = 8.0
    linear_clamp: float = 10.0
    conv_biases: bool = False

    def clamp(self, op: Conv2d | Linear) -> float:
        return self.conv_clamp if isinstance(op, Conv2d) else self.linear_clamp

    def arguments(self, program: Program) -> dict[str, object]:
        clamps = [self.clamp(op) if isinstance(op, Conv2d | Linear) else 1.0 for op in program.operations]
        return {
            "log_sigma2": self.log_sigma2,
            "sigma_moment1": torch.zeros_like(self.log_sigma2),
            "sigma_moment2": torch.zeros_like(self.log_sigma2),
            "clamp": torch.tensor(clamps, dtype=torch.float64),
            "kl_weight": self.kl_weight,
            "variational_bias": self.conv_biases,
        }


def scores(
    problem: Problem,
    model: int,
    weights: Tensor,
    images: Tensor,
    step: int,
    log_sigma2: Tensor | None = None,
    variational: Variational | None = None,
) -> tuple[Tensor, Tensor]:
    """Logits [B, classes] of one model [P] in training mode, and Σ KL."""
    hidden, kl = images, weights.new_zeros(())
    for index, op in enumerate(problem.program.operations):
        if isinstance(op, Conv2d | Linear):
            weight = weights[problem.columns[f"{op.name}.weight"]].view(op.weight_shape)
            bias = weights[problem.columns[f"{op.name}.bias"]] if op.bias else None
            mean = _affine(op, hidden, weight, bias)
            if variational is not None:
                assert log_sigma2 is not None
                names = [
                    "weight",
                    *(["bias"] if op.bias and variational.conv_biases and isinstance(op, Conv2d) else []),
                ]
                variances = {}
                for name in names:
                    columns = problem.columns[f"{op.name}.{name}"]
                    alpha = log_sigma2[columns] - 2 * torch.log(weights[columns].abs() + 1e-15)
                    alpha = alpha.clamp(-variational.clamp(op), variational.clamp(op))
                    variances[name] = alpha.exp() * weights[columns].square()
                    negative = (
                        0.63576 * torch.sigmoid(1.8732 + 1.48695 * alpha) - 0.5 * F.softplus(-alpha) - 0.63576
                    )
                    kl = kl - negative.sum()
                variance = _affine(
                    op, hidden.square(), variances["weight"].view(op.weight_shape), variances.get("bias")
                )
                noise = _draw(problem, random.normal, random.VARIATIONAL_NOISE, model, index, mean, step)
                mean = mean + (variance + 1e-15).sqrt() * noise
            hidden = mean
        elif isinstance(op, Dropout):
            rate = op.rate if problem.dropout is None else float(problem.dropout[model])
            kept = _draw(problem, random.uniform, random.DROPOUT, model, index, hidden, step) >= rate
            hidden = torch.where(kept, hidden / (1 - rate), 0.0)
        else:
            hidden = _other(op, hidden)
    return hidden.flatten(1), kl


def _affine(op: Conv2d | Linear, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if isinstance(op, Linear):
        return F.linear(hidden, weight, bias)
    return F.conv2d(hidden, weight, bias, op.stride, op.padding)


def _draw(problem: Problem, kind, purpose: int, model: int, layer: int, like: Tensor, step: int) -> Tensor:
    stream = random.stream_id(purpose, layer)
    seeds = problem.seeds[model : model + 1]
    values = kind(seeds, problem.seed, like[0].numel(), step=step, stream=stream, samples=like.shape[0])
    return values.view(like.shape).to(like.dtype)


def _other(op: object, hidden: Tensor) -> Tensor:
    if isinstance(op, Flatten):
        return hidden.flatten(1)
    if isinstance(op, GlobalAvgPool2d):
        return hidden.mean((2, 3), keepdim=True)
    assert isinstance(op, Activation | MaxPool2d | AvgPool2d)
    return op.module()(hidden)


def train_alone(
    problem: Problem,
    model: int,
    make_optimizer,
    dtype: torch.dtype = torch.float64,
    kept: Tensor | None = None,
    variational: Variational | None = None,
    factors: Tensor | None = None,
) -> dict[str, object]:
    """All steps of one model with `torch.optim`; the last gradients are in the result."""
    weights = problem.weights[model].to(dtype, copy=True).requires_grad_()
    leaves = [weights]
    if variational is not None:
        leaves.append(variational.log_sigma2[model].to(dtype, copy=True).requires_grad_())
    optimizer = make_optimizer(leaves)
    base = [group["lr"] for group in optimizer.param_groups]
    total, correct = 0.0, 0
    for step, batch in enumerate(problem.order[model % problem.order.shape[0]].long().split(problem.batch)):
        if factors is not None:
            for group, lr in zip(optimizer.param_groups, base, strict=True):
                group["lr"] = lr * float(factors[step])
        optimizer.zero_grad()
        images = problem.normalized(batch, dtype)
        logits, kl = scores(problem, model, weights, images, step, leaves[-1], variational)
        loss = F.cross_entropy(logits, problem.labels[batch])
        (loss + kl * (variational.kl_weight if variational is not None else 0.0)).backward()
        if kept is not None:
            weights.grad *= kept
        optimizer.step()
        if kept is not None:
            weights.data *= kept
        total += loss.item() * len(batch)
        correct += int((logits.argmax(1) == problem.labels[batch]).sum())
    return {
        "weights": weights.detach(),
        "gradient": weights.grad,
        "log_sigma2": leaves[-1].detach(),
        "sigma_gradient": leaves[-1].grad,
        "loss": total,
        "correct": correct,
    }


def hyper(n: int, lr=0.0, weight_decay=0.0, beta1=0.0, beta2=0.0, eps=0.0, nesterov=0.0) -> Tensor:
    """float64 [N, 6]; each value a number or one per model."""
    columns = [
        torch.as_tensor(v, dtype=torch.float64).expand(n)
        for v in (lr, weight_decay, beta1, beta2, eps, nesterov)
    ]
    return torch.stack(columns, 1).contiguous()


def gradients(problem: Problem, variational: Variational | None = None) -> dict[str, Tensor]:
    """Of the first step, as the engine has them: the momentum buffer after one step that moves nothing."""
    assert problem.steps == 1
    weights, buffer = problem.weights.clone(), torch.zeros_like(problem.weights)
    extra = {} if variational is None else variational.arguments(problem.program)
    arguments = problem.arguments(optimizer="sgd", hyper=hyper(problem.n, beta1=0.5), moment1=buffer, **extra)
    loss, correct = train.train_steps_(weights, **arguments)
    torch.testing.assert_close(weights, problem.weights, rtol=0, atol=0)
    result = {"loss": loss, "correct": correct, "weights": buffer}
    if variational is not None:
        result["log_sigma2"] = extra["sigma_moment1"]
    return result
