"""A population computes what its modules compute, or is refused."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import zoosparse_ext as zs
from tests.population import tiny
from tests.population.own_scores import IMAGES, assert_equal
from tests.population.tiny import CLASSES, SHAPE
from zoosparse_ext.errors import InputError
from zoosparse_ext.population import proof


class OwnForward(nn.Linear):
    """A linear layer that is none."""

    def forward(self, inputs: Tensor) -> Tensor:
        return 2 * super().forward(inputs)


class OwnCall(nn.Sequential):
    def __call__(self, images: Tensor) -> Tensor:
        return super().__call__(images).flip(1)


def patch(model: nn.Module, layer: int | None = None) -> None:
    """Put a forward on an instance."""
    target = model if layer is None else model[layer]  # type: ignore[index]
    original = target.forward
    target.forward = lambda inputs: original(inputs).flip(1)


def double(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
    return 2 * output


BEHAVIORS: dict[str, Callable[[nn.Module], object]] = {
    "hook on a layer": lambda model: model[2].register_forward_hook(double),
    "hook on the root": lambda model: model.register_forward_hook(double),
    "pre-hook on a layer": lambda model: model[6].register_forward_pre_hook(lambda m, x: (x[0] + 1,)),
    "pre-hook on the root": lambda model: model.register_forward_pre_hook(lambda m, x: (x[0].flip(2),)),
}


@pytest.mark.parametrize("behavior", BEHAVIORS)
def test_hooks_are_honored(behavior: str) -> None:
    models = tiny.make(tiny.chain, n=4)
    for model in models:
        BEHAVIORS[behavior](model)
    population = zs.Population.from_modules(models)
    assert "hook" in population.architecture.reason
    assert_equal(population, models)


@pytest.mark.parametrize("behavior", BEHAVIORS)
def test_a_hook_on_one_model_of_four(behavior: str) -> None:
    models = tiny.make(tiny.chain, n=4)
    BEHAVIORS[behavior](models[2])
    with pytest.raises(
        InputError, match=r"model 2 differs from model 0: it does not trace to a program .*hook"
    ):
        zs.Population.from_modules(models)
    models = tiny.make(tiny.Residual, n=4)
    models[2].conv.register_forward_hook(double)
    with pytest.raises(
        InputError,
        match=r"model 2 differs from model 0: it does not trace to a program .'conv' has a forward hook",
    ):
        zs.Population.from_modules(models)


def test_hooks_with_values_of_their_own() -> None:
    models = tiny.make(tiny.Residual, n=4)
    for factor, model in enumerate(models, start=1):
        model.conv.register_forward_hook(lambda m, x, output, factor=factor: factor * output)
    with pytest.raises(InputError, match=r"model 1 of 'Residual' gives other scores .*, from 'conv' on"):
        zs.Population.from_modules(models)


@pytest.mark.parametrize("layer", [None, 6])
def test_a_forward_on_the_instance(layer: int | None) -> None:
    models = tiny.make(tiny.chain, n=3)
    for model in models:
        patch(model, layer)
    try:
        assert_equal(zs.Population.from_modules(models), models)
    except InputError as error:  # a patched method that is bound to model 0 is no forward of the others
        assert "model" in str(error)


def test_classes_with_a_forward_or_a_call_of_their_own() -> None:
    head = [nn.Flatten(), OwnForward(64, CLASSES)]
    for build in (lambda: nn.Sequential(*head), lambda: OwnCall(nn.Flatten(), nn.Linear(64, CLASSES))):
        models = tiny.make(build, n=1)
        population = zs.Population.from_modules(models, input_shape=SHAPE)
        assert population.architecture.program is None
        assert_equal(population, models)


def test_what_is_done_in_training_alone() -> None:
    class Noisy(nn.Sequential):
        def forward(self, images: Tensor) -> Tensor:
            hidden = super().forward(images)
            return torch.tanh(hidden) if self.training else hidden

    population = zs.Population.from_modules([Noisy(nn.Flatten(), nn.Linear(64, 2))], input_shape=SHAPE)
    assert population.architecture.reason == "the module computes something else while it is trained"


class Own(nn.Module):
    """A chain of a class of the user's own, with something beside its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.note = tiny.chain(), "mine"

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images)

    def get_extra_state(self) -> dict[str, int]:
        return {"version": 1}

    def set_extra_state(self, state: dict[str, int]) -> None:
        assert state["version"] == 1


def test_modules_come_back_as_their_own_class() -> None:
    models = tiny.make(Own, n=2)
    population = zs.Population.from_modules(models)
    assert population.architecture.program is not None
    assert [type(module) for module in population.to_modules()] == [Own, Own]
    assert population.to_modules()[0].note == "mine"
    assert_equal(population, models)


