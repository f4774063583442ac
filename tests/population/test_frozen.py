"""Frozen parameters keep their bits, on both engines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import zoosparse_ext as zs
from tests.population import tiny
from zoosparse_ext.errors import InputError


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
