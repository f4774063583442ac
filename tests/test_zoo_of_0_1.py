"""A zoo of version 0.1.0 (`tests/fixtures/zoo-0.1`) stays usable: opened, evaluated, pruned, resumed, exported."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import zoosparse_ext as zs
from tests.cli.command import succeed
from zoosparse_ext.zoo import Zoo

FOLDER = Path(__file__).parent / "fixtures" / "zoo-0.1"
POPULATIONS = ("original", "magnitude-global", "magnitude-layer", "variational", "magnitude-matched-global")
CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # instruction sets add up in different orders

_spec = importlib.util.spec_from_file_location("zoo_of_0_1", FOLDER / "make.py")
assert _spec is not None and _spec.loader is not None
made = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(made)


@pytest.fixture(scope="module")
def expected() -> Any:
    with np.load(FOLDER / "expected.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(FOLDER, tmp_path / "zoo-0.1"))


def data_of(name: str) -> zs.Dataset:
    """The data that a zoo was made with, normalized as its manifest says."""
    stored = Zoo.open(FOLDER / name).dataset
    assert stored is not None
    if name == "chain":
        data = zs.load_dataset(f"npz:{FOLDER / 'bytes.npz'}", mean=stored["mean"], std=stored["std"])
    else:
        with np.load(FOLDER / "floats.npz") as arrays:
            data = zs.Dataset.from_tensors(
                arrays["images"], arrays["labels"], mean=stored["mean"], std=stored["std"]
            )
    assert data.fingerprint == stored["fingerprint"]
    return data


def opened(name: str, population: str = "original") -> zs.Population:
    group = Zoo.open(FOLDER / name).population(population).clone()
    return group if name == "chain" else group.with_module(made.batch_norm())


def started(name: str) -> zs.Population:
    """The population before its training."""
    population = opened(name)
    with np.load(FOLDER / f"{name}-start.npz") as arrays:
        weights = torch.from_numpy(arrays["weights"])
    models = population.models[["model_id", "seed", "architecture"]]
    return zs.Population(weights, population.architecture, models)


@pytest.mark.parametrize("name", ["chain", "batch_norm"])
@pytest.mark.parametrize("population", POPULATIONS)
def test_it_evaluates_to_what_it_did(name: str, population: str, expected: Any) -> None:
    group, data = opened(name, population), data_of(name)
    assert torch.equal(group.predictions, expected[f"{name}/{population}/predictions"])
    result = zs.evaluate(group, data)
    assert torch.equal(result.predictions, group.predictions)
    scores = group(data.test.normalized())
    torch.testing.assert_close(scores, expected[f"{name}/{population}/scores"], **CLOSE)


@pytest.mark.parametrize("name", ["chain", "batch_norm"])
def test_names_and_columns_on_disk_are_the_same(name: str) -> None:
    zoo = Zoo.open(FOLDER / name)
    assert tuple(zoo.populations) == POPULATIONS
    assert list(zoo.twins.columns[:7]) == [
        *("twin_id", "source_id", "method", "scope", "target", "matched", "epoch")
    ]
    assert set(zoo.twins.twin_id) >= {
        *("0000/magnitude-global-0.5", "0001/magnitude-layer-0.5", "0002/variational"),
        "0000/magnitude-global-matched",
    }
    prunable = {s.name for s in zoo.population().layers() if s.prunable}
    assert prunable == ({"0.weight", "5.weight"})


@pytest.mark.parametrize("name", ["chain", "batch_norm"])
def test_it_can_be_pruned(name: str) -> None:
    twins = zs.magnitude_prune(opened(name), [0.25, 0.75], data=data_of(name), epochs=1)
    prunable = twins.architecture.n_prunable
    asked = torch.tensor([0.25] * 3 + [0.75] * 3, dtype=torch.float64)
    assert torch.equal(twins.sparsity(), (asked * prunable).round() / prunable)
    again = zs.variational_dropout(opened(name, "magnitude-layer"), data_of(name), epochs=1)
    assert bool((again.sparsity() >= opened(name, "magnitude-layer").sparsity()).all())


Work = Callable[..., Any]
WORK: dict[str, Work] = {  # as in make.py
    "train": lambda at, to, **o: zs.train(at, to, optimizer=made.ADAM, **made.TRAIN, **o),
    "prune": lambda at, to, **o: zs.magnitude_prune(
        at, [0.5, 0.9], data=to, epochs=3, batch_size=8, optimizer=zs.Adam(lr=1e-3), **o
    ),
    "cubic": lambda at, to, **o: zs.magnitude_prune(
        at, 0.9, "layer", data=to, epochs=3, schedule="cubic", batch_size=8, **o
    ),
    "vardrop": lambda at, to, **o: zs.variational_dropout(at, to, epochs=3, batch_size=8, **o),
}


@pytest.mark.parametrize("name", ["chain", "batch_norm"])
@pytest.mark.parametrize("kind", WORK)
def test_what_was_interrupted_goes_on(name: str, kind: str, folder: Path, expected: Any) -> None:
    population = started(name) if kind == "train" else opened(name)
    epochs = set()
    result = WORK[kind](
        population,
        data_of(name),
        checkpoint=folder / f"{name}-{kind}.checkpoint",
        progress=lambda progress: epochs.add(progress.epoch),
    )
    assert epochs == {2, 3}  # the first is in the checkpoint
    weights = population.weights if kind == "train" else result.weights
    torch.testing.assert_close(weights, expected[f"{name}-{kind}/weights"], **CLOSE)


@pytest.mark.parametrize("name", ["chain", "batch_norm"])
def test_the_kl_weights_of_what_was_interrupted_stay(
    name: str, folder: Path, expected: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """They were divided by 25, those of a run that begins now are divided by its epochs."""
    population, data = opened(name), data_of(name)
    checkpoint = folder / f"{name}-vardrop.checkpoint"
    with pytest.raises(zs.InputError, match="other settings"):
        WORK["vardrop"](population, data, checkpoint=checkpoint, kl_scale=2)
    with caplog.at_level("WARNING", "zoosparse_ext"):
        twins = WORK["vardrop"](population, data, checkpoint=checkpoint)
    assert "goes on with KL weights of version 0.1" in caplog.text
    torch.testing.assert_close(twins.weights, expected[f"{name}-vardrop/weights"], **CLOSE)
    fresh = WORK["vardrop"](population, data)
    assert fresh.ids == twins.ids and not torch.equal(fresh.log_sigma2, twins.log_sigma2)
    scaled = WORK["vardrop"](population, data, kl_scale=3 / 25)
    torch.testing.assert_close(scaled.log_sigma2, twins.log_sigma2, **CLOSE)


@pytest.mark.parametrize("kind", WORK)
def test_what_was_interrupted_keeps_the_epochs_to_come(kind: str, folder: Path) -> None:
    population = started("chain") if kind == "train" else opened("chain")
    checkpoint = folder / f"chain-{kind}.checkpoint"
    with pytest.raises(zs.InputError, match="epoch 1 cannot be kept any more"):
        WORK[kind](population.clone(), data_of("chain"), checkpoint=checkpoint, keep=(1,))
    result = WORK[kind](population, data_of("chain"), checkpoint=checkpoint, keep=(2,))
    assert list((population if kind == "train" else result).kept) == [2]
    assert opened("chain").optimizer_state is None


def test_an_interrupted_command_goes_on(folder: Path, expected: Any) -> None:
    data = f"npz:{folder / 'bytes.npz'}"
    assert list((folder / "chain.resume").rglob("*.safetensors"))
    words = ("--ratios", "0.4,0.6", "--scope", "output", "--epochs", 3, "--batch-size", 8, "--data", data)
    succeed("prune", folder / "chain", *words)
    assert not list((folder / "chain.resume").rglob("*.safetensors"))
    zoo = Zoo.open(folder / "chain")
    twins = zoo.population("magnitude-output")
    torch.testing.assert_close(twins.weights, expected["chain.resume/weights"], **CLOSE)
    assert tuple(zoo.populations) == (*POPULATIONS, "magnitude-output")


@pytest.mark.parametrize("name", ["chain", "batch_norm"])
def test_it_is_reported_and_exported(name: str, folder: Path) -> None:
    succeed("report", folder / name, "--out", folder / "report")
    assert (folder / "report" / "report.html").stat().st_size > 10_000
    succeed("export", folder / name, "--format", "safetensors", "--out", folder / "exported")
    succeed("import", folder / "exported", "--out", folder / "again")
    again, zoo = Zoo.open(folder / "again"), Zoo.open(folder / name)
    for population in POPULATIONS:
        came = again.population(population).weights.sort(dim=0).values
        assert torch.equal(came, zoo.population(population).weights.sort(dim=0).values), population


def test_a_zoo_saved_anew_opens_the_same(folder: Path) -> None:
    for name in ("chain", "batch_norm"):
        zoo = Zoo.open(folder / name)
        zoo.save(folder / f"{name}-again")
        again = Zoo.open(folder / f"{name}-again")
        for population in POPULATIONS:
            assert torch.equal(again.population(population).weights, zoo.population(population).weights)
            assert again.population(population).architecture == zoo.population(population).architecture
