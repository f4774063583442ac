"""State beside the parameters: buffers, attributes, and what differs from model to model without being a weight."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.population.kinds.kind import CLASSES, FAST, REFUSED, RUNS, Kind, features, stirred
from tests.population.kinds.nets import OwnChain, Residual


class Stateful(nn.Module):
    """Two linear layers; `use` is what forward does to the hidden values with some state of the module."""

    def __init__(self, use: Callable[[Any, Tensor], Tensor], **state: object) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(6, 5), nn.Linear(5, CLASSES)
        self.use = use
        for name, value in state.items():
            setattr(self, name, value)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.use(self, torch.tanh(self.first(x))))


def scaled(module: Any, x: Tensor) -> Tensor:
    return x * module.scale


def stateful(use: Callable[[Any, Tensor], Tensor], **makers: Callable[[], object]) -> Callable[[], nn.Module]:
    return lambda: Stateful(use, **{name: make() for name, make in makers.items()})


def buffered(
    use: Callable[[Any, Tensor], Tensor], make: Callable[[], Tensor], persistent: bool = True
) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        module = Stateful(use)
        module.register_buffer("scale", make(), persistent=persistent)
        return module

    return build


def mask() -> Tensor:
    return torch.rand(5) < 0.5


class Masked(nn.Linear):
    """A linear layer with a mask of its own: the usual way to prune by hand."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after)
        self.register_buffer("mask", torch.rand(after, before) < 0.6)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.mask, self.bias)


class Scaled(nn.Module):
    """A layer that multiplies with a number it was made with."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


@dataclass
class Settings:
    """Options that a module keeps and reads."""

    scale: float
    name: str = "tanh"


class Half(Settings):
    """Options that are no dataclass of their own, with an attribute beside the fields."""

    def __init__(self, scale: float) -> None:
        super().__init__(1.0)
        self.inner = {"scale": [scale]}


class Unregistered(nn.Module):
    """Layers in a plain list, which PyTorch does not see."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = [nn.Linear(6, 5)]
        self.head = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers[0](x))


