"""Measures on this machine when leaving out zeros pays: the costs that ``sparse="auto"`` chooses by."""

from __future__ import annotations

import time

import torch
from torch import nn

from zoosparse_ext.errors import InputError
from zoosparse_ext.ops import infer as engine
from zoosparse_ext.ops.infer_costs import InferCosts
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.plan import Plan
from zoosparse_ext.population.population import Population

MODELS, IMAGES, ROUNDS = 8, 1024, 9
KEPT = (0.2, 0.6)  # shares of weights at which a layer is timed


def measure_infer_costs() -> InferCosts:
    """Time a convolution and a linear layer, dense and sparse; takes a few seconds.

    Example::

        costs = measure_infer_costs()
        zs.ops.infer_costs.use(costs)

    Raises:
        InputError: there are no native kernels, so nothing to choose.
    """
    if not engine.available():
        raise InputError(f"there is nothing to tune without the native engine: {engine.why_unavailable()}")
    pooled = nn.Sequential(nn.Conv2d(4, 8, 5), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    linear = nn.Sequential(nn.Flatten(), nn.Linear(128, 64))
    return InferCosts(
        on_planes=_cost(Architecture.from_module(pooled, "convolution", (4, 28, 28))),
        on_one_position=_cost(Architecture.from_module(linear, "linear", (128, 1, 1))),
    )


def _cost(architecture: Architecture) -> float:
    """1 / the share of weights at which sparse takes as long as dense, from a line through two shares."""
    low, high = (_sparse_over_dense(architecture, kept) for kept in KEPT)
    slope = max(high - low, 0.1) / (KEPT[1] - KEPT[0])  # noise must not turn it round
    share = KEPT[0] + (1 - low) / slope
    return 1 / min(max(share, 0.1), 1.0)


def _sparse_over_dense(architecture: Architecture, kept: float) -> float:
    """Time of the sparse plan over that of the dense one; the best of some rounds, interleaved."""
    generator = torch.Generator().manual_seed(0)
    population = Population.initialise(architecture, range(MODELS))
    mask = torch.rand(population.weights.shape, generator=generator) < kept
    images = torch.rand(IMAGES, *(architecture.input_shape or ()), generator=generator)
    plans = {mode: Plan(architecture, population.weights * mask, mode) for mode in ("dense", "sparse")}
    best = dict.fromkeys(plans, float("inf"))
    for _ in range(ROUNDS):
        for mode, plan in plans.items():
            start = time.perf_counter()
            plan(images)
            best[mode] = min(best[mode], time.perf_counter() - start)
    return best["sparse"] / best["dense"]
