"""`Dataset` and `Split`: checks, stratification, limits, fingerprints."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from zoosparse_ext.data import Dataset, Split, load_dataset
from zoosparse_ext.data.dataset import stratified
from zoosparse_ext.errors import DataError, InputError


@functools.cache
def load_digits() -> Dataset:
    return load_dataset("digits")


def images(count: int = 24, channels: int = 1, size: int = 4, dtype: torch.dtype = torch.uint8) -> Tensor:
    pixels = torch.arange(count * channels * size * size).reshape(count, channels, size, size)
    return (pixels % 251).to(torch.uint8).to(dtype)


def labels(count: int = 24, classes: int = 3) -> Tensor:
    return torch.arange(count) % classes


def test_a_sixth_of_each_class_is_held_out_for_test() -> None:
    data = Dataset.from_tensors(images(36), labels(36))
    assert data.test.labels.bincount().tolist() == [2, 2, 2]
    assert data.train.labels.bincount().tolist() == [10, 10, 10]
    assert data.val is None and data.classes == 3 and data.input_shape == (1, 4, 4)


def test_images_without_a_channel_axis_get_one() -> None:
    data = Dataset.from_tensors(images()[:, 0], labels(), test=(images()[:3, 0], labels()[:3]))
    assert data.train.images.shape == (24, 1, 4, 4) and data.test.images.shape == (3, 1, 4, 4)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int32, torch.uint8, torch.int64])
def test_labels_of_any_integer_type_become_int64(dtype: torch.dtype) -> None:
    data = Dataset.from_tensors(images(), labels().to(dtype))
    assert data.train.labels.dtype == torch.int64


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_pixels_of_any_floating_type_are_kept_as_float32(dtype: torch.dtype) -> None:
    pixels = torch.rand(24, 1, 4, 4).to(dtype)
    data = Dataset.from_tensors(pixels, labels(), test=(pixels, labels()))
    assert torch.equal(data.train.images, pixels.to(torch.float32))
    assert torch.equal(data.test.images, data.train.images)


def test_arrays_become_tensors() -> None:
    data = Dataset.from_tensors(images().numpy(), labels().numpy().astype("int32"))  # type: ignore[arg-type]
    assert data.fingerprint == Dataset.from_tensors(images(), labels()).fingerprint


def test_pixels_are_stored_as_bytes_and_normalised_per_channel_on_the_way_in() -> None:
    data = Dataset.from_tensors(images(channels=3), labels())
    assert data.train.images.dtype == torch.uint8
    pixels = data.train.normalized()
    assert pixels.dtype == torch.float32
    torch.testing.assert_close(pixels.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(pixels.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5, rtol=0)
    assert torch.equal(data.train.normalized(torch.tensor([5, 2])), pixels[[5, 2]])
    assert torch.equal(data.train.normalized(slice(3, 7)), pixels[3:7])


def test_a_given_normalisation_counts_for_every_split() -> None:
    data = Dataset.from_tensors(images(), labels(), mean=[0.5], std=[0.25])
    again = Dataset.from_tensors(images(), labels()).normalized_by([0.5], [0.25])
    for split in (data.train, data.test, again.train, again.test):
        expected = (split.images.float() / 255 - 0.5) / 0.25
        torch.testing.assert_close(split.normalized(), expected)
    assert data.fingerprint == again.fingerprint


def test_constant_images_are_centred_and_not_divided_by_zero() -> None:
    data = Dataset.from_tensors(torch.full((24, 1, 2, 2), 7, dtype=torch.uint8), labels())
    assert torch.equal(data.train.normalized(), torch.zeros_like(data.train.normalized()))


@pytest.mark.parametrize(
    ("bad_images", "bad_labels", "message"),
    [
        (images(0), labels(0), "there are no images"),
        (images()[:, 0, 0], labels(), r"images must be .* got \[24, 4\]"),
        (images().flatten(), labels(), "images must be"),
        (images(dtype=torch.int64), labels(), "uint8 or float32 .*got torch.int64"),
        (torch.rand(24, 7), labels(), r"got \[24, 7\]; rows of features are images \[M, 1, 1, features\]"),
        (images(), labels(23), r"labels must be integers \[24\].*\[23\]"),
        (images(), labels().reshape(6, 4), r"labels must be integers \[24\]"),
        (images(), labels().float(), "labels must be integers .*float32"),
        (images(), labels() - 1, "label -1; classes are counted from 0"),
    ],
)
def test_what_is_no_data_set_is_refused_by_name(bad_images: Tensor, bad_labels: Tensor, message: str) -> None:
    with pytest.raises(DataError, match=f"train: .*{message}"):
        Dataset.from_tensors(bad_images, bad_labels, test=(images(), labels()))


def test_complaints_name_the_split() -> None:
    with pytest.raises(DataError, match=r"test: labels must be integers \[24\]"):
        Dataset.from_tensors(images(), labels(), test=(images(), labels(5)))
    with pytest.raises(DataError, match=r"images of val are \[1, 5, 5\], those of train \[1, 4, 4\]"):
        Dataset.from_tensors(images(), labels(), val=(images(size=5), labels()))
    with pytest.raises(DataError, match=r"test: label 11 is outside the classes of train \(0 … 2\)"):
        Dataset.from_tensors(images(), labels(), test=(images(), labels(classes=12)))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_pixels_that_are_no_numbers_are_refused(value: float) -> None:
    pixels = images(dtype=torch.float32)
    pixels[7, 0, 1, 1] = value
    with pytest.raises(DataError, match="image 7 holds NaN or infinity"):
        Dataset.from_tensors(
            pixels, labels(), test=(images(dtype=torch.float32), labels()), mean=[0], std=[1]
        )


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_counted_and_summed_moments_are_those_of_all_pixels(dtype: torch.dtype) -> None:
    pixels = torch.randint(
        0, 256, (24, 3, 4, 5), generator=torch.Generator().manual_seed(3), dtype=torch.uint8
    )
    pixels[:, 1] = 7  # a channel that never changes is not divided by zero
    train = Dataset.from_tensors(pixels.to(dtype), labels(), test=(pixels.to(dtype), labels())).train
    scaled = pixels.double() / (255 if dtype == torch.uint8 else 1)
    std = scaled.std((0, 2, 3), correction=0)
    std[1] = 1
    torch.testing.assert_close(train.mean, scaled.mean((0, 2, 3)).float())
    torch.testing.assert_close(train.std, std.float())


@pytest.mark.parametrize(
    ("mean", "std"), [([0.0, 0.0], [1.0]), ([0.0], [0.0]), ([0.0], [math.nan]), ([math.nan], [1.0])]
)
def test_a_normalisation_that_cannot_be_is_refused(mean: list[float], std: list[float]) -> None:
    with pytest.raises(DataError, match="std above 0"):
        Dataset.from_tensors(images(), labels(), mean=mean, std=std)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(1, 7))
def test_parts_share_every_class_evenly(classes: list[int], parts: int) -> None:
    of = torch.tensor(classes)
    part = stratified(of, parts)
    for label in of.unique():
        counts = part[of == label].bincount(minlength=parts)
        assert int(counts.max() - counts.min()) <= 1 and len(counts) == parts


@given(st.integers(1, 2000))
def test_a_limit_keeps_the_first_images_and_every_split(count: int) -> None:
    full = load_digits()
    data = full.limit(count)
    assert len(data.train) == min(count, 1204)
    assert 1 <= len(data.test) <= 296 and data.val is not None and len(data.val) >= 1
    assert torch.equal(data.train.images, full.train.images[:count])
    assert torch.equal(data.train.mean, full.train.mean)  # normalised as the whole


@pytest.mark.parametrize("count", [0, -3])
def test_a_limit_below_one_is_refused(count: int) -> None:
    with pytest.raises(InputError, match=f"limit of {count}"):
        load_digits().limit(count)


def test_the_fingerprint_follows_the_content_alone() -> None:
    def data(pixels: Tensor, of: Tensor, mean: float = 0.5) -> Dataset:
        test = (images(6), labels(6))
        return Dataset.from_tensors(pixels, of, test=test, mean=[mean], std=[1.0])

    same = data(images(), labels())
    assert same.fingerprint == data(images().clone(), labels().to(torch.int32)).fingerprint
    pixel, label = images(), labels()
    pixel[3, 0, 2, 2] += 1
    label[3] = 1
    others = [data(pixel, labels()), data(images(), label), data(images(), labels(), mean=0.25)]
    others += [data(images().reshape(24, 1, 2, 8).reshape(24, 1, 4, 4), labels(), mean=0.75), same.limit(23)]
    assert len({same.fingerprint, *(other.fingerprint for other in others)}) == 6


def test_a_description_is_plain_and_says_how_to_load_it_again() -> None:
    data = load_digits().limit(40)
    described = data.describe()
    assert described["spec"] == "digits" and described["limit"] == 40
    assert described["images"] == {"train": 40, "val": 10, "test": 10}
    again = load_dataset(described["spec"], mean=described["mean"], std=described["std"]).limit(40)
    assert again.fingerprint == described["fingerprint"] == data.fingerprint


def test_a_split_on_its_own_is_checked_too() -> None:
    zero, one = torch.zeros(1), torch.ones(1)
    with pytest.raises(DataError, match="mine: labels must be int64"):
        Split(images(), labels().to(torch.int32), zero, one, "mine")
    with pytest.raises(DataError, match="mine: there are no images"):
        Split(images(), labels(), zero, one, "mine").head(0)