class Counting(nn.Module):
    """Counts its calls, and computes with the count."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.calls = nn.Linear(6, CLASSES), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.head(x) * self.calls


class Remembering(nn.Module):
    """Adds what it computed for the last batch."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, CLASSES)
        self.register_buffer("last", torch.zeros(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        scores = self.head(x) + self.last
        self.last = scores.mean(0).detach()
        return scores


class WithExtraState(OwnChain):
    def get_extra_state(self) -> dict[str, int]:
        return {"version": 3}

    def set_extra_state(self, state: dict[str, int]) -> None:
        pass


class Normalized(nn.Module):
    """Normalizes images with the mean of its own training data, before a chain."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.rand(1, 1, 1))
        self.register_buffer("std", torch.rand(1, 1, 1) + 0.5)
        self.chain = OwnChain()

    def forward(self, x: Tensor) -> Tensor:
        return self.chain((x - self.mean) / self.std)


class Property(nn.Module):
    """A number behind a property, kept in a closure."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.head = nn.Linear(6, CLASSES)
        self.read = lambda: scale

    @property
    def scale(self) -> float:
        return self.read()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x) * self.scale


class Locked(OwnChain):
    """Holds what cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


class Renamed(OwnChain):
    """Saves its tensors under other names than those of its parameters."""

    def __init__(self) -> None:
        super().__init__()
        self._register_state_dict_hook(_rename)


def _rename(module: nn.Module, state: dict[str, Tensor], prefix: str, metadata: object) -> dict[str, Tensor]:
    return {f"model/{name}": tensor for name, tensor in state.items()}


def draw() -> float:
    return float(torch.rand(())) + 0.5


def diverge(models: list[nn.Module]) -> None:
    with torch.no_grad():
        next(models[2].parameters()).fill_(torch.nan)


def counters(models: list[nn.Module]) -> None:
    models[1].norm.num_batches_tracked.fill_(7)


def vector(*_: object) -> Tensor:
    return torch.rand(5) + 0.5


DIFFERS = [
    # What differs from model to model: columns, or a refusal that names it.
    Kind(
        "A number that forward reads, other in each model",
        stateful(scaled, scale=draw),
        REFUSED,
        features,
        names=("scale",),
    ),
    Kind(
        "A number in a child layer, other in each model",
        lambda: nn.Sequential(nn.Linear(6, 5), Scaled(draw()), nn.Linear(5, CLASSES)),
        REFUSED,
        features,
        names=("factor", "1"),
    ),
    Kind(
        "A number of another type (NumPy), other in each model",
        stateful(scaled, scale=lambda: np.float32(draw())),
        REFUSED,
        features,
        names=("scale",),
    ),
    Kind(
        "A NumPy array, other in each model",
        stateful(
            lambda m, x: x * torch.from_numpy(m.scale),
            scale=lambda: np.random.default_rng(int(torch.randint(99, ()))).random(5, np.float32),
        ),
        REFUSED,
        features,
        names=("scale",),
    ),
    Kind(
        "A plain tensor attribute, other in each model",
        stateful(scaled, scale=vector),
        REFUSED,
        features,
        names=("scale",),
    ),
    Kind(
        "A dictionary of tensors, other in each model",
        stateful(lambda m, x: x * m.table["a"], table=lambda: {"a": vector()}),
        REFUSED,
        features,
        names=("table",),
    ),
    Kind(
        "A list of tensors, other in each model",
        stateful(lambda m, x: x * m.table[1], table=lambda: [vector(), vector()]),
        REFUSED,
        features,
        names=("table",),
    ),
    Kind(
        "An object with a number, other in each model",
        stateful(lambda m, x: x * m.settings.scale, settings=lambda: Settings(draw())),
        REFUSED,
        features,
        names=("settings",),
    ),
    Kind(
        "A number deep in an object, other in each model",
        stateful(lambda m, x: x * m.settings.inner["scale"][0], settings=lambda: Half(draw())),
        REFUSED,
        features,
        names=("settings",),
    ),
    Kind(
        "A function, other in each model",
        stateful(
            lambda m, x: m.act(x),
            act=lambda: (torch.relu, torch.sin, torch.cos, torch.tanh)[int(torch.randint(4, ()))],
        ),
        REFUSED,
        features,
        names=("model 1",),
    ),
    Kind(
        "A partial function, other in each model",
        stateful(lambda m, x: m.act(x), act=lambda: partial(F.leaky_relu, negative_slope=draw())),
        REFUSED,
        features,
        names=("model 1",),
    ),
    Kind(
        "A number in a closure, other in each model",
        lambda: Property(draw()),
        REFUSED,
        features,
        names=("model 1",),
    ),
    Kind(
        "Text that chooses, other in each model",
        stateful(
            lambda m, x: getattr(torch, m.act)(x),
            act=lambda: ("relu", "sin", "cos", "tanh")[int(torch.randint(4, ()))],
        ),
        REFUSED,
        features,
        names=("model 1",),
    ),
    Kind("Layers that are not registered", Unregistered, REFUSED, features, names=("layers",)),
    Kind(
        "A bool mask as a buffer, other in each model",
        buffered(scaled, mask),
        REFUSED,
        features,
        names=("scale",),
    ),
    Kind(
        "Indices as a buffer, other in each model",
        buffered(lambda m, x: x[:, m.scale], lambda: torch.randperm(5)),
        REFUSED,
        features,
        names=("scale",),
    ),
    Kind(
        "A buffer that is not saved, other in each model",
        buffered(scaled, vector, persistent=False),
        REFUSED,
        features,
        names=("scale",),
    ),
    Kind(
        "Masked linear layers with masks of their own",
        lambda: nn.Sequential(nn.Flatten(), Masked(64, 9), nn.ReLU(), Masked(9, CLASSES)),
        REFUSED,
        names=("mask", "1"),
    ),
]

SAME = [
    # State that is the same in all models, or that changes with the data.
    Kind("A number that forward reads, the same in all", stateful(scaled, scale=lambda: 0.7), RUNS, features),
    Kind(
        "A plain tensor, the same in all", stateful(scaled, scale=lambda: torch.arange(5.0)), RUNS, features
    ),
    Kind(
        "Indices as a buffer, the same in all",
        buffered(lambda m, x: x[:, m.scale], lambda: torch.tensor([3, 1, 0, 2, 4])),
        RUNS,
        features,
    ),
    Kind(
        "A bool mask as a buffer, the same in all",
        buffered(scaled, lambda: torch.arange(5) > 1),
        RUNS,
        features,
    ),
    Kind(
        "A buffer that is not saved, the same in all",
        buffered(scaled, lambda: torch.arange(5.0), persistent=False),
        RUNS,
        features,
    ),
    Kind("Float buffers, other in each model", Normalized, RUNS, untrained=frozenset({"mean", "std"})),
    Kind(
        "An object with options, the same in all",
        stateful(lambda m, x: x * m.settings.scale, settings=lambda: Settings(0.7)),
        RUNS,
        features,
    ),
    Kind("Counts of batches, other in each model", lambda: stirred(Residual()), RUNS, alter=counters),
    Kind("A module that counts its calls", Counting, REFUSED, features, names=("calls",)),
    Kind("A module that remembers the last batch", Remembering, REFUSED, features, names=("last",)),
    Kind("Extra state in the state dict", WithExtraState, FAST),
    Kind("Other names in the state dict", Renamed, RUNS),
    Kind("An attribute that cannot be copied (a lock)", Locked, REFUSED, names=("lock",)),
    Kind("A model whose weights are NaN", OwnChain, RUNS, alter=diverge, finite=False),
]


KINDS = [*DIFFERS, *SAME]