@pytest.mark.parametrize("build", [tiny.chain, tiny.batch_normed])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_training_in_any_gradient_mode(mode: Any, build: Callable[[], nn.Module], data: zs.Dataset) -> None:
    expected, population = tiny.population(build), tiny.population(build)
    zs.train(expected, data, epochs=1)
    with mode():
        inside = tiny.population(build)
        for models in (population, inside):
            zs.train(models, data, epochs=1)
        zs.variational_dropout(inside, data, epochs=1)
        zs.magnitude_prune(inside, 0.5, data=data, epochs=1, score="gradient")
    for models in (population, inside):
        torch.testing.assert_close(models.weights, expected.weights, rtol=1e-4, atol=1e-6)


def flat_norm() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.BatchNorm1d(5), nn.Linear(5, CLASSES))


def test_one_value_per_channel(data: zs.Dataset) -> None:
    """23 images: batches of 11 leave one over."""
    population = tiny.population(flat_norm, input_shape=SHAPE)
    before = population.weights.clone()
    with pytest.raises(InputError, match=r"batch norm '2' .* the last batch of an epoch is 1 of 23 images"):
        zs.train(population, data, epochs=1, batch_size=11)
    assert torch.equal(population.weights, before)
    zs.train(population, data, epochs=1, batch_size=11, drop_last=True)
    assert population.counts.unique().tolist() == [2]
    zs.train(tiny.population(tiny.batch_normed), data, epochs=1, batch_size=11)  # many pixels a channel
    with pytest.raises(InputError, match="drop_last leaves nothing of 23 images in batches of 24"):
        zs.train(population, data, epochs=1, batch_size=24, drop_last=True)


def test_the_last_batch_is_left_out(data: zs.Dataset) -> None:
    """As training on so many images of each order."""
    for engine in ("native", "reference") if not zs.ops.train.why_unavailable() else ("reference",):
        population, seen = tiny.population(), []
        history = zs.train(population, data, epochs=1, batch_size=10, drop_last=True, engine=engine)
        seen.append(float(history.train_accuracy.iloc[-1]) * 20)
        assert seen[0] == pytest.approx(round(seen[0]))  # of 20 images


def test_inputs_whose_shape_cannot_be_told() -> None:
    class Free(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.randn(7, 3))

        def forward(self, inputs: Tensor) -> Tensor:
            return inputs.flatten(1)[:, :7] @ self.table

    models = tiny.make(Free, n=2)
    population = zs.Population.from_modules(models)
    models[1].note = 1
    with pytest.raises(InputError, match=r"model 1 differs from model 0: note is 1 .*; pass example="):
        zs.Population.from_modules(models)
    del models[1].note
    assert "unproven: the shape of its inputs is not known: pass example=" in repr(population)
    assert "unproven" not in repr(zs.Population.from_modules(models, example=torch.randn(2, 9)))
    with pytest.raises(InputError, match="cannot take inputs of size 5"):
        zs.Population.from_modules(models, example=torch.randn(2, 5))


@pytest.mark.parametrize("example", [torch.zeros(3), torch.zeros(0, 1, 8, 8), "image"])
def test_examples_that_are_none(example: Any) -> None:
    with pytest.raises(InputError, match="example: got"):
        zs.Population.from_modules(tiny.make(tiny.chain), example=example)


def test_a_linear_layer_on_the_last_axis_runs_as_a_module() -> None:
    build = lambda: nn.Sequential(nn.Linear(8, 5), nn.Flatten(), nn.Linear(40, CLASSES))  # noqa: E731
    models = tiny.make(build, n=2)
    population = zs.Population.from_modules(models, input_shape=SHAPE)
    assert population.architecture.program is None
    assert_equal(population, models)


def test_a_module_that_computes_something_else_than_the_stored_chain() -> None:
    architecture = zs.Architecture.from_dict(tiny.population().architecture.to_dict())
    population = zs.Population(tiny.population().weights, architecture)
    assert population.with_module(tiny.chain()) is population
    assert type(population.to_modules()[0]) is nn.Sequential
    with pytest.raises(InputError, match=r"gives other scores as a module .*, from '3' on"):
        population.with_module(tiny.chain(activation=nn.ReLU))


def test_which_models_are_compared() -> None:
    assert proof.spread(1) == [0]
    assert proof.spread(3) == [0, 1, 2]
    assert len(proof.spread(1000)) == 8 and proof.spread(1000)[-1] == 999


