"""Same seed, same bits: twice, in any chunk, at any place, and when a training is taken up again."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import zoosparse_ext as zs
from tests.population import tiny
from zoosparse_ext.errors import InputError, StoreError
from zoosparse_ext.ops import train as native_engine
from zoosparse_ext.population import engines

ENGINES = ["reference", "native"] if native_engine.available() else ["reference"]
SETTINGS: dict[str, Any] = {"epochs": 4, "batch_size": 5, "seed": 2**32 + 1, "optimizer": zs.Adam(lr=3e-3)}

every_engine = pytest.mark.parametrize("engine", ENGINES)


def fresh(n: int = 9) -> zs.Population:
    population = tiny.population(lambda: tiny.chain(dropout=0.4), n)
    population.models["seed"] = [3 + 2**31 * row for row in range(n)]
    return zs.magnitude_prune(population, 0.4)


def trained(population: zs.Population, data: zs.Dataset, **options: Any) -> zs.Population:
    population.history = zs.train(population, data, **(SETTINGS | options))
    return population


@pytest.fixture(scope="module", params=ENGINES)
def whole(request: pytest.FixtureRequest, data: zs.Dataset) -> tuple[str, zs.Population]:
    return request.param, trained(fresh(), data, engine=request.param)


def assert_same(got: zs.Population, expected: zs.Population) -> None:
    assert torch.equal(got.weights, expected.weights)
    assert torch.equal(got.predictions, expected.predictions)
    if got.history is not None and expected.history is not None:
        pd.testing.assert_frame_equal(got.history, expected.history, check_exact=True)


def test_twice(whole: tuple[str, zs.Population], data: zs.Dataset) -> None:
    engine, expected = whole
    assert_same(trained(fresh(), data, engine=engine), expected)


def test_another_seed_is_another_training(whole: tuple[str, zs.Population], data: zs.Dataset) -> None:
    engine, expected = whole
    assert not torch.equal(trained(fresh(), data, engine=engine, seed=7).weights, expected.weights)


@pytest.mark.parametrize("rows", [slice(0, 2), slice(5, 9), [8, 0, 3]], ids=str)
def test_at_another_place(rows: Any, whole: tuple[str, zs.Population], data: zs.Dataset) -> None:
    engine, expected = whole
    assert_same(trained(fresh()[rows].clone(), data, engine=engine), expected[rows])


@pytest.mark.parametrize("size", [2, 3, 5])
def test_in_other_chunks(
    size: int, whole: tuple[str, zs.Population], data: zs.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, expected = whole
    choose = engines.choose_engine

    def in_chunks(*arguments: Any) -> engines.ChosenEngine:
        return engines.ChosenEngine(choose(*arguments).run, size)

    monkeypatch.setattr("zoosparse_ext.population.training_run.choose_engine", in_chunks)
    assert_same(trained(fresh()[:8].clone(), data, engine=engine), expected[:8])


@pytest.mark.parametrize("order", ["per-model", "shared"])
def test_one_model_alone(order: str, data: zs.Dataset) -> None:
    """To the bit in the native engine; to a rounding in the reference, whose matrix products then are others."""
    for engine in ENGINES:
        expected = trained(fresh(), data, engine=engine, order=order)
        alone = trained(fresh()[4:5].clone(), data, engine=engine, order=order)
        if engine == "native":
            assert torch.equal(alone.weights, expected.weights[4:5])
        torch.testing.assert_close(alone.weights, expected.weights[4:5], rtol=1e-4, atol=1e-5)


class Interrupted(Exception):
    """Stands for Ctrl-C."""


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_training_taken_up_again(
    after: int, whole: tuple[str, zs.Population], data: zs.Dataset, tmp_path: Path
) -> None:
    engine, expected = whole
    file = tmp_path / "deep" / "run.safetensors"

    def interrupt(progress: zs.Progress) -> None:
        if progress.epoch > after:
            raise Interrupted

    with pytest.raises(Interrupted):
        trained(fresh(), data, engine=engine, checkpoint=file, progress=interrupt)
    epochs: list[int] = []
    again = trained(fresh(), data, engine=engine, checkpoint=file, progress=lambda p: epochs.append(p.epoch))
    assert min(epochs) == after + 1
    assert_same(again, expected)
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    finished = trained(fresh(), data, engine=engine, checkpoint=file, progress=interrupt)
    assert_same(finished, expected)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 0},
        {"optimizer": zs.Adam(lr=1e-3)},
        {"batch_size": 4},
        {"lr_schedule": "cosine"},
        {"epochs": 5},
    ],
    ids=str,
)
def test_a_checkpoint_of_another_training_is_refused(
    change: dict[str, Any], data: zs.Dataset, tmp_path: Path
) -> None:
    options = {"epochs": 1, "checkpoint": tmp_path / "run"}
    trained(fresh(2), data, **options)
    with pytest.raises(InputError, match="other settings or data"):
        trained(fresh(2), data, **(options | change))


def test_a_checkpoint_knows_models_data_and_dropout(data: zs.Dataset, tmp_path: Path) -> None:
    options = {"epochs": 1, "checkpoint": tmp_path / "run"}
    trained(fresh(2), data, **options)
    others = fresh(2), fresh(2), fresh(2)
    others[0].weights[0, 0] += 1.0
    others[1].models["seed"] += 1
    others[2].models["dropout"] = 0.1
    for other, images in [*((other, data) for other in others), (fresh(2), data.limit(20))]:
        with pytest.raises(InputError, match="other settings or data"):
            trained(other, images, **options)


def test_a_damaged_checkpoint_is_named(data: zs.Dataset, tmp_path: Path) -> None:
    file = tmp_path / "run"
    file.write_bytes(b"nothing")
    with pytest.raises(
        StoreError, match=f"cannot read the unfinished run in {file}.*delete it to start anew"
    ):
        trained(fresh(2), data, checkpoint=file)


def test_a_checkpoint_that_does_not_fit_on_the_disk(data: zs.Dataset, tmp_path: Path) -> None:
    """The kernel's limit on the size of a file stands for the end of the disk."""
    file = tmp_path / "run"
    options: dict[str, Any] = {"epochs": 2, "checkpoint": file}
    trained(fresh(2), data, checkpoint=file, epochs=1)
    kept = file.read_bytes()
    (tmp_path / "other").touch()
    assert file.stat().st_mode == (tmp_path / "other").stat().st_mode, "read by whom the user lets read"
    for path in tmp_path.iterdir():
        path.unlink()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(kept) // 2, limits[1]))
    try:
        with pytest.raises(StoreError, match=f"cannot keep the unfinished run in {file}: .*File too large"):
            trained(fresh(2), data, **options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir()), "nothing half-written stays"
    assert_same(trained(fresh(2), data, **options), trained(fresh(2), data, epochs=2))
