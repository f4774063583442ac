"""Formulas of variational dropout: limits, gradients, and never NaN."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from scipy import integrate, special

from zoosparse_ext.ops import vardrop

EXTREMES = [0.0, -0.0, 1e-38, 1e-20, -1e-6, 1.0, -30.0, 1e4]


@pytest.mark.parametrize("clamp", [8.0, 10.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_never_nan(dtype: torch.dtype, clamp: float) -> None:
    weights = torch.tensor(EXTREMES, dtype=dtype).view(-1, 1).requires_grad_()
    log_sigma2 = torch.tensor([-math.inf, -1e30, -100.0, -10.0, 0.0, 50.0, 1e30, math.inf], dtype=dtype)
    log_sigma2.requires_grad_()
    alpha = vardrop.log_alpha(weights, log_sigma2, clamp)
    assert (alpha.abs() <= clamp).all()
    divergence = vardrop.kl_divergence(alpha)
    variance = (alpha.exp() * weights.square() + vardrop.EPSILON).sqrt()
    gradients = torch.autograd.grad((divergence + variance).sum(), (weights, log_sigma2))
    assert torch.isfinite(divergence).all() and (divergence >= -1e-6).all()
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert torch.isfinite(vardrop.kl_divergence(torch.tensor([-1e30, 1e30], dtype=dtype))).all()


def test_a_weight_of_zero_is_dropped() -> None:
    assert vardrop.log_alpha(torch.zeros(1), torch.tensor([-10.0]), 8.0).item() == 8.0


def test_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(6, dtype=torch.float64, generator=generator).requires_grad_()
    log_sigma2 = torch.randn(6, dtype=torch.float64, generator=generator).requires_grad_()
    assert torch.autograd.gradcheck(vardrop.log_alpha, (weights, log_sigma2))
    alpha = torch.linspace(-9, 9, 12, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(vardrop.kl_divergence, (alpha,))


def test_beyond_the_clamp_there_is_no_gradient() -> None:
    log_sigma2 = torch.tensor([-40.0, 40.0, 0.0], requires_grad=True)
    vardrop.log_alpha(torch.ones(3), log_sigma2, 8.0).sum().backward()
    assert log_sigma2.grad is not None and log_sigma2.grad.tolist() == [0.0, 0.0, 1.0]


def test_a_clamp_for_each_weight() -> None:
    bounds = torch.tensor([8.0, 10.0])
    assert vardrop.log_alpha(torch.zeros(2), torch.zeros(2), bounds).tolist() == [8.0, 10.0]


@pytest.mark.parametrize("log_alpha", [-6.0, -3.0, 0.0, 2.0, 5.0])
def test_the_approximation_is_that_of_the_integral(log_alpha: float) -> None:
    """KL(N(θ, αθ²) ‖ log-uniform) = −½·log α + E log|1 + √α·ε| + C, C chosen so that it ends at 0 for α → ∞."""
    alpha = math.exp(log_alpha)

    def integrand(z: float) -> float:  # of E log|z|, z ~ N(1, α)
        return math.log(abs(z)) * math.exp(-((z - 1) ** 2) / (2 * alpha)) / math.sqrt(2 * math.pi * alpha)

    low, high = 1 - 12 * math.sqrt(alpha), 1 + 12 * math.sqrt(alpha)
    bounds = [
        low,
        *(point for point in (0.0, 1.0) if low < point),
        high,
    ]  # cut at the singularity and at the peak
    expected = sum(integrate.quad(integrand, *ends, limit=200)[0] for ends in pairwise(bounds))
    limit = 0.5 * (special.digamma(0.5) + math.log(2))  # E log|ε|: what is left of it for α → ∞
    exact = expected - 0.5 * log_alpha - limit
    approximate = vardrop.kl_divergence(torch.tensor(log_alpha, dtype=torch.float64)).item()
    assert approximate == pytest.approx(exact, abs=0.02)


def test_threshold() -> None:
    alpha = torch.tensor([2.999, 3.0, 3.001, torch.nan])
    assert vardrop.keep(alpha).tolist() == [True, False, False, True]
    assert vardrop.keep(alpha, 3.0005).tolist() == [True, True, False, True]
