"""Wrapped, pruned, parametrized and half-precision modules, and state dicts, become plain rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import zoosparse_ext as zs
from tests.population import tiny
from tests.population.own_scores import IMAGES, assert_equal, own_scores
from tests.population.tiny import CLASSES
from zoosparse_ext.errors import InputError


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
