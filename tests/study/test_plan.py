"""The plan of a study is what the study then does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.command import listing, succeed
from tests.study.test_run import Stages, config
from zoosparse_ext.data import Dataset
from zoosparse_ext.study import plan
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
    assert [stage["networks"] for stage in shown["stages"]] == [2, 18, 2, 2]
    assert shown["total"]["seconds"] > 0
    described = succeed(*words)
    assert "magnitude-matched-global" in described.out and "of memory" in described.err
    assert listing(tmp_path) == {}
