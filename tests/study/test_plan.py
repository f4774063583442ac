"""The plan of a study is what the study then does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.command import listing, succeed
from tests.study.test_run import Stages, config
from zoosparse_ext.cli import study
from zoosparse_ext.data import Dataset
from zoosparse_ext.study import plan, reporting
from zoosparse_ext.study.config import recipe
from zoosparse_ext.study.grid import model_groups
from zoosparse_ext.study.plan import plan_study
from zoosparse_ext.study.run import load_data, run_study


@pytest.fixture(autouse=True)
def short_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "_SECONDS", 0.02)


def test_the_plan_is_what_happens(tmp_path: Path) -> None:
    settings = config(**{"zoo.epochs": 1, "magnitude.epochs": 0, "variational.epochs": 0})
    stages = plan_study(settings, load_data(settings.data))
    zoo = run_study(settings, tmp_path / "zoo", tmp_path / "resume", Stages().bar)
    assert {stage.population: stage.networks for stage in stages} == {
        name: sum(map(len, groups)) for name, groups in zoo.populations.items()
    }
    assert [stage.population for stage in stages] == list(zoo.populations)
    assert plan_study(settings, load_data(settings.data), done=zoo.populations) == []
    shards = sum(path.stat().st_size for path in (tmp_path / "zoo" / "shards").iterdir())
    assert sum(stage.disk for stage in stages) == pytest.approx(shards, rel=0.15)


def test_more_work_takes_longer() -> None:
    data = load_data(config().data)
    few, many = (plan_study(config(**{"zoo.epochs": epochs}), data)[0] for epochs in (10, 1000))
    assert few.seconds > 0
    assert many.seconds > few.seconds
    assert many.disk == few.disk


@pytest.mark.parametrize(("slow", "counts"), [(0.05, [64]), (0.0005, [64, 64]), (0.0001, [64, 64, 256])])
def test_one_slow_run_is_enough(monkeypatch: pytest.MonkeyPatch, slow: float, counts: list[int]) -> None:
    clock, seen = [0.0], []

    def run(images: Dataset) -> None:
        seen.append(len(images.train))
        clock[0] += slow * len(images.train)

    monkeypatch.setattr(plan.time, "perf_counter", lambda: clock[0])
    settings = config(**{"data.limit": None, "zoo.vary": {}})
    data = load_data(settings.data)
    speeds = plan._Speeds(model_groups(settings.zoo, data), data)
    assert speeds._measured(("work",), 4, run) == pytest.approx(slow / 4)
    assert seen == counts
    assert speeds._measured(("work",), 4, run) == pytest.approx(slow / 4) and seen == counts


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    words = [
        "study",
        "demo",
        "--dry-run",
        "--out",
        tmp_path / "study",
        "--set",
        "data.limit=40",
        "--set",
        "zoo.seeds=2",
    ]
    shown = succeed(*words, "--json").json()
    planned = {stage["population"]: stage["networks"] for stage in shown["stages"]}
    assert planned["magnitude-global"] == 2 * len(recipe("demo").magnitude.ratios)  # type: ignore[union-attr]
    assert {planned[name] for name in planned if name != "magnitude-global"} == {2}
    assert shown["total"]["seconds"] > 0
    described = succeed(*words)
    assert "magnitude-matched-global" in described.out and "of memory" in described.err
    assert listing(tmp_path) == {}


def test_earlier_epochs_take_room() -> None:
    data = load_data(config().data)
    changes = ({"magnitude.matched_epochs": []}, {"magnitude.matched_epochs": [1]})
    last, both = ({s.population: s for s in plan_study(config(**more), data)} for more in changes)
    for name in ("control", "variational"):
        assert both[name].disk == pytest.approx(2 * last[name].disk, rel=0.01)
        assert both[name].resume > last[name].resume
    assert {*both} - {*last} == {"magnitude-matched-global-epoch_1"}


def test_a_long_study_says_what_it_takes_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "write", lambda zoo, *_: ("report.html", reporting.claims(zoo)))
    words = ["study", "demo", "--out", tmp_path / "study"]
    for change in ("data.limit=40", "zoo.seeds=2", "zoo.epochs=1", "magnitude=false", "variational=false"):
        words += ["--set", change]
    monkeypatch.setattr(study, "plan_study", lambda *_: pytest.fail("a short study measures nothing"))
    assert "This takes" not in succeed(*words).err
    monkeypatch.undo()
    monkeypatch.setattr(reporting, "write", lambda zoo, *_: ("report.html", reporting.claims(zoo)))
    monkeypatch.setattr(study, "LONG", 0.0)
    assert "this takes" not in succeed(*words).err  # nothing is left to do
    shown = succeed(*words, "--restart")
    assert "2 networks; this takes about 0:00 on" in shown.message and "of memory" in shown.message
    assert shown.message.index("this takes") < shown.message.index("train")
