"""Layers, outputs and networks that sparsification emptied are counted and named."""

from __future__ import annotations

import logging
import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import zoosparse_ext as zs
from zoosparse_ext.population.evaluate import Evaluation
from zoosparse_ext.sparsify.collapse import (
    collapse_columns,
    empty_layers,
    layers_in_words,
    warn_of_collapse,
)
from zoosparse_ext.sparsify.twins import layer_columns, layer_names, twin_rows


def small_net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 2)
    )


def twins_of(weights: torch.Tensor, population: zs.Population) -> zs.Population:
    table = pd.DataFrame({"model_id": [f"m{i}" for i in range(len(weights))]})
    table = table.assign(source_id=table["model_id"], twin_id=table["model_id"] + "/t", method="magnitude")
    return zs.Population(
        weights, population.architecture, table.assign(scope="global", target=0.5, matched=None)
    )


@settings(max_examples=30, deadline=None)
@given(draw=st.integers(0, 10_000), sparsity=st.sampled_from([0.0, 0.5, 0.8, 0.95, 1.0]))
def test_counts_are_those_of_the_modules(draw: int, sparsity: float) -> None:
    torch.manual_seed(draw)
    population = zs.Population.from_modules([small_net() for _ in range(5)])
    weights = population.weights * (torch.rand_like(population.weights) >= sparsity)
    twins = twins_of(weights, population)
    columns = collapse_columns(twins, twins.sparsity(by_layer=True), None)
    for row, module in enumerate(twins.to_modules()):
        layers = [tensor.flatten(1) for tensor in module.state_dict().values() if tensor.dim() > 1]
        dead = sum(int((layer == 0).all(1).sum()) for layer in layers)
        assert columns["dead_outputs"][row] == dead
        assert columns["empty_layers"][row] == sum(bool((layer == 0).all()) for layer in layers)
    assert math.isnan(columns["one_answer"])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int64])
def test_one_answer_is_one_class_for_all_images(dtype: torch.dtype) -> None:
    population = zs.Population.from_modules([small_net() for _ in range(3)])
    predictions = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 0, 0]]).to(dtype)
    twins = twins_of(population.weights, population)
    columns = collapse_columns(twins, twins.sparsity(by_layer=True), predictions)
    assert columns["one_answer"].tolist() == [1.0, 0.0, 1.0]
    assert math.isnan(
        collapse_columns(twins, twins.sparsity(by_layer=True), predictions[:, :0])["one_answer"]
    )


def test_the_rows_of_twins_have_the_counts() -> None:
    population = zs.Population.from_modules([small_net() for _ in range(2)])
    population.weights[0, population.architecture.segments[2].slice] = 0.0  # the first linear layer
    predictions = torch.zeros(2, 5, dtype=torch.uint8)
    evaluation = Evaluation(torch.ones(2), torch.ones(2), predictions, torch.zeros(5, dtype=torch.int64))
    rows = twin_rows(twins_of(population.weights, population), 3, evaluation, predictions)
    assert rows[["empty_layers", "dead_outputs", "one_answer"]].to_numpy().tolist() == [[1, 4, 1], [0, 0, 1]]
    assert rows["sparsity_layer.3"].tolist() == [1.0, 0.0]
    assert twin_rows(twins_of(population.weights, population), 0, None, None)["one_answer"].isna().all()


def test_layers_with_several_prunable_tensors_have_a_column_each() -> None:
    assert layer_names(["a.weight", "rnn.weight_ih_l0", "rnn.weight_hh_l0"]) == [
        "a", "rnn.weight_ih_l0", "rnn.weight_hh_l0",
    ]  # fmt: skip
    assert layer_names(["weight"]) == ["weight"]
    columns = layer_columns(zs.architecture("cnn-s"))
    assert columns[0] == "sparsity_layer.module_list.0" and len(set(columns)) == len(columns)


def history(**columns: object) -> pd.DataFrame:
    base = {"twin_id": [f"t{i}" for i in range(5)], "epoch": 1, "sparsity": 0.8, "empty_layers": 0}
    base |= {"dead_outputs": 0, "one_answer": 0.0, "sparsity_layer.conv": 0.5, "sparsity_layer.fc": 0.9}
    return pd.DataFrame(base | columns)


