"""Engines on other devices: the same rows, also where memory ends on the way."""

from __future__ import annotations

import logging

import pytest
import torch

import zoosparse_ext as zs
from tests.population import tiny
from zoosparse_ext.data import Split
from zoosparse_ext.errors import InputError
from zoosparse_ext.population import engines
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.engines import ChosenEngine, OnDevice
from zoosparse_ext.population.learning import Learner
from zoosparse_ext.population.steps import Steps, StepsResult, reference_steps

CPU = torch.device("cpu")


def trained(data: zs.Dataset, *, variational: bool = False) -> zs.Population:
    if variational:
        return zs.variational_dropout(tiny.population(n=5), data, epochs=2, batch_size=4)
    population = zs.magnitude_prune(tiny.population(n=5), 0.5)
    zs.train(population, data, epochs=2, batch_size=4)
    return population


@pytest.mark.parametrize("variational", [False, True])
def test_rows_that_travel_come_back_the_same(
    variational: bool, data: zs.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = trained(data, variational=variational)
    choose = engines.choose_engine
    sent: list[Split] = []

    def elsewhere(
        name: str, population: zs.Population, device: torch.device, learner: Learner | None
    ) -> ChosenEngine:
        chosen = choose(name, population, device, learner)

        def run(architecture: Architecture, split: Split, steps: Steps) -> StepsResult:
            sent.append(split)
            return chosen.run(architecture, split, steps)

        return ChosenEngine(OnDevice(run, device), 2)

    monkeypatch.setattr("zoosparse_ext.population.training_run.choose_engine", elsewhere)
    found = trained(data, variational=variational)
    assert torch.equal(found.weights, expected.weights)
    assert found.history.equals(expected.history)
    assert len(sent) == 6 and len(set(map(id, sent))) == 1  # images are sent once for all calls


def test_goes_on_with_fewer_models_where_memory_ends(
    data: zs.Dataset, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = trained(data)
    choose = engines.choose_engine

    def small(
        name: str, population: zs.Population, device: torch.device, learner: Learner | None
    ) -> ChosenEngine:
        chosen = choose(name, population, device, learner)

        def run(architecture: Architecture, split: Split, steps: Steps) -> StepsResult:
            result = chosen.run(architecture, split, steps)  # the copy is spoilt, the rows are not
            if len(steps.weights) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return result

        return ChosenEngine(OnDevice(run, device), 64)

    monkeypatch.setattr("zoosparse_ext.population.training_run.choose_engine", small)
    with caplog.at_level(logging.WARNING, logger="zoosparse_ext"):
        found = trained(data)
    assert "CUDA out of memory: going on with 2 models at a time" in caplog.text
    assert torch.equal(found.weights, expected.weights)


def test_devices_are_checked_before_anything_is_trained(data: zs.Dataset) -> None:
    population = tiny.population()
    before = population.weights.clone()
    for call in (
        lambda: zs.train(population, data, epochs=1, device="cuda:99"),
        lambda: zs.magnitude_prune(population, 0.5, data=data, epochs=1, device="cuda:99"),
        lambda: zs.variational_dropout(population, data, epochs=1, device="cuda:99"),
    ):
        with pytest.raises(InputError, match="device 'cuda:99'"):
            call()
    assert torch.equal(population.weights, before)


def test_which_engine() -> None:
    population = tiny.population()
    assert engines.choose_engine("reference", population, CPU).run is reference_steps
    elsewhere = engines.choose_engine("reference", population, torch.device("meta"))
    assert isinstance(elsewhere.run, OnDevice) and elsewhere.run.run is reference_steps
    with pytest.raises(InputError, match="engine must be 'auto', 'native' or 'reference', got 'gpu'"):
        engines.choose_engine("gpu", population, CPU)
    with pytest.raises(InputError, match=r"the native training engine cannot run .* on meta"):
        engines.choose_engine("native", population, torch.device("meta"))
