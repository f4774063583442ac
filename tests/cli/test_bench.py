"""`zoosparse bench` finds the benchmarks, names them, and refuses what it cannot run."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.cli.command import succeed, zoosparse
from zoosparse_ext.cli import bench


def test_the_list_names_every_benchmark() -> None:
    shown = succeed("bench", "--list").out
    assert all(
        name in shown
        for name in ("evaluate", "formats", "magnitude", "population", "scaling", "storage", "train")
    )


def test_an_unknown_benchmark() -> None:
    result = zoosparse("bench", "flying")
    assert result.code == 2
    assert "flying" in result.err and "magnitude" in result.err


def test_an_unknown_device() -> None:
    result = zoosparse("bench", "magnitude", "--device", "gpu")
    assert result.code == 2
    assert "'cpu' or 'cuda'" in result.err


def test_an_installation_without_benchmarks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bench, "_PLACES", (tmp_path,))
    result = zoosparse("bench", "--list")
    assert result.code == 2
    assert "source" in result.err


def test_an_installation_without_pytest_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "pytest_benchmark" else find_spec(name)
    )
    result = zoosparse("bench", "magnitude")
    assert result.code == 2
    assert "zoosparse-ext[bench]" in result.err
