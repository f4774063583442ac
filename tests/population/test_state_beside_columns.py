"""What models hold beside their columns: equal, unread, or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import zoosparse_ext as zs
from tests.population import tiny
from tests.population.own_scores import IMAGES, assert_equal
from tests.population.tiny import CLASSES, SHAPE
from zoosparse_ext.errors import InputError


class Masked(nn.Module):
    """Keeps what its forward reads in a place of the test's choice."""

    def __init__(self, keep: Callable[[nn.Module, Tensor, int], object], number: int) -> None:
        super().__init__()
        self.linear = nn.Linear(64, CLASSES)
        self.part = nn.Identity()
        mask = torch.rand(CLASSES, generator=torch.Generator().manual_seed(number)) < 0.5
        keep(self, mask, number)

    def forward(self, images: Tensor) -> Tensor:
        scores = self.linear(images.flatten(1))
        if hasattr(self, "mask"):
            scores = scores * self.mask
        if hasattr(self, "scale"):
            scores = scores * self.scale
        if hasattr(self, "options"):
            scores = scores * self.options["value"]
        return scores * getattr(self.part, "value", 1.0)


STATE: dict[str, tuple[Callable[[Any, Tensor, int], object], str]] = {
    "bool buffer": (lambda m, mask, i: m.register_buffer("mask", mask), "mask"),
    "int buffer": (lambda m, mask, i: m.register_buffer("mask", mask.int() + i), "mask"),
    "buffer that is not saved": (
        lambda m, mask, i: m.register_buffer("mask", mask.float() + i, persistent=False),
        "mask",
    ),
    "tensor": (lambda m, mask, i: setattr(m, "mask", mask.float() + i), "mask"),
    "number": (lambda m, mask, i: setattr(m, "scale", 1.0 + i), "scale"),
    "number of a layer": (lambda m, mask, i: setattr(m.part, "value", 1.0 + i), "part.value"),
    "tensor of a layer": (lambda m, mask, i: setattr(m.part, "value", mask.float() + i), "part.value"),
    "tensor in a dict": (lambda m, mask, i: setattr(m, "options", {"value": mask.float() + i}), "options"),
}


@pytest.mark.parametrize("kind", STATE)
def test_state_that_differs_is_refused(kind: str) -> None:
    keep, place = STATE[kind]
    models = [Masked(keep, number) for number in range(4)]
    with pytest.raises(InputError, match=f"model 1 differs from model 0: {place}.*its forward reads it"):
        zs.Population.from_modules(models, input_shape=SHAPE)
    same = [Masked(keep, 1) for _ in range(4)]
    assert_equal(zs.Population.from_modules(same, input_shape=SHAPE), same)


def test_a_number_in_a_dict_and_in_a_closure() -> None:
    def scaled(number: float) -> Callable[[Tensor], Tensor]:
        return lambda scores: number * scores

    models = [Masked(lambda m, mask, i: setattr(m, "options", {"value": 1.0 + i}), i) for i in range(4)]
    with pytest.raises(InputError, match=r"model 1 differs from model 0: options.*its forward reads it"):
        zs.Population.from_modules(models, input_shape=SHAPE)
    models = tiny.make(tiny.Residual, n=4)
    for number, model in enumerate(models):
        scale = scaled(1.0 + number)
        model.head.register_forward_hook(lambda m, x, y, scale=scale: scale(y))
    with pytest.raises(InputError, match="model 1 of 'Residual' gives other scores"):
        zs.Population.from_modules(models)


def test_what_forward_does_not_read_may_differ() -> None:
    models = tiny.make(tiny.Residual, n=4)
    for number, model in enumerate(models):
        model.run, model.accuracy = f"run-{number}", 0.9 + number / 100
        model.curve = torch.rand(5)
        model.calls = {"forward": number}
    assert_equal(zs.Population.from_modules(models, input_shape=SHAPE), models)


