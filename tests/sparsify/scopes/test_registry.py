"""Scopes by name, and what all of them hold to."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

import zoosparse_ext as zs
from tests.population import tiny
from zoosparse_ext.errors import InputError
from zoosparse_ext.report.names import method_name
from zoosparse_ext.sparsify.scopes import SCOPES, Scope, chosen_scope, register
from zoosparse_ext.sparsify.selection import Lots
from zoosparse_ext.sparsify.series import Series

EVERY = pytest.mark.parametrize("scope", SCOPES.values(), ids=list(SCOPES))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.GRU(8, 5, batch_first=True), nn.Linear(5, tiny.CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.cell(images.flatten(1, 2))[0][:, -1])


def recurrent(n: int = 2) -> zs.Population:
    return tiny.population(Recurrent, n, example=torch.rand(2, *tiny.SHAPE))


@EVERY
def test_every_scope_says_what_it_is(scope: Scope) -> None:
    assert scope.name and scope.label and scope.phrase and type(scope).__doc__
    series = Series("magnitude", scope.name, options=("lr 0.1",))
    assert series.label == f"MP {scope.label}, lr 0.1" and Series.parse(series.key) == series
    assert method_name(series.label) == f"{scope.phrase} magnitude pruning (lr 0.1)"
    assert method_name(Series("random", scope.name).label) == f"{scope.phrase} random pruning"


@EVERY
@pytest.mark.parametrize("biases", [False, True], ids=["weights", "biases"])
def test_lots_cover_all_columns(scope: Scope, biases: bool) -> None:
    for population in (tiny.population(n=2), tiny.population(tiny.Residual, n=2), recurrent()):
        lots = Lots.of(population, torch.tensor([0.1, 0.2], dtype=torch.float64), scope.name, biases)
        assert sum(lots.sizes) == len(lots.columns) and lots.counts.shape == (2, len(lots.sizes))
        assert bool((lots.counts >= 0).all()) and bool((lots.counts <= torch.tensor(lots.sizes)).all())
        assert bool((lots.counts.sum(1)[0] <= lots.counts.sum(1)[1]).all())


@EVERY
def test_a_row_has_the_same_lots_whatever_its_neighbors(scope: Scope) -> None:
    population = tiny.population(n=7)
    ratios = torch.linspace(0.1, 0.7, 7, dtype=torch.float64)
    whole = Lots.of(population, ratios, scope.name).counts
    for rows in ([3], [6, 0, 2]):
        assert torch.equal(Lots.of(population[rows], ratios[rows], scope.name).counts, whole[rows])


def test_one_sparsity_for_each_tensor_of_a_recurrent_layer() -> None:
    population = recurrent()
    sizes = torch.tensor([segment.size for segment in population.architecture.prunable_segments])
    ratios = torch.tensor([[0.2, 0.4, 0.6]] * 2, dtype=torch.float64)
    twins = zs.magnitude_prune(population, ratios, "layer")
    expected = (ratios * sizes).round() / sizes
    torch.testing.assert_close(twins.sparsity(by_layer=True), expected)


def test_an_unknown_name() -> None:
    with pytest.raises(InputError) as raised:
        chosen_scope("filter")
    assert str(raised.value) == f"scope must be one of {', '.join(SCOPES)}; got 'filter'"


def test_a_name_is_taken_once() -> None:
    class Layer(Scope):
        name: ClassVar[str] = "layer"

    with pytest.raises(ValueError, match="two scopes"):
        register(Layer)


def test_a_transposed_convolution_that_is_sparser_already() -> None:
    def up() -> nn.Module:
        return nn.Sequential(nn.ConvTranspose2d(1, 2, 3), nn.Flatten(), nn.Linear(200, tiny.CLASSES))

    twins = zs.magnitude_prune(tiny.population(up, n=2, input_shape=tiny.SHAPE), 0.5, "layer")
    with pytest.raises(InputError, match=r"has a sparsity of 0\.5 in layer '0' already"):
        zs.magnitude_prune(twins, 0.25, "layer")
