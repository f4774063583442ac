"""Networks with batch norm: statistics measured anew after pruning."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import zoosparse_ext as zs
from tests.population import tiny
from zoosparse_ext.errors import InputError
from zoosparse_ext.population.batch_norm import recalibrate
from zoosparse_ext.study.work import Dropping, Pruning


def by_hand(module: nn.Module, images: Tensor) -> nn.Module:
    """The module with the statistics of these images, as `torch.optim.swa_utils.update_bn` measures them."""
    module = copy.deepcopy(module)
    torch.optim.swa_utils.update_bn([images], module)
    return module.eval()


def with_dropout() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.0),
        nn.Linear(108, tiny.CLASSES),
    )


@pytest.mark.parametrize("build", [tiny.batch_normed, with_dropout])
def test_statistics_are_those_of_the_images(build: type, data: zs.Dataset) -> None:
    population = tiny.population(build, input_shape=tiny.SHAPE)
    before = population.weights.clone()
    measured = recalibrate(population, data.train)
    assert torch.equal(population.weights, before)
    images = data.train.normalized()
    for row, module in zip(measured.weights, population.to_modules(), strict=True):
        expected = population.architecture.flatten(by_hand(module, images).state_dict())
        torch.testing.assert_close(row, expected, rtol=1e-4, atol=1e-5)
    assert (
        recalibrate(tiny.population(), data.train) is not None
    )  # without batch norm there is nothing to measure


def test_a_part_of_the_images_is_spread_over_all() -> None:
    images = torch.arange(100.0).view(100, 1, 1, 1).expand(-1, 1, 8, 8).contiguous()
    split = zs.Split(images, torch.arange(100) % 4, torch.zeros(1), torch.ones(1))
    norm = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(64, 4))
    population = zs.Population.from_modules([norm], input_shape=tiny.SHAPE)
    measured = recalibrate(population, split, images=10)
    mean = measured.architecture.unflatten(measured.weights)["0.running_mean"]
    assert float(mean) == pytest.approx(45.0)  # of 0, 10, …, 90


def test_pruning_measures_them_anew(data: zs.Dataset) -> None:
    population = tiny.population(tiny.batch_normed)
    stale = zs.magnitude_prune(population, [0.5, 0.9], data=data)
    fresh = zs.magnitude_prune(population, [0.5, 0.9], data=data, recalibrate=data.train)
    assert torch.equal(stale.masks, fresh.masks)
    expected = recalibrate(stale, data.train)
    assert torch.equal(fresh.weights, expected.weights)
    evaluated = zs.evaluate(stale, data, recalibrate=data.train)
    assert torch.equal(evaluated.predictions, zs.evaluate(fresh, data).predictions)
    assert fresh.history.accuracy.tolist() == evaluated.accuracy.tolist()
    assert torch.equal(fresh.counts, stale.counts) and fresh.counts.shape == (6, 1)


def test_variational_dropout_measures_the_sparse_networks(data: zs.Dataset) -> None:
    population = tiny.population(tiny.batch_normed)
    options = {"epochs": 1, "threshold": -4.0}
    stale = zs.variational_dropout(population, data, **options)
    fresh = zs.variational_dropout(population, data, recalibrate=data.train, **options)
    assert torch.equal(stale.masks, fresh.masks) and not torch.equal(stale.weights, fresh.weights)
    assert torch.equal(fresh.weights, recalibrate(stale, data.train).weights)


def test_a_study_measures_them_anew(data: zs.Dataset) -> None:
    population = tiny.population(tiny.batch_normed)
    pruned = Pruning({}, population, [0.9], "global").run(data, None, None)
    expected = zs.magnitude_prune(population, [0.9], data=data, recalibrate=data.train)
    assert torch.equal(pruned.weights, expected.weights)
    dropped = Dropping({"epochs": 1}, population).run(data, None, None)
    expected = zs.variational_dropout(population, data, epochs=1, recalibrate=data.train)
    assert torch.equal(dropped.weights, expected.weights)


def test_never_on_the_images_that_are_evaluated(data: zs.Dataset) -> None:
    population = tiny.population(tiny.batch_normed)
    for work in (
        lambda: zs.evaluate(population, data, recalibrate=data.test),
        lambda: zs.magnitude_prune(population, 0.5, data=data, recalibrate=data.test),
        lambda: zs.variational_dropout(population, data, epochs=0, recalibrate=data.test),
    ):
        with pytest.raises(InputError, match=r"recalibrate: these are images that are evaluated \(test\)"):
            work()
    with pytest.raises(InputError, match="recalibrate: got bool True, expected a split of training images"):
        zs.magnitude_prune(population, 0.5, recalibrate=True)  # type: ignore[arg-type]


def test_a_checkpoint_is_of_one_way_to_measure(data: zs.Dataset, tmp_path: object) -> None:
    population, file = tiny.population(tiny.batch_normed), tmp_path / "run"  # type: ignore[operator]
    zs.variational_dropout(population, data, epochs=1, checkpoint=file, recalibrate=data.train)
    with pytest.raises(InputError, match="unfinished run with other settings"):
        zs.variational_dropout(population, data, epochs=1, checkpoint=file)
