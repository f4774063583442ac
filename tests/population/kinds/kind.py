"""What one entry of the table of kinds says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

CLASSES = 4

FAST = "fast"  # a chain on the native engine
RUNS = "runs"  # the reference executor, with the same scores; the native engine is accepted too
REFUSED = "refused"  # an InputError that names the thing

Given = tuple[Any, dict[str, Any]]  # the first argument of `from_modules`, and its keywords


def images(batch: int) -> Tensor:
    return torch.randn(batch, 1, 8, 8)


def features(batch: int) -> Tensor:
    return torch.randn(batch, 6)


def sequences(batch: int) -> Tensor:
    """[B, T, F], as recurrent layers with `batch_first` take them."""
    return torch.randn(batch, 5, 6)


def signals(batch: int) -> Tensor:
    """[B, C, L]"""
    return torch.randn(batch, 2, 12)


def volumes(batch: int) -> Tensor:
    return torch.randn(batch, 1, 4, 6, 6)


def tokens(batch: int) -> Tensor:
    return torch.randint(0, 11, (batch, 5))


def as_they_are(models: list[nn.Module]) -> Given:
    return models, {}


@dataclass(frozen=True)
class Kind:
    """One kind of module that people have.

    Args:
        name: what the page calls it.
        build: makes a model; its weights are random, so each call makes another.
        expected: `FAST`, `RUNS` or `REFUSED`.
        example: makes an input with the given number of samples.
        names: what the message of a refusal names, all of it.
        alter: what is done to the four models once they exist.
        given: what `from_modules` gets; default: the list of models.
        inner: the module that comes back, where it is another than the one that went in.
        prunable: names of all prunable tensors, where the kind is about them.
        chosen: what `prunable=` names, where nothing is prunable by default.
        masked: some weights are masked already: the population has their masks.
        untrained: names of the columns that must not be trained, where the kind is about them.
        tolerance: of scores; looser where a kind computes in half precision.
        told: what a message or warning has to name, where the population changes something on the way.
        finite: False for models whose scores are NaN.
    """

    name: str
    build: Callable[[], nn.Module]
    expected: str
    example: Callable[[int], Tensor] = images
    names: tuple[str, ...] = ()
    alter: Callable[[list[nn.Module]], None] | None = None
    given: Callable[[list[nn.Module]], Given] = as_they_are
    inner: Callable[[nn.Module], nn.Module] = lambda module: module
    prunable: frozenset[str] | None = None
    chosen: tuple[str, ...] = ()
    masked: bool = False
    untrained: frozenset[str] | None = None
    tolerance: float = 1e-5
    told: str = ""
    finite: bool = True

    def models(self) -> list[nn.Module]:
        """Four models, the same at each call."""
        models = []
        for seed in range(4):
            torch.manual_seed(seed)
            models.append(self.build())
        torch.manual_seed(99)
        if self.alter is not None:
            self.alter(models)
        return models


class Body(nn.Module):
    """Layers, then a linear head on whatever they leave; runs them in this order."""

    def __init__(self, *layers: nn.Module, example: Callable[[int], Tensor] = images) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)
        self.body.eval()
        with torch.no_grad():
            left = self.body(example(2))[0].numel()
        self.body.train()
        self.head = nn.Linear(left, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.flatten(self.body(x), 1))


def after(
    *makers: Callable[[], nn.Module], example: Callable[[int], Tensor] = images
) -> Callable[[], nn.Module]:
    """What makes a module of these layers and a linear head."""
    return lambda: stirred(Body(*(make() for make in makers), example=example))


def stirred(module: nn.Module) -> nn.Module:
    """The module with running statistics and scales as after training: no zeros and ones that hide a mix-up."""
    with torch.no_grad():
        for child in module.modules():
            for name, tensor in [*child.named_parameters(recurse=False), *child.named_buffers(recurse=False)]:
                if name == "running_var" or (name == "weight" and tensor.dim() < 2):
                    tensor.copy_(torch.rand(tensor.shape) + 0.5)
                elif name == "running_mean" or (name == "bias" and "Norm" in type(child).__name__):
                    tensor.copy_(torch.randn(tensor.shape))
                elif name == "num_batches_tracked":
                    tensor.fill_(int(torch.randint(1, 1000, ())))
    return module


def layer_kinds(
    expected: str,
    makers: Iterable[tuple[str, Callable[[], nn.Module]]],
    example: Callable[[int], Tensor] = images,
    **options: Any,
) -> list[Kind]:
    """Kinds that are one layer each, behind a convolution of images (or on the example itself) and before a head."""
    first: list[Callable[[], nn.Module]] = [lambda: nn.Conv2d(1, 4, 3)] if example is images else []
    return [
        Kind(name, after(*first, make, example=example), expected, example, **options)
        for name, make in makers
    ]