def test_divergence_is_told(data: zs.Dataset, caplog: pytest.LogCaptureFixture) -> None:
    for build in (tiny.chain, tiny.Residual):
        caplog.clear()
        population = tiny.population(build)
        with caplog.at_level(logging.WARNING, logger="zoosparse_ext"):
            zs.train(population, data, epochs=2, optimizer=zs.SGD(lr=[0.01, 1e30, 0.01]), loss="mse")
        (record,) = caplog.records
        assert "epoch 1: 1 of 3 models diverged" in record.getMessage() and "0001" in record.getMessage()


def test_functional_calls_in_a_module() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(64, CLASSES)

        def forward(self, images: Tensor) -> Tensor:
            return F.linear(images.flatten(1), self.linear.weight, self.linear.bias).relu()

    models = tiny.make(Functional, n=3)
    assert_equal(zs.Population.from_modules(models, input_shape=SHAPE), models)


def test_the_proof_costs_the_same_for_many_models_as_for_few() -> None:
    """Modules are looked at one by one; run are eight of them, whatever their number."""
    calls = []
    for n in (8, 40):
        models, count = tiny.make(tiny.chain, n=n), mock.Mock(wraps=F.linear)
        with mock.patch.object(F, "linear", count):
            zs.Population.from_modules(models, input_shape=SHAPE)
        calls.append(count.call_count)
    assert (
        calls[0] == calls[1] <= 2 * (2 * 8 + 2)
    )  # layers of eight models on two batches, and once in training


@pytest.mark.parametrize("build", [tiny.chain, tiny.batch_normed])
def test_the_surroundings_do_not_matter(build: Callable[[], nn.Module], data: zs.Dataset) -> None:
    expected, models = tiny.population(build, input_shape=SHAPE), tiny.make(build)
    scores = expected(IMAGES)
    zs.train(expected, data, epochs=1, engine="reference")
    torch.set_default_dtype(torch.float64)
    try:
        with torch.autocast("cpu", torch.bfloat16), torch.device("meta"):
            population = zs.Population.from_modules(models, input_shape=SHAPE)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(population(IMAGES), scores, rtol=1e-5, atol=1e-6)
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        zs.train(population, data, epochs=1, engine="reference")
    torch.testing.assert_close(population.weights, expected.weights, rtol=1e-4, atol=1e-6)


ARGUMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "table": ({"table": {"seed": [3]}}, "the table of models: got dict"),
    "prunable": ({"prunable": 3}, "prunable: got int 3"),
    "input_shape": ({"input_shape": 28}, "input_shape: got int 28"),
    "models": ({"models": [tiny.chain(), None]}, "a model: got NoneType"),
    "none": ({"models": None}, "models: got NoneType"),
}


@pytest.mark.parametrize("argument", ARGUMENTS)
def test_arguments_of_another_kind(argument: str) -> None:
    options, message = ARGUMENTS[argument]
    with pytest.raises(InputError, match=message):
        zs.Population.from_modules(**{"models": [tiny.chain()], **options})


def test_scores_and_images_of_another_kind(data: zs.Dataset) -> None:
    for build in (tiny.chain, tiny.Residual):
        population = tiny.population(build)
        p = population.weights.shape[1]
        for weights in (
            torch.randn(3, p + 50),
            torch.randn(3, p - 1),
            torch.randn(p),
            torch.ones(3, p, dtype=torch.int64),
        ):
            with pytest.raises(InputError, match="weights are"):
                population.scores(weights, IMAGES)
        for images in (IMAGES.numpy(), [1.0]):
            with pytest.raises(InputError, match="images: got"):
                population(images)
    with pytest.raises(InputError, match=r"images are torch.int64, networks take floating-point numbers"):
        tiny.population()(IMAGES.long())
    population = tiny.population()
    population.weights.requires_grad_()
    zs.train(population, data, epochs=1, masks=torch.rand(population.weights.shape) < 0.5)


def test_statistics_of_copies_of_the_evaluated_images(data: zs.Dataset) -> None:
    population = tiny.population(tiny.batch_normed)
    for images in (data.test.images.clone(), data.test.images[5:]):
        split = zs.Split(images, data.test.labels[-len(images) :], data.test.mean, data.test.std)
        with pytest.raises(InputError, match="recalibrate: these are images that are evaluated"):
            zs.evaluate(population, data, recalibrate=split)
    with pytest.raises(InputError, match="recalibrate: got Dataset"):
        zs.evaluate(population, data, recalibrate=data)  # type: ignore[arg-type]
    one = tiny.population(flat_norm, input_shape=SHAPE)
    with pytest.raises(InputError, match="recalibrate: 1 images are too few"):
        zs.evaluate(one, data, recalibrate=data.train.head(1))
