"""Files of the MNIST family, and the arrays of an npz file."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.data.file_samples import TEST, TRAIN, digits_like, idx_bytes


@pytest.fixture
def idx_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes the four files, as they are spelt and compressed."""

    def write(dot: str = "-", compressed: bool = False) -> Path:
        for part, count in (("train", TRAIN), ("t10k", TEST)):
            images, labels = digits_like(count)
            for what, axes, array in (("images", 3, images), ("labels", 1, labels)):
                content = idx_bytes(array)
                name = f"{part}-{what}{dot}idx{axes}-ubyte"
                if compressed:
                    name, content = name + ".gz", gzip.compress(content)
                (tmp_path / name).write_bytes(content)
        return tmp_path

    return write


@pytest.fixture
def npz_arrays() -> dict[str, np.ndarray]:
    """The four arrays of a good npz file, images [M, H, W]."""
    x_train, y_train = digits_like(TRAIN)
    x_test, y_test = digits_like(TEST, seed=1)
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
