"""LAMP against its definition, one weight at a time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import zoosparse_ext as zs
from tests.population import tiny
from zoosparse_ext.errors import InputError
from zoosparse_ext.sparsify.methods.lamp import Lamp, _shares


def by_definition(weights: list[float]) -> list[float]:
    """Score(u) = w_u² / Σ w_v² over v ≥ u in ascending order, equal weights in the order of their columns."""
    order = sorted(range(len(weights)), key=lambda column: abs(weights[column]))
    scores = [0.0] * len(weights)
    for place, column in enumerate(order):
        left = sum(weights[other] ** 2 for other in order[place:])
        scores[column] = weights[column] ** 2 / left if left else 0.0
    return scores


def two_layers() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1, bias=False))


def test_golden_values() -> None:
    population = tiny.population(two_layers, n=1)
    population.weights.copy_(torch.tensor([[1.0, -2.0, 0.0, 2.0, 0.5, 0.0, 30.0, 40.0]]))
    scores = Lamp().score(population, None, seed=0)
    expected = [[1 / 9, 4 / 8, 0.0, 1.0, 1.0, 0.0, 900 / 2500, 1.0]]
    torch.testing.assert_close(scores, torch.tensor(expected, dtype=torch.float64), rtol=1e-15, atol=0)
    # Of six weights four go: 0, 1/9, 900/2500, 4/8; the largest of both layers stay.
    masks = zs.magnitude_prune(population, 4 / 6, score="lamp").masks
    assert masks is not None
    assert masks.tolist() == [[False, False, False, True, True, True, False, True]]


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.sampled_from([-3.0, -1.0, -0.5, 0.0, 1e-30, 0.5, 1.0, 2.0, 1e20]), min_size=1, max_size=12)
)
def test_the_definition(weights: list[float]) -> None:
    scores = _shares(torch.tensor([weights], dtype=torch.float64).square())[0].tolist()
    assert scores == pytest.approx(by_definition(weights), rel=1e-12, abs=0)
    if any(weights):
        assert max(scores) == 1.0 and scores.count(1.0) >= 1


@pytest.mark.parametrize("build", [tiny.chain, tiny.Residual, tiny.batch_normed])
def test_a_row_depends_on_its_model_alone(
    build: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    population = tiny.population(build, n=5)
    together = Lamp().score(population, None, seed=0)
    monkeypatch.setattr("zoosparse_ext.sparsify.methods.lamp.MODELS", 2)
    assert torch.equal(Lamp().score(population, None, seed=0), together)
    assert torch.equal(Lamp().score(population[[4, 0, 1]], None, seed=0), together[[4, 0, 1]])


def kept_by_layer(population: zs.Population) -> Tensor:
    masks = population.masks
    assert masks is not None
    return torch.stack([masks[:, s.slice].sum(1) for s in population.layers() if s.prunable], dim=1)


def test_no_layer_is_emptied_before_its_time() -> None:
    """Magnitude empties the layer of small weights; here every layer keeps its largest."""
    population = tiny.population(n=3)
    small = next(segment for segment in population.layers() if segment.prunable)
    population.weights[:, small.slice] *= 1e-3
    layers = len(population.architecture.prunable_segments)
    total = population.architecture.n_prunable
    sparsity = (total - layers) / total
    assert not kept_by_layer(zs.magnitude_prune(population, sparsity))[:, 0].any()
    assert (
        kept_by_layer(zs.magnitude_prune(population, sparsity, score="lamp")).tolist() == [[1] * layers] * 3
    )


def test_within_a_layer_the_order_is_that_of_magnitude() -> None:
    population = tiny.population(n=3)
    by_size = zs.magnitude_prune(population, 0.6, "layer").masks
    by_share = zs.magnitude_prune(population, 0.6, "layer", score="lamp").masks
    assert by_size is not None and by_share is not None and torch.equal(by_size, by_share)


def test_masks_do_not_count() -> None:
    """Pruned weights take no part in the sums: pruning on is pruning at once."""
    population = tiny.population(n=3)
    halfway = zs.magnitude_prune(population, 0.4, score="lamp")
    at_once = zs.magnitude_prune(population, 0.8, score="lamp").masks
    further = zs.magnitude_prune(halfway, 0.8, score="lamp").masks
    assert at_once is not None and further is not None and torch.equal(further, at_once)


def test_biases_are_a_tensor_of_their_own() -> None:
    population = tiny.population(n=2)
    twins = zs.magnitude_prune(population, 0.9, score="lamp", biases=True)
    assert twins.masks is not None
    assert (~twins.masks).sum(1).tolist() == [round(0.9 * 138)] * 2
    assert bool(population.architecture.unflatten(twins.masks)["0.bias"].any(1).all())


def test_nan_and_infinity() -> None:
    population = tiny.population(n=2)
    population.weights[1, 3] = torch.nan
    with pytest.raises(InputError, match="weights are NaN: row 1"):
        zs.magnitude_prune(population, 0.5, score="lamp")
    masks = zs.magnitude_prune(population, 0.9, score="lamp", allow_nan=True).masks
    assert masks is not None and bool(masks[1, 3])
    population.weights[1, 3] = torch.inf
    with pytest.raises(InputError, match=f"lamp: scores of model '{population.ids[1]}'"):
        zs.magnitude_prune(population, 0.5, score="lamp")


def test_the_series() -> None:
    twins = zs.magnitude_prune(tiny.population(n=1), 0.5, score="lamp")
    assert set(twins.models["method"]) == {"lamp"} and twins.ids[0].endswith("/lamp-global-0.5")
