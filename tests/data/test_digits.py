"""The embedded digits: golden numbers, so that every study on them stays comparable."""

from __future__ import annotations

import hashlib

import pytest
import torch

from zoosparse_ext.data import Dataset, load_dataset


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.mark.parametrize(
    ("split", "counts", "pixels"),
    [
        ("train", [120, 122, 119, 123, 121, 122, 121, 120, 116, 120], 73465256),
        ("val", [29, 30, 29, 30, 30, 30, 30, 30, 29, 30], 18079408),
        ("test", [29, 30, 29, 30, 30, 30, 30, 29, 29, 30], 18120865),
    ],
)
def test_classes_of_every_split(digits: Dataset, split: str, counts: list[int], pixels: int) -> None:
    part = digits.splits[split]
    assert part.labels.bincount().tolist() == counts
    assert part.images.dtype == torch.uint8 and part.images.shape == (sum(counts), 1, 28, 28)
    assert int(part.images.sum(dtype=torch.int64)) == pixels


def test_the_pixels_never_change(digits: Dataset) -> None:
    content = b"".join(split.images.numpy().tobytes() for split in digits.splits.values())
    assert hashlib.sha256(content).hexdigest()[:16] == "e462b8b219a3473f"


def test_the_normalisation_is_that_of_the_training_pixels(digits: Dataset) -> None:
    assert digits.train.mean.item() == pytest.approx(0.3052, abs=1e-4)
    assert digits.train.std.item() == pytest.approx(0.3248, abs=1e-4)


def test_loading_twice_gives_the_same_data(digits: Dataset) -> None:
    assert load_dataset("digits").fingerprint == digits.fingerprint


def test_they_are_the_digits_of_scikit_learn(digits: Dataset) -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    source = datasets.load_digits()
    every = torch.cat([split.labels for split in digits.splits.values()]).bincount()
    assert every.tolist() == torch.tensor(source.target).bincount().tolist()
    small = torch.tensor(source.images, dtype=torch.float32).unsqueeze(1)
    large = torch.nn.functional.interpolate(small, size=(28, 28), mode="bilinear", align_corners=False)
    first = (large[0] * 255 / 16).round().to(torch.uint8)
    assert torch.equal(digits.train.images[0], first)
