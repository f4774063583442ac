"""Evaluation on a CUDA device gives what it gives on the CPU."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor

import zoosparse_ext as zs
from tests.population.tiny import CLASSES, SHAPE, Residual, chain, population
from zoosparse_ext.population.plan import Plan

pytestmark = pytest.mark.cuda


def split(count: int = 300) -> zs.Split:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, *SHAPE), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, CLASSES, (count,), generator=generator)
    return zs.Dataset.from_tensors(images, labels, test=(images, labels), mean=[0.5], std=[0.5]).test


@pytest.mark.parametrize("build", [chain, Residual])
@pytest.mark.parametrize("sparse", ["auto", "dense", "sparse"])
def test_evaluation_equals_that_of_the_cpu(build: type, sparse: str) -> None:
    models = zs.magnitude_prune(population(build, n=5), sparsity=0.5)
    images = split()
    expected, result = zs.evaluate(models, images, sparse), zs.evaluate(models, images, sparse, device="cuda")
    assert result.predictions.device.type == "cpu" and models.weights.device.type == "cpu"
    assert float((result.predictions == expected.predictions).double().mean()) > 0.999
    torch.testing.assert_close(result.loss, expected.loss, rtol=1e-4, atol=1e-5)
    there = zs.evaluate(models.to("cuda"), images, sparse)
    assert torch.equal(there.predictions, result.predictions) and torch.equal(there.loss, result.loss)


def test_compiled_for_a_device() -> None:
    models = population(chain, n=3)
    images = split().normalized()
    scores = models.compile(device="cuda")(images)
    assert scores.device.type == "cuda"
    torch.testing.assert_close(scores.cpu(), models(images), rtol=1e-4, atol=1e-5)


def test_memory_that_ends(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Fewer models at a time, the same bits."""
    models, images, judge = population(chain, n=9), split(), Plan.judge
    expected = zs.evaluate(models, images, device="cuda")

    def judge_four(plan: Plan, *arguments: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows: slice = arguments[-1]  # type: ignore[assignment]
        torch.empty(1 << (60 if rows.stop - rows.start > 4 else 0), dtype=torch.uint8, device="cuda")
        return judge(plan, *arguments)

    monkeypatch.setattr(Plan, "judge", judge_four)
    with caplog.at_level(logging.WARNING, logger="zoosparse_ext"):
        result = zs.evaluate(models, images, device="cuda")
    assert "going on with 3 models at a time" in caplog.text
    assert torch.equal(result.predictions, expected.predictions) and torch.equal(result.loss, expected.loss)
