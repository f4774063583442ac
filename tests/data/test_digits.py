"""The embedded digits: golden numbers, so that every study on them stays comparable."""

from __future__ import annotations

import hashlib

import pytest
import torch

from zoosparse_ext.data import Dataset, load_dataset
from zoosparse_ext.data.digits import enlarge, read_digits


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.mark.parametrize(
    ("split", "counts", "pixels"),
    [
        ("train", [120, 122, 119, 123, 121, 122, 121, 120, 116, 120], 73465526),
        ("val", [29, 30, 29, 30, 30, 30, 30, 30, 29, 30], 18079457),
        ("test", [29, 30, 29, 30, 30, 30, 30, 29, 29, 30], 18120934),
    ],
)
def test_classes_of_every_split(digits: Dataset, split: str, counts: list[int], pixels: int) -> None:
    part = digits.splits[split]
    assert part.labels.bincount().tolist() == counts
    assert part.images.dtype == torch.uint8 and part.images.shape == (sum(counts), 1, 28, 28)
    assert int(part.images.sum(dtype=torch.int64)) == pixels


def test_the_pixels_never_change(digits: Dataset) -> None:
    content = b"".join(split.images.numpy().tobytes() for split in digits.splits.values())
    assert hashlib.sha256(content).hexdigest()[:16] == "79ebca216cd3cd1b"


def test_the_normalisation_is_that_of_the_training_pixels(digits: Dataset) -> None:
    assert digits.train.mean.item() == pytest.approx(0.3052, abs=1e-4)
    assert digits.train.std.item() == pytest.approx(0.3248, abs=1e-4)


def test_loading_twice_gives_the_same_data(digits: Dataset) -> None:
    assert load_dataset("digits").fingerprint == digits.fingerprint


def test_they_are_the_digits_of_scikit_learn() -> None:
    source = pytest.importorskip("sklearn.datasets").load_digits()
    images, labels = read_digits()
    assert labels.tolist() == source.target.tolist()
    assert torch.equal(images.squeeze(1), enlarge(torch.tensor(source.images).to(torch.uint8)))


def test_enlarging_is_bilinear_interpolation_with_halves_rounded_up() -> None:
    small = torch.randint(0, 17, (50, 8, 8), generator=torch.Generator().manual_seed(0))
    exact = torch.nn.functional.interpolate(
        small.to(torch.float64).unsqueeze(1), size=(28, 28), mode="bilinear", align_corners=False
    ).squeeze(1) * (255 / 16)
    rounded = (exact + 0.5 + 1e-9).floor()  # 1e-9: float64 may fall just short of a half
    assert torch.equal(enlarge(small).to(torch.float64), rounded)


def test_enlarging_keeps_ink_and_paper() -> None:
    assert enlarge(torch.zeros(1, 8, 8)).eq(0).all() and enlarge(torch.full((1, 8, 8), 16)).eq(255).all()
