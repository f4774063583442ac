"""Layers, outputs and networks that are empty: counted, named, and left out of medians beside those of all."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.analysis.synthetic_zoo import many_series_zoo, synthetic_zoo
from zoosparse_ext.analysis import (
    StudyData,
    collapse,
    compare_measured,
    emptied_layers,
    final_twins,
    performance_by_sparsity,
    sparsest_affordable,
)

NAMES = [f"m{i}" for i in range(5)]


def study(**columns: object) -> StudyData:
    """Five models, one magnitude twin each at 90 %."""
    models = pd.DataFrame({"model_id": NAMES, "accuracy": 0.9})
    twins = {"twin_id": [f"{name}-t" for name in NAMES], "source_id": NAMES, "method": "magnitude"}
    twins |= {"scope": "global", "target": 0.9, "epoch": 0, "sparsity": 0.9}
    twins |= {"accuracy": [0.89, 0.88, 0.87, 0.10, 0.10]}
    return StudyData(models, pd.DataFrame(twins | columns))


COUNTED = {
    "empty_layers": [0, 0, 0, 2, 0],
    "dead_outputs": [0, 1, 2, 9, 3],
    "one_answer": [0.0, 0, 0, 1, 1],
    "sparsity_layer.conv": [0.5, 0.5, 0.5, 1, 0.5],
    "sparsity_layer.fc": [0.9, 0.9, 0.9, 1, 0.9],
}


def test_counts_and_medians_with_and_without() -> None:
    data = study(**COUNTED)
    row = collapse(data).iloc[0]
    counts = ["n", "empty_layers", "dead_outputs", "one_answer", "emptied", "collapsed"]
    assert row[counts].tolist() == [5, 1, 4, 2, 0, 2]
    assert row["layers"] == "conv in 1, fc in 1" and row["dead_outputs_median"] == 2
    assert (row["accuracy"], row["accuracy_working"]) == (0.87, 0.88)
    assert row["change_working"] == pytest.approx(-0.02)
    assert emptied_layers(data)[["layer", "twins"]].to_numpy().tolist() == [["conv", 1], ["fc", 1]]
    cell = performance_by_sparsity(data).iloc[0]
    assert (cell["accuracy_median"], cell["accuracy_working"], cell["collapsed"]) == (0.87, 0.88, 2)
    (point,) = sparsest_affordable(performance_by_sparsity(data))
    assert (point.collapsed, point.n) == (2, 5) and point.working == pytest.approx(-0.02)


def test_older_zoos_tell_empty_layers_by_their_sparsity() -> None:
    data = study(**{"sparsity_layer.conv": COUNTED["sparsity_layer.conv"]})
    row = collapse(data).iloc[0]
    assert row["empty_layers"] == row["collapsed"] == 1 and row["layers"] == "conv in 1"
    assert np.isnan(row["dead_outputs"]) and np.isnan(row["one_answer"])
    bare = collapse(study(sparsity=[0.9, 0.9, 0.9, 0.9, 1.0])).iloc[0]
    assert bare["empty_layers"] == bare["emptied"] == bare["collapsed"] == 1 and bare["layers"] == ""


def test_old_and_new_rows_in_one_table() -> None:
    """As where twins are added to a zoo of an earlier version."""
    columns = {
        **COUNTED,
        "empty_layers": [0, 0, np.nan, np.nan, 0],
        "one_answer": [0, np.nan, np.nan, np.nan, 1],
    }
    row = collapse(study(**columns)).iloc[0]
    assert row["empty_layers"] == 1 and row["one_answer"] == 1 and row["collapsed"] == 2


def test_the_last_epoch_counts() -> None:
    data = study(**COUNTED)
    later = data.twins.assign(epoch=1, empty_layers=0, one_answer=0.0, **{"sparsity_layer.conv": 0.5})
    later["sparsity_layer.fc"] = 0.5
    twins = pd.concat([data.twins, later], ignore_index=True)
    table = collapse(StudyData(data.models, twins))
    assert table["n"].tolist() == [5] and table["collapsed"].tolist() == [0]


def test_matched_twins_are_counted_in_rows_of_their_own() -> None:
    data = StudyData.from_zoo(synthetic_zoo(6, images=50, ratios=(0.5,), fine_tuning=0))
    table = collapse(data).set_index(["series", "level_label"])
    assert table.loc[("MP global", "matched"), "n"] == table.loc[("MP per layer", "matched"), "n"] == 6
    assert table["n"].sum() == data.twins["twin_id"].nunique()


def test_twins_matched_to_another_epoch_or_series_are_not_pooled() -> None:
    zoo = synthetic_zoo(6, images=50, ratios=(0.5,), scopes=("global",), fine_tuning=0)
    matched, vd = zoo.twins[zoo.twins["matched"].notna()], zoo.twins[zoo.twins["method"] == "variational"]
    early = matched.assign(twin_id=matched["twin_id"] + "-5", matched_epoch=5.0)
    zoo.twins = pd.concat([zoo.twins, early], ignore_index=True)
    labels = collapse(StudyData.from_zoo(zoo))["level_label"].tolist()
    assert labels == ["50 %", "end", "matched", "matched, epoch 5"]
    other = vd.assign(twin_id=vd["twin_id"] + "-kl", series="variational-kl_30")
    sparser = matched.assign(twin_id=matched["twin_id"] + "-kl", matched=matched["matched"] + "-kl")
    zoo.twins = pd.concat([zoo.twins, other, sparser], ignore_index=True)
    table = collapse(StudyData.from_zoo(zoo))
    assert table["level_label"].tolist()[3:] == [
        "matched to VD",
        "matched to VD, epoch 5",
        "matched to VD, kl 30",
    ]
    assert (table["n"] == 6).all()


def test_matched_differences_with_and_without() -> None:
    zoo = synthetic_zoo(6, images=100, ratios=(0.5,), scopes=("global",), fine_tuning=0)
    vd = zoo.twins["method"] == "variational"
    matched = zoo.twins["matched"].notna()
    first = zoo.twins["source_id"].isin(zoo.models["model_id"][:2])
    zoo.twins.loc[matched & first, ["sparsity_layer.module_list.0", "accuracy"]] = [1.0, 0.1]
    zoo.labels = None  # the table alone says what these two answer
    row = compare_measured(StudyData.from_zoo(zoo)).query("pairs == 'matched'").iloc[0]
    assert (row["n"], row["collapsed"]) == (6, 2)
    final = zoo.twins[vd].groupby("source_id")["accuracy"].last()
    pruned = zoo.twins[matched].set_index("source_id")["accuracy"]
    differences = (pruned - final).loc[zoo.models["model_id"][2:]]
    assert row["difference_working"] == pytest.approx(differences.median())
    assert row["difference_median"] < row["difference_working"]


def test_collapse_of_a_zoo_with_many_series() -> None:
    data = StudyData.from_zoo(many_series_zoo(6, images=50))
    table = collapse(data)
    (row,) = table[table["collapsed"] > 0].to_dict("records")
    assert (row["series"], row["level_label"], row["collapsed"], row["layers"]) == (
        "random global", "90 %", 2, "module_list.3 in 2",
    )  # fmt: skip
    twins = final_twins(data)
    assert (~twins["works"]).sum() == 2
