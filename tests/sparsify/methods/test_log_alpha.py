"""Ranking by log α of variational dropout: exactly k go, those that the threshold takes first."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import zoosparse_ext as zs
from tests.population import tiny
from zoosparse_ext.errors import InputError
from zoosparse_ext.ops import train as native_engine
from zoosparse_ext.ops import vardrop
from zoosparse_ext.sparsify.methods import chosen_method
from zoosparse_ext.sparsify.methods.log_alpha import LogAlpha
from zoosparse_ext.sparsify.methods.variational import Preset, VariationalDropout

ENGINES = ["reference", "native"] if native_engine.available() else ["reference"]
every_engine = pytest.mark.parametrize("engine", ENGINES)
EAGER = Preset(-3.0, 8.0, 10.0, True, lambda epoch, epochs, images: 0.01 * (epoch + 1))
HOW: dict[str, Any] = {"epochs": 3, "batch_size": 5, "optimizer": zs.Adam(lr=0.05), "seed": 2}
RATIOS = [0.0, 0.3, 0.5, 0.9]


@every_engine
def test_exactly_k_and_nested(engine: str, data: zs.Dataset) -> None:
    population = tiny.population()
    twins = zs.learn(population, data, LogAlpha(preset=EAGER), RATIOS, engine=engine, **HOW)
    prunable = twins.architecture.n_prunable
    assert len(twins) == len(RATIOS) * len(population) and twins.masks is not None
    pruned = (~twins.masks).sum(1).view(len(RATIOS), -1)
    assert pruned.tolist() == [[round(ratio * prunable)] * len(population) for ratio in RATIOS]
    assert (twins.weights[~twins.masks] == 0).all()
    by_ratio = twins.masks.view(len(RATIOS), len(population), -1)
    assert (by_ratio[1:] <= by_ratio[:-1]).all()
    alpha = vardrop.log_alpha(twins.weights[:3], twins.learned["log_sigma2"][:3], torch.inf)
    chosen = torch.cat([torch.arange(s.slice.start, s.slice.stop) for s in twins.layers() if s.prunable])
    for ratio, masks in zip(RATIOS, by_ratio, strict=True):
        for row, kept in zip(alpha[:, chosen], masks[:, chosen], strict=True):
            largest = row.topk(round(ratio * prunable)).indices
            assert set(largest.tolist()) == set((~kept).nonzero()[:, 0].tolist())


@every_engine
@pytest.mark.parametrize("build", [tiny.chain, tiny.batch_normed], ids=["chain", "batch norm"])
def test_at_the_sparsity_of_variational_dropout_it_keeps_the_same(
    build: Any, engine: str, data: zs.Dataset
) -> None:
    population = tiny.population(build)
    how = {**HOW, "engine": engine if build is tiny.chain else "auto"}
    by_threshold = zs.learn(population, data, VariationalDropout(preset=EAGER), **how)
    reached = by_threshold.sparsity()
    assert (reached > 0.1).all()
    for row, sparsity in enumerate(reached.tolist()):
        twins = zs.learn(population, data, LogAlpha(preset=EAGER), sparsity, **how)
        assert torch.equal(twins.packed_masks[row], by_threshold.packed_masks[row])
        assert torch.equal(twins.weights[row], by_threshold.weights[row])
        assert torch.equal(twins.learned["log_sigma2"], by_threshold.learned["log_sigma2"])


def test_the_trajectory(data: zs.Dataset) -> None:
    population = tiny.population()
    twins = zs.learn(population, data, "log_alpha", [0.5, 0.8], keep=(1,), **HOW)
    history = twins.history
    assert history is not None and twins.kept[1].ids == twins.ids
    assert history["epoch"].tolist() == [epoch for epoch in range(4) for _ in range(6)]
    assert history["target"].tolist() == ([0.5] * 3 + [0.8] * 3) * 4
    assert set(history["series"]) == {"log_alpha-global"} and set(history["method"]) == {"log_alpha"}
    assert twins.ids[0] == f"{population.ids[0]}/log_alpha-global-0.5"
    assert twins.ids[-1] == f"{population.ids[-1]}/log_alpha-global-0.8"
    for epoch, then in ((1, twins.kept[1]), (3, twins)):
        rows, result = history[history["epoch"] == epoch], zs.evaluate(then, data)
        assert rows["accuracy"].tolist() == result.accuracy.tolist()
        assert torch.equal(then.predictions, result.predictions)
        assert rows["sparsity"].tolist() == then.sparsity().tolist()
    one = zs.learn(population, data, "log_alpha", 0.8, **HOW)
    assert torch.equal(one.weights, twins.weights[3:]) and one.ids == twins.ids[3:]


def test_weights_of_exactly_zero_go_first_and_masks_stay(data: zs.Dataset) -> None:
    pruned = zs.magnitude_prune(tiny.population(), 0.4)
    twins = zs.learn(pruned, data, "log_alpha", 0.6, **HOW)
    assert twins.masks is not None and pruned.masks is not None and (twins.masks <= pruned.masks).all()
    prunable = twins.architecture.n_prunable
    assert (~twins.masks).sum(1).tolist() == [round(0.6 * prunable)] * 3
    with pytest.raises(InputError, match=r"sparsity of 0\.\d+ already, more than the 0.3\d* asked for"):
        zs.learn(pruned, data, "log_alpha", 0.3, **HOW)


def test_extreme_noise(data: zs.Dataset) -> None:
    """log σ² far beyond the bounds of log α still ranks."""
    for start in (-200.0, 60.0):
        preset = Preset(start, 8.0, 10.0, True, EAGER.kl_weight)
        twins = zs.learn(tiny.population(), data, LogAlpha(preset=preset), 0.5, **HOW)
        prunable = twins.architecture.n_prunable
        assert twins.masks is not None and (~twins.masks).sum(1).tolist() == [round(prunable * 0.5)] * 3


@pytest.mark.parametrize(
    ("sparsity", "told"),
    [
        (None, "pass sparsity="),
        ([], "no sparsity"),
        (1.0, r"in \[0, 1\), got 1.0"),
        (-0.1, r"in \[0, 1\)"),
        (float("nan"), r"in \[0, 1\), got nan"),
        ([0.5, 0.5], "0.5 was given more than once"),
        ("half", "number or a sequence of numbers, got 'half'"),
        (True, "number or a sequence of numbers, got True"),
        ([[0.5]], "number or a sequence of numbers"),
    ],
)
def test_sparsities_that_are_refused(sparsity: Any, told: str, data: zs.Dataset) -> None:
    with pytest.raises(InputError, match=told):
        zs.learn(tiny.population(), data, "log_alpha", sparsity, **HOW)


def test_what_it_cannot_be_asked(data: zs.Dataset) -> None:
    with pytest.raises(InputError, match="'variational' finds the sparsity by itself"):
        zs.learn(tiny.population(), data, "variational", 0.5, **HOW)
    with pytest.raises(InputError, match="no option 'threshold'; its options are preset, kl_scale"):
        chosen_method("log_alpha", threshold=2.0)
    with pytest.raises(InputError, match="has no models"):
        zs.learn(tiny.population()[:0], data, "log_alpha", 0.5, **HOW)
    with pytest.raises(InputError, match=r"one that learns what to keep: .*'magnitude' ranks weights"):
        zs.learn(tiny.population(), data, "magnitude", **HOW)


def test_one_sparsity_for_each_model(data: zs.Dataset) -> None:
    population = tiny.population()
    each = torch.tensor([0.25, 0.5, 0.75])
    twins = zs.learn(population, data, "log_alpha", each, **HOW)
    every = zs.learn(population, data, "log_alpha", each.tolist(), **HOW)
    assert len(twins) == 3 and twins.sparsity().tolist() == pytest.approx(each.tolist(), abs=0.02)
    places = [every.ids.index(name) for name in twins.ids]
    assert torch.equal(twins.weights, every.weights[places])
    assert zs.learn(population, data, "log_alpha", each + 0.05, **HOW).ids[0].endswith("-0.3")
    with pytest.raises(InputError, match=r"shape \[2\], expected \[3\], one per model; pass a list"):
        zs.learn(population, data, "log_alpha", each[:2], **HOW)
