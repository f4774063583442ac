"""Tables of a zoo on disk are read when they are first looked at, and not before."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.zoo.made_up import assert_same, population, zoo
from zoosparse_ext.errors import StoreError
from zoosparse_ext.zoo import Zoo, tables


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tables that were read since, by name."""
    read_table: Callable[..., pd.DataFrame] = tables.read_table
    names: list[str] = []

    def noted(folder: Path, entry: dict[str, Any], *, verify: bool) -> pd.DataFrame:
        names.append(Path(entry["file"]).name.split("-")[0])
        return read_table(folder, entry, verify=verify)

    monkeypatch.setattr(tables, "read_table", noted)
    return names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    zoo(variational=[population(seed=7)]).save(tmp_path / "zoo")
    return tmp_path / "zoo"


def test_a_table_is_read_once_when_it_is_first_looked_at(folder: Path, looked_at: list[str]) -> None:
    opened = Zoo.open(folder)
    assert repr(opened) == "Zoo(original: 3, variational: 3)" and looked_at == []
    opened.population()
    assert looked_at == ["rows"]  # that of the matrix
    assert opened.twins is opened.twins
    assert looked_at == ["rows", "twins"]


def test_what_is_changed_in_a_table_that_was_read_is_saved(folder: Path) -> None:
    opened = Zoo.open(folder)
    opened.models["note"] = "changed"
    opened.save(folder)
    assert list(Zoo.open(folder).models.note) == ["changed"] * 3


def test_unread_tables_are_saved_as_they_are(folder: Path, tmp_path: Path, looked_at: list[str]) -> None:
    changed = Zoo.open(folder).with_population("magnitude", [population(seed=8)])
    for place in (folder, tmp_path / "copy"):
        changed.save(place)
    assert looked_at == []
    Zoo.verify(tmp_path / "copy")
    assert_same(Zoo.open(tmp_path / "copy"), Zoo.open(folder))


def test_zoos_made_of_one_share_no_table(folder: Path) -> None:
    opened = Zoo.open(folder)
    for changed in (opened.with_population("magnitude", [population(seed=8)]), replace(opened, labels=None)):
        changed.models["note"] = "mine"
        assert "note" not in opened.models


def test_a_table_is_found_after_a_change_of_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    opened = Zoo.open("zoo")
    monkeypatch.chdir("/")
    assert len(opened.history) == 3


def test_an_opened_zoo_travels_to_another_process(folder: Path, looked_at: list[str]) -> None:
    sent = pickle.dumps(Zoo.open(folder))
    assert looked_at == []
    assert_same(pickle.loads(sent), Zoo.open(folder))


def test_a_table_that_is_set_is_checked(folder: Path) -> None:
    opened = Zoo.open(folder)
    with pytest.raises(StoreError, match="table 'models' lacks column 'seed'"):
        opened.models = opened.models.drop(columns="seed")
    assert "seed" in opened.models


def test_a_zoo_needs_a_table_of_models() -> None:
    with pytest.raises(TypeError, match="models"):
        Zoo({"original": [population()]})  # type: ignore[call-arg]
    assert len(Zoo({"original": [population()]}, population().models).history) == 0
