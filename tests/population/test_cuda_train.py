"""Training, pruning and variational dropout on a CUDA device give what they give on the CPU, within rounding."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from torch import nn

import zoosparse_ext as zs
from tests.population.tiny import CLASSES, SHAPE, Residual, population
from zoosparse_ext.errors import InputError

pytestmark = pytest.mark.cuda

OPTIMIZERS = {
    "adam": zs.Adam(lr=1e-3, weight_decay=1e-3),
    "adamw": zs.AdamW(lr=1e-3),
    # At 0.005 and a batch of one, models whose weights differ by 1e-7 at first differ by 1e-2 after 200 steps.
    "sgd": zs.SGD(lr=0.001, momentum=0.9, nesterov=True),
    "rmsprop": zs.RMSprop(lr=1e-3),
}


def images(count: int = 90) -> zs.Dataset:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, *SHAPE), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, CLASSES, (count,), generator=generator)
    return zs.Dataset.from_tensors(pixels, labels, test=(pixels, labels), mean=[0.5], std=[0.5])


def networks(name: str, n: int = 5, **options: Any) -> zs.Population:
    return zs.Population.initialise(zs.architecture(name, **options), seeds=range(n))


def wide_networks(n: int = 2) -> zs.Population:
    layers = (nn.Flatten(), nn.Linear(784, 300), nn.Tanh(), nn.Linear(300, 10))
    return zs.Population.initialise(zs.Architecture.from_module(nn.Sequential(*layers)), seeds=range(n))


def digits() -> zs.Dataset:
    return zs.load_dataset("digits").limit(200)


def close(found: zs.Population, expected: zs.Population) -> None:
    torch.testing.assert_close(found.weights.cpu(), expected.weights, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_equals_that_of_the_cpu(optimizer: str, batch_size: int) -> None:
    here, there = (networks("cnn-s", dropout=0.1) for _ in range(2))
    how: dict[str, Any] = {"epochs": 1, "batch_size": batch_size, "optimizer": OPTIMIZERS[optimizer]}
    expected = zs.train(here, digits(), **how)
    history = zs.train(there, digits(), device="cuda", engine="native", **how)
    assert there.weights.device.type == "cpu"
    close(there, here)
    torch.testing.assert_close(
        torch.tensor(history.train_loss.to_numpy()),
        torch.tensor(expected.train_loss.to_numpy()),
        rtol=1e-3,
        atol=1e-4,
        equal_nan=True,
    )


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "sigmoid", "silu", "gelu"])
def test_activations_augmentation_and_squared_error(activation: str) -> None:
    here, there = (networks("cnn-s", activation=activation) for _ in range(2))
    how: dict[str, Any] = {
        "epochs": 1,
        "loss": "mse",
        "augment": zs.Augment(crop=2, flip=True),
        "order": "shared",
    }
    zs.train(here, digits(), **how)
    zs.train(there, digits(), device="cuda", engine="native", **how)
    close(there, here)


def test_pruned_weights_stay_zero() -> None:
    how: dict[str, Any] = {"data": digits(), "epochs": 2, "sparsity": [0.5, 0.9]}
    expected = zs.magnitude_prune(networks("cnn-s"), **how)
    twins = zs.magnitude_prune(networks("cnn-s"), **how, device="cuda", engine="native")
    assert twins.masks is not None and expected.masks is not None
    assert torch.equal(twins.masks, expected.masks) and int((twins.weights[~twins.masks] != 0).sum()) == 0
    close(twins, expected)


@pytest.mark.parametrize("preset", ["modelzoos", "molchanov"])
def test_variational_dropout_equals_that_of_the_cpu(preset: str) -> None:
    how: dict[str, Any] = {"epochs": 1, "preset": preset}
    expected = zs.variational_dropout(networks("cnn-s"), digits(), **how)
    twins = zs.variational_dropout(networks("cnn-s"), digits(), **how, device="cuda", engine="native")
    assert twins.log_sigma2 is not None and expected.log_sigma2 is not None
    torch.testing.assert_close(twins.log_sigma2, expected.log_sigma2, rtol=1e-3, atol=2e-3)


def test_the_same_bits_twice_and_in_other_company() -> None:
    first, again, fewer = networks("cnn-s", 7), networks("cnn-s", 7), networks("cnn-s", 7)[2:5]
    for models in (first, again, fewer):
        zs.train(models, digits(), epochs=1, device="cuda", engine="native")
    assert torch.equal(first.weights, again.weights) and torch.equal(first.weights[2:5], fewer.weights)


def test_networks_too_large_for_shared_memory() -> None:
    here, there = (wide_networks() for _ in range(2))
    zs.train(here, digits(), epochs=1)
    zs.train(there, digits(), epochs=1, device="cuda", engine="native")
    close(there, here)


def test_a_network_that_is_no_chain() -> None:
    here, there = population(Residual), population(Residual)
    zs.train(here, images(), epochs=1)
    zs.train(there, images(), epochs=1, device="cuda")
    close(there, here)


def test_a_population_that_lives_there() -> None:
    here, there = networks("cnn-s"), networks("cnn-s").to("cuda")
    zs.train(here, digits(), epochs=1)
    zs.train(there, digits(), epochs=1)
    assert there.weights.is_cuda
    close(there, here)


def test_memory_for_not_even_one_model() -> None:
    gc.collect()
    torch.cuda.empty_cache()  # what is at hand already is not asked of the device
    torch.cuda.set_per_process_memory_fraction(1e-6)
    try:
        with pytest.raises(InputError, match="one model is too much for the memory of the device"):
            zs.train(networks("cnn-s"), digits(), epochs=1, device="cuda")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
