"""Random crops and flips, and the squared error: engines against each model alone."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import zoosparse_ext as zs
from tests.population import tiny
from tests.population.alone import train_alone
from zoosparse_ext import random
from zoosparse_ext.errors import InputError
from zoosparse_ext.ops import train as native_engine

ENGINES = ["reference", "native"] if native_engine.available() else ["reference"]
every_engine = pytest.mark.parametrize("engine", ENGINES)
SETTINGS = {"epochs": 3, "batch_size": 5, "seed": 3}


def moved(image: Tensor, crop: int, flip: bool, words: list[int], black: float) -> Tensor:
    """One image [C, H, W], padded, cropped and flipped one thing after the other, as a data loader would."""
    _, height, width = image.shape
    down, right = words[0] % (2 * crop + 1), words[1] % (2 * crop + 1)
    padded = F.pad(image, (crop,) * 4, value=black)[:, down : down + height, right : right + width]
    return padded.flip(2) if flip and words[2] >= 2**31 else padded


def transform_of(model_seed: int, data: zs.Dataset, crop: int, flip: bool):
    black = float(-data.train.mean / data.train.std)

    def transform(images: Tensor, step: int) -> Tensor:
        stream = random.stream_id(random.AUGMENTATION)
        seeds = torch.tensor([model_seed])
        words = random.random_words(seeds, 3, 3, step=step, stream=stream, samples=len(images))[0].tolist()
        pairs = zip(images, words, strict=True)
        return torch.stack([moved(image, crop, flip, word, black) for image, word in pairs])

    return transform


@every_engine
@pytest.mark.parametrize("shared", [False, True], ids=["per-model", "shared"])
@pytest.mark.parametrize(("crop", "flip"), [(2, True), (1, False), (0, True), (9, True)])
def test_each_model_sees_its_own_moved_images(
    crop: int, flip: bool, shared: bool, engine: str, data: zs.Dataset
) -> None:
    population = tiny.population(n=2)
    modules = population.to_modules()
    history = zs.train(
        population,
        data,
        optimizer=zs.SGD(lr=0.1),
        augment=zs.Augment(crop=crop, flip=flip),
        order="shared" if shared else "per-model",
        engine=engine,
        **SETTINGS,
    )
    for row, module in enumerate(modules):
        seed = int(population.seeds[row])
        losses = train_alone(
            module,
            data,
            lambda p: torch.optim.SGD(p, lr=0.1),
            order_of=0 if shared else seed,
            transform=transform_of(seed, data, crop, flip),
            **SETTINGS,
        )
        expected = population.architecture.flatten(module.state_dict())
        torch.testing.assert_close(population.weights[row], expected, rtol=1e-4, atol=2e-5)
        stated = history[(history.model_id == population.ids[row]) & (history.epoch > 0)]
        assert stated.train_loss.tolist() == pytest.approx(losses, rel=1e-4)


@every_engine
def test_squared_error(engine: str, data: zs.Dataset) -> None:
    def squared_error(scores: Tensor, labels: Tensor) -> Tensor:
        return F.mse_loss(scores, F.one_hot(labels, tiny.CLASSES).float())

    population = tiny.population(n=2)
    modules = population.to_modules()
    history = zs.train(population, data, optimizer=zs.Adam(lr=3e-3), loss="mse", engine=engine, **SETTINGS)
    for row, module in enumerate(modules):
        losses = train_alone(
            module,
            data,
            lambda p: torch.optim.Adam(p, lr=3e-3),
            order_of=int(population.seeds[row]),
            loss_of=squared_error,
            **SETTINGS,
        )
        expected = population.architecture.flatten(module.state_dict())
        torch.testing.assert_close(population.weights[row], expected, rtol=1e-4, atol=2e-5)
        stated = history[(history.model_id == population.ids[row]) & (history.epoch > 0)]
        assert stated.train_loss.tolist() == pytest.approx(losses, rel=1e-4)


@pytest.mark.skipif("native" not in ENGINES, reason="the native engine is not built")
def test_bytes_and_floats_of_several_channels_move_alike(data: zs.Dataset) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, 3, 6, 7), generator=generator, dtype=torch.uint8)
    labels = torch.arange(40) % 4
    for pixels in (images, images.float() / 255):
        split = zs.Dataset.from_tensors(pixels, labels)
        make = lambda: torch.nn.Sequential(  # noqa: E731
            torch.nn.Conv2d(3, 2, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(40, 4)
        )
        results = []
        for engine in ENGINES:
            population = tiny.population(make, n=9)
            zs.train(
                population, split, augment=zs.Augment(3, flip=True), splits=(), engine=engine, **SETTINGS
            )
            results.append(population.weights)
        torch.testing.assert_close(*results, rtol=1e-4, atol=2e-5)


def test_errors(data: zs.Dataset) -> None:
    with pytest.raises(InputError, match="crop must be 0 or more and less than 1048576, got -1"):
        zs.Augment(crop=-1)
    with pytest.raises(InputError, match="loss must be one of cross_entropy, mse; got 'hinge'"):
        zs.train(tiny.population(), data, epochs=1, loss="hinge")
