"""Files of the MNIST family: good ones in every spelling, and each way to be damaged."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.data.file_samples import TEST, TRAIN, digits_like, idx_bytes
from zoosparse_ext.data import load_dataset
from zoosparse_ext.data.files import read_idx
from zoosparse_ext.errors import DataError

IMAGES = "train-images-idx3-ubyte"
Folder = Callable[..., Path]


@pytest.mark.parametrize("dot", ["-", "."])
@pytest.mark.parametrize("compressed", [False, True])
def test_every_spelling_is_read(idx_folder: Folder, dot: str, compressed: bool) -> None:
    folder = idx_folder(dot, compressed)
    data = load_dataset(f"idx:{folder}")
    images, labels = digits_like(TRAIN)
    assert data.val is not None and data.spec == f"idx:{folder}"
    assert (len(data.train), len(data.val), len(data.test)) == (TRAIN - 2, 2, TEST)  # the last sixth is val
    assert torch.equal(torch.cat([data.train.images, data.val.images])[:, 0], torch.from_numpy(images))
    assert torch.equal(torch.cat([data.train.labels, data.val.labels]), torch.from_numpy(labels).long())


@given(array=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4)))
def test_any_array_of_bytes_comes_back(tmp_path: Path, array: np.ndarray) -> None:
    path = tmp_path / "array"
    path.write_bytes(idx_bytes(array))
    assert np.array_equal(read_idx(path).numpy(), array) and read_idx(path).shape == array.shape


@given(content=st.binary(max_size=64))
def test_any_other_bytes_are_a_tensor_or_a_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bytes"
    for start in (b"", b"\0\0\x08", b"\x1f\x8b"):
        path.write_bytes(start + content)
        try:
            read_idx(path)
        except DataError as error:
            assert str(path) in str(error)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: b"", "not an IDX file of unsigned bytes .*none"),
        (lambda content: content[:9], "truncated in its header"),
        (lambda content: content[:-1], r"holds 299 bytes of data, its header says 12×5×5"),
        (lambda content: content + b"\0", r"holds 301 bytes of data, its header says 12×5×5"),
        (lambda content: b"\0\0\x0d" + content[3:], "not an IDX file of unsigned bytes .*00 00 0d 03"),
        (lambda content: b"<!doctype html>" + content, "not an IDX file"),
        (lambda content: gzip.compress(content)[:-9], "cannot be read"),
        (lambda content: b"\x1f\x8b" + content, "cannot be read"),
        (lambda content: gzip.compress(content)[:20] + b"\xff" * 40, "cannot be read"),
    ],
)
def test_a_damaged_file_is_named(idx_folder: Folder, damage: Callable[[bytes], bytes], message: str) -> None:
    folder = idx_folder()
    path = folder / IMAGES
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=f"{path}: {message}"):
        load_dataset(f"idx:{folder}")


def test_a_missing_file_is_named(idx_folder: Folder) -> None:
    folder = idx_folder()
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(
        DataError, match=r"holds no t10k-labels-idx1-ubyte \(nor t10k-labels-idx1-ubyte.gz, t10k"
    ):
        load_dataset(f"idx:{folder}")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such folder"):
        load_dataset(f"idx:{tmp_path}/nowhere")


def test_a_home_folder_may_be_written_with_a_tilde(
    idx_folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = idx_folder()
    monkeypatch.setenv("HOME", str(folder.parent))
    assert len(load_dataset(f"idx:~/{folder.name}").test) == TEST


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        (IMAGES, digits_like(11)[0], r"train: images \[11, 5, 5\], labels \[12\] do not belong together"),
        (IMAGES, digits_like(12)[0].reshape(12, 25), r"train: images \[12, 25\]"),
        ("t10k-labels-idx1-ubyte", digits_like(5)[1], r"t10k: images \[4, 5, 5\], labels \[5\]"),
    ],
)
def test_images_and_labels_that_do_not_belong_together(
    idx_folder: Folder, name: str, array: np.ndarray, message: str
) -> None:
    folder = idx_folder()
    (folder / name).write_bytes(idx_bytes(array))
    with pytest.raises(DataError, match=f"{folder}: {message}"):
        load_dataset(f"idx:{folder}")


def test_files_without_images_are_refused(idx_folder: Folder) -> None:
    folder = idx_folder()
    images, labels = digits_like(0)
    (folder / IMAGES).write_bytes(idx_bytes(images))
    (folder / "train-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    with pytest.raises(DataError, match=f"idx:{folder}: train: there are no images"):
        load_dataset(f"idx:{folder}")


def test_images_of_another_size_for_test_are_refused(idx_folder: Folder) -> None:
    folder = idx_folder()
    (folder / "t10k-images-idx3-ubyte").write_bytes(idx_bytes(np.zeros((TEST, 6, 5), np.uint8)))
    with pytest.raises(DataError, match=r"images of test are \[1, 6, 5\], those of train \[1, 5, 5\]"):
        load_dataset(f"idx:{folder}")
