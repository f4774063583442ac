"""The same plan on a real Ray cluster on this machine: same bits, also where workers die."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.study.test_chunks import SETTINGS, same_bits
from zoosparse_ext.data import Dataset, load_dataset
from zoosparse_ext.errors import ChunkError, InputError
from zoosparse_ext.population.hooks import Progress
from zoosparse_ext.population.population import Population
from zoosparse_ext.study import ray_runner
from zoosparse_ext.study.chunks import cut
from zoosparse_ext.study.config import make_config
from zoosparse_ext.study.grid import model_groups
from zoosparse_ext.study.ray_runner import RayRunner
from zoosparse_ext.study.run import run_study
from zoosparse_ext.study.runner import LocalRunner, StageProgress
from zoosparse_ext.study.work import Learning, OnProgress
from zoosparse_ext.zoo import Zoo

OPTIONS = {"epochs": 1, "batch_size": 10}


@pytest.fixture(scope="module")
def runner() -> Iterator[RayRunner]:
    """Two workers, chunks of two models."""
    pytest.importorskip("ray", reason="ray is not installed")
    with RayRunner("local", workers=2, models=2) as runner:
        yield runner


def test_there_is_no_cluster_at_the_address() -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    with RayRunner("127.0.0.1:1") as runner, pytest.raises(InputError, match="cannot reach a Ray cluster"):
        runner.chunk_size(1)


def test_a_cluster_without_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="ray is not installed")
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8.0, "GPU": 1.0})
    with (
        RayRunner("local", workers=2, gpus=True) as runner,
        pytest.raises(InputError, match=r"2 workers on CUDA need as many GPUs, the Ray cluster .* has 1"),
    ):
        runner.chunk_size(1)


class Killer:
    """Instead of progress bars: kills a worker once, when an epoch of a stage has ended."""

    def __init__(self, runner: RayRunner, stage: str) -> None:
        self.runner, self.stage = runner, stage
        self.killed: int | None = None
        self.epochs: dict[str, set[tuple[str, int]]] = {}  # seen, by stage

    @contextmanager
    def bar(self, title: str) -> Iterator[OnProgress]:
        seen = self.epochs.setdefault(title, set())

        def update(state: Progress) -> None:
            assert isinstance(state, StageProgress)
            seen.add((state.chunk, state.epoch))
            if self.killed is None and title == self.stage:
                self.killed = next(iter(self.runner.pool.pids.values()))
                os.kill(self.killed, signal.SIGKILL)

        yield update


def test_a_study_on_ray_has_the_bits_of_a_local_one_though_a_worker_is_killed(
    runner: RayRunner, tmp_path: Path
) -> None:
    settings = make_config(SETTINGS, {"variational.epochs": 3})
    whole = tmp_path / "whole"
    run_study(settings, whole / "zoo", whole / "resume", Killer(runner, "no stage").bar, LocalRunner())
    killer = Killer(runner, "variational dropout")
    run_study(settings, tmp_path / "zoo", tmp_path / "resume", killer.bar, runner)
    assert killer.killed is not None and killer.killed not in runner.pool.pids.values()
    same_bits(Zoo.open(tmp_path / "zoo"), Zoo.open(whole / "zoo"))
    chunks = ["0-rows-0-2", "0-rows-2-4", "0-rows-4-6"]
    assert killer.epochs["train"] == {(chunk, 1) for chunk in chunks}  # every epoch was told


class Greedy(Learning):
    """Kills its process as the system does when too many models take too much memory."""

    fits = 1

    def run(self, data: Dataset, checkpoint: Path | None, progress: OnProgress | None) -> Population:
        if self.models > self.fits:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().run(data, checkpoint, progress)


class Hopeless(Greedy):
    fits = 0


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_dataset("digits").limit(40)


def test_chunks_that_kill_their_workers_are_done_in_smaller_parts_or_told(
    runner: RayRunner, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_runner, "DEATHS", 3)
    group = model_groups(make_config(SETTINGS).zoo, data)[0]
    chunks = cut("original", [Learning(OPTIONS, group)], 2)
    theirs = LocalRunner().run(chunks, data)
    assert len(chunks) == 3
    broken = [
        replace(chunk, work=kind(OPTIONS, chunk.work.group))
        for chunk, kind in zip(chunks, (Greedy, Hopeless, Learning), strict=True)
    ]
    with pytest.raises(ChunkError, match=r"1 of 3 chunks failed.*original/0-rows-2-4 failed 3 times"):
        runner.run(broken, data, tmp_path)
    assert (tmp_path / "original" / "0-rows-2-4.log").read_text().count("died") >= 3
    done = runner.run([broken[0], broken[2]], data, tmp_path)  # from the epochs that are there
    assert [ours.weights.equal(local.weights) for ours, local in zip(done, theirs[::2], strict=True)] == [
        True,
        True,
    ]


def test_bad_input_is_told_as_in_a_local_run(runner: RayRunner, data: Dataset) -> None:
    group = model_groups(make_config(SETTINGS).zoo, data)[0]
    work = Learning({"epochs": 1, "batch_size": 0}, group)
    with pytest.raises(InputError, match="batch_size must be 1 or more, got 0"):
        runner.run(cut("original", [work], 6), data)


def test_without_ray_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'zoosparse-ext\[ray\]'"):
        RayRunner()
