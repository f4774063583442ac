"""From modules to programs: every spelling of a chain, and every reason why a module is no program."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune

from zoosparse_ext.errors import InputError
from zoosparse_ext.population.operations import NotAProgram
from zoosparse_ext.population.operations.joining import Combine
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
from zoosparse_ext.population.trace import trace


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


class Early(nn.Module):
    """Computes on, but returns what came before."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

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


class Staying(nn.Sequential):
    """Its dropout stays in evaluation mode."""

    def train(self, mode: bool = True) -> Staying:
        super().train(mode)
        self[0].train(False)
        return self


REASONS: dict[str, tuple[nn.Module, str]] = {
    "two inputs": (TwoInputs(), "more than one input"),
    "unused parameter": (Unused(), "'scale' belongs to no"),
    "hook": (pruned_linear(), "'1' has a forward pre-hook"),
    "data-dependent": (Choosing(), "cannot trace Choosing"),
    "no weights": (nn.Sequential(nn.ReLU()), "no layer with weights"),
    "same padding of an even kernel": (nn.Sequential(nn.Conv2d(1, 2, 2, padding="same")), "padding='same'"),
    "flatten with the batch": (nn.Sequential(nn.Flatten(0)), "takes the batch"),
    "flatten to the end": (Calling(lambda x: torch.flatten(x, end_dim=1)), "takes the batch"),
    "flatten all": (Calling(lambda x: x.flatten()), "takes the batch"),
    "dropout that is always on": (Calling(lambda x: F.dropout(x, 0.5)), "dropout"),
    "dropout that is never on": (Calling(lambda x: F.dropout(x, 0.5, False)), "drops also"),
    "a layer that stays in its mode": (Staying(nn.Dropout(0.5), nn.Linear(4, 2)), "'0' stays in"),
    "an unknown layer": (nn.Sequential(nn.RReLU(), nn.Linear(4, 2)), "'0' is a RReLU, which programs lack"),
    "an unknown function": (Calling(lambda x: x.cumsum(1)), "cumsum is not supported"),
    "pool with indices": (Calling(lambda x: F.max_pool2d(x, 2, return_indices=True)[0]), "indices"),
    "softmax over no axis": (nn.Sequential(nn.Softmax(), nn.Linear(4, 2)), "over which axis"),
    "softmax in half precision": (Calling(lambda x: F.softmax(x, 1, dtype=torch.half)), "softmax in"),
    "sum over the batch": (Calling(lambda x: x - x.mean(0)), "over the batch"),
    "index into the batch": (Calling(lambda x: x[0]), "into the batch"),
    "cat along the batch": (Calling(lambda x: torch.cat([x, x])), "along the batch"),
    "sizes": (Calling(lambda x: x.view(-1, x.shape[1])), "sizes"),
    "a batch of 32": (Calling(lambda x: x.view(32, 4)), "changes the batch"),
    "a constant tensor": (Calling(lambda x: x + torch.ones(4)), "no column"),
    "add with alpha": (Calling(lambda x: torch.add(x, x, alpha=2)), "alpha"),
    "a tuple": (Calling(lambda x: (x, x)), "Linear|takes|something else"),
}


@pytest.mark.parametrize("name", REASONS)
def test_reasons(name: str) -> None:
    module, reason = REASONS[name]
    with pytest.raises(NotAProgram, match=reason):
        trace(module)


def test_a_result_that_comes_early() -> None:
    """What the result does not need is left out."""
    assert [op.kind for op in trace(Early()).operations] == ["conv2d"]


def test_a_layer_twice() -> None:
    program = trace(Twice())
    assert [op.kind for op in program.operations] == ["linear", "activation", "linear"]
    assert program.why_not_chain == "a second use of layer 'layer'"


def test_a_result_twice() -> None:
    program = trace(Calling(lambda x: torch.relu(x) + x))
    assert program.operations[1] == Combine("add") and program.inputs[:2] == ((0,), (1, 0))
    assert program.why_not_chain == "add of two results"


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.view(x.size(0), -1),
        lambda x: x.view(x.shape[0], -1),
        lambda x: x.reshape(x.size()[0], -1),
        lambda x: x.flatten(1).contiguous(),
    ],
)
def test_other_spellings_of_flatten(function: Callable[[Tensor], Tensor]) -> None:
    assert trace(Calling(function)).operations == (Flatten(), Linear("head", 4, 2))


@pytest.mark.parametrize("keepdim", [False, True])
def test_a_mean_over_planes_is_global_pooling(keepdim: bool) -> None:
    operations = trace(Calling(lambda x: x.mean((2, 3), keepdim))).operations
    assert operations[:-1] == ((GlobalAvgPool2d(),) if keepdim else (GlobalAvgPool2d(), Flatten()))


def test_same_padding_of_an_odd_kernel() -> None:
    layer = nn.Conv2d(1, 2, (3, 5), padding="same", dilation=(1, 2))
    assert trace(nn.Sequential(layer)).operations[0].padding == (1, 4)


def test_a_dropout_rate_of_one_is_refused() -> None:
    with pytest.raises(InputError, match="a rate of 1 drops everything"):
        trace(nn.Sequential(nn.Dropout(1.0), nn.Linear(4, 2)))
