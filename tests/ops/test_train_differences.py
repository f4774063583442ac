"""Gradients of variational dropout against finite differences of the engine's own loss, with the noise held fixed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.ops.train_oracle import Problem, Variational, gradients
from zoosparse_ext.ops import train, vardrop
from zoosparse_ext.population.program import Activation, Conv2d, Flatten, Linear, Program

pytestmark = pytest.mark.skipif(not train.available(), reason="the native engine is not built")

# Without kinks, so that differences converge; a bias of the convolution that is variational too.
SMOOTH = Program(
    (
        Conv2d("a", 1, 4, (3, 3)),
        Activation("tanh"),
        Flatten(),
        Linear("b", 64, 5),
        Activation("silu"),
        Linear("c", 5, 3),
    )
)
STEP = 4e-3  # of a direction of length 1: float32 losses are good to 1e-7, a third derivative to STEP²
TOLERANCE = 3e-3  # of the length of the gradient
KL_WEIGHT = 0.01


def objective(problem: Problem, variational: Variational) -> Tensor:
    """Mean loss of the batch and weighted divergence, float64 [N]."""
    loss = gradients(problem, variational)["loss"] / problem.samples
    divergence = torch.zeros_like(loss)
    for name, columns in problem.columns.items():
        if name.endswith("weight") or name == "a.bias":
            bound = variational.conv_clamp if name.startswith("a.") else variational.linear_clamp
            weights, log_sigma2 = (m[:, columns].double() for m in (problem.weights, variational.log_sigma2))
            alpha = vardrop.log_alpha(weights, log_sigma2, bound)
            divergence += vardrop.kl_divergence(alpha).sum(1)
    return loss + variational.kl_weight * divergence


@pytest.mark.parametrize("kl_weight", [0.0, KL_WEIGHT])
@pytest.mark.parametrize("of", ["weights", "log_sigma2"])
def test_gradients_are_differences_of_the_loss(of: str, kl_weight: float) -> None:
    problem = Problem(SMOOTH, (1, 6, 6), n=9, samples=6, batch=6)
    problem.weights = problem.weights.sign() * (problem.weights.abs() + 0.2)  # log |w| is steep at 0
    log_sigma2 = torch.full_like(problem.weights, -3.0)
    variational = Variational(log_sigma2, kl_weight, conv_biases=True)
    analytic = gradients(problem, variational)[of].double()
    generator = torch.Generator().manual_seed(4)
    for _ in range(3):
        direction = torch.randn(problem.weights.shape, generator=generator)
        direction /= direction.norm(dim=1, keepdim=True)
        values = []
        for sign in (1, -1):
            shifted = replace(variational, log_sigma2=log_sigma2.clone())
            there = Problem(SMOOTH, (1, 6, 6), n=9, samples=6, batch=6)
            there.weights = problem.weights.clone()
            (there.weights if of == "weights" else shifted.log_sigma2).add_(direction, alpha=sign * STEP)
            values.append(objective(there, shifted))
        difference = (values[0] - values[1]) / (2 * STEP)
        expected = (analytic * direction).sum(1)
        scale = analytic.norm(dim=1)
        assert ((difference - expected).abs() <= TOLERANCE * scale).all(), (difference - expected) / scale
