"""One finished zoo for all tests of the command line, and a copy for each that changes it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.command import succeed


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models with twins of every kind, made by the commands. Read only."""
    zoo = tmp_path_factory.mktemp("finished") / "zoo"
    succeed("train", "--out", zoo, "--models", 3, "--epochs", 1, "--limit", 40)
    succeed("prune", zoo, "--ratios", "0.5,0.9", "--epochs", 1)
    succeed("vardrop", zoo, "--epochs", 1)
    succeed("prune", zoo, "--matched", "--epochs", 0)
    return zoo


@pytest.fixture
def zoo(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished zoo, alone in its folder."""
    return Path(shutil.copytree(finished, tmp_path / "zoo"))
