"""Chunks: cut and run in any way, the result has the same bits; one that fails does not stop the others."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch

from tests.study.test_run import Stages, config, run
from zoosparse_ext.data import load_dataset
from zoosparse_ext.errors import ChunkError, StoreError
from zoosparse_ext.population.checkpoint import Checkpoint, remove_checkpoint
from zoosparse_ext.study.config import make_config
from zoosparse_ext.study.grid import model_groups
from zoosparse_ext.study.run import run_study
from zoosparse_ext.study.runner import LocalRunner
from zoosparse_ext.study.stages import train_zoo
from zoosparse_ext.study.work import Dropping, Work
from zoosparse_ext.zoo import Zoo

SETTINGS = {
    "data": {"limit": 40},
    "zoo": {"seeds": 3, "epochs": 1, "optimizer": {"lr": 0.01}, "vary": {"lr": [0.01, 0.02]}},
    "magnitude": {
        "ratios": [0.5, 0.8],
        "epochs": 1,
        "scopes": ["global"],
        "matched_scopes": ["layer"],
        "matched_epochs": [1],
    },
    "variational": {"epochs": 2, "control": False},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    """Six models and their twins, each stage one chunk."""
    return run_in_chunks(tmp_path_factory.mktemp("whole"), models=100)


def run_in_chunks(folder: Path, models: int) -> Zoo:
    settings = make_config(SETTINGS)
    run_study(settings, folder / "zoo", folder / "resume", Stages().bar, LocalRunner(models))
    return Zoo.open(folder / "zoo")


def same_bits(ours: Zoo, theirs: Zoo) -> None:
    assert list(ours.populations) == list(theirs.populations)
    for name in ours.populations:
        for a, b in zip(ours.populations[name], theirs.populations[name], strict=True):
            assert a.ids == b.ids
            for field in ("weights", "packed_masks", "log_sigma2", "predictions"):
                left, right = getattr(a, field), getattr(b, field)
                assert (left is None) == (right is None)
                assert left is None or torch.equal(left, right), f"{field} of {name}"
    for table in ("models", "history", "twins"):
        pd.testing.assert_frame_equal(getattr(ours, table), getattr(theirs, table), check_exact=True)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[int, list[Exception]]]:
    """Errors that variational dropout raises, one after the other, for chunks of so many models."""
    errors: dict[int, list[Exception]] = {}
    proper = Dropping.run

    def run(self: Dropping, *arguments: object) -> object:
        if errors.get(self.models):
            raise errors[self.models].pop(0)
        return proper(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Dropping, "run", run)
    yield errors
    assert not any(errors.values()), "errors that were never raised"


@pytest.mark.parametrize("models", [1, 4])
def test_the_size_of_chunks_changes_no_bit(whole: Zoo, tmp_path: Path, models: int) -> None:
    same_bits(run_in_chunks(tmp_path, models), whole)


def test_a_chunk_that_fails_once_is_tried_again(
    whole: Zoo, tmp_path: Path, broken: dict[int, list[Exception]]
) -> None:
    broken[2] = [RuntimeError("a cosmic ray")]
    same_bits(run_in_chunks(tmp_path, models=4), whole)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_a_chunk_too_large_for_the_memory_is_cut(
    whole: Zoo, tmp_path: Path, broken: dict[int, list[Exception]], error: Exception
) -> None:
    broken.update({6: [error], 3: [error]})
    same_bits(run_in_chunks(tmp_path, models=100), whole)


def test_what_a_chunk_held_when_memory_ran_out_is_free_for_its_halves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[weakref.ref[torch.Tensor]] = []
    proper = Dropping.run

    def fill(self: Dropping, *arguments: object) -> object:
        assert not any(reference() is not None for reference in held), "an attempt before holds memory"
        if self.models > 1:
            large = torch.empty(1000)
            held.append(weakref.ref(large))
            try:
                raise MemoryError
            except MemoryError as error:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory") from error
        return proper(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Dropping, "run", fill)
    run_in_chunks(tmp_path, models=100)
    assert len(held) == 5  # of 6, 3, 2, 3 and 2 models


def test_a_chunk_of_one_model_without_memory_says_so(
    tmp_path: Path, broken: dict[int, list[Exception]]
) -> None:
    broken[1] = [MemoryError(), MemoryError()] * 6
    with pytest.raises(ChunkError, match="one model at a time is too much for the memory that is left"):
        run_in_chunks(tmp_path, models=1)


def test_a_chunk_that_fails_for_good_is_told_and_the_others_go_on(
    whole: Zoo, tmp_path: Path, broken: dict[int, list[Exception]]
) -> None:
    broken[2] = [RuntimeError("a cosmic ray"), RuntimeError("and another")]
    with pytest.raises(ChunkError, match="1 of 2 chunks failed, the others are done and kept") as caught:
        run_in_chunks(tmp_path, models=4)
    log = tmp_path / "resume" / "variational" / "0-rows-4-6.log"
    assert f"variational/0-rows-4-6 failed 2 times: RuntimeError: and another (log: {log})" in str(
        caught.value
    )
    assert "run the same command again" in str(caught.value)
    assert log.read_text().count("Traceback") == 2
    assert log.with_name("0-rows-0-4.safetensors").exists()  # done, and not done again

    resumed = run_in_chunks(tmp_path, models=4)
    assert not log.exists()
    same_bits(resumed, whole)


def test_stages_that_need_nothing_of_a_failed_one_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Work, *arguments: object) -> None:
        raise RuntimeError("broken")

    settings = config(magnitude={"ratios": [0.5], "epochs": 2, "scopes": ["global"], "matched_epochs": [1]})
    with (
        monkeypatch.context() as patched,
        pytest.raises(ChunkError, match="magnitude-global/0-rows-0-2 failed"),
    ):
        patched.setattr("zoosparse_ext.study.work.Pruning.run", fail)
        run(settings, tmp_path, Stages())
    there = ["original", "control", "control@1", "variational", "variational@1"]
    assert list(Zoo.open(tmp_path / "zoo").populations) == there
    zoo = run(settings, tmp_path, Stages())  # in the order of the plan again
    matched = [f"magnitude-matched-{scope}{end}" for scope in ("global", "layer") for end in ("-epoch_1", "")]
    kinds = [*there[:3], "magnitude-global", *there[3:], *matched]
    assert list(zoo.populations) == list(Zoo.open(tmp_path / "zoo").populations) == kinds
    assert list(dict.fromkeys(zoo.twins.method)) == ["control", "magnitude", "variational"]


def test_a_full_disk_ends_the_run_at_once_and_costs_nothing(
    whole: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proper, calls = Checkpoint.save, []

    def save(self: Checkpoint, epoch: int, *state: object) -> None:
        calls.append(epoch)
        if len(calls) == 5:
            raise StoreError("No space left on device")
        proper(self, epoch, *state)  # type: ignore[arg-type]

    with monkeypatch.context() as patched, pytest.raises(StoreError, match="No space left"):
        patched.setattr(Checkpoint, "save", save)
        run_in_chunks(tmp_path, models=2)
    assert len(calls) == 5  # not tried again
    same_bits(run_in_chunks(tmp_path, models=2), whole)


def test_progress_counts_the_whole_stage() -> None:
    seen: list[tuple[int, int]] = []
    data = load_dataset("digits").limit(40)
    groups = model_groups(make_config(SETTINGS).zoo, data)
    train_zoo(
        data,
        groups,
        epochs=2,
        runner=LocalRunner(4),
        progress=lambda state: seen.append((state.done, state.total)),
    )
    assert seen == [(4, 12), (8, 12), (10, 12), (12, 12)]


def test_the_epochs_kept_of_a_chunk_go_when_it_is_cut(tmp_path: Path) -> None:
    file = tmp_path / "0-rows-0-6.safetensors"
    others = [tmp_path / "0-rows-0-6.log", tmp_path / "0-rows-6-9.safetensors.epoch-5"]
    for path in (file, file.with_name(f"{file.name}.epoch-5"), *others):
        path.write_bytes(b"")
    remove_checkpoint(file)
    assert sorted(tmp_path.iterdir()) == sorted(others)
    remove_checkpoint(file)  # and again
