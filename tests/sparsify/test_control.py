"""Controls: unpruned models trained on as twins are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import zoosparse_ext as zs
from tests.population import tiny
from zoosparse_ext.errors import InputError
from zoosparse_ext.ops import train as native_engine
from zoosparse_ext.sparsify.series import Series

ENGINES = ["reference", "native"] if native_engine.available() else ["reference"]
every_engine = pytest.mark.parametrize("engine", ENGINES)
TRAIN: dict[str, Any] = {"epochs": 3, "batch_size": 5, "seed": 4, "optimizer": zs.Adam(lr=[1e-2, 1e-3, 3e-3])}


@every_engine
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lr_schedule": "onecycle", "loss": "mse", "order": "shared", "drop_last": True},
        {"augment": zs.Augment(crop=1, flip=True), "optimizer": zs.SGD(lr=0.05, momentum=0.9)},
    ],
    ids=["plain", "options", "augmented"],
)
def test_equals_pruning_nothing(options: dict[str, Any], engine: str, data: zs.Dataset) -> None:
    how = {**TRAIN, **options, "engine": engine}
    population = tiny.population()
    before = population.weights.clone()
    control = zs.continue_training(population, data, **how)
    expected = zs.magnitude_prune(population, 0.0, data=data, **how)
    assert torch.equal(population.weights, before)
    assert torch.equal(control.weights, expected.weights) and not torch.equal(control.weights, before)
    assert torch.equal(control.packed_masks, expected.packed_masks) and bool(control.masks.all())
    assert torch.equal(control.predictions, expected.predictions)
    identity = ["twin_id", "method", "scope", "series"]
    assert control.history.drop(columns=identity).equals(expected.history.drop(columns=identity))


@pytest.mark.parametrize("recalibrate", [False, True], ids=["kept", "measured anew"])
def test_batch_norm(recalibrate: bool, data: zs.Dataset) -> None:
    population = tiny.population(tiny.batch_normed)
    how = {**TRAIN, "recalibrate": data.train if recalibrate else None}
    control = zs.continue_training(population, data, **how)
    expected = zs.magnitude_prune(population, 0.0, data=data, **how)
    assert torch.equal(control.weights, expected.weights)
    assert torch.equal(control.counts, expected.counts)


def test_the_table(data: zs.Dataset) -> None:
    population = tiny.population()
    control = zs.continue_training(population, data, **TRAIN)
    assert control.ids == [f"{source}/control" for source in population.ids]
    history = control.history
    assert history is not None and history.epoch.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert set(history.method) == set(history.series) == {"control"} and set(history.target) == {0.0}
    assert history[["scope", "matched"]].isna().all(axis=None) and set(history.sparsity) == {0.0}
    assert history.source_id.tolist()[:3] == population.ids and set(history.agreement[:3]) == {1.0}
    result = zs.evaluate(control, data)
    assert history[history.epoch == 3].accuracy.tolist() == result.accuracy.tolist()
    named = zs.continue_training(population, data, epochs=0, series="control-lr_0.003")
    assert named.ids[0] == f"{population.ids[0]}/control-lr_0.003"
    assert named.models["series"].tolist() == ["control-lr_0.003"] * 3
    assert Series.parse("control-lr_0.003").label == "control, lr 0.003"


@every_engine
def test_what_is_pruned_stays_pruned(engine: str, data: zs.Dataset) -> None:
    """Also where models are pruned to different sparsities, which pruning to one sparsity would refuse."""
    pruned = zs.magnitude_prune(tiny.population(), torch.tensor([0.2, 0.5, 0.8]))
    control = zs.continue_training(pruned, data, engine=engine, **TRAIN)
    assert torch.equal(control.masks, pruned.masks) and torch.equal(control.sparsity(), pruned.sparsity())
    assert bool((control.weights[~pruned.masks] == 0).all())
    assert control.models["source_id"].tolist() == pruned.ids and set(control.models.target) == {0.0}


def test_an_interrupted_run_goes_on_to_the_same_bits(data: zs.Dataset, tmp_path: Path) -> None:
    def interrupt(progress: zs.Progress) -> None:
        if progress.epoch == 2:
            raise KeyboardInterrupt

    file = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        zs.continue_training(tiny.population(), data, checkpoint=file, progress=interrupt, **TRAIN)
    again = zs.continue_training(tiny.population(), data, checkpoint=file, **TRAIN)
    expected = zs.continue_training(tiny.population(), data, **TRAIN)
    assert torch.equal(again.weights, expected.weights) and again.history.equals(expected.history)
    with pytest.raises(InputError, match="other settings"):
        zs.magnitude_prune(tiny.population(), 0.0, data=data, checkpoint=file, **TRAIN)


def test_errors(data: zs.Dataset) -> None:
    population = tiny.population()
    with pytest.raises(InputError, match="the population has no models"):
        zs.continue_training(population[:0], data, epochs=1)
    with pytest.raises(InputError, match="epochs must be 0 or more, got -1"):
        zs.continue_training(population, data, epochs=-1)
    with pytest.raises(InputError, match="series must be a Series or its key"):
        zs.continue_training(population, data, epochs=1, series=" ")
    with pytest.raises(InputError, match="evaluated"):
        bn = tiny.population(tiny.batch_normed)
        zs.continue_training(bn, data, epochs=1, recalibrate=data.test)
    nothing = tiny.population(prunable=())
    with pytest.raises(InputError, match="nothing that is prunable"):
        zs.continue_training(nothing, data, epochs=1)
    for work in (zs.continue_training, zs.variational_dropout):
        with pytest.raises(InputError, match=r"optimizer: got str 'adam', expected zs\.Adam"):
            work(population, data, epochs=1, optimizer="adam")
    with pytest.raises(InputError, match=r"optimizer: got str 'adam', expected zs\.Adam"):
        zs.magnitude_prune(population, 0.5, data=data, epochs=1, optimizer="adam")
    population.weights[1, 3] = torch.nan
    with pytest.raises(InputError, match=r"row 1 \(model '0001'\)"):
        zs.continue_training(population, data, epochs=1)
    assert len(zs.continue_training(population, data, epochs=1, allow_nan=True)) == 3
