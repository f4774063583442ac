from __future__ import annotations

from pathlib import Path

import pytest

from tests.zoo.formats import small_zoos
from zoosparse_ext.zoo import Zoo


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a zoo with two architectures, an earlier epoch, and twins by both methods."""
    folder = tmp_path_factory.mktemp("stored") / "zoo"
    small_zoos.full_zoo().save(folder)
    return folder


@pytest.fixture
def zoo(stored: Path) -> Zoo:
    return Zoo.open(stored)
