"""The bits of a model in a population of graphs depend on neither its neighbors nor threads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

import zoosparse_ext as zs
from tests.population import tiny


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def separable() -> nn.Module:
    """Depthwise and grouped convolutions, three kinds of norms and dropouts."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU6(), nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.GroupNorm(2, 8),
        nn.Hardswish(), nn.Dropout2d(0.2), nn.Conv2d(8, 6, 1, groups=2), nn.Mish(), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(), nn.LayerNorm(24), nn.Dropout(0.1), nn.Linear(24, tiny.CLASSES),
    )  # fmt: skip


@pytest.mark.parametrize("variational", [False, True])
@pytest.mark.parametrize("build", [tiny.batch_normed, separable])
def test_bits_of_a_model(build: object, variational: bool, data: zs.Dataset, threads: None) -> None:
    models = tiny.population(build, 5)  # type: ignore[arg-type]

    def trained(rows: slice, cores: int) -> zs.Population:
        torch.set_num_threads(cores)
        some = models[rows].clone()
        options = {"batch_size": 7, "optimizer": zs.Adam(lr=1e-2), "epochs": 1}
        if variational:
            return zs.variational_dropout(some, data, **options)
        zs.train(some, data, splits=(), **options)
        return some

    expected = trained(slice(None), 1)
    for rows, cores in (
        (slice(None), 2),
        (slice(0, 3), 2),
        (slice(1, 3), 1),
        (slice(2, 3), 2),
        (slice(4, 5), 1),
    ):
        came = trained(rows, cores)
        assert torch.equal(came.weights, expected.weights[rows])
        assert expected.counts is None or torch.equal(came.counts, expected.counts[rows])
        assert torch.get_num_threads() == cores
