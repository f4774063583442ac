"""Gradient magnitude of frozen weights, and of what is not finite; values are in `tests/sparsify/test_scores.py`."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import zoosparse_ext as zs
from tests.population import tiny
from zoosparse_ext.errors import InputError
from zoosparse_ext.sparsify.methods.gradient import Gradient


def frozen_residual() -> nn.Module:
    module = tiny.Residual()
    module.conv.requires_grad_(False)
    return module


def test_frozen_weights_that_are_prunable_have_scores(data: zs.Dataset) -> None:
    population = tiny.population(frozen_residual, n=2, prunable="*weight")
    scores = population.architecture.unflatten(Gradient().score(population, data.train, seed=0))
    for row, module in enumerate(population.to_modules()):
        module.requires_grad_(True)
        F.cross_entropy(module(data.train.normalized()), data.train.labels).backward()
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None
            expected = (parameter * parameter.grad).abs().detach()
            torch.testing.assert_close(scores[name][row], expected, rtol=1e-4, atol=1e-6)


def test_nan(data: zs.Dataset) -> None:
    population = tiny.population(n=2)
    population.weights[1, 3] = torch.nan
    with pytest.raises(InputError, match=f"gradient: scores of model '{population.ids[1]}'"):
        zs.magnitude_prune(population, 0.5, data=data, score="gradient", allow_nan=True)
