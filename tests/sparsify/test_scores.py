"""Scores, scopes and patterns against plain modules, one model at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

import zoosparse_ext as zs
from tests.population import tiny
from zoosparse_ext import ops
from zoosparse_ext.errors import InputError
from zoosparse_ext.ops import magnitude
from zoosparse_ext.sparsify.methods import gradient, wanda
from zoosparse_ext.sparsify.methods.gradient import Gradient
from zoosparse_ext.sparsify.methods.random import Random
from zoosparse_ext.sparsify.methods.wanda import Wanda
from zoosparse_ext.sparsify.scopes import SCOPES, Pattern, pattern_sparsity


def prunable(population: zs.Population) -> list[slice]:
    return [segment.slice for segment in population.layers() if segment.prunable]


@pytest.mark.parametrize("build", [tiny.chain, tiny.Residual], ids=["chain", "residual"])
def test_gradient_scores(build: type[nn.Module], data: zs.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradient, "MODELS", 2)
    monkeypatch.setattr(gradient, "IMAGES", 9)
    population = tiny.population(build, n=3)
    result = Gradient().score(population, data.train, seed=0)
    for row, module in enumerate(population.to_modules()):
        F.cross_entropy(module(data.train.normalized()), data.train.labels).backward()
        parameters = list(module.parameters())
        expected = parameters_to_vector([(p * p.grad).abs() for p in parameters])
        torch.testing.assert_close(result[row], expected, rtol=1e-4, atol=1e-6)


def test_wanda_scores(data: zs.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wanda, "MODELS", 2)
    monkeypatch.setattr(wanda, "IMAGES", 9)
    modules = tiny.make(tiny.chain, 3)
    population = zs.Population.from_modules(modules)
    result = population.architecture.unflatten(Wanda().score(population, data.train, seed=0))
    for row, module in enumerate(modules):
        hidden = data.train.normalized()
        for name, layer in module.named_children():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                if isinstance(layer, nn.Conv2d):
                    windows = F.unfold(hidden, layer.kernel_size)  # [B, in·kh·kw, h·w]
                    norm = windows.square().sum((0, 2)).sqrt().view(1, *layer.weight.shape[1:])
                else:
                    norm = hidden.square().sum(0).sqrt()[None]
                torch.testing.assert_close(
                    result[f"{name}.weight"][row], (layer.weight.abs() * norm).detach(), rtol=1e-4, atol=1e-6
                )
                assert torch.equal(result[f"{name}.bias"][row], layer.bias.detach().abs())
            hidden = layer(hidden)


def test_random_scores_belong_to_the_model_not_to_its_place() -> None:
    population = tiny.population(n=4)
    all_of_them = Random().score(population, None, seed=3)
    assert torch.equal(Random().score(population[[2, 0]], None, seed=3), all_of_them[[2, 0]])
    assert not torch.equal(Random().score(population, None, seed=4), all_of_them)
    assert 0.4 < float(all_of_them.mean()) < 0.6


@pytest.mark.parametrize("score", ["gradient", "wanda", "random"])
def test_twins_of_every_score(score: str, data: zs.Dataset) -> None:
    population = tiny.population(n=2)
    twins = zs.magnitude_prune(population, [0.5, 0.75], data=data, score=score, epochs=1)
    columns = torch.cat([torch.arange(s.start, s.stop) for s in prunable(population)])
    for row, ratio in enumerate((0.5, 0.5, 0.75, 0.75)):
        assert int((~twins.masks[row]).sum()) == round(ratio * len(columns))
        gone = ~twins.masks[row, columns]
        source = zs.magnitude_prune(population, ratio, score=score, data=data)
        assert torch.equal(gone, ~source.masks[row % 2, columns])
    assert set(twins.models["method"]) == {score}
    assert twins.ids[0] == f"{population.ids[0]}/{score}-global-0.5"
    assert twins.history is not None and set(twins.history["method"]) == {score}


@pytest.mark.parametrize("score", ["magnitude", "gradient", "wanda", "random"])
@pytest.mark.parametrize("schedule", ["iterative", "cubic"])
def test_what_a_phase_pruned_stays_pruned(score: str, schedule: str, data: zs.Dataset) -> None:
    population = tiny.population(n=2)
    twins = zs.magnitude_prune(population, 0.7, data=data, score=score, schedule=schedule, epochs=4)
    history = twins.history
    assert history is not None
    assert (history.groupby("twin_id").sparsity.diff().dropna() >= 0).all()
    torch.testing.assert_close(
        twins.sparsity(), torch.full((2,), 0.7, dtype=torch.float64), atol=0.01, rtol=0
    )


@pytest.mark.parametrize(
    "options",
    [{"score": score} for score in ("magnitude", "gradient", "wanda", "random")]
    + [{"scope": scope} for scope in SCOPES]
    + [{"sparsity": pattern} for pattern in ("2:4", "4:8")],
    ids=str,
)
def test_every_selection_is_that_of_the_reference(
    options: dict[str, Any], data: zs.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where native kernels are built, they choose; bit for bit as the reference does."""

    def by_reference(weights: Tensor, k: Any, segments: list[int] | None = None) -> Tensor:
        offsets = [0, weights.shape[1]] if segments is None else segments
        k = magnitude.counts("magnitude_mask", weights, k, offsets, whole=segments is None)
        return magnitude._mask_reference(weights, k, offsets)

    options = {"sparsity": 0.6, "data": data, **options}
    population = tiny.population(n=3)
    masks = zs.magnitude_prune(population, **options).masks
    monkeypatch.setattr(ops, "magnitude_mask", by_reference)
    expected = zs.magnitude_prune(population, **options).masks
    assert masks is not None and expected is not None
    assert torch.equal(masks, expected) and not masks.all()


