"""Evaluating many networks on the same images against everything a user would run today.

The job: predictions of N models for M images, dense and pruned by magnitude. Rates count the multiply-adds of the dense
network, whatever was left out: at 90 % sparsity a rate above the roof is right.

    pytest benchmarks/evaluate.py                             64 models × 1,000 images
    pytest benchmarks/evaluate.py --models 256 --images 10000
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import evaluate_rivals
import pytest
import torch
from conftest import Contender
from torch import Tensor

import zoosparse_ext as zs
from zoosparse_ext import ops
from zoosparse_ext.ops import _registry
from zoosparse_ext.population.plan import Plan

pytestmark = pytest.mark.skipif(not ops.infer.available(), reason="the native engine is not built")


class Job:
    """A population [N, P], pruned to a sparsity, and images [M, C, H, W]; random, so no model is better than chance."""

    def __init__(self, network: str, activation: str, models: int, images: int, sparsity: float) -> None:
        channels, size = (3, 32) if network == "cnn-l" else (1, 28)
        architecture = zs.architecture(network, channels, activation)
        self.sparsity = sparsity
        dense = zs.Population.initialise(architecture, range(models))
        self.population = zs.magnitude_prune(dense, sparsity) if sparsity else dense
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (images, channels, size, size), generator=generator, dtype=torch.uint8)
        labels = torch.randint(0, 10, (images,), generator=generator)
        half = [0.5] * channels
        self.split = zs.Dataset.from_tensors(pixels, labels, test=(pixels, labels), mean=half, std=half).test

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
        images, modules = self.split.normalized(), self.population.to_modules()
        ready = evaluate_rivals.rivals(modules, images, self.sparsity)
        return {name: Contender(run, lambda: (images,)) for name, run in ready}


@cache
def job(*arguments: object) -> Job:
    return Job(*arguments)  # type: ignore[arg-type]


def alike(a: Tensor, b: Tensor) -> bool:
    """Sums in another order decide a few near ties otherwise."""
    return float((a == b).double().mean()) > 0.999


@pytest.fixture
def size(request: pytest.FixtureRequest) -> tuple[int, int]:
    return request.config.getoption("--models"), request.config.getoption("--images")


@pytest.mark.parametrize("network", ["cnn-s", "cnn-l"])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.8, 0.9])
def test_evaluate(race: Callable[..., None], size: tuple[int, int], network: str, sparsity: float) -> None:
    models, images = size if network == "cnn-s" else (max(1, size[0] // 8), size[1])
    work = job(network, "tanh" if network == "cnn-s" else "gelu", models, images, sparsity)
    native = _registry.native
    assert native is not None
    contenders = {
        "evaluate, auto": Contender(work.ours),
        "evaluate, dense": Contender(lambda: work.ours("dense")),
        "evaluate, sparse": Contender(lambda: work.ours("sparse")),
        "multiply-adds alone": Contender(lambda: native.multiply_adds(work.flops // 2), validate=False),
    } | work.rivals()
    race(contenders, flops=work.flops, roof="multiply-adds alone", same=alike, rounds=7)
