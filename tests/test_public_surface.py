"""The names that users, benchmarks and notebooks rely on, used the way the README uses them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import zoosparse_ext as zs
from zoosparse_ext import ops
from zoosparse_ext.version import package_version

N, IMAGES = 3, 24


@pytest.fixture(scope="module")
def data() -> zs.Dataset:
    return zs.load_dataset("digits").limit(IMAGES)


@pytest.fixture
def population() -> zs.Population:
    return zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(1, N + 1))


def test_operators_alone() -> None:
    weights = torch.randn(4, 30)
    threshold = ops.magnitude_threshold(weights, 12)
    mask = ops.magnitude_mask(weights, torch.tensor([3, 6, 9, 12]))
    pruned = ops.magnitude_prune_(weights.clone(), 12)
    packed = ops.pack_mask(mask)
    assert threshold.shape == (4,)
    assert (~mask).sum(1).tolist() == [3, 6, 9, 12]
    assert (~pruned).sum(1).tolist() == [12] * 4
    assert packed.shape == (4, 4) and torch.equal(ops.unpack_mask(packed, 30), mask)
    assert torch.equal(ops.apply_mask_(weights.clone(), packed), ops.apply_mask_(weights.clone(), mask))
    by_layer = ops.magnitude_mask(weights, torch.tensor([5, 2]), segments=[0, 20, 30])
    assert (~by_layer[:, :20]).sum(1).tolist() == [5] * 4 and (~by_layer[:, 20:]).sum(1).tolist() == [2] * 4


def test_modules_in_and_out() -> None:
    models = [nn.Sequential(nn.Flatten(), nn.Linear(9, 4)) for _ in range(N)]
    population = zs.Population.from_modules(models)
    images = torch.rand(5, 1, 3, 3)
    assert population.weights.dtype == torch.float32
    assert {"name", "slice", "shape", "prunable"} <= set(dir(population.layers()[0]))
    expected = torch.stack([model(images) for model in models]).detach()
    torch.testing.assert_close(population(images), expected)
    torch.testing.assert_close(torch.stack([m(images) for m in population.to_modules()]).detach(), expected)


def test_train_prune_vardrop_evaluate(population: zs.Population, data: zs.Dataset) -> None:
    history = zs.train(
        population,
        data,
        epochs=1,
        batch_size=8,
        optimizer=zs.Adam(lr=1e-3),
        masks=None,
        order="per-model",
        seed=0,
    )
    assert set(history.epoch) == {0, 1} and len(history) == 2 * N
    result = zs.evaluate(population, data.test, sparse="auto")
    assert result.accuracy.shape == result.loss.shape == (N,)
    assert result.predictions.shape == (N, len(data.test))
    twin = zs.magnitude_prune(population, sparsity=0.8, scope="global")
    assert twin.masks is not None and twin.masks.shape == population.weights.shape
    assert torch.all(twin.sparsity() == round(0.8 * 2416) / 2416)
    noisy = zs.variational_dropout(population, data, epochs=1)
    assert noisy.log_sigma2 is not None and noisy.history is not None
    assert set(noisy.history.epoch) == {0, 1}


def test_zoo_on_disk(tmp_path: Path, population: zs.Population) -> None:
    zoo = zs.Zoo({"original": [population]}, population.models)
    zoo.save(tmp_path / "zoo")
    again = zs.Zoo.open(tmp_path / "zoo")
    assert torch.equal(again.population("original").weights, population.weights)


def test_five_lines(tmp_path: Path, population: zs.Population, data: zs.Dataset) -> None:
    zs.train(population, data, epochs=1, batch_size=8)
    zoo = zs.Zoo.create(tmp_path / "zoo", population, data)
    zoo = zs.run_study({"magnitude": {"ratios": [0.5], "epochs": 1}, "variational": {"epochs": 1}}, zoo)
    found = zs.analyze(zoo)
    page = zs.write_report(zoo, tmp_path / "report")
    assert found.summary and found.answers and len(found.claims) and len(found.tables["performance"])
    assert found.summary[0].partition(":")[0] in page.read_text(encoding="utf-8")


def test_one_population_in_a_file_and_several_as_one(tmp_path: Path, population: zs.Population) -> None:
    path = zs.save_population(population, tmp_path / "population.safetensors")
    again = zs.open_population(path)
    again.models["model_id"] = [f"{id}-again" for id in again.ids]
    assert torch.equal(zs.concat([population, again]).weights, population.weights.repeat(2, 1))


def test_schedules_presets_hooks_and_methods(population: zs.Population, data: zs.Dataset) -> None:
    for schedule in (
        zs.Constant(),
        zs.Step(milestones=(0.5,)),
        zs.Cosine(final=0.1),
        zs.OneCycle(warmup=0.2),
    ):
        zs.train(population, data, epochs=1, batch_size=20, lr_schedule=schedule)
        assert population.trained_by is not None
        assert population.trained_by["lr_schedule"]["name"] == type(schedule).__name__
    for pruning in (zs.OneShot(), zs.Iterative(rounds=2), zs.Cubic(ramp=1.0)):
        twins = zs.magnitude_prune(population, 0.5, data=data, epochs=2, schedule=pruning)
        assert torch.all(twins.sparsity() == 0.5)
        assert zs.Pruning(schedule=pruning).phases(2)[-1].fraction == 1.0
    gentle = replace(zs.PRESETS["molchanov"], initial_log_sigma2=-12.0)
    assert isinstance(gentle, zs.Preset)
    assert zs.variational_dropout(population, data, epochs=1, preset=gentle).masks is not None
    seen: list[int] = []
    hooks = zs.Hooks(before_epoch=lambda epoch, population: seen.append(epoch))
    zs.train(population, data, epochs=2, batch_size=20, hooks=hooks)
    assert seen == [1, 2] and zs.EpochResult.rows is zs.Hooks().rows


def test_methods_are_listed_and_own_ones_registered(population: zs.Population) -> None:
    known = zs.methods()
    assert {"magnitude", "variational", "snip", "l0"} <= set(known) and list(known) == sorted(known)
    known.clear()
    assert zs.methods()
    assert all(issubclass(cls, zs.Ranking | zs.LearnedMethod) for cls in zs.methods().values())
    with pytest.raises(ValueError):

        @zs.register
        class Magnitude(zs.Ranking):
            name = "magnitude"


def test_every_public_name_is_there_and_says_what_it_is() -> None:
    assert len(set(zs.__all__)) == len(zs.__all__)
    for name in zs.__all__:
        thing = getattr(zs, name)
        assert name in ("__version__", "PRESETS") or (thing.__doc__ or "").strip(), name


def test_dataset_of_own_tensors() -> None:
    data = zs.Dataset.from_tensors(torch.rand(30, 1, 4, 4), torch.arange(30) % 3)
    assert len(data.train) + len(data.test) == 30 and data.val is None


def test_version() -> None:
    assert zs.__version__ == package_version() != ""
