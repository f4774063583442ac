"""From modules to programs: every operation and spelling, and every reason why a module is no chain."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune

from zoosparse_ext.errors import InputError
from zoosparse_ext.population.program import (
    Activation,
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    MaxPool2d,
    Operation,
)
from zoosparse_ext.population.trace import NotAChain, trace


class Calling(nn.Module):
    """A linear layer after whatever function is under test."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.head = nn.Linear(4, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.function(images))


def first(module: nn.Module) -> Operation:
    return trace(nn.Sequential(module, nn.Linear(4, 2))).operations[0]


MODULES: dict[str, tuple[nn.Module, Operation]] = {
    "conv": (nn.Conv2d(1, 2, 3), Conv2d("0", 1, 2, (3, 3))),
    "conv with all": (
        nn.Conv2d(3, 2, (3, 5), stride=(1, 2), padding=(2, 1), bias=False),
        Conv2d("0", 3, 2, (3, 5), (1, 2), (2, 1), bias=False),
    ),
    "valid conv": (nn.Conv2d(1, 2, 3, padding="valid"), Conv2d("0", 1, 2, (3, 3))),
    "linear": (nn.Linear(3, 4, bias=False), Linear("0", 3, 4, bias=False)),
    "max pool": (nn.MaxPool2d(2), MaxPool2d((2, 2), (2, 2))),
    "max pool with all": (nn.MaxPool2d((3, 2), (2, 1), (1, 0)), MaxPool2d((3, 2), (2, 1), (1, 0))),
    "average pool": (nn.AvgPool2d((2, 3), 1), AvgPool2d((2, 3), (1, 1))),
    "global average pool": (nn.AdaptiveAvgPool2d(1), GlobalAvgPool2d()),
    "global average pool, pair": (nn.AdaptiveAvgPool2d((1, 1)), GlobalAvgPool2d()),
    "flatten": (nn.Flatten(), Flatten()),
    "dropout": (nn.Dropout(0.3), Dropout(0.3)),
    "relu": (nn.ReLU(inplace=True), Activation("relu")),
    "leaky relu": (nn.LeakyReLU(0.2), Activation("leaky_relu", 0.2)),
    "tanh": (nn.Tanh(), Activation("tanh")),
    "sigmoid": (nn.Sigmoid(), Activation("sigmoid")),
    "silu": (nn.SiLU(), Activation("silu")),
    "gelu": (nn.GELU(), Activation("gelu")),
}


@pytest.mark.parametrize("name", MODULES)
def test_modules(name: str) -> None:
    module, operation = MODULES[name]
    assert first(module) == operation


CALLS: dict[str, tuple[Callable[[Tensor], Tensor], Operation]] = {
    "F.relu": (lambda x: F.relu(x, inplace=True), Activation("relu")),
    "torch.relu": (torch.relu, Activation("relu")),
    ".relu()": (lambda x: x.relu(), Activation("relu")),
    "torch.tanh": (torch.tanh, Activation("tanh")),
    ".tanh()": (lambda x: x.tanh(), Activation("tanh")),
    "F.sigmoid": (F.sigmoid, Activation("sigmoid")),
    ".sigmoid()": (lambda x: x.sigmoid(), Activation("sigmoid")),
    "F.silu": (F.silu, Activation("silu")),
    "F.gelu": (F.gelu, Activation("gelu")),
    "F.leaky_relu": (F.leaky_relu, Activation("leaky_relu")),
    "F.leaky_relu(0.3)": (lambda x: F.leaky_relu(x, 0.3), Activation("leaky_relu", 0.3)),
    "F.leaky_relu(negative_slope)": (
        lambda x: F.leaky_relu(x, negative_slope=0.4),
        Activation("leaky_relu", 0.4),
    ),
    "F.max_pool2d": (lambda x: F.max_pool2d(x, 2), MaxPool2d((2, 2), (2, 2))),
    "F.max_pool2d with all": (
        lambda x: F.max_pool2d(x, (3, 2), stride=1, padding=1),
        MaxPool2d((3, 2), (1, 1), (1, 1)),
    ),
    "F.adaptive_avg_pool2d": (lambda x: F.adaptive_avg_pool2d(x, 1), GlobalAvgPool2d()),
    "F.relu(input)": (lambda x: F.relu(input=x), Activation("relu")),
    "F.avg_pool2d": (lambda x: F.avg_pool2d(x, (2, 3)), AvgPool2d((2, 3), (2, 3))),
    "torch.flatten": (lambda x: torch.flatten(x, 1), Flatten()),
    "torch.flatten(start_dim)": (lambda x: torch.flatten(x, start_dim=1), Flatten()),
    ".flatten(1)": (lambda x: x.flatten(1), Flatten()),
    ".flatten(1, -1)": (lambda x: x.flatten(1, -1), Flatten()),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls(name: str) -> None:
    function, operation = CALLS[name]
    assert trace(Calling(function)).operations == (operation, Linear("head", 4, 2))


def test_identity_and_nesting() -> None:
    inner = nn.Sequential(nn.Identity(), nn.Linear(4, 3))
    program = trace(nn.Sequential(nn.Flatten(), inner, nn.Identity()))
    assert program.operations == (Flatten(), Linear("1.1", 4, 3))


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)

    def forward(self, images: Tensor, more: Tensor) -> Tensor:
        return self.head(images)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        return images + self.conv(images)


