"""Ctrl-C and kill -9: what was done is kept, and the run after it ends with the same bits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from tests.cli.command import REPOSITORY, beside, succeed, zoosparse
from zoosparse_ext.cli.console import training_bar
from zoosparse_ext.study import reporting
from zoosparse_ext.study.config import recipe
from zoosparse_ext.study.run import run_study
from zoosparse_ext.zoo import Zoo

TRAINING = ("--models", 2, "--limit", 40, "--epochs", 4)
STUDY = {
    "data.limit": 40,
    "zoo.seeds": 2,
    "zoo.epochs": 3,
    "magnitude.ratios": [0.5, 0.9],
    "magnitude.scopes": ["global"],
    "magnitude.matched_scopes": ["layer"],
    "magnitude.matched_epochs": [2],
    "magnitude.epochs": 3,
    "variational.epochs": 3,
    "variational.variants": [],
}
NO_TWINS = {"data.limit": 40, "zoo.seeds": 2, "zoo.epochs": 1, "magnitude": False, "variational": False}


def study(folder: Path, values: dict[str, Any]) -> list[object]:
    """The words of a command that runs the demo with these values."""
    changes = [word for key, value in values.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    return ["study", "demo", "--out", folder, *changes]


def to_the_end(folder: Path) -> None:
    """The same study without its report."""
    run_study(recipe("demo", STUDY), folder / "zoo", folder / "zoo.resume" / "study", training_bar)


def same_bits(ours: Path, theirs: Path) -> None:
    """Two zoos hold the same weights, masks, predictions and tables."""
    first, second = Zoo.open(ours), Zoo.open(theirs)
    assert list(first.populations) == list(second.populations)
    for name in first.populations:
        a, b = first.population(name), second.population(name)
        for field in ("weights", "packed_masks", "log_sigma2", "predictions"):
            left, right = getattr(a, field), getattr(b, field)
            assert (left is None) == (right is None)
            assert left is None or torch.equal(left, right), f"{field} of {name}"
    for table in ("models", "history", "twins"):
        pd.testing.assert_frame_equal(getattr(first, table), getattr(second, table), check_exact=True)


def test_ctrl_c_keeps_finished_epochs(tmp_path: Path) -> None:
    zoo, whole = tmp_path / "zoo", tmp_path / "whole"
    epochs = tmp_path / "zoo.resume" / "train" / "original" / "0-rows-0-2.safetensors"
    with beside("train", "--out", zoo, *TRAINING, send=signal.SIGINT, after=epochs) as process:
        _, message = process.communicate()
    assert process.returncode == 130, message
    assert "Interrupted. Finished epochs are kept in" in message and str(epochs.parents[1]) in message
    assert "run the same command again" in message
    assert epochs.exists() and not zoo.exists()

    other = zoosparse("train", "--out", zoo, *TRAINING, "--lr", "0.1")
    assert other.code == 2
    assert "holds an unfinished run with other settings" in other.message
    succeed("train", "--out", zoo, *TRAINING)
    assert not (tmp_path / "zoo.resume").exists()
    succeed("train", "--out", whole, *TRAINING)
    same_bits(zoo, whole)


LOADING = """
import os
import signal
import sys

class Interrupting:
    def find_spec(self, name, *_):
        if name == "torch":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
signal.signal(signal.SIGINT, getattr(signal, sys.argv.pop(1)))
from zoosparse_command import main
main()
"""


@pytest.mark.parametrize("handler", ["default_int_handler", "SIG_IGN"])
def test_ctrl_c_while_the_package_loads_is_a_line(handler: str) -> None:
    words = [sys.executable, "-c", LOADING, handler, "study", "--list"]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True)
    if handler == "SIG_IGN":
        assert done.returncode == 0 and "mnist-seed" in done.stdout
    else:
        assert (done.returncode, done.stdout, done.stderr) == (130, "", "\nInterrupted.\n")


def test_a_study_killed_in_every_stage_ends_with_the_same_bits(tmp_path: Path) -> None:
    folder, whole = tmp_path / "study", tmp_path / "whole"
    epochs = folder / "zoo.resume" / "study"
    matched = ("magnitude-matched-layer-epoch_2", "magnitude-matched-layer")
    for stage in ("original", "control", "magnitude-global", "variational", *matched):
        file = epochs / stage / "0-rows-0-2.safetensors"
        with beside(*study(folder, STUDY), send=signal.SIGSTOP, after=file) as process:
            ended = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            assert ended is not None and ended.si_code == os.CLD_STOPPED, process.communicate()[1]
            second = zoosparse(*study(folder, STUDY))  # while the first is still there
            process.kill()
        assert second.code == 2
        assert f"another process is writing to {folder / 'zoo'}; wait for it to end" in second.message
        assert epochs.exists()
    to_the_end(folder)
    to_the_end(whole)
    same_bits(folder / "zoo", whole / "zoo")


def test_a_finished_study_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is it mixed with another; only `--restart` throws it away, and nothing else in its folder."""
    monkeypatch.setattr(
        reporting, "write", lambda zoo, *_: ("report.html", reporting.claims(zoo))
    )  # takes long
    words = study(tmp_path / "study", NO_TWINS)
    succeed(*words)
    manifest = (tmp_path / "study" / "zoo" / "manifest.json").read_bytes()
    succeed(*words)
    assert (tmp_path / "study" / "zoo" / "manifest.json").read_bytes() == manifest

    other = [*words, "--set", "seed=1"]
    result = zoosparse(*other)
    assert result.code == 2
    assert "holds the zoo of a study with other settings (seed is 0 there, 1 was asked" in result.message
    assert (tmp_path / "study" / "zoo" / "manifest.json").read_bytes() == manifest

    (tmp_path / "study" / "notes.txt").write_text("precious")
    foreign = tmp_path / "study" / "zoo" / "notes.txt"
    foreign.write_text("precious")
    result = zoosparse(*other, "--restart")
    assert result.code == 2 and "holds more than a zoo: notes.txt; nothing was removed" in result.message
    assert (tmp_path / "study" / "zoo" / "manifest.json").read_bytes() == manifest
    foreign.unlink()
    succeed(*other, "--restart")
    assert (tmp_path / "study" / "notes.txt").read_text() == "precious"
    assert Zoo.open(tmp_path / "study" / "zoo").provenance["settings"]["seed"] == 1
