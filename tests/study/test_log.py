"""The log of a study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.study.test_run import Stages, config
from zoosparse_ext.errors import InputError, StoreError
from zoosparse_ext.study.log import RunLog
from zoosparse_ext.study.run import run_study
from zoosparse_ext.study.work import Learning

ONE_STAGE = {"magnitude": False, "variational": False, "zoo.vary": {}}


def run(folder: Path, stages: Stages) -> list[dict[str, Any]]:
    try:
        run_study(
            config(**ONE_STAGE), folder / "zoo", folder / "resume", RunLog(folder / "log").stages(stages.bar)
        )
    finally:
        events = [json.loads(line) for line in (folder / "log").read_text().splitlines()]
    return events


def test_every_epoch_and_stage_is_written_down(tmp_path: Path) -> None:
    first, *epochs, last = run(tmp_path, Stages())
    assert first["event"] == "run" and {"zoosparse_ext", "torch", "machine"} <= set(first)
    assert [(event["event"], event["stage"], event["epoch"], event["epochs"]) for event in epochs] == [
        ("epoch", "train", 1, 2),
        ("epoch", "train", 2, 2),
    ]
    assert all(event["networks"] == 2 and 0 <= event["accuracy"] <= 1 for event in epochs)
    assert (last["event"], last["stage"]) == ("finished", "train")
    assert first["time"] <= last["time"]


def test_a_run_that_stopped_says_so_and_the_next_goes_on(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        run(tmp_path, Stages(fails_in="train"))
    events = run(tmp_path, Stages())
    assert [event["event"] for event in events] == ["run", "epoch", "stopped", "run", "epoch", "finished"]
    assert events[2]["reason"] == "StoreError: the disk is full"


def test_a_chunk_that_is_tried_again_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = [RuntimeError("a cosmic ray")]
    proper = Learning.run

    def run_once(self: Learning, *arguments: Any) -> Any:
        if broken:
            raise broken.pop()
        return proper(self, *arguments)

    monkeypatch.setattr(Learning, "run", run_once)
    warning = run(tmp_path, Stages())[1]
    assert (warning["event"], warning["stage"]) == ("warning", "train")
    assert warning["message"].endswith("failed, attempt 1 of 2: RuntimeError('a cosmic ray')")


def test_bad_input_leaves_no_log(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log")
    with pytest.raises(InputError), log.stages(Stages().bar)("train"):
        raise InputError("no")
    assert not log.path.exists()


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot write the log"):
        RunLog(tmp_path).write("finished")
