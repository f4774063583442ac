"""Formulas of sparse variational dropout, element-wise on any shape.

Source: Molchanov, Ashukha, Vetrov, "Variational Dropout Sparsifies Deep Neural Networks", ICML 2017; the clamps are
those of the published zoo twins.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

K1, K2, K3 = 0.63576, 1.8732, 1.48695  # eq. 14 of the paper
EPSILON = 1e-15  # under the logarithm of |w| and under the square root of the variance
THRESHOLD = 3.0  # log α from which a weight counts as dropped: a binary dropout rate above 0.95


def log_alpha(weights: Tensor, log_sigma2: Tensor, clamp: float | Tensor = 10.0) -> Tensor:
    """log α = log σ² − 2·log(|w| + 1e-15), clamped to ±`clamp`; a weight of exactly 0 gives the upper clamp.

    >>> log_alpha(torch.tensor([1.0, 0.0]), torch.tensor([-10.0, -10.0]))
    tensor([-10.,  10.])
    """
    value = log_sigma2 - 2.0 * torch.log(weights.abs() + EPSILON)
    bound = torch.as_tensor(clamp, dtype=value.dtype, device=value.device)
    return value.clamp(-bound, bound)


def kl_divergence(log_alpha: Tensor) -> Tensor:
    """KL from the log-uniform prior per weight, as the paper approximates it: 0 at log α → ∞, large at log α → −∞.

    −KL = k1·sigmoid(k2 + k3·log α) − ½·log1p(exp(−log α)) − k1. The softplus never overflows.

    >>> kl_divergence(torch.tensor([-8.0, 3.0, 100.0])).round(decimals=4).abs()
    tensor([4.6359, 0.0254, 0.0000])
    """
    return K1 - K1 * torch.sigmoid(K2 + K3 * log_alpha) + 0.5 * F.softplus(-log_alpha)


def keep(log_alpha: Tensor, threshold: float = THRESHOLD) -> Tensor:
    """Mask of weights that survive, bool: False where log α reaches the threshold; NaN is kept.

    >>> keep(torch.tensor([-8.0, 3.0, 10.0, torch.nan]))
    tensor([ True, False, False,  True])
    """
    return ~(log_alpha >= threshold)
