"""Plans: which engine runs, and that it makes no difference."""

from __future__ import annotations

import logging

import pytest
import torch

import zoosparse_ext as zs
from tests.population.tiny import CLASSES, Residual, chain, make, population
from zoosparse_ext.errors import InputError
from zoosparse_ext.ops import infer as engine
from zoosparse_ext.population.evaluate import _judge_by_reference


def test_scores_are_those_of_the_modules(data: zs.Dataset) -> None:
    modules = make(chain, n=3)
    images = data.test.normalized()
    expected = torch.stack([module(images) for module in modules])
    for sparse in ("auto", "dense", "sparse"):
        scores = zs.Population.from_modules(modules).compile(sparse)(images)
        torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("sparse", ["auto", "dense", "sparse"])
def test_evaluation_equals_a_loop_over_modules(data: zs.Dataset, sparsity: float, sparse: str) -> None:
    twin = zs.magnitude_prune(population(chain, n=4), sparsity=sparsity)
    result = zs.evaluate(twin, data, sparse=sparse)
    images, labels = data.test.normalized(), data.test.labels
    for row, module in enumerate(twin.to_modules()):
        scores = module(images).detach()
        assert torch.equal(result.predictions[row].long(), scores.argmax(1))
        assert float(result.accuracy[row]) == float((scores.argmax(1) == labels).double().mean())
        torch.testing.assert_close(
            float(result.loss[row]),
            float(torch.nn.functional.cross_entropy(scores, labels)),
            rtol=1e-5,
            atol=1e-6,
        )


def test_both_engines_agree(data: zs.Dataset) -> None:
    models = population(chain, n=3)
    reference = _judge_by_reference(models.compile(), data.test, CLASSES)
    result = zs.evaluate(models, data)
    assert torch.equal(result.predictions, reference[0])
    torch.testing.assert_close(result.loss, reference[1] / len(data.test), rtol=1e-5, atol=1e-6)


def test_why_not_native(data: zs.Dataset) -> None:
    images = data.test.images
    residual, models = population(Residual), population(chain)
    assert "it is not a chain" in residual.compile().why_not_native(images)
    models.weights = models.weights.double()
    assert "torch.float64" in models.compile().why_not_native(images)
    models.weights = models.weights.float()
    assert "images of float32 or uint8, not torch.float64" in models.compile().why_not_native(images.double())
    assert models.compile().why_not_native(images) == engine.why_unavailable()


def test_the_log_names_the_reference(data: zs.Dataset, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="zoosparse_ext"):
        zs.evaluate(population(Residual), data)
    assert "on the PyTorch reference: it is not a chain" in caplog.text


def test_a_plan_follows_its_population(data: zs.Dataset) -> None:
    models = population(chain)
    plan = models.compile()
    before = plan(data.test.normalized())
    models.weights.mul_(0.5)
    assert not torch.equal(plan(data.test.normalized()), before)


def test_weights_that_require_gradients(data: zs.Dataset) -> None:
    models = population(chain)
    expected = models(data.test.normalized())
    models.weights.requires_grad_()
    scores = models(data.test.normalized())
    assert not scores.requires_grad and torch.equal(scores, expected)


def test_unknown_mode(data: zs.Dataset) -> None:
    with pytest.raises(InputError, match="sparse must be 'auto', 'dense' or 'sparse', got True"):
        zs.evaluate(population(chain), data, sparse=True)  # type: ignore[arg-type]
