"""What it costs to make a population of modules, with the proof that it computes what they compute.

The job: 64 modules of CNN-s, or 4 of ResNet-18, into a population. Beside it a hundredth of one epoch of training them
over 50,000 images: the proof may take five of these, 5 % of an epoch.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from conftest import Contender

import zoosparse_ext as zs

EPOCH = 50_000  # images
NETWORKS = {"cnn-s": (64, 500), "resnet18": (4, 20)}  # models, and images of the epoch that are trained on


@pytest.mark.parametrize("name", NETWORKS)
def test_from_modules(race: Callable[..., None], device: str, name: str) -> None:
    if device != "cpu":
        pytest.skip("modules are looked at on the CPU")
    models, count = NETWORKS[name]
    architecture = zs.architecture(name)
    shape = architecture.input_shape
    assert shape is not None
    modules = [architecture.module() for _ in range(models)]
    images = torch.randint(0, 256, (count, *shape), dtype=torch.uint8)
    data = zs.Dataset.from_tensors(images, torch.arange(count) % 10, test=(images[:10], torch.arange(10)))
    population = zs.Population.from_modules(modules, input_shape=shape)
    share = f"{count / EPOCH:.2%} of an epoch"
    race(
        {
            "from_modules": Contender(
                lambda: zs.Population.from_modules(modules, input_shape=shape), validate=False
            ),
            share: Contender(
                lambda clone: zs.train(clone, data, epochs=1, splits=()), lambda: (population.clone(),), False
            ),
        }
    )
