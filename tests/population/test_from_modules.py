"""A population computes what its modules compute, or is refused."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from unittest import mock

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import zoosparse_ext as zs
from tests.population import tiny
from tests.population.tiny import CLASSES, SHAPE
from zoosparse_ext.errors import InputError
from zoosparse_ext.population import proof

IMAGES = torch.randn(6, *SHAPE, generator=torch.Generator().manual_seed(2))


def own_scores(models: list[nn.Module]) -> Tensor:
    with torch.no_grad():
        return torch.stack([model.eval()(IMAGES) for model in models])


def assert_equal(population: zs.Population, models: list[nn.Module]) -> None:
    expected = own_scores(models)
    torch.testing.assert_close(population(IMAGES), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(own_scores(population.to_modules()), expected, rtol=1e-4, atol=1e-5)


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
    with pytest.raises(InputError, match=r"model 2 differs from model 0: it is no chain .*hook"):
        zs.Population.from_modules(models)
    models = tiny.make(tiny.Residual, n=4)
    models[2].conv.register_forward_hook(double)
    with pytest.raises(InputError, match="model 2 differs from model 0: conv is a forward hook where"):
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
    with pytest.raises(InputError, match="model 1 of 'Masked' gives other scores"):
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


def test_frozen_flags_must_be_those_of_all_models() -> None:
    models = tiny.make(tiny.chain, n=3)
    models[1][0].weight.requires_grad_(False)
    with pytest.raises(
        InputError, match=r"model 1 differs from model 0: '0.weight' is frozen \(requires_grad\)"
    ):
        zs.Population.from_modules(models)


def frozen(build: Callable[[], nn.Module], *names: str) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        module = build()
        for name in names:
            module.get_parameter(name).requires_grad_(False)
        return module

    return make


@pytest.mark.parametrize("optimizer", [zs.Adam(weight_decay=0.1), zs.AdamW(), zs.SGD(momentum=0.9)])
@pytest.mark.parametrize(
    ("build", "names"),
    [(tiny.chain, ("0.weight", "6.bias")), (tiny.batch_normed, ("stem.weight", "norm.bias"))],
)
def test_frozen_parameters_keep_their_bits(
    build: Callable[[], nn.Module], names: tuple[str, ...], optimizer: zs.Adam, data: zs.Dataset
) -> None:
    population = tiny.population(frozen(build, *names))
    before = population.architecture.unflatten(population.weights.clone())
    assert {s.name for s in population.layers() if not s.trainable} >= set(names)
    zs.train(population, data, epochs=2, optimizer=optimizer, batch_size=7)
    after = population.architecture.unflatten(population.weights)
    twins = zs.magnitude_prune(population, 0.5, data=data, epochs=1, batch_size=7, optimizer=optimizer)
    dropped = zs.variational_dropout(population, data, epochs=2, batch_size=7, threshold=-3.0)
    assert float(dropped.sparsity().min()) > 0
    for name in names:
        assert torch.equal(after[name], before[name])
        for twin in (twins, dropped):
            assert torch.equal(twin.architecture.unflatten(twin.weights)[name], before[name])
    assert not any(torch.equal(after[s.name], before[s.name]) for s in population.layers() if s.trainable)
    assert all(
        module.get_parameter(name).requires_grad == (name not in names)
        for module in population.to_modules()
        for name, _ in module.named_parameters()
    )


def test_frozen_parameters_train_like_a_frozen_module(data: zs.Dataset) -> None:
    from tests.population.test_train import assert_equal_to_alone

    def trained(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.Adam([p for p in parameters if p.requires_grad], lr=1e-3, weight_decay=0.1)

    for build in (tiny.chain, tiny.Residual):
        first = next(iter(dict(build().named_parameters())))
        population = tiny.population(frozen(build, first))
        adam = zs.Adam(lr=1e-3, weight_decay=0.1)
        assert_equal_to_alone(population, data, adam, lambda _: trained)


def test_pruned_modules_bring_their_masks() -> None:
    models = tiny.make(tiny.chain, n=4)
    for number, model in enumerate(models):
        prune.l1_unstructured(model[0], "weight", amount=5 + number)
        prune.random_structured(model[6], "weight", amount=2, dim=0)
        prune.l1_unstructured(model[6], "bias", amount=1)
    expected = own_scores(models)
    for given in (models, [model.state_dict() for model in models]):
        module = None if given is models else tiny.chain()
        population = zs.Population.from_modules(given, module)
        torch.testing.assert_close(population(IMAGES), expected, rtol=1e-4, atol=1e-5)
        masks = population.architecture.unflatten(population.masks)
        for number, model in enumerate(models):
            assert torch.equal(masks["0.weight"][number], model[0].weight_mask.bool())
            assert torch.equal(masks["6.weight"][number], model[6].weight_mask.bool())
            assert torch.equal(masks["6.bias"][number], model[6].bias_mask.bool())
        removed = [27 - int(model[0].weight_mask.sum()) + 2 * 8 for model in models]
        assert (population.sparsity() * population.architecture.n_prunable).round().tolist() == removed
    assert (
        isinstance(models[0][0]._forward_pre_hooks, dict) and models[0][0]._forward_pre_hooks
    )  # as they were


def test_masks_of_torch_ao_pruning() -> None:
    from torch.ao.pruning import WeightNormSparsifier

    models = tiny.make(tiny.chain, n=2)
    for model in models:
        sparsifier = WeightNormSparsifier(sparsity_level=0.5, sparse_block_shape=(1, 1), zeros_per_block=1)
        sparsifier.prepare(model, [{"tensor_fqn": "6.weight"}])
        sparsifier.step()
    population = zs.Population.from_modules(models)
    assert_equal(population, models)
    assert population.sparsity(by_layer=True)[:, 2].tolist() == pytest.approx([0.5, 0.5], abs=0.01)
    assert torch.equal(population.masks, population.weights != 0)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (lambda m: nn.utils.weight_norm(m), "weight norm of '6.weight' was folded"),
        (lambda m: nn.utils.spectral_norm(m), "spectral norm of '6.weight' was folded"),
        (lambda m: parametrizations.weight_norm(m), "parametrization _WeightNorm of '6.weight' was folded"),
        (lambda m: parametrizations.orthogonal(m), "parametrization _Orthogonal of '6.weight' was folded"),
    ],
)
def test_parametrizations_are_folded(wrap: Callable[[nn.Module], nn.Module], message: str) -> None:
    models = tiny.make(tiny.chain, n=3)
    for model in models:
        model[6] = wrap(model[6])
        model.eval()
    with pytest.warns(UserWarning, match=message):
        population = zs.Population.from_modules(models)
    assert_equal(population, models)
    twins = zs.magnitude_prune(population, 0.5)
    assert twins.sparsity().tolist() == pytest.approx([0.5] * 3, abs=0.01)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_converted_and_told(dtype: torch.dtype) -> None:
    models = [model.to(dtype) for model in tiny.make(tiny.chain, n=3)]
    with pytest.warns(UserWarning, match=f"weights in {str(dtype)[6:]} were converted to float32"):
        population = zs.Population.from_modules(models)
    assert population.weights.dtype == torch.float32
    assert torch.equal(population.weights[1, :27], models[1][0].weight.flatten().float())
    assert models[0][0].weight.dtype == dtype


def test_wrappers_are_taken_off() -> None:
    models = tiny.make(tiny.chain, n=2)
    for wrap in (nn.DataParallel, torch.compile):
        population = zs.Population.from_modules([wrap(model) for model in models])
        assert type(population.to_modules()[0]) is nn.Sequential
        assert_equal(population, models)
    states = [nn.DataParallel(model).state_dict() for model in models]
    assert_equal(zs.Population.from_modules(states, tiny.chain()), models)


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


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "scripted": (lambda: torch.jit.script(nn.Linear(64, CLASSES)), "is scripted"),
    "lazy": (lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), "'1.weight' .* is not initialized yet"),
    "complex": (lambda: nn.Linear(3, 2, dtype=torch.complex64), "'weight' .* is torch.complex64"),
    "meta": (lambda: nn.Linear(3, 2, device="meta"), "'weight' .* is on the meta device"),
    "gradient hook": (
        lambda: (m := tiny.chain(), m[0].weight.register_hook(lambda g: g * 0))[0],
        "'0.weight' .* has a gradient hook",
    ),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*is deprecated")
@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused(kind: str) -> None:
    build, message = REFUSED[kind]
    with pytest.raises(InputError, match=message):
        zs.Population.from_modules([build(), build()])


def test_stacked_module_state() -> None:
    models = tiny.make(tiny.batch_normed, n=3)
    parameters, buffers = torch.func.stack_module_state(models)
    for given in ((parameters, buffers), {**parameters, **buffers}):
        population = zs.Population.from_modules(given, models[0])
        assert torch.equal(population.weights, zs.Population.from_modules(models).weights)
        assert_equal(population, models)
    with pytest.raises(InputError, match="stacked tensors alone do not say"):
        zs.Population.from_modules(parameters)
    with pytest.raises(InputError, match="put state dicts of single models into a list"):
        zs.Population.from_modules(models[0].state_dict(), models[0])


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


STATES: dict[str, tuple[Callable[[dict[str, Tensor]], Any], str]] = {
    "complex": (lambda state: {n: t * (1 + 1j) for n, t in state.items()}, "complex64"),
    "integers": (lambda state: {n: t.to(torch.int8) for n, t in state.items()}, "is torch.int8"),
    "meta": (lambda state: {n: t.to("meta") for n, t in state.items()}, "without data"),
    "arrays": (lambda state: {n: t.numpy() for n, t in state.items()}, "is a ndarray, expected a tensor"),
    "a checkpoint": (lambda state: {"state_dict": state, "epoch": 3}, r"pass item\['state_dict'\]"),
}


@pytest.mark.parametrize("kind", STATES)
def test_state_dicts_that_are_none(kind: str) -> None:
    change, message = STATES[kind]
    with pytest.raises(InputError, match=message):
        zs.Population.from_modules([change(tiny.chain().state_dict())], tiny.chain())


def test_state_dicts_of_other_precisions_are_told() -> None:
    with pytest.warns(UserWarning, match="weights in float64 were converted"):
        zs.Population.from_modules([tiny.chain().double().state_dict()], tiny.chain())


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


def test_a_module_that_is_all_frozen_trains_nothing(data: zs.Dataset) -> None:
    population = tiny.population(frozen(tiny.Residual, *dict(tiny.Residual().named_parameters())))
    before = population.weights.clone()
    zs.train(population, data, epochs=1)
    assert torch.equal(population.weights, before)


def test_a_frozen_zoo_takes_a_fresh_module() -> None:
    source = tiny.population(frozen(tiny.batch_normed, "stem.weight"))
    population = zs.Population(source.weights, zs.Architecture.from_dict(source.architecture.to_dict()))
    population.with_module(tiny.batch_normed())
    assert not population.to_modules()[0].get_parameter("stem.weight").requires_grad
    assert {s.name for s in population.layers() if not s.trainable} >= {"stem.weight"}


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
