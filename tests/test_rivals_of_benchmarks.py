"""The rivals of the benchmarks run, and give the answers that ours gives."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import zoosparse_ext as zs

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
pytestmark = pytest.mark.skipif(not BENCHMARKS.exists(), reason="an installation without benchmarks")


def load(name: str) -> ModuleType:
    """A file of the benchmarks, which are no package."""
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("network", ["cnn-s", "cnn-l"])
@pytest.mark.parametrize("sparsity", [0.0, 0.9])
def test_rivals_in_evaluation_predict_the_same(
    network: str, sparsity: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")  # torch.compile alone would take a minute
    channels, size = (3, 32) if network == "cnn-l" else (1, 28)
    population = zs.Population.initialise(zs.architecture(network, channels=channels), seeds=range(1, 4))
    if sparsity:
        population = zs.magnitude_prune(population, sparsity)
    images = torch.randn(40, channels, size, size, generator=torch.Generator().manual_seed(0))
    expected = population(images).argmax(2)
    names = []
    for name, rival in load("evaluate_rivals").rivals(population.to_modules(), images, sparsity):
        names.append(name)
        assert (rival(images) == expected).float().mean() > 0.99, name
    assert "module loop" in names and ("module loop, linear layers CSR" in names) == (sparsity > 0)


def test_rivals_in_training_have_the_same_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    rivals = load("train_rivals")
    population = zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(1, 4))
    images = torch.randn(3, 5, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    parameters = population.architecture.unflatten(population.weights)
    scores = rivals.grouped_scores(population.architecture, parameters, images)
    expected = torch.stack([population[i](images[i])[0] for i in range(3)])
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)

    model = rivals.ArdModel(population.architecture)
    model.load_state_dict(population[0].to_modules()[0].state_dict(), strict=False)
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)  # no noise
    torch.testing.assert_close(model(images[0]), expected[0], rtol=1e-4, atol=1e-5)
    assert model.kl().isfinite()
