"""What TensorBoard shows of a study."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.study.test_run import Stages, config
from zoosparse_ext.errors import InputError
from zoosparse_ext.study.run import run_study
from zoosparse_ext.study.tensorboard import TensorBoard


def test_every_epoch_of_every_chunk_is_there(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = TensorBoard(tmp_path / "board")
    run_study(
        config(magnitude=False, **{"zoo.vary": {}}),
        tmp_path / "zoo",
        tmp_path / "on",
        board.stages(Stages().bar),
    )
    events = EventAccumulator(str(tmp_path / "board" / "0-rows-0-2")).Reload()
    assert events.Tags()["scalars"] == [
        *("accuracy/train", "accuracy/train on without pruning", "accuracy/variational dropout")
    ]
    for tag in events.Tags()["scalars"]:
        scalars = events.Scalars(tag)
        assert [scalar.step for scalar in scalars] == [1, 2]
        assert all(0 <= scalar.value <= 1 for scalar in scalars)


def test_without_it_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match=r"pip install 'zoosparse-ext\[tensorboard\]'"):
        TensorBoard(Path("nowhere"))
