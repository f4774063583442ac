"""Ensembles against the modules, one by one."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import zoosparse_ext as zs
from tests.population import tiny
from zoosparse_ext.errors import InputError
from zoosparse_ext.population import ensemble


def opinions_of(population: zs.Population, images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean probabilities and shares of votes [B, classes]."""
    scores = torch.stack([module(images).detach() for module in population.to_modules()])
    votes = F.one_hot(scores.argmax(2), scores.shape[2]).double()
    return scores.double().softmax(2).mean(0), votes.mean(0)


@pytest.mark.parametrize("build", [tiny.chain, tiny.Residual], ids=["chain", "residual"])
def test_equals_the_modules(
    build: type[nn.Module], data: zs.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ensemble, "_MODELS", 2)
    monkeypatch.setattr(ensemble, "_IMAGES", 4)
    population = tiny.population(build, n=5)
    images, labels = data.test.normalized(), data.test.labels
    probabilities, votes = opinions_of(population, images)
    mean, vote = zs.Ensemble(population), zs.Ensemble(population, rule="vote")
    torch.testing.assert_close(mean(images), probabilities, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(vote(images), votes)
    assert torch.equal(mean.predict(images), probabilities.argmax(1))

    result = mean.evaluate(data)
    assert torch.equal(result.predictions, probabilities.argmax(1))
    assert result.accuracy == pytest.approx((probabilities.argmax(1) == labels).double().mean().item())
    expected = F.nll_loss(probabilities.log(), labels).item()
    assert result.loss == pytest.approx(expected, rel=1e-5)
    by_vote = vote.evaluate(data.test)
    assert torch.equal(by_vote.predictions, votes.argmax(1))  # of equals the lowest class
    assert by_vote.loss == pytest.approx(expected, rel=1e-5)


def test_one_model_alone_decides_as_it_does(data: zs.Dataset) -> None:
    population = tiny.population(n=1)
    result, alone = zs.Ensemble(population).evaluate(data), zs.evaluate(population, data)
    assert torch.equal(result.predictions, alone.predictions[0].long())
    assert result.loss == pytest.approx(alone.loss.item(), rel=1e-6)


def test_several_populations_count_model_by_model(data: zs.Dataset) -> None:
    chains, others = tiny.population(n=2), tiny.population(tiny.Residual, n=3)
    both = zs.Ensemble([chains, others])
    images = data.test.normalized()
    expected = (2 * zs.Ensemble(chains)(images) + 3 * zs.Ensemble(others)(images)) / 5
    torch.testing.assert_close(both(images), expected)
    assert len(both) == 5


@pytest.mark.parametrize("rule", ["mean", "vote"])
def test_a_model_without_finite_scores_has_no_say(rule: str, data: zs.Dataset) -> None:
    population = tiny.population(n=3)
    images = data.test.normalized()
    expected = zs.Ensemble(population[[0, 2]], rule)(images)
    population.weights[1, -1] = torch.nan
    torch.testing.assert_close(zs.Ensemble(population, rule)(images), expected)
    population.weights[:, -1] = torch.inf
    silent = zs.Ensemble(population, rule)
    assert not silent(images).any() and silent.predict(images).tolist() == [0] * len(images)


def test_sparse_twins_decide_the_same_whatever_the_path(data: zs.Dataset) -> None:
    twins = zs.magnitude_prune(tiny.population(n=4), 0.8)
    images = data.test.normalized()
    dense, sparse = (zs.Ensemble(twins, sparse=mode)(images) for mode in ("dense", "sparse"))
    torch.testing.assert_close(dense, sparse, rtol=1e-5, atol=1e-6)


def test_what_cannot_be(data: zs.Dataset) -> None:
    population = tiny.population()
    with pytest.raises(InputError, match="at least one"):
        zs.Ensemble([])
    with pytest.raises(InputError, match="'mean' or 'vote', got 'loudest'"):
        zs.Ensemble(population, rule="loudest")
    with pytest.raises(InputError, match="sparse"):
        zs.Ensemble(population, sparse="maybe")
    with pytest.raises(InputError, match="12"):
        zs.Ensemble(population)(torch.rand(2, 1, 12, 12))
    other = zs.Population.from_modules([nn.Sequential(nn.Flatten(), nn.Linear(64, 7))])
    with pytest.raises(InputError, match="same classes, got 4 and 7"):
        zs.Ensemble([population, other])(data.test.normalized())
