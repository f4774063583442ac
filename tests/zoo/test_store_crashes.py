"""A save that is cut short leaves the old state or the new one, at whichever step it happens."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.zoo.failing_disk import Disk, PowerLoss
from tests.zoo.made_up import assert_same, population, zoo
from zoosparse_ext.errors import StoreError
from zoosparse_ext.zoo import Zoo


def files(folder: Path) -> set[str]:
    """Everything in a folder but its lock."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {".lock"}


@pytest.fixture(scope="module")
def old() -> Zoo:
    return zoo()


@pytest.fixture(scope="module")
def new(old: Zoo) -> Zoo:
    """The old zoo with twins, other labels and one of its models changed."""
    changed = old.population().clone()
    changed.weights[1] += 1
    later = zoo([changed], variational=[population(seed=7, masks=True)])
    return replace(later, id=old.id, labels=later.labels + 1)


@pytest.fixture(scope="module")
def places(old: Zoo, new: Zoo, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The two states on disk, as saves that nothing disturbed leave them."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("old", "new")}
    old.save(folders["old"])
    new.save(folders["new"])
    return folders


def save_on(disk: Disk, state: Zoo, folder: Path) -> BaseException | None:
    with pytest.MonkeyPatch.context() as patch:
        disk.attach(patch)
        try:
            replace(state).save(folder)
        except (PowerLoss, StoreError) as failure:
            return failure
    return None


def test_power_lost_at_any_step_leaves_the_old_or_the_new_zoo(
    old: Zoo, new: Zoo, places: dict[str, Path], tmp_path: Path
) -> None:
    seen, step = set(), 0
    while True:
        folder = tmp_path / str(step)
        shutil.copytree(places["old"], folder)
        failure = save_on(Disk(step), new, folder)
        after = Zoo.open(folder)
        state = "new" if "variational" in after.populations else "old"
        assert_same(after, new if state == "new" else old)
        seen.add((state, failure is None))
        replace(new).save(folder)
        assert files(folder) == files(places["new"]), f"after a crash at step {step}"
        if failure is None:
            break
        step += 1
    assert step > 30
    assert seen == {("old", False), ("new", False), ("new", True)}


def test_power_lost_in_a_first_save_leaves_nothing_or_the_zoo(
    new: Zoo, places: dict[str, Path], tmp_path: Path
) -> None:
    step = 0
    while True:
        folder = tmp_path / str(step)
        failure = save_on(Disk(step), new, folder)
        if (folder / "manifest.json").exists():
            assert_same(Zoo.open(folder), new)
        else:
            with pytest.raises(StoreError, match="is not a zoo"):
                Zoo.open(folder)
            Zoo.require_new(folder)
        replace(new).save(folder)
        assert files(folder) == files(places["new"])
        if failure is None:
            break
        step += 1


def test_a_full_disk_is_an_error_that_changes_and_leaves_nothing(
    old: Zoo, new: Zoo, places: dict[str, Path], tmp_path: Path
) -> None:
    step, folder = 0, tmp_path / "zoo"
    shutil.copytree(places["old"], folder)
    while True:
        failure = save_on(Disk(step, full=True), new, folder)
        if failure is None:
            break
        assert isinstance(failure, StoreError)
        assert "No space left on device (the disk is full)" in str(failure)
        if "variational" in Zoo.open(folder).populations:  # the last step of all comes after the replacement
            assert "the new state is in place" in str(failure)
        else:
            assert "what was there is unchanged" in str(failure)
            assert files(folder) == files(places["old"])
        step += 1
    assert_same(Zoo.open(folder), new)
    assert step > 15


def test_a_full_disk_in_a_first_save_leaves_no_folder(new: Zoo, tmp_path: Path) -> None:
    for step in range(0, 12, 3):
        failure = save_on(Disk(step, full=True), new, tmp_path / "zoo")
        assert isinstance(failure, StoreError)
        assert not (tmp_path / "zoo").exists()


def test_an_interrupted_save_leaves_nothing_behind(
    old: Zoo, new: Zoo, places: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, calls = tmp_path / "zoo", 0
    shutil.copytree(places["old"], folder)
    fsync = os.fsync

    def interrupt(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        fsync(handle)

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        replace(new).save(folder)
    assert files(folder) == files(places["old"])
    assert_same(Zoo.open(folder), old)


LOOP = """
import sys
from dataclasses import replace
from tests.zoo.made_up import population, zoo
first = zoo()
second = replace(zoo(variational=[population(seed=7)]), id=first.id)
while True:
    for state in (first, second):
        replace(state).save(sys.argv[1], overwrite=True)
        print("saved", flush=True)
"""


def test_a_killed_process_leaves_a_zoo_that_opens_and_can_be_saved(tmp_path: Path, new: Zoo) -> None:
    folder, root = tmp_path / "zoo", Path(__file__).parents[2]
    writer = subprocess.Popen([sys.executable, "-c", LOOP, str(folder)], stdout=subprocess.PIPE, cwd=root)
    assert writer.stdout is not None and writer.stdout.readline() == b"saved\n"
    time.sleep(0.37)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    after = Zoo.open(folder)
    for name in after.populations:
        after.populations[name]
    replace(new).save(folder, overwrite=True)
    assert_same(Zoo.open(folder), new)


def test_an_interrupted_deletion_of_old_files_does_not_fail_a_save(
    new: Zoo, places: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "zoo"
    shutil.copytree(places["old"], folder)
    unlink: Callable[..., None] = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    replace(new).save(folder)
    monkeypatch.setattr(Path, "unlink", unlink)
    assert_same(Zoo.open(folder), new)