def test_one_warning_names_twins_and_layers(caplog: pytest.LogCaptureFixture) -> None:
    after = history(**{"empty_layers": [1, 1, 2, 1, 0], "sparsity_layer.conv": [1, 1, 1, 0, 0.5]})
    after["sparsity_layer.fc"] = [0.5, 0.5, 1, 1, 0.5]
    after["dead_outputs"] = [3, 3, 9, 2, 1]
    before = after.assign(epoch=0, empty_layers=5)
    with caplog.at_level(logging.WARNING):
        warn_of_collapse(pd.concat([before, after], ignore_index=True))
    (record,) = caplog.records
    assert record.getMessage() == (
        "4 of 5 twins have an empty layer, 5 have outputs without incoming weights: t0, t1, t2 and 1 more; "
        "empty: conv in 3, fc in 2"
    )
    assert record.name == "zoosparse_ext.sparsify.collapse"


def test_nothing_empty_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        warn_of_collapse(history())
        warn_of_collapse(history().drop(columns=["empty_layers", "dead_outputs", "one_answer"]))
        one_class = torch.zeros(5, 4, dtype=torch.uint8)
        warn_of_collapse(history(one_answer=1.0), one_class)  # as their originals
        warn_of_collapse(history(one_answer=math.nan))
    assert caplog.records == []


def test_one_answer_is_warned_of_where_the_original_has_several(caplog: pytest.LogCaptureFixture) -> None:
    before = torch.tensor([[0, 0], [0, 1], [0, 0], [0, 0], [0, 0]], dtype=torch.uint8)
    with caplog.at_level(logging.WARNING):
        warn_of_collapse(history(one_answer=1.0), before)
        warn_of_collapse(history(sparsity=[0.8, 1.0, 0.8, 0.8, 1.0]))
    assert [record.getMessage() for record in caplog.records] == [
        "1 of 5 twins answers one class for all test images: t1",
        "2 of 5 twins have no weight left: t1, t4",
    ]


def test_layers_in_words() -> None:
    second = {"a": 0, "b": 1, "c": 1, "d": 0, "e": 1}
    rows = pd.DataFrame({f"sparsity_layer.{name}": [1.0, share] for name, share in second.items()})
    assert empty_layers(rows.assign(sparsity=1.0)) == {"a": 1, "b": 2, "c": 2, "d": 1, "e": 2}
    assert layers_in_words(empty_layers(rows)) == "b in 2, c in 2, e in 2 and 2 more"
    assert layers_in_words({}) == "" and empty_layers(rows.iloc[:0]) == {}


@pytest.fixture(scope="module")
def digits() -> zs.Dataset:
    return zs.load_dataset("digits").limit(100)


def test_pruning_warns_once_and_says_which(digits: zs.Dataset, caplog: pytest.LogCaptureFixture) -> None:
    population = zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(3))
    third = population.architecture.prunable_segments[2]
    population.weights[:, third.slice] *= 1e-4  # what a global scope takes first
    with caplog.at_level(logging.WARNING):
        twins = zs.magnitude_prune(population, [0.5, 0.8], data=digits, epochs=1)
    (record,) = [r for r in caplog.records if r.name == "zoosparse_ext.sparsify.collapse"]
    assert "6 of 6 twins have an empty layer" in record.getMessage()
    assert twins.ids[0] in record.getMessage() and f"{third.layer} in 6" in record.getMessage()
    final = twins.history[twins.history["epoch"] == 1]
    assert (final["empty_layers"] >= 1).all() and (final["dead_outputs"] >= third.shape[0]).all()
    assert np.array_equal(
        final["one_answer"] == 1, (twins.predictions == twins.predictions[:, :1]).all(1).numpy()
    )


def test_variational_dropout_warns_as_well(digits: zs.Dataset, caplog: pytest.LogCaptureFixture) -> None:
    population = zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(2))
    with caplog.at_level(logging.WARNING):
        twins = zs.variational_dropout(population, digits, epochs=0, threshold=-50.0)  # drops everything
    (record,) = [r for r in caplog.records if r.name == "zoosparse_ext.sparsify.collapse"]
    assert "2 of 2 twins have no weight left" in record.getMessage()
    assert (twins.history["empty_layers"] == len(population.architecture.prunable_segments)).all()


def test_counts_survive_the_store(digits: zs.Dataset, tmp_path) -> None:
    population = zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(2))
    population.predictions = zs.evaluate(population, digits).predictions
    twins = zs.magnitude_prune(population, 0.9, data=digits)
    zoo = zs.Zoo(
        {"original": [population], "magnitude-global": [twins]}, models=population.models, twins=twins.history
    )
    zoo.save(tmp_path / "zoo")
    columns = ["empty_layers", "dead_outputs", "one_answer"]
    pd.testing.assert_frame_equal(zs.Zoo.open(tmp_path / "zoo").twins[columns], twins.history[columns])
