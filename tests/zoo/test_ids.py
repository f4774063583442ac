"""Two networks of one id are neither saved, nor exported, nor imported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import zoosparse_ext as zs
from tests.cli.command import listing
from tests.population import tiny
from tests.population.conftest import data
from zoosparse_ext.errors import StoreError
from zoosparse_ext.zoo import Zoo
from zoosparse_ext.zoo.formats.exporting import EXPORTERS

__all__ = ["data"]


def zoo_of(originals: list[zs.Population], **twins: list[zs.Population]) -> Zoo:
    """A zoo of populations as they are, with all their rows in the tables."""
    rows = [group.history for groups in twins.values() for group in groups if group.history is not None]
    return Zoo(
        {"original": originals, **twins},
        pd.concat([group.models for group in originals], ignore_index=True).drop_duplicates("model_id"),
        twins=pd.concat(rows, ignore_index=True) if rows else None,
    )


def refused(zoo: Zoo, folder: Path, message: str) -> None:
    """What was there is unchanged."""
    before = listing(folder)
    with pytest.raises(StoreError, match=message):
        zoo.save(folder, overwrite=True)
    assert listing(folder) == before


def test_twins_of_two_calls_that_are_called_the_same(tmp_path: Path, data: zs.Dataset) -> None:
    population = tiny.population()
    short, long = (zs.magnitude_prune(population, [0.5, 0.8], data=data, epochs=epochs) for epochs in (0, 1))
    message = r"twin '0000/magnitude-global-0.5' stands in two populations, 'short' and 'long'; .*series="
    refused(zoo_of([population], short=[short], long=[long]), tmp_path, message)
    named = zs.magnitude_prune(population, [0.5, 0.8], data=data, epochs=1, series="magnitude-global-1_epoch")
    zoo_of([population], short=[short], long=[named]).save(tmp_path / "zoo")
    assert Zoo.open(tmp_path / "zoo").twins.series.nunique() == 2


def test_a_model_twice(tmp_path: Path) -> None:
    first, second = tiny.population(), tiny.population(tiny.batch_normed, n=2)
    refused(
        zoo_of([first, second]),
        tmp_path,
        "'original' holds two networks called '0000' .2 ids stand there more",
    )
    twins = zs.magnitude_prune(first, 0.5)
    refused(
        zoo_of([first], twins=[twins, twins[:1]]),
        tmp_path,
        "'twins' holds two networks called '0000/magnitude-",
    )


def test_rows_twice(tmp_path: Path, data: zs.Dataset) -> None:
    population = tiny.population()
    history = zs.train(population, data, epochs=1)
    twins = zs.magnitude_prune(population, 0.5, data=data, epochs=1)
    good = Zoo({"original": [population], "twins": [twins]}, population.models, history, twins.history)
    good.save(tmp_path / "zoo")
    for table, message in [
        (
            "twins",
            "table 'twins' has two rows of '0000/magnitude-global-0.5' at epoch 0 .6 rows repeat another",
        ),
        ("history", "table 'history' has two rows of '0000' at epoch 0"),
    ]:
        zoo = Zoo.open(tmp_path / "zoo")
        setattr(zoo, table, pd.concat([getattr(zoo, table)] * 2))
        refused(zoo, tmp_path / "zoo", message)


def test_epochs_of_one_network_are_no_duplicates(tmp_path: Path) -> None:
    population = tiny.population()
    twins = zs.magnitude_prune(population, 0.5)
    groups: dict[str, Any] = {"twins": [twins], "twins@1": [twins[:2]], "original@3": [population]}
    zoo_of([population], twins=[twins]).save(tmp_path / "a")
    zoo = Zoo({"original": [population], **groups}, population.models)
    zoo.save(tmp_path / "b")
    refused(
        Zoo({**zoo.populations, "twins@1": [twins, twins]}, zoo.models), tmp_path / "b", "'twins@1' holds two"
    )


def test_what_is_on_disk_counts(tmp_path: Path) -> None:
    """A population that was not read, beside one that is new."""
    population = tiny.population()
    twins = zs.magnitude_prune(population, 0.5)
    zoo_of([population], first=[twins]).save(tmp_path / "zoo")
    opened = Zoo.open(tmp_path / "zoo")
    refused(
        opened.with_population("second", [twins]),
        tmp_path / "zoo",
        "in two populations, 'first' and 'second'",
    )
    assert opened.populations.is_unread("first")  # type: ignore[attr-defined]


@pytest.mark.parametrize("format", EXPORTERS)
def test_exports_never_collide(tmp_path: Path, format: str) -> None:
    population = tiny.population()
    twins = zs.magnitude_prune(population, 0.5)
    bad = zoo_of([population], first=[twins], second=[twins])
    with pytest.raises(StoreError, match="in two populations, 'first' and 'second'"):
        zs.export_zoo(bad, tmp_path / "out", format)
    for name in ("zoosparse", "a/b", ""):
        with pytest.raises(StoreError, match=f"a population is called '{name}'.*rename it"):
            zs.export_zoo(zoo_of([population], **{name: [twins]}), tmp_path / "out", format)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", EXPORTERS)
def test_ratios_that_agree_to_four_digits_survive_an_export(tmp_path: Path, format: str) -> None:
    population = zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(1, 3))
    twins = zs.magnitude_prune(population, [0.8, 0.80001, 0.800012])
    zoo = zoo_of([population], **{"magnitude-global": [twins]})
    zs.export_zoo(zoo, tmp_path / "out", format)
    back = zs.import_zoo(tmp_path / "out").population("magnitude-global")
    assert back.ids == twins.ids and len(set(back.ids)) == 6
    assert back.models["series"].tolist() == ["magnitude-global"] * 6


def test_a_series_that_is_no_text() -> None:
    population = tiny.population()
    twins = zs.magnitude_prune(population, 0.5)
    assert twins.history is not None
    with pytest.raises(StoreError, match="column 'series' of table 'twins' holds 3"):
        Zoo({"original": [population]}, population.models, twins=twins.history.assign(series=3))
    without = Zoo({"original": [population]}, population.models, twins=twins.history.drop(columns="series"))
    assert "series" not in without.twins
