"""Plans: which engine runs, and that it makes no difference."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch
from torch import nn

import zoosparse_ext as zs
from tests.population.tiny import CLASSES, Residual, batch_normed, chain, make, population
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
    assert residual.compile().why_not_native(images) == "it lacks add of two results"
    models.weights = models.weights.double()
    assert "torch.float64" in models.compile().why_not_native(images)
    models.weights = models.weights.float()
    assert "images of float32 or uint8, not torch.float64" in models.compile().why_not_native(images.double())
    assert models.compile().why_not_native(images) == engine.why_unavailable()


def test_the_log_names_the_reference(data: zs.Dataset, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="zoosparse_ext"):
        zs.evaluate(population(Residual), data)
    assert "on the PyTorch reference: it lacks add of two results" in caplog.text


def test_a_plan_follows_its_population(data: zs.Dataset) -> None:
    models = population(chain)
    plan = models.compile()
    before = plan(data.test.normalized())
    models.weights.mul_(0.5)
    assert not torch.equal(plan(data.test.normalized()), before)


@pytest.mark.parametrize("build", [chain, Residual, batch_normed])
def test_scores_are_differentiable(build: Callable[[], nn.Module], data: zs.Dataset) -> None:
    """In images and weights, with autograd and `torch.func`, as those of the modules."""
    models = population(build)
    modules, images = models.to_modules(), data.test.normalized()
    expected = models(images)
    assert not expected.requires_grad
    rows, pixels = models.weights.clone().requires_grad_(), images.clone().requires_grad_()
    scores = models.scores(rows, pixels)
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)
    of_rows, of_pixels = torch.autograd.grad(scores.square().sum(), (rows, pixels))
    total = torch.zeros_like(images)
    for row, module in zip(of_rows, modules, strict=True):
        own = images.clone().requires_grad_()
        module(own).square().sum().backward()
        total += own.grad
        for name, gradient in models.architecture.unflatten(row).items():
            parameter = dict(module.named_parameters()).get(name)
            if parameter is not None:
                torch.testing.assert_close(gradient, parameter.grad, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(of_pixels, total, rtol=1e-3, atol=1e-5)
    slope = torch.func.grad(lambda x: models(x).square().sum())(images)
    torch.testing.assert_close(slope, total, rtol=1e-3, atol=1e-5)
    slope = torch.func.grad(lambda w: models.scores(w, images).square().sum())(models.weights)
    torch.testing.assert_close(slope, of_rows, rtol=1e-3, atol=1e-5)
    _, tangent = torch.func.jvp(lambda x: models(x).square().sum(), (images,), (torch.ones_like(images),))
    torch.testing.assert_close(tangent, total.sum(), rtol=1e-3, atol=1e-4)


def test_scores_are_differentiable_where_the_weights_ask_for_it(data: zs.Dataset) -> None:
    models = population(chain)
    expected = models(data.test.normalized())
    models.weights.requires_grad_()
    scores = models(data.test.normalized())
    assert scores.requires_grad
    torch.testing.assert_close(scores.detach(), expected, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        assert torch.equal(models(data.test.normalized()), expected)


def test_unknown_mode(data: zs.Dataset) -> None:
    with pytest.raises(InputError, match="sparse must be 'auto', 'dense' or 'sparse', got True"):
        zs.evaluate(population(chain), data, sparse=True)  # type: ignore[arg-type]