def by_output(tensor: Tensor) -> Tensor:
    return tensor.flatten(1)


def test_every_output_loses_the_same_share() -> None:
    population = tiny.population(n=2)
    twins = zs.magnitude_prune(population, 0.5, scope="output")
    for name, weight in population.architecture.unflatten(population.weights).items():
        kept = population.architecture.unflatten(twins.masks)[name]
        if name.endswith("bias"):
            assert bool(kept.all())
            continue
        for row in range(2):
            for w, k in zip(by_output(weight[row]), by_output(kept[row]), strict=True):
                assert int((~k).sum()) == round(0.5 * len(w))
                assert w[~k].abs().max() <= w[k].abs().min()


@pytest.mark.parametrize("text", ["2:4", "4:8", "1:3", "3:3"])
def test_patterns_keep_n_of_m_along_the_inputs(text: str) -> None:
    pattern = Pattern.parse(text)
    population = tiny.population(n=2)
    twins = zs.magnitude_prune(population, text)
    for name, weight in population.architecture.unflatten(population.weights).items():
        kept = population.architecture.unflatten(twins.masks)[name]
        if name.endswith("bias"):
            assert bool(kept.all())
            continue
        for row in range(2):
            for w, k in zip(by_output(weight[row]), by_output(kept[row]), strict=True):
                for group, mask in zip(w.split(pattern.m), k.split(pattern.m), strict=True):
                    gone = len(group) * (pattern.m - pattern.n) // pattern.m
                    assert int((~mask).sum()) == gone
                    if gone and bool(mask.any()):
                        assert group[~mask].abs().max() <= group[mask].abs().min()
    share = pattern_sparsity(population.architecture, pattern)
    assert twins.sparsity().tolist() == pytest.approx([share, share])
    assert set(twins.models["scope"]) == {text} and twins.models["target"].tolist() == pytest.approx(
        [share] * 2
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": "2-4"}, "written N:M"),
        ({"sparsity": "5:4"}, "0 < N ≤ M"),
        ({"sparsity": "0:4"}, "0 < N ≤ M"),
        ({"score": "loudness"}, "unknown method 'loudness'; known: gradient,"),
        ({"score": "wanda"}, "looks at training images; pass data"),
        ({"score": "gradient"}, "looks at training images; pass data"),
    ],
)
def test_errors(options: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        zs.magnitude_prune(tiny.population(), **options)  # type: ignore[arg-type]


def test_more_errors(data: zs.Dataset) -> None:
    with pytest.raises(InputError, match="pruned at once"):
        zs.magnitude_prune(tiny.population(), "2:4", data=data, epochs=4, schedule="iterative")
    with pytest.raises(InputError, match="Wanda scores look at what enters each layer of a program"):
        unknown = tiny.population(lambda: nn.Sequential(tiny.chain(), nn.LogSigmoid(), nn.RReLU()))
        zs.magnitude_prune(unknown, 0.5, score="wanda", data=data)
