"""Where a zoo may be written, and by whom."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.zoo.made_up import assert_same, population, zoo
from zoosparse_ext.errors import StoreError
from zoosparse_ext.zoo import Zoo
from zoosparse_ext.zoo.folder import locked


def test_a_folder_of_another_zoo_is_refused(tmp_path: Path) -> None:
    first = zoo()
    first.save(tmp_path)
    with pytest.raises(StoreError, match=rf"already holds another zoo \({first.id}\); choose another folder"):
        zoo().save(tmp_path)
    with pytest.raises(StoreError, match="already holds a zoo; choose another folder, or remove it"):
        Zoo.require_new(tmp_path)
    assert_same(Zoo.open(tmp_path), first)


def test_another_zoo_can_be_replaced_when_asked(tmp_path: Path) -> None:
    zoo([population(5)]).save(tmp_path)
    second = zoo()
    second.save(tmp_path, overwrite=True)
    assert_same(Zoo.open(tmp_path), second)
    assert len(list((tmp_path / "shards").glob("rows-*"))) == 1


@pytest.mark.parametrize(
    "name", ["notes.txt", "notes.tmp", "shards/mine.bin", "sub/deep/file", "tables/a.parquet.tmp"]
)
def test_a_folder_with_files_of_others_is_refused_and_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("precious")
    for attempt in (lambda: Zoo.require_new(tmp_path), lambda: zoo().save(tmp_path, overwrite=True)):
        with pytest.raises(StoreError, match="is not empty and holds no zoo"):
            attempt()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "zoo").write_text("precious")
    for attempt in (lambda: Zoo.require_new(tmp_path / "zoo"), lambda: zoo().save(tmp_path / "zoo")):
        with pytest.raises(StoreError, match="holds no zoo"):
            attempt()
    with pytest.raises(StoreError, match=r"cannot write .*Not a directory"):
        zoo().save(tmp_path / "zoo" / "inside")


def test_files_that_a_user_put_beside_a_zoo_stay(tmp_path: Path) -> None:
    mine = zoo()
    mine.save(tmp_path)
    names = ["notes.tmp", "report/shards/rows-0123456789abcdef.bin", "shards/readme.md", "tables/x.tmp"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("precious")
    replace(mine, labels=None).save(tmp_path)
    assert all((tmp_path / name).read_text() == "precious" for name in names)


def test_an_empty_folder_will_do(tmp_path: Path) -> None:
    Zoo.require_new(tmp_path)
    (tmp_path / "shards").mkdir()
    zoo().save(tmp_path)
    Zoo.open(tmp_path)


def test_two_writers_never_mix(tmp_path: Path) -> None:
    mine = zoo()
    mine.save(tmp_path)
    with (
        locked(tmp_path),
        pytest.raises(StoreError, match=r"another process is writing to .*; wait for it to end"),
    ):
        mine.save(tmp_path)
    mine.save(tmp_path)


def test_what_somebody_else_saved_since_is_not_lost(tmp_path: Path) -> None:
    zoo().save(tmp_path)
    first, second = Zoo.open(tmp_path), Zoo.open(tmp_path)
    second = second.with_population("variational", [population(seed=7)])
    second.save(tmp_path)
    second.save(tmp_path)
    with pytest.raises(StoreError, match="was changed by somebody else since this zoo was opened"):
        first.with_population("magnitude", [population(seed=8)]).save(tmp_path)
    assert "variational" in Zoo.open(tmp_path).populations
    first.save(tmp_path, overwrite=True)
    assert "variational" not in Zoo.open(tmp_path).populations


def test_a_zoo_may_be_saved_here_and_there_in_turn(tmp_path: Path) -> None:
    mine = zoo()
    for round_ in range(2):
        for place in ("a", "b"):
            mine = replace(mine, provenance={"round": round_, "place": place})
            mine.save(tmp_path / place)
    assert Zoo.open(tmp_path / "b").provenance == {"round": 1, "place": "b"}


def test_the_same_folder_by_another_name_is_the_same_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo(variational=[population(seed=7)]).save(tmp_path / "zoo")
    monkeypatch.chdir(tmp_path)
    opened = Zoo.open("zoo").with_population("magnitude", [population(seed=8)])
    monkeypatch.chdir("/")
    opened.save(tmp_path / "zoo" / "." / ".." / "zoo")
    assert list(Zoo.open(tmp_path / "zoo").populations) == ["original", "variational", "magnitude"]


def test_what_is_there_already_is_not_written_again(tmp_path: Path) -> None:
    mine = zoo([population(4)], variational=[population(seed=7)])
    mine.save(tmp_path)
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in tmp_path.glob("*/*")}
    mine.population().weights[2, 0] = 9.0
    mine.save(tmp_path)
    after = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in tmp_path.glob("*/*")}
    kept = before.keys() & after.keys()
    assert len(before) - len(kept) == len(after) - len(kept) == 1
    assert all(before[path] == after[path] for path in kept)


def test_opening_reads_no_weights(tmp_path: Path) -> None:
    zoo(variational=[population(seed=7)]).save(tmp_path)
    for shard in (tmp_path / "shards").glob("rows-*"):
        os.truncate(shard, 0)
    opened = Zoo.open(tmp_path)
    assert opened.info()["populations"] == {"original": 3, "variational": 3}
    with pytest.raises(StoreError, match="truncated"):
        opened.population("original")


def test_saving_an_opened_zoo_reads_no_population_that_was_not_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = zoo(variational=[population(seed=7)])
    mine.save(tmp_path / "a")
    opened = Zoo.open(tmp_path / "a").with_population("magnitude", [population(seed=8)])
    monkeypatch.setattr("zoosparse_ext.zoo.shards.load_file", None)  # reading would call it
    opened.save(tmp_path / "a")
    opened.save(tmp_path / "copy")
    monkeypatch.undo()
    expected = mine.with_population("magnitude", [population(seed=8)])
    assert_same(Zoo.open(tmp_path / "a"), expected)
    shutil.rmtree(tmp_path / "a")
    assert_same(Zoo.open(tmp_path / "copy"), expected)


def test_a_population_can_be_replaced_in_an_opened_zoo(tmp_path: Path) -> None:
    zoo(variational=[population(seed=7)]).save(tmp_path)
    opened = Zoo.open(tmp_path)
    changed = opened.with_population("variational", [population(4, seed=9)])
    assert changed.info()["populations"] == {"original": 3, "variational": 4}
    assert len(opened.population("variational")) == 3  # as it was
    changed.save(tmp_path)
    assert torch.equal(Zoo.open(tmp_path).population("variational").weights, population(4, seed=9).weights)
    assert len(list((tmp_path / "shards").glob("rows-*"))) == 2


def test_weights_are_mapped_and_changing_them_leaves_the_file_alone(tmp_path: Path) -> None:
    mine = zoo()
    mine.save(tmp_path)
    shard = next((tmp_path / "shards").glob("rows-*"))
    content = shard.read_bytes()
    opened = Zoo.open(tmp_path).population()
    assert str(shard) in Path("/proc/self/maps").read_text()
    opened.weights.zero_()
    assert shard.read_bytes() == content
    assert torch.equal(Zoo.open(tmp_path).population().weights, mine.population().weights)


def test_a_zoo_is_removed_only_if_nothing_else_is_there(tmp_path: Path) -> None:
    zoo().save(tmp_path / "mine")
    Zoo.remove(tmp_path / "mine")
    assert not (tmp_path / "mine").exists()
    zoo().save(tmp_path / "mine")
    for name in ("notes.txt", "shards/notes.txt", "deep/manifest.json"):
        precious = tmp_path / "mine" / name
        precious.parent.mkdir(exist_ok=True)
        precious.write_text("precious")
        with pytest.raises(StoreError, match=f"more than a zoo: {name}; nothing was removed"):
            Zoo.remove(tmp_path / "mine")
        assert precious.read_text() == "precious" and Zoo.verify(tmp_path / "mine")
        precious.unlink()
    Zoo.remove(tmp_path / "nothing")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    with pytest.raises(StoreError, match="holds no zoo"):
        Zoo.remove(tmp_path / "other")


def test_a_lock_alone_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyError), locked(tmp_path / "deep" / "down"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty").mkdir()
    with locked(tmp_path / "empty"):
        pass
    assert (tmp_path / "empty").is_dir()
