"""What modules compute on images of their own, and that a population computes the same."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import zoosparse_ext as zs
from tests.population.tiny import SHAPE

IMAGES = torch.randn(6, *SHAPE, generator=torch.Generator().manual_seed(2))


def own_scores(models: list[nn.Module]) -> Tensor:
    with torch.no_grad():
        return torch.stack([model.eval()(IMAGES) for model in models])


def assert_equal(population: zs.Population, models: list[nn.Module]) -> None:
    expected = own_scores(models)
    torch.testing.assert_close(population(IMAGES), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(own_scores(population.to_modules()), expected, rtol=1e-4, atol=1e-5)
