"""npz files: the layouts that are understood, and each way to be wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.file_samples import SIZE, TEST, TRAIN
from zoosparse_ext.data import Dataset, load_dataset
from zoosparse_ext.errors import DataError

Arrays = dict[str, np.ndarray]


def load(path: Path, arrays: dict[str, Any]) -> Dataset:
    np.savez(path / "data.npz", **arrays)
    return load_dataset(f"npz:{path / 'data.npz'}")


def rgb(images: np.ndarray) -> np.ndarray:
    """[M, H, W] to [M, 3, H, W], the channels different from each other."""
    return np.stack([images, images // 2, 255 - images], axis=1)


@pytest.mark.parametrize(
    ("layout", "channels"),
    [
        (lambda x: x, 1),
        (lambda x: x[:, None], 1),
        (lambda x: x[..., None], 1),
        (rgb, 3),
        (lambda x: rgb(x).transpose(0, 2, 3, 1), 3),
    ],
)
def test_layouts_of_images(tmp_path: Path, npz_arrays: Arrays, layout: Any, channels: int) -> None:
    stored = {name: layout(array) if name[0] == "x" else array for name, array in npz_arrays.items()}
    data = load(tmp_path, stored)
    expected = npz_arrays["x_train"][:, None] if channels == 1 else rgb(npz_arrays["x_train"])
    assert data.input_shape == (channels, SIZE, SIZE) and data.val is None
    assert torch.equal(data.train.images, torch.from_numpy(expected))
    assert len(data.train) == TRAIN and len(data.test) == TEST and data.classes == 3


def test_a_validation_part_is_taken_where_there_is_one(tmp_path: Path, npz_arrays: Arrays) -> None:
    data = load(tmp_path, npz_arrays | {"x_val": npz_arrays["x_test"], "y_val": npz_arrays["y_test"]})
    assert data.val is not None and len(data.val) == TEST


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floating_point_images_are_taken_as_they_are(tmp_path: Path, npz_arrays: Arrays, dtype: type) -> None:
    stored = {name: (a / 255).astype(dtype) if name[0] == "x" else a for name, a in npz_arrays.items()}
    data = load(tmp_path, stored)
    assert data.train.images.dtype == torch.float32
    assert torch.equal(data.train.images[:, 0], torch.from_numpy(stored["x_train"].astype(np.float32)))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.uint64])
def test_labels_of_any_integer_type(tmp_path: Path, npz_arrays: Arrays, dtype: type) -> None:
    stored = npz_arrays | {"y_train": npz_arrays["y_train"].astype(dtype)[:, None]}  # a column is fine too
    assert load(tmp_path, stored).train.labels.tolist() == npz_arrays["y_train"].tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_train": None, "y_test": None}, "lacks x_train, y_test; it holds x_test, y_train"),
        ({"x_val": np.zeros((2, SIZE, SIZE))}, "has one of x_val and y_val"),
        ({"x_train": np.zeros((TRAIN, SIZE, SIZE), np.int64)}, "x_train is int64; images are uint8 or float"),
        (
            {"x_train": np.zeros((TRAIN, 25), np.uint8)},
            r"x_train has shape \[12, 25\]; images are \[M, H, W\]",
        ),
        ({"x_train": np.full((TRAIN, SIZE, SIZE), np.nan)}, "x_train holds NaN or infinity"),
        ({"x_train": np.full((TRAIN, SIZE, SIZE), 1e300)}, "x_train holds NaN or infinity"),
        ({"y_train": np.zeros(TRAIN)}, r"y_train is float64 \[12\]; labels are integers"),
        ({"y_train": np.eye(TRAIN, dtype=int)}, r"y_train is int64 \[12, 12\]; labels are integers"),
        ({"y_train": np.array(["a"] * TRAIN)}, "y_train is <U1"),
        ({"y_train": np.arange(TRAIN) - 1}, "train: label -1"),
        ({"y_train": np.zeros(TRAIN - 1, int)}, r"train: labels must be integers \[12\]"),
        ({"y_test": np.zeros(0, int), "x_test": np.zeros((0, SIZE, SIZE))}, "test: there are no images"),
        ({"y_train": np.array([{"pickled": 1}] * TRAIN)}, "not a readable npz file.*pickle"),
    ],
)
def test_arrays_that_make_no_sense(
    tmp_path: Path, npz_arrays: Arrays, change: dict[str, np.ndarray | None], message: str
) -> None:
    stored = {name: array for name, array in (npz_arrays | change).items() if array is not None}
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path, stored)
    assert "data.npz" in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.npz: not a readable npz file.*No such file"):
        load_dataset(f"npz:{tmp_path}/none.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no zip at all", b"\x93NUMPY"])
def test_a_file_that_is_no_npz(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"data\.npz: not a readable npz file"):
        load_dataset(f"npz:{tmp_path}/data.npz")


def test_a_single_array_is_no_npz(tmp_path: Path) -> None:
    np.save(tmp_path / "data.npy", np.zeros(3))
    with pytest.raises(DataError, match=r"data\.npy: not a readable npz file"):
        load_dataset(f"npz:{tmp_path}/data.npy")


@settings(max_examples=60)
@given(place=st.floats(0, 1, exclude_max=True), flipped=st.integers(1, 255))
def test_a_flipped_byte_never_gives_a_stack_trace(
    tmp_path: Path, npz_arrays: Arrays, place: float, flipped: int
) -> None:
    path = tmp_path / "flipped.npz"
    np.savez_compressed(path, **npz_arrays)
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= flipped
    path.write_bytes(content)
    try:
        load_dataset(f"npz:{path}")
    except DataError as error:
        assert "flipped.npz" in str(error)
