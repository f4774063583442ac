"""What forward does: branches, loops, changes in place; what it takes and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import Tensor, nn

from tests.population.kinds.kind import (
    CLASSES,
    FAST,
    REFUSED,
    RUNS,
    Kind,
    features,
    sequences,
    tokens,
)
from tests.population.kinds.nets import Forward, Written


def small(forward: Forward, example_features: int = 64) -> Callable[[], nn.Module]:
    """Two linear layers, `first` and `head`, and whatever the function does with them."""
    return lambda: Written(forward, first=nn.Linear(example_features, 6), head=nn.Linear(6, CLASSES))


class Sign(torch.autograd.Function):
    """Sign, with the gradient of the identity."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.sign()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class Output(NamedTuple):
    logits: Tensor
    hidden: Tensor


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(6, CLASSES), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.left(x) + self.right(y)


class OptionalInput(TwoInputs):
    def forward(self, x: Tensor, mask: Tensor | None = None, **options: object) -> Tensor:
        return self.left(x if mask is None else x * mask) + self.right(x)


class CausalLanguageModel(nn.Module):
    """Scores of each token: [B, T, vocabulary]."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.out = nn.Embedding(11, 6), nn.Linear(6, 11)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.embedding(x))


def hidden(module: Any, x: Tensor) -> Tensor:
    return torch.tanh(module.first(x.flatten(1)))


def layer_twice(module: Any, x: Tensor) -> Tensor:
    return module.head(module.first(torch.relu(module.first(x))))


def branch(module: Any, x: Tensor) -> Tensor:
    h = hidden(module, x)
    return module.head(h if h.sum() > 0 else -2 * h)


def loop(module: Any, x: Tensor) -> Tensor:
    h = hidden(module, x)
    while h.abs().amax() > 0.3:
        h = h * 0.6
    return module.head(h)


def numbers(module: Any, x: Tensor) -> Tensor:
    h = hidden(module, x)
    return module.head(h * float(h.std().item()) + sum(h[0].tolist()))


def in_place(module: Any, x: Tensor) -> Tensor:
    x = x.flatten(1)
    h = module.first(x)
    h.mul_(2).tanh_()
    h[:, 0] = 1.0
    return module.head(h)


def input_in_place(module: Any, x: Tensor) -> Tensor:
    x.mul_(0.5).add_(1.0)
    return module.head(hidden(module, x))


def without_gradient(module: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        h = hidden(module, x)
    return module.head(h)


def half_inside(module: Any, x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        h = hidden(module, x)
    return module.head(h.float())


def checkpointed(module: Any, x: Tensor) -> Tensor:
    return module.head(torch.utils.checkpoint.checkpoint(lambda x: hidden(module, x), x, use_reentrant=False))


def with_statistics_of_the_batch(module: Any, x: Tensor) -> Tensor:
    h = hidden(module, x)
    return module.head((h - h.mean(0)) / (h.std(0) + 1e-3))


def always_dropped(module: Any, x: Tensor) -> Tensor:
    return module.head(F.dropout(hidden(module, x), 0.5, training=True))


def noisy(module: Any, x: Tensor) -> Tensor:
    h = hidden(module, x)
    return module.head(h + torch.randn_like(h))


KINDS = [
    Kind(
        "Scores of shape [B, C, 1, 1]",
        lambda: nn.Sequential(nn.Conv2d(1, CLASSES, 3), nn.AdaptiveAvgPool2d(1)),
        FAST,
    ),
    Kind(
        "A layer called twice",
        lambda: Written(layer_twice, first=nn.Linear(6, 6), head=nn.Linear(6, CLASSES)),
        RUNS,
        features,
    ),
    Kind("A branch on values", small(branch), RUNS),
    Kind("A loop on values", small(loop), RUNS),
    Kind("Numbers taken out of tensors (.item(), .tolist())", small(numbers), RUNS),
    Kind("Operations in place", small(in_place), RUNS),
    Kind("The input changed in place", small(input_in_place), REFUSED, names=("in place",)),
    Kind("torch.no_grad in forward", small(without_gradient), RUNS),
    Kind("Autocast in forward", small(half_inside), RUNS, tolerance=2e-2),
    Kind("Checkpointed activations", small(checkpointed), RUNS),
    Kind("Statistics of the batch", small(with_statistics_of_the_batch), RUNS),
    Kind("An autograd function of its own", small(lambda m, x: m.head(Sign.apply(hidden(m, x)))), RUNS),
    Kind("An optional second input", OptionalInput, RUNS, features),
    Kind("Dropout that stays on in evaluation mode", small(always_dropped), RUNS),
    Kind("Noise in evaluation mode", small(noisy), RUNS),
    Kind("Two inputs", TwoInputs, REFUSED, features, names=("TwoInputs", "input")),
    Kind(
        "A tuple of outputs",
        small(lambda m, x: (m.head(hidden(m, x)), hidden(m, x))),
        REFUSED,
        names=("tuple",),
    ),
    Kind(
        "A dictionary of outputs",
        small(lambda m, x: {"logits": m.head(hidden(m, x))}),
        REFUSED,
        names=("dict",),
    ),
    Kind(
        "A named tuple of outputs",
        small(lambda m, x: Output(m.head(hidden(m, x)), x)),
        REFUSED,
        names=("Output",),
    ),
    Kind(
        "One score a sample, [B]",
        small(lambda m, x: m.head(hidden(m, x)).sum(1)),
        REFUSED,
        names=("classes]",),
    ),
    Kind("Scores of each token, [B, T, classes]", CausalLanguageModel, REFUSED, tokens, names=("5, 11]",)),
    Kind(
        "Scores of each pixel, [B, C, H, W]",
        lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.Conv2d(3, 2, 1)),
        REFUSED,
        names=("2, 6, 6]",),
    ),
    Kind("A recurrent layer alone", lambda: nn.LSTM(6, 3), REFUSED, sequences, names=("LSTM", "tuple")),
    Kind(
        "A module without forward",
        lambda: nn.ModuleList([nn.Linear(6, 2)]),
        REFUSED,
        features,
        names=("ModuleList", "forward"),
    ),
    Kind("A module without parameters", nn.ReLU, REFUSED, features, names=("ReLU", "no parameters")),
]
