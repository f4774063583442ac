from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from zoosparse_ext.analysis import StudyData, layer_sparsity, layer_trajectories, spared_layers, trajectories


def test_layer_golden():
    models = pd.DataFrame({"model_id": ["a", "b"], "accuracy": 0.9})
    twins = pd.DataFrame(
        {"twin_id": ["a1", "b1"], "source_id": ["a", "b"], "method": "magnitude", "scope": "global",
         "target": 0.5, "epoch": 0, "sparsity": 0.5, "accuracy": 0.9, "sparsity_layer.conv": [0.1, 0.3],
         "sparsity_layer.fc": [0.6, np.nan]}
    )  # fmt: skip
    table = layer_sparsity(StudyData(models, twins)).set_index("layer")
    assert table.loc["conv", "sparsity"] == pytest.approx(0.2) and table.loc["conv", "n"] == 2
    assert table.loc["conv", "kept_ratio"] == pytest.approx(1.6)  # median of 0.9/0.5 and 0.7/0.5
    assert table.loc["fc", "n"] == 1 and np.isnan(table.loc["fc", "weights"])


def test_layers_of_a_zoo(data):
    table = layer_sparsity(data)
    assert table.groupby("layer")["weights"].first().to_dict() == {
        "module_list.0": 72, "module_list.3": 144, "module_list.6": 220,
    }  # fmt: skip
    # The denominators add up: layer sparsities weighted by layer size give the total.
    one = table[(table["series"] == "MP per layer") & (table["level"] == 0.5)]
    assert np.average(one["sparsity"], weights=one["weights"]) == pytest.approx(
        one["total"].iloc[0], abs=1e-6
    )
    spared = spared_layers(data)
    assert (spared.loc[spared["series"] == "MP global", "most_spared"] == "module_list.0").all()


def test_a_fully_pruned_twin_spares_nothing(data):
    gone = data.twins.assign(sparsity=1.0)
    assert layer_sparsity(dataclasses.replace(data, twins=gone))["kept_ratio"].isna().all()
    assert spared_layers(dataclasses.replace(data, twins=gone)).empty


def test_trajectories(data):
    table = trajectories(data)
    vd = table[table["series"] == "VD"]
    assert vd["epoch"].tolist() == list(range(26)) and vd["target"].isna().all() and (vd["n"] == 12).all()
    assert vd["sparsity"].is_monotonic_increasing
    tuning = table[(table["series"] == "MP global") & (table["target"] == 0.9)]
    assert (
        tuning["epoch"].tolist() == [0, 1, 2, 3] and tuning["accuracy"].iloc[-1] > tuning["accuracy"].iloc[0]
    )
    layers = layer_trajectories(data)
    assert len(layers[layers["series"] == "VD"]) == 26 * 3
