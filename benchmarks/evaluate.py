"""Evaluating many networks on the same images against everything a user would run today.

The job: predictions of N models for M images, dense and pruned by magnitude over all layers at once. The networks are
trained and fine-tuned, because training decides which layers and channels a mask leaves. Rates count the multiply-adds
of the dense network, whatever was left out: at 90 % sparsity a rate above the roof is right.

    pytest benchmarks/evaluate.py                             64 models × 1,000 images
    pytest benchmarks/evaluate.py --models 256 --images 10000
    pytest benchmarks/evaluate.py --device cuda               1,000 models × 10,000 images
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import evaluate_rivals
import pytest
import torch
import torch.nn.functional as F
from conftest import Contender, roof
from torch import Tensor

import zoosparse_ext as zs
from zoosparse_ext import ops
from zoosparse_ext.population.devices import full_float32
from zoosparse_ext.population.plan import Plan

LEARNING: dict[str, Any] = {"batch_size": 10, "optimizer": zs.Adam(lr=2e-3)}
EPOCHS = {"cpu": 15, "cuda": 3}
SIZE = {"cpu": (64, 1000), "cuda": (1000, 10000)}  # models, images
LEARNERS = 32  # on a GPU: they learn on the CPU, and the models are copies of them


class Job:
    """A trained population [N, P], pruned to a sparsity, and images [M, C, H, W]: digits, drawn with replacement."""

    def __init__(
        self, network: str, activation: str, models: int, images: int, sparsity: float, device: str
    ) -> None:
        learners = models if device == "cpu" else min(models, LEARNERS)
        learning = LEARNING | {"epochs": EPOCHS[device]}
        dense = trained(network, activation, learners, EPOCHS[device])
        data = digits(dense.architecture)
        self.sparsity = sparsity
        twins = zs.magnitude_prune(dense, sparsity, "layer", data=data, **learning) if sparsity else dense
        self.population = twins[torch.arange(models) % learners].to(device)
        drawn = torch.randint(0, len(data.train), (images,), generator=torch.Generator().manual_seed(0))
        test = (data.train.images[drawn], data.train.labels[drawn])
        split = zs.Dataset.from_tensors(*test, test=test, mean=data.train.mean, std=data.train.std).test
        tensors = ("images", "labels", "mean", "std")
        self.split = replace(split, **{name: getattr(split, name).to(device) for name in tensors})

    @property
    def flops(self) -> int:
        program, shape = self.population.architecture.program, self.population.architecture.input_shape
        assert program is not None and shape is not None
        total = 0
        for op, after in zip(program.operations, program.shapes(shape)[1:], strict=True):
            if op in program.layers:
                total += 2 * torch.Size(after).numel() * torch.Size(op.weight_shape[1:]).numel()
        return total * len(self.population) * len(self.split)

    def ours(self, sparse: str = "auto") -> Tensor:
        plan: Plan = self.population.compile(sparse)
        return plan.judge(self.split.images, self.split.mean, self.split.std, self.split.labels)[0]

    def rivals(self) -> dict[str, Contender]:
        """Ready to run, on images that are normalised already; ours normalises them on the way in."""
        images = self.split.normalized()
        modules = [module.to(images.device) for module in self.population.to_modules()]
        ready = evaluate_rivals.rivals(modules, images, self.sparsity)
        return {name: Contender(run, lambda: (images,)) for name, run in ready}


def digits(architecture: zs.Architecture) -> zs.Dataset:
    """The digits data set in the size and with the channels that an architecture takes."""
    assert architecture.input_shape is not None
    channels, *size = architecture.input_shape
    data = zs.load_dataset("digits")
    pixels = (
        F.interpolate(data.train.images.float(), size)
        .to(torch.uint8)
        .expand(-1, channels, -1, -1)
        .contiguous()
    )
    train = (pixels, data.train.labels)
    return zs.Dataset.from_tensors(*train, test=train, mean=[0.5] * channels, std=[0.5] * channels)


@cache
def trained(network: str, activation: str, models: int, epochs: int) -> zs.Population:
    """Models that have learnt the digits for a few epochs."""
    architecture = zs.architecture(network, 3 if network == "cnn-l" else 1, activation)
    population = zs.Population.initialise(architecture, range(models))
    zs.train(population, digits(architecture), epochs=epochs, **LEARNING)
    return population


@cache
def job(*arguments: object) -> Job:
    return Job(*arguments)  # type: ignore[arg-type]


def alike(a: Tensor, b: Tensor) -> bool:
    """Sums in another order decide a few near ties otherwise."""
    return float((a == b).double().mean()) > 0.999


@pytest.fixture
def size(request: pytest.FixtureRequest, device: str) -> tuple[int, int]:
    models, images = SIZE[device]
    return request.config.getoption("--models") or models, request.config.getoption("--images") or images


@pytest.mark.parametrize("network", ["cnn-s", "cnn-l"])
@pytest.mark.parametrize("sparsity", [0.0, 0.9, 0.8, 0.5])  # the ends first, should time run out
def test_evaluate(
    race: Callable[..., None], device: str, size: tuple[int, int], network: str, sparsity: float
) -> None:
    if not ops.infer.available(device):
        pytest.skip(ops.infer.why_unavailable(device))
    models, images = size if network == "cnn-s" else (max(1, size[0] // 8), size[1])
    work = job(network, "tanh" if network == "cnn-s" else "gelu", models, images, sparsity, device)
    limit, arithmetic = roof(device, work.flops)
    contenders = {
        "evaluate, auto": Contender(work.ours),
        "evaluate, dense": Contender(lambda: work.ours("dense")),
        "evaluate, sparse": Contender(lambda: work.ours("sparse")),
        limit: arithmetic,
    } | work.rivals()
    with full_float32():
        race(contenders, flops=work.flops, roof=limit, same=alike, rounds=7)
