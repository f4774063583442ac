"""One sparsity for all layers but the first."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import zoosparse_ext as zs
from tests.population import tiny
from tests.sparsify.scopes.test_registry import recurrent
from zoosparse_ext.errors import InputError


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.75])
@pytest.mark.parametrize("build", [tiny.chain, tiny.Residual, tiny.batch_normed])
def test_counts_are_exact(build: type[nn.Module], sparsity: float) -> None:
    population = tiny.population(build, n=2)
    twins = zs.magnitude_prune(population, sparsity, "uniform")
    first, *others = population.architecture.prunable_segments
    total = population.architecture.n_prunable
    k = round(sparsity * total)
    assert twins.masks is not None
    gone = (~twins.masks).int()
    assert gone.sum(1).tolist() == [k] * 2 and not gone[:, first.slice].any()
    share = k / (total - first.size)
    for segment in others:
        assert bool(((gone[:, segment.slice].sum(1) - share * segment.size).abs() < 1).all())
    assert set(twins.models["scope"]) == {"uniform"}


class Backwards(nn.Module):
    """A chain whose last layer stands first among its parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.last, self.first = nn.Linear(6, tiny.CLASSES), nn.Linear(64, 6)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(images.flatten(1))))


def test_the_first_layer_is_that_which_is_used_first() -> None:
    population = tiny.population(Backwards, n=2)
    assert population.architecture.program is not None
    by_layer = zs.magnitude_prune(population, 0.05, "uniform").sparsity(by_layer=True)
    names = [segment.layer for segment in population.architecture.prunable_segments]
    assert not by_layer[:, names.index("first")].any() and bool(by_layer[:, names.index("last")].all())


def test_a_first_layer_that_is_not_prunable() -> None:
    population = tiny.population(n=2, prunable=["3.weight", "6.weight", "8.weight"])
    by_layer = zs.magnitude_prune(population, 0.2, "uniform").sparsity(by_layer=True)
    assert by_layer.shape == (2, 3) and not by_layer[:, 0].any() and bool(by_layer[:, 1:].all())


def test_what_cannot_be_reached_is_refused() -> None:
    population = tiny.population(n=2)
    with pytest.raises(InputError) as raised:
        zs.magnitude_prune(population, torch.tensor([0.1, 0.95]), "uniform")
    told = str(raised.value)
    assert "'0.weight' of 'Sequential'" in told and "0.95 cannot be reached" in told
    highest = 96 / 123
    assert f"{highest:.4g} is the highest" in told
    assert zs.magnitude_prune(population, highest, "uniform").sparsity().tolist() == [highest] * 2


def test_one_layer_alone_stays_dense() -> None:
    population = tiny.population(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, tiny.CLASSES)), n=2)
    assert not zs.magnitude_prune(population, 0.0, "uniform").sparsity().any()
    with pytest.raises(InputError, match="0 is the highest"):
        zs.magnitude_prune(population, 0.5, "uniform")


def test_a_ratio_for_each_model() -> None:
    population = tiny.population(n=3)
    ratios = torch.tensor([0.1, 0.5, 0.7], dtype=torch.float64)
    twins = zs.magnitude_prune(population, ratios, "uniform")
    total = population.architecture.n_prunable
    assert twins.sparsity().tolist() == [round(float(ratio) * total) / total for ratio in ratios]
    with pytest.raises(InputError, match=r"scope 'uniform' expects \[3\]"):
        zs.magnitude_prune(population, ratios[:, None].expand(-1, 4), "uniform")


def test_transposed_and_recurrent_layers() -> None:
    def up() -> nn.Module:
        return nn.Sequential(nn.ConvTranspose2d(1, 2, 3), nn.Flatten(), nn.Linear(200, tiny.CLASSES))

    for population in (tiny.population(up, n=2, input_shape=tiny.SHAPE), recurrent()):
        twins = zs.magnitude_prune(population, 0.4, "uniform")
        total = population.architecture.n_prunable
        assert twins.sparsity().tolist() == [round(0.4 * total) / total] * 2
        assert not twins.sparsity(by_layer=True)[:, 0].any()


def test_biases_go_with_their_layer() -> None:
    population = tiny.population(n=2)
    twins = zs.magnitude_prune(population, 0.6, "uniform", biases=True)
    assert twins.masks is not None
    assert (~twins.masks).sum(1).tolist() == [round(0.6 * 138)] * 2
    kept = population.architecture.unflatten(twins.masks)
    assert bool(kept["0.bias"].all()) and not bool(kept["6.bias"].all())


def test_masks_stay() -> None:
    population = tiny.population(n=2)
    halfway = zs.magnitude_prune(population, 0.3, "uniform")
    twins, at_once = (zs.magnitude_prune(models, 0.6, "uniform") for models in (halfway, population))
    assert twins.masks is not None and at_once.masks is not None and torch.equal(twins.masks, at_once.masks)
    with pytest.raises(InputError, match="in layer '0' already"):
        zs.magnitude_prune(zs.magnitude_prune(population, 0.5), 0.6, "uniform")