def test_batches_are_counted(data: zs.Dataset) -> None:
    models = tiny.make(tiny.batch_normed, n=3)
    for number, model in enumerate(models):
        model.norm.num_batches_tracked.fill_(10 * number)
    population = zs.Population.from_modules(models)
    assert population.counts.tolist() == [[0], [10], [20]]
    zs.train(population, data, epochs=2, batch_size=5)
    assert population.counts.tolist() == [[10], [20], [30]]  # five batches an epoch
    modules = population[1:].clone().to_modules()
    assert [int(module.norm.num_batches_tracked) for module in modules] == [20, 30]


class Stateful(nn.Module):
    """No chain; `begin` adds state, `look` uses it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(64, CLASSES), nn.LayerNorm(CLASSES)
        self.begin()

    def begin(self) -> None: ...

    def look(self) -> Tensor | float:
        return 1.0

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.linear(images.flatten(1))) * self.look()


class Annealed(Stateful):
    def begin(self) -> None:
        self.register_buffer("step", torch.tensor(0))

    def look(self) -> Tensor:
        if self.training:
            self.step += 1
        return torch.clamp(self.step / 100.0, 0.1, 1.0)


class Counted(Stateful):
    def begin(self) -> None:
        self.step = 0

    def look(self) -> float:
        if self.training:
            self.step += 1
        return 1.0 if self.step < 5 else 0.5


class Averaged(Stateful):
    def begin(self) -> None:
        self.register_buffer("step", torch.tensor(1.0), persistent=False)

    def look(self) -> Tensor:
        if self.training:
            self.step = 0.9 * self.step + 0.2
        return self.step


@pytest.mark.parametrize("build", [Annealed, Counted, Averaged])
def test_state_that_training_changes_is_refused(build: Callable[[], nn.Module]) -> None:
    with pytest.raises(InputError, match=f"training changes 'step' of '{build.__name__}'"):
        zs.Population.from_modules([build(), build()], input_shape=SHAPE)


def test_a_train_that_freezes_is_refused() -> None:
    class Freezing(Stateful):
        def train(self, mode: bool = True) -> Stateful:
            super().train(mode)
            if mode:
                self.linear.requires_grad_(False)
            return self

    with pytest.raises(InputError, match=r"train\(\) of 'Freezing' freezes 'linear\.weight'"):
        zs.Population.from_modules([Freezing(), Freezing()], input_shape=SHAPE)


def test_a_forward_that_writes_to_weights_is_refused() -> None:
    class Normalizing(Stateful):
        def look(self) -> float:
            with torch.no_grad():
                self.linear.weight.div_(2 * self.linear.weight.norm())
            return 1.0

    with pytest.raises(InputError):
        zs.Population.from_modules([Normalizing(), Normalizing()], input_shape=SHAPE)


def test_the_dropout_column_is_honored_or_refused(data: zs.Dataset) -> None:
    class Functional(Stateful):
        def forward(self, images: Tensor) -> Tensor:
            return F.dropout(super().forward(images), 0.5, self.training)

    table = pd.DataFrame({"dropout": [0.0, 0.9], "seed": [1, 1]})
    population = zs.Population.from_modules([Functional(), Functional()], input_shape=SHAPE, table=table)
    with pytest.raises(
        InputError, match=r"the table gives a dropout rate of 0\.9, and no layer of Functional takes one"
    ):
        zs.train(population, data, epochs=1)


def test_modules_that_keep_activations() -> None:
    class Keeping(Stateful):
        def forward(self, images: Tensor) -> Tensor:
            self.features = super().forward(images)
            return self.features

    models = tiny.make(Keeping, n=2)
    for model in models:
        model(IMAGES)
    assert_equal(zs.Population.from_modules(models, input_shape=SHAPE), models)


def test_a_module_that_counts_its_changes_of_mode() -> None:
    class Counting(Stateful):
        def train(self, mode: bool = True) -> Stateful:
            self.calls = getattr(self, "calls", 0) + 1
            return super().train(mode)

    models = [Counting() for _ in range(3)]
    zs.Population.from_modules(models, input_shape=SHAPE)
    assert not any(hasattr(model, "calls") for model in models)
