"""Measuring the costs of inference, and that `auto` goes by them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import zoosparse_ext as zs
from zoosparse_ext.errors import InputError
from zoosparse_ext.ops import infer, infer_costs
from zoosparse_ext.ops.infer_costs import InferCosts
from zoosparse_ext.population import tuning

native = pytest.mark.skipif(not infer.available(), reason="the native engine is not built")


@native
def test_measured_costs_are_plausible() -> None:
    costs = tuning.measure_infer_costs()
    assert 1 <= costs.on_planes <= 10 and 1 <= costs.on_one_position <= 10


@native
@pytest.mark.parametrize(("costs", "chosen"), [((1e-3, 1e-3), "sparse"), ((1e3, 1e3), "dense")])
def test_auto_goes_by_the_costs(costs: tuple[float, float], chosen: str) -> None:
    """Dense and sparse add in another order, so their bits tell them apart."""
    architecture = zs.Architecture.from_module(nn.Sequential(nn.Flatten(), nn.Linear(60, 8)), "", (60, 1, 1))
    population = zs.magnitude_prune(zs.Population.initialise(architecture, range(4)), 0.5)
    images = torch.rand(9, 60, 1, 1, generator=torch.Generator().manual_seed(0))
    scores = {sparse: population.compile(sparse)(images) for sparse in ("dense", "sparse")}
    assert not torch.equal(scores["dense"], scores["sparse"])
    infer_costs.use(InferCosts(*costs))
    try:
        assert torch.equal(population.compile("auto")(images), scores[chosen])
    finally:
        infer_costs.use(infer_costs.saved() or InferCosts())


@pytest.mark.skipif(infer.available(), reason="the native engine is built")
def test_nothing_to_tune_without_the_engine() -> None:
    with pytest.raises(InputError, match="nothing to tune without the native engine"):
        tuning.measure_infer_costs()