class Early(Residual):
    """Computes on, but returns what came before."""

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.conv(images)
        torch.relu(hidden)
        return hidden


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(torch.relu(self.layer(images)))


class Unused(Twice):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images)


class Choosing(Twice):
    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images) if images.sum() > 0 else images


def pruned_linear() -> nn.Module:
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    prune.random_unstructured(module[1], "weight", 0.5)
    return module


REASONS: dict[str, tuple[nn.Module, str]] = {
    "branch": (Residual(), "add"),
    "result twice": (Calling(lambda x: x + x), "add"),
    "two inputs": (TwoInputs(), "more than one input"),
    "early result": (Early(), "returns something else"),
    "layer twice": (Twice(), "more than once"),
    "unused parameter": (Unused(), "'scale' belongs to no"),
    "hook": (pruned_linear(), "'1' has a forward pre-hook"),
    "data-dependent": (Choosing(), "cannot trace Choosing"),
    "no weights": (nn.Sequential(nn.ReLU()), "no layer with weights"),
    "groups": (nn.Sequential(nn.Conv2d(2, 2, 3, groups=2)), "'0' has groups"),
    "dilation": (nn.Sequential(nn.Conv2d(2, 2, 3, dilation=2)), "'0' has groups, dilation"),
    "padding mode": (nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect")), "padding mode"),
    "same padding": (nn.Sequential(nn.Conv2d(1, 2, 3, padding="same")), "padding='same'"),
    "max pool, dilation": (nn.Sequential(nn.MaxPool2d(2, dilation=2)), "dilation"),
    "max pool, ceil": (nn.Sequential(nn.MaxPool2d(2, ceil_mode=True)), "ceil_mode"),
    "average pool, padding": (nn.Sequential(nn.AvgPool2d(2, padding=1)), "padding"),
    "adaptive pool": (nn.Sequential(nn.AdaptiveAvgPool2d(2)), "to 2; only 1"),
    "flatten": (nn.Sequential(nn.Flatten(2)), "keeps some axes"),
    "flatten to the end": (Calling(lambda x: torch.flatten(x, end_dim=1)), "keeps some axes"),
    "flatten all": (Calling(lambda x: x.flatten()), "keeps some axes"),
    "tanh-gelu": (nn.Sequential(nn.GELU(approximate="tanh")), "approximation of gelu"),
    "F.tanh-gelu": (Calling(lambda x: F.gelu(x, approximate="tanh")), "approximation of gelu"),
    "batch norm": (nn.Sequential(nn.BatchNorm2d(2)), "BatchNorm2d"),
    "functional dropout": (Calling(lambda x: F.dropout(x, 0.5)), "dropout"),
    "F.max_pool2d, ceil": (Calling(lambda x: F.max_pool2d(x, 2, ceil_mode=True)), "ceil_mode"),
    "softmax": (Calling(lambda x: x.softmax(1)), "use the module of the same name"),
}


@pytest.mark.parametrize("name", REASONS)
def test_reasons(name: str) -> None:
    module, reason = REASONS[name]
    with pytest.raises(NotAChain, match=reason):
        trace(module)


def test_a_dropout_rate_of_one_is_refused() -> None:
    with pytest.raises(InputError, match="a rate of 1 drops everything"):
        trace(nn.Sequential(nn.Dropout(1.0), nn.Linear(4, 2)))
