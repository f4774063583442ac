"""Large imports: in several processes, resumable, in bounded memory; large zoos: opened without reading weights."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

import zoosparse_ext as zs
from tests.zoo.formats import ray_trees as trees
from tests.zoo.formats.small_zoos import assert_same
from zoosparse_ext.zoo import Zoo
from zoosparse_ext.zoo.formats import run

ROWS = 100_000


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five models, which are three chunks."""
    trees.write_zoo(tmp_path / "tree", 5)
    monkeypatch.setattr(run, "CHUNK_MODELS", 2)
    return tmp_path / "tree"


def import_whole(tree: Path, out: Path, **options: Any) -> Zoo:
    zoo = zs.import_zoo(tree, out=out, epochs="all", **options)
    zoo.id = ""
    return zoo


def without_labels(zoo: Zoo) -> Zoo:
    zoo.labels = torch.empty(0)
    return zoo


def test_the_number_of_processes_changes_nothing(tree: Path, tmp_path: Path) -> None:
    alone = import_whole(tree, tmp_path / "alone", workers=1)
    shared = import_whole(tree, tmp_path / "shared", workers=2)
    assert_same(without_labels(alone), without_labels(shared))


def test_an_interrupted_import_goes_on_where_it_was(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int]] = []

    def interrupt(done: int, total: int) -> None:
        told.append((done, total))
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_whole(tree, tmp_path / "zoo", workers=1, progress=interrupt)
    assert told == [(0, 5), (2, 5), (4, 5)] and not (tmp_path / "zoo").exists()

    told.clear()
    chunks = []
    do = run._do
    monkeypatch.setattr(run, "_do", lambda group, *rest: chunks.append(rest[1]) or do(group, *rest))
    resumed = import_whole(tree, tmp_path / "zoo", workers=1, progress=lambda *pair: told.append(pair))
    assert told == [(4, 5), (5, 5)] and len(chunks) == 1
    assert not (tmp_path / "zoo.resume").exists()
    assert_same(without_labels(resumed), without_labels(import_whole(tree, tmp_path / "whole")))


def test_an_import_that_was_interrupted_while_it_was_saved_goes_on(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a model left out, so that rows were moved together: moved twice, they would be those of other models."""
    state = trees.state_of(trees.cnn_small()) | {"module_list.0.bias": torch.full((8,), torch.nan)}
    torch.save(state, next(tree.glob("*_00001_*")) / "checkpoint_000000" / "checkpoints")
    whole = import_whole(tree, tmp_path / "whole")

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt  # not the signal, which tests in the background may ignore

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Zoo, "save", interrupted)
        import_whole(tree, tmp_path / "zoo")
    resumed = import_whole(tree, tmp_path / "zoo")
    assert len(resumed.population()) == 4
    assert_same(without_labels(resumed), without_labels(whole))


def test_an_import_that_was_killed_leaves_no_process_and_goes_on(tree: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(KILLED.format(tree=str(tree), out=str(tmp_path / "zoo")))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run([sys.executable, program], capture_output=True, timeout=120, env=environment)
    assert killed.returncode == -signal.SIGKILL and not (tmp_path / "zoo").exists()
    resumed = import_whole(tree, tmp_path / "zoo")
    assert_same(without_labels(resumed), without_labels(import_whole(tree, tmp_path / "whole")))


KILLED = """
import os, signal
import zoosparse_ext as zs
from zoosparse_ext.zoo.formats import run

def progress(done, total):
    if done:
        os.kill(os.getpid(), signal.SIGKILL)  # the pipes below stay open as long as a worker lives

if __name__ == "__main__":
    run.CHUNK_MODELS = 2
    zs.import_zoo({tree!r}, out={out!r}, epochs="all", workers=2, progress=progress)
"""


@pytest.mark.parametrize("options", [{"strict": True}, {"epochs": [77]}])
def test_an_import_that_fails_leaves_nothing(tree: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    for checkpoint in tree.glob("*_00004_*/checkpoint_000002/checkpoints"):
        torch.save({"module_list.0.weight": torch.full((1,), torch.nan)}, checkpoint)
    with pytest.raises(zs.StoreError):
        zs.import_zoo(tree, out=tmp_path / "zoo", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]


def test_a_full_disk_is_told_and_what_was_read_is_kept(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(zs.StoreError, match="the disk is full"):
        patch.setattr(os, "posix_fallocate", full)
        import_whole(tree, tmp_path / "zoo")
    assert len(import_whole(tree, tmp_path / "zoo").population()) == 5


@pytest.mark.parametrize("workers", [0, -1])
def test_fewer_than_one_worker_is_refused(tree: Path, tmp_path: Path, workers: int) -> None:
    with pytest.raises(zs.InputError, match=f"workers is {workers}"):
        zs.import_zoo(tree, out=tmp_path / "zoo", workers=workers)


def test_what_else_lies_beside_an_unfinished_import_stays(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "zoo.resume").mkdir()
    (tmp_path / "zoo.resume" / "notes.txt").write_text("precious")
    import_whole(tree, tmp_path / "zoo")
    assert (tmp_path / "zoo.resume" / "notes.txt").read_text() == "precious"


def test_a_large_zoo_is_opened_without_reading_weights(tmp_path: Path) -> None:
    """100,000 rows: tables alone are read; then an epoch of all models is one contiguous, mapped matrix."""
    network = zs.Architecture.from_module(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)), "tiny")
    table = pd.DataFrame({"model_id": [f"{row:06d}" for row in range(ROWS)], "seed": range(ROWS)})
    weights = torch.arange(ROWS * 8, dtype=torch.float32).view(ROWS, 8)
    population = zs.Population(weights, network, table)
    Zoo({"original": [population]}, population.models).save(tmp_path / "zoo")
    (shard,) = (tmp_path / "zoo" / "shards").glob("rows-*.safetensors")

    opened = Zoo.open(tmp_path / "zoo")
    assert opened.info()["populations"] == {"original": ROWS}
    assert str(shard) not in Path("/proc/self/maps").read_text()
    found = opened.population().weights
    assert str(shard) in Path("/proc/self/maps").read_text()
    assert found.is_contiguous() and torch.equal(found, weights)
