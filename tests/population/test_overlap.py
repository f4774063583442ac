"""Images that two splits share, and those that are equal by chance."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

import zoosparse_ext as zs
from tests.population import tiny
from zoosparse_ext.errors import InputError
from zoosparse_ext.population.overlap import shared_images


def split(images: Tensor) -> zs.Split:
    channels = images.shape[1]
    return zs.Split(images, torch.arange(len(images)) % 4, torch.zeros(channels), torch.ones(channels))


def pixels(*shape: int, values: int = 256, seed: int = 0) -> Tensor:
    return torch.randint(0, values, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


FORMS = {
    "uint8": lambda: pixels(1500, 1, 28, 28),
    "colors, not of whole words": lambda: pixels(1500, 3, 5, 5),
    "float": lambda: torch.rand(1500, 1, 8, 8),
    "float of whole numbers": lambda: pixels(1500, 1, 8, 8).float(),
    "a strided view": lambda: pixels(3000, 1, 8, 9)[::2, :, :, 1:],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shared", [0, 5, 12, 100, 500])
def test_shared_images_are_counted(form: str, shared: int) -> None:
    """One in a hundred of the smaller split may be there: published data sets repeat some."""
    images = FORMS[form]()
    ours, theirs = images[:1000], images[1000 - shared : 1500]
    assert shared_images(split(ours), split(theirs[torch.randperm(len(theirs))])) == (
        shared if shared > 5 else 0
    )


@pytest.mark.parametrize("values", [2, 3])
def test_images_that_are_equal_by_chance(values: int) -> None:
    """2 × 2 images of two values: everyone is in the other split, many times."""
    ours, theirs = pixels(400, 1, 2, 2, values=values), pixels(300, 1, 2, 2, values=values, seed=1)
    assert shared_images(split(ours), split(theirs)) == 0
    assert shared_images(split(ours), split(ours)) == 400


def test_blank_images_are_no_overlap() -> None:
    ours, theirs = pixels(1000, 1, 8, 8), pixels(500, 1, 8, 8, seed=1)
    ours[:300], theirs[:150] = 0, 0
    assert shared_images(split(ours), split(theirs)) == 0
    theirs[150:400] = ours[500:750]
    assert shared_images(split(ours), split(theirs)) == 400


def test_other_forms_are_other_images() -> None:
    images = pixels(50, 1, 4, 4)
    assert shared_images(split(images), split(images.float())) == 0
    assert shared_images(split(images), split(images.view(50, 1, 2, 8))) == 0


def test_a_part_of_what_is_evaluated_is_refused(data: zs.Dataset) -> None:
    """Also where most images are others."""
    population = tiny.population(tiny.batch_normed)
    test, train = data.test, data.train
    some = len(test) // 4
    mixed = zs.Split(
        torch.cat([train.images, test.images[:some]]),
        torch.cat([train.labels, test.labels[:some]]),
        train.mean,
        train.std,
    )
    message = (
        rf"recalibrate: these are images that are evaluated \(test\): {some} of {len(test)} are among them"
    )
    for work in (
        lambda: zs.evaluate(population, data, recalibrate=mixed),
        lambda: zs.magnitude_prune(population, 0.5, data=data, recalibrate=mixed),
        lambda: zs.variational_dropout(population, data, epochs=0, recalibrate=mixed),
    ):
        with pytest.raises(InputError, match=message):
            work()
    zs.evaluate(population, data, recalibrate=data.train)
    zs.evaluate(population, data.train, recalibrate=data.test)


def test_a_data_set_that_repeats_itself(data: zs.Dataset, caplog: pytest.LogCaptureFixture) -> None:
    """Its training images are measured on as they were trained on, unless all of them are evaluated."""
    population = tiny.population(tiny.batch_normed)
    half = len(data.train) // 2
    test = replace(data.train, images=data.train.images[:half], labels=data.train.labels[:half], name="test")
    leaky = replace(data, test=test)
    zs.evaluate(population, leaky, recalibrate=leaky.train)
    assert (
        f"are evaluated on images that they were trained on: {half} of {half} are among them" in caplog.text
    )
    with pytest.raises(InputError, match=f"{half} of {half} are among them"):
        zs.evaluate(population, leaky.test, recalibrate=leaky.train)
    with pytest.raises(InputError, match="recalibrate: these are images that are evaluated"):
        zs.evaluate(population, replace(data, test=data.train), recalibrate=data.train)
