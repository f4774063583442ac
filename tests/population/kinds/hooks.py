"""Hooks, forward functions patched on an instance, and subclasses of layers that compute something else."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tests.population.kinds.kind import CLASSES, REFUSED, RUNS, Kind
from tests.population.kinds.nets import OwnChain


def chain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(27, 6),
        nn.Tanh(),
        nn.Linear(6, CLASSES),
    )


def doubled(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return output * 2 + 1


def shifted(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (inputs[0] + 0.5,)


def watched(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    """Looks, and changes nothing."""


def reversed_gradient(module: nn.Module, before: Any, after: Any) -> tuple[Tensor, ...]:
    return tuple(-gradient for gradient in before if gradient is not None)


def all_of(act: Callable[[nn.Module], object]) -> Callable[[list[nn.Module]], None]:
    return lambda models: [act(model) for model in models] and None


def one_of(act: Callable[[nn.Module], object]) -> Callable[[list[nn.Module]], None]:
    return lambda models: act(models[2]) and None


def on_layer(name: str = "4") -> Callable[[nn.Module], object]:
    return lambda model: model.get_submodule(name).register_forward_hook(doubled)


def own_factor(model: nn.Module) -> object:
    factor = float(torch.rand(())) + 1
    return model[4].register_forward_hook(lambda module, inputs, output: output * factor)


def patched_root(model: nn.Module) -> None:
    plain = model.forward
    model.forward = lambda x: plain(x) * 2 + 1  # type: ignore[method-assign]


def bound(self: Any, x: Tensor) -> Tensor:
    return torch.nn.functional.linear(x, self.weight * 2, self.bias)


def patched_layer(model: nn.Module) -> None:
    model[4].forward = types.MethodType(bound, model[4])


class Shifted(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1


class ByWeight(nn.Conv2d):
    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(x, weight.abs(), bias)


class Absolute(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).abs()


class Square(nn.ReLU):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).square()


class Skipping(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        for index, layer in enumerate(self):
            if index != 1:
                x = layer(x)
        return x


class Called(nn.Linear):
    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(x) * 3


class CalledRoot(OwnChain):
    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(x) * 3


class Plain(nn.Conv2d):
    """A subclass that computes what its base does."""


class InTraining(nn.Sequential):
    """Stays in training mode whatever it is told."""

    def train(self, mode: bool = True) -> InTraining:
        return super().train(True)


def with_layer(index: int, make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        model = chain()
        model[index] = make()
        return model

    return build


KINDS = [
    Kind("A forward hook on a layer", chain, RUNS, alter=all_of(on_layer())),
    Kind("A forward hook on an activation", chain, RUNS, alter=all_of(on_layer("1"))),
    Kind("A forward hook on the root", chain, RUNS, alter=all_of(lambda m: m.register_forward_hook(doubled))),
    Kind(
        "A forward hook with keywords",
        chain,
        RUNS,
        alter=all_of(
            lambda m: m[4].register_forward_hook(
                lambda module, inputs, options, output: output + 1, with_kwargs=True
            )
        ),
    ),
    Kind(
        "A pre-hook on a layer", chain, RUNS, alter=all_of(lambda m: m[4].register_forward_pre_hook(shifted))
    ),
    Kind("A pre-hook on the root", chain, RUNS, alter=all_of(lambda m: m.register_forward_pre_hook(shifted))),
    Kind("A hook that only looks", chain, RUNS, alter=all_of(lambda m: m[4].register_forward_hook(watched))),
    Kind(
        "A hook on a residual network's layer",
        lambda: _residual(),
        RUNS,
        alter=all_of(lambda m: m.conv.register_forward_hook(doubled)),
    ),
    Kind("A hook on one model of four", chain, REFUSED, names=("model 2", "hook"), alter=one_of(on_layer())),
    Kind(
        "A pre-hook on one model of four",
        chain,
        REFUSED,
        names=("model 2", "hook"),
        alter=one_of(lambda m: m[4].register_forward_pre_hook(shifted)),
    ),
    Kind("Hooks with numbers of their own", chain, REFUSED, names=("hook", "4"), alter=all_of(own_factor)),
    Kind(
        "A backward hook that changes gradients",
        chain,
        RUNS,
        alter=all_of(lambda m: m[4].register_full_backward_hook(reversed_gradient)),
    ),
    Kind(
        "A hook on the gradient of a parameter",
        chain,
        REFUSED,
        names=("hook", "4.weight"),
        alter=all_of(lambda m: m[4].weight.register_hook(lambda gradient: gradient * 0)),
    ),
    Kind("forward patched on the model", chain, REFUSED, names=("forward",), alter=all_of(patched_root)),
    Kind("forward patched on a layer", chain, RUNS, alter=all_of(patched_layer)),
    Kind(
        "forward patched on one model of four",
        chain,
        REFUSED,
        names=("model 2", "forward"),
        alter=one_of(patched_layer),
    ),
    Kind("A subclass of Conv2d with its own forward", with_layer(0, lambda: Shifted(1, 3, 3)), RUNS),
    Kind("A subclass of Conv2d with its own _conv_forward", with_layer(0, lambda: ByWeight(1, 3, 3)), RUNS),
    Kind("A subclass of Linear with its own forward", with_layer(4, lambda: Absolute(27, 6)), RUNS),
    Kind("A subclass of Linear with its own __call__", with_layer(4, lambda: Called(27, 6)), RUNS),
    Kind("A subclass of ReLU with its own forward", with_layer(1, Square), RUNS),
    Kind("A subclass of Sequential with its own forward", lambda: Skipping(*chain()), RUNS),
    Kind("A model with its own __call__", CalledRoot, RUNS),
    Kind("A subclass of Conv2d that changes nothing", with_layer(0, lambda: Plain(1, 3, 3)), RUNS),
    Kind("A model that stays in training mode", lambda: InTraining(*chain()), RUNS),
]


def _residual() -> nn.Module:
    from tests.population.kinds.nets import Residual, stirred

    return stirred(Residual())
