"""Evaluation of populations: every number that of the modules, on any kind of network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import zoosparse_ext as zs
from tests.population import tiny
from zoosparse_ext.errors import InputError
from zoosparse_ext.population import evaluate as evaluation

BUILDS = {"chain": tiny.chain, "residual": tiny.Residual, "batch norm": tiny.batch_normed}


@pytest.mark.parametrize("sparse", ["auto", "dense", "sparse"])
@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
def test_equals_each_module(
    build: Callable[[], nn.Module], sparse: str, data: zs.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "_AT_ONCE", {"cpu": (2, 4)})
    population = zs.magnitude_prune(tiny.population(build), [0.0, 0.9])
    result = zs.evaluate(population, data, sparse=sparse)
    labels = data.test.labels
    assert result.labels is labels and result.predictions.dtype == torch.uint8
    for row, module in enumerate(population.to_modules()):
        scores = module(data.test.normalized()).detach()
        assert result.loss[row].item() == pytest.approx(F.cross_entropy(scores, labels).item(), rel=1e-5)
        assert torch.equal(result.predictions[row].long(), scores.argmax(1))
        assert result.accuracy[row].item() == pytest.approx(
            (scores.argmax(1) == labels).double().mean().item()
        )
    assert torch.equal(zs.evaluate(population, data.test).predictions, result.predictions)


def test_many_classes() -> None:
    torch.manual_seed(0)
    images = torch.rand(30, 1, 2, 2)
    data = zs.Dataset.from_tensors(images, torch.arange(30) * 30, test=(images, torch.arange(30) * 30))
    population = zs.Population.from_modules(
        [nn.Sequential(nn.Flatten(), nn.Linear(4, 1000)) for _ in range(2)]
    )
    result = zs.evaluate(population, data)
    assert result.predictions.dtype == torch.uint16
    scores = population(data.test.normalized())
    assert torch.equal(result.predictions.long(), scores.argmax(2)) and result.predictions.long().max() > 256


def test_nan_and_infinite_scores(data: zs.Dataset) -> None:
    population = tiny.population()
    columns = {segment.name: segment.slice for segment in population.layers()}
    population.weights[0, columns["8.bias"]] = torch.nan
    population.weights[1, columns["8.bias"].start + 2] = torch.inf
    result = zs.evaluate(population, data)
    assert result.predictions[0].unique().tolist() == [0] and result.loss[0].isnan()
    assert result.predictions[1].unique().tolist() == [2]
    assert result.accuracy.isfinite().all() and result.loss[2].isfinite()


def test_a_single_image(data: zs.Dataset) -> None:
    result = zs.evaluate(tiny.population(), data.test.head(1))
    assert result.predictions.shape == (3, 1) and set(result.accuracy.tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("data", [None, "digits", (torch.rand(2, 1, 8, 8), torch.tensor([0, 1]))])
def test_what_is_no_data(data: Any) -> None:
    with pytest.raises(InputError, match=r"data: got .*, expected a zs.Dataset or one of its splits"):
        zs.evaluate(tiny.population(), data)


def test_a_chain_that_ends_in_maps(data: zs.Dataset) -> None:
    maps = tiny.population(lambda: nn.Sequential(nn.Conv2d(1, tiny.CLASSES, 3)))
    with pytest.raises(InputError, match="'Sequential' ends in maps 4×6×6, not in one score per class"):
        zs.evaluate(maps, data)


def test_an_unknown_way(data: zs.Dataset) -> None:
    with pytest.raises(InputError, match="sparse must be 'auto', 'dense' or 'sparse', got 'csr'"):
        zs.evaluate(tiny.population(), data, sparse="csr")
