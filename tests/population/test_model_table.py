"""The table of a population: every network has an id of its own."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest
import torch
from torch import nn

import zoosparse_ext as zs
from zoosparse_ext.errors import InputError
from zoosparse_ext.population.architecture import Architecture

CHAIN = Architecture.from_module(
    nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), "chain", input_shape=(1, 2, 2)
)  # 10 columns


TWICE = pd.DataFrame({"model_id": ["a", "b", "a", "b"]})


@pytest.mark.parametrize(
    "make",
    [
        lambda: zs.Population(torch.zeros(4, 10), CHAIN, TWICE),
        lambda: zs.Population.from_modules([CHAIN.module() for _ in range(4)], table=TWICE),
        lambda: zs.Population.initialise(CHAIN, range(4), table=TWICE),
        lambda: zs.Population(torch.zeros(2, 10), CHAIN, pd.concat([TWICE[:1]] * 2)),
    ],
)
def test_an_id_twice(make: Callable[[], zs.Population]) -> None:
    with pytest.raises(
        InputError, match=r"table of models calls rows 0 and [12] both 'a' \(model_id; [12] ids"
    ):
        make()


def test_a_seed_twice_needs_two_ids() -> None:
    with pytest.raises(InputError, match="rows 1 and 2 both 'chain-0005'"):
        zs.Population.initialise(CHAIN, [4, 5, 5])
    table = pd.DataFrame({"model_id": ["a", "b", "c"]})
    assert zs.Population.initialise(CHAIN, [4, 5, 5], table=table).ids == ["a", "b", "c"]


def test_a_twin_twice() -> None:
    twins = pd.DataFrame({"model_id": ["a", "a", "b"], "twin_id": ["a/1", "a/2", "b/1"]})
    assert zs.Population(torch.zeros(3, 10), CHAIN, twins).ids == ["a/1", "a/2", "b/1"]
    with pytest.raises(InputError, match=r"rows 1 and 2 both 'a/2' \(twin_id"):
        zs.Population(torch.zeros(3, 10), CHAIN, twins.assign(twin_id=["a/1", "a/2", "a/2"]))


def test_ids_that_are_no_text() -> None:
    with pytest.raises(InputError, match="column 'model_id' of the models must hold text"):
        zs.Population(torch.zeros(2, 10), CHAIN, pd.DataFrame({"model_id": [["a"], ["b"]]}))


def test_a_selection_may_take_a_row_twice() -> None:
    population = zs.Population.initialise(CHAIN, range(2))
    assert population[[1, 1]].clone()[[0, 1]].ids == ["chain-0001"] * 2
