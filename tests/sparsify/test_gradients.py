"""Gradients of whole populations against plain modules, one model at a time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

import zoosparse_ext as zs
from tests.population import tiny
from zoosparse_ext.errors import InputError
from zoosparse_ext.population import native
from zoosparse_ext.sparsify.gradients import loss_gradients, model_gradients, require_finite, thawed


@pytest.fixture(params=["any engine", "reference"], autouse=True)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "reference":
        monkeypatch.setattr(native, "why_not", lambda *_: "not asked for")


def frozen_stem() -> nn.Module:
    module = tiny.Residual()
    module.stem.requires_grad_(False)
    return module


def frozen_chain() -> nn.Module:
    module = tiny.chain()
    next(module.parameters()).requires_grad_(False)
    return module


def own_images(population: zs.Population, data: zs.Dataset, count: int = 9) -> Tensor:
    draws = torch.Generator().manual_seed(0)
    return torch.stack([torch.randperm(len(data.train), generator=draws)[:count] for _ in population.ids])


@pytest.mark.parametrize(
    "build",
    [
        tiny.chain,
        lambda: tiny.chain(dropout=0.5),
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, tiny.CLASSES)),
        tiny.Residual,
        lambda: tiny.Residual(dropout=0.5),
        tiny.batch_normed,
        frozen_chain,
        frozen_stem,
    ],
    ids=["chain", "dropout", "one layer", "residual", "residual, dropout", "batch norm", "frozen", "frozen residual"],
)  # fmt: skip
def test_gradients_are_those_of_the_modules(build: Callable[[], nn.Module], data: zs.Dataset) -> None:
    population = tiny.population(build, n=3, prunable="*weight")
    order = own_images(population, data)
    result = loss_gradients(population, data.train, order)
    for row, module in enumerate(population.to_modules()):
        module.requires_grad_(True).eval()
        chosen = data.train.normalized(order[row]), data.train.labels[order[row]]
        F.cross_entropy(module(chosen[0]), chosen[1]).backward()
        expected = parameters_to_vector([p.grad for p in module.parameters()])
        torch.testing.assert_close(result[row, : len(expected)], expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("build", [tiny.chain, tiny.Residual, tiny.batch_normed])
def test_a_row_depends_on_its_model_alone(build: Callable[[], nn.Module], data: zs.Dataset) -> None:
    population = tiny.population(build, n=7)
    order = own_images(population, data)
    together = loss_gradients(population, data.train, order)
    before = population.weights.clone()
    for rows in ([3], [6, 0], [1, 2, 5]):
        assert torch.equal(loss_gradients(population[rows], data.train, order[rows]), together[rows])
    assert torch.equal(population.weights, before)


@pytest.mark.parametrize("together", [1, 4])
@pytest.mark.parametrize("build", [tiny.chain, tiny.Residual])
def test_groups_of_one_size(build: Callable[[], nn.Module], together: int) -> None:
    population = tiny.population(build, n=7)
    architecture = thawed(population.architecture, torch.float64)
    ones = torch.ones(2, *tiny.SHAPE, dtype=torch.float64)

    def slopes(rows: list[int]) -> Tensor:
        weights = population.weights[rows].double()
        return model_gradients(
            architecture, weights, lambda _: ones, lambda scores, _: scores.sum(), together
        )

    whole = slopes(list(range(7)))
    for rows in ([3], [2, 0, 1], [6, 5, 4, 3, 2, 1, 0]):
        assert torch.equal(slopes(rows), whole[rows])
    for row, module in enumerate(population.to_modules()):
        module.double()(ones).sum().backward()
        expected = parameters_to_vector([p.grad for p in module.parameters()])
        torch.testing.assert_close(whole[row], expected, rtol=1e-9, atol=1e-12)


def test_gradients_where_none_are_recorded(data: zs.Dataset) -> None:
    population = tiny.population()
    order = own_images(population, data)
    expected = loss_gradients(population, data.train, order)
    with torch.no_grad():
        assert torch.equal(loss_gradients(population, data.train, order), expected)
    with torch.inference_mode():
        assert torch.equal(loss_gradients(population, data.train, order), expected)


class Detached(tiny.Residual):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).detach()


def test_scores_without_a_gradient_are_refused(data: zs.Dataset) -> None:
    population = tiny.population(Detached)
    with pytest.raises(InputError, match="'Detached'"):
        loss_gradients(population, data.train, own_images(population, data))


def test_labels_outside_of_the_classes_are_refused(data: zs.Dataset) -> None:
    population = tiny.population(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, tiny.CLASSES - 1)))
    with pytest.raises(InputError, match="label 3"):
        loss_gradients(population, data.train, own_images(population, data))


def test_what_is_not_finite_is_refused() -> None:
    population = tiny.population(n=2)
    scores = population.weights.abs()
    scores[1, 0] = torch.inf
    with pytest.raises(InputError) as raised:
        require_finite("snip", population, scores)
    assert population.ids[1] in str(raised.value) and "layer '0'" in str(raised.value)
    population.weights[1, 0] = torch.nan
    assert require_finite("snip", population, scores).isnan().sum() == 1
