"""Change, losers, correlation and agreement of twins beside those of their controls."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from tests.analysis.drawn_study import drawn_study
from zoosparse_ext.analysis import (
    StudyData,
    correlation_with_original,
    epochs_of_twins,
    final_twins,
    losers,
    performance_by_sparsity,
    split_half,
    trajectories,
)
from zoosparse_ext.analysis.intervals import share_below
from zoosparse_ext.analysis.twins import control_twins

NAMES = [f"m{i}" for i in range(6)]


def study(
    twins: list[float], control: list[float] | None = None, original: list[float] | None = None
) -> StudyData:
    """Six models with a magnitude twin each, and perhaps a control."""
    models = pd.DataFrame({"model_id": NAMES, "accuracy": original or [0.9] * 6})
    columns = {"scope": "global", "target": 0.5, "epoch": 2, "sparsity": 0.5}
    rows = pd.DataFrame({"twin_id": [f"{n}/t" for n in NAMES], "source_id": NAMES, "method": "magnitude"})
    tables = [rows.assign(accuracy=twins, **columns)]
    if control is not None:
        rows = rows.assign(twin_id=[f"{n}/control" for n in NAMES], method="control", accuracy=control)
        tables.append(rows.assign(**columns | {"scope": None, "target": 0.0, "sparsity": 0.0}))
    return StudyData(models, pd.concat(tables, ignore_index=True))


TWINS = [0.95, 0.93, 0.92, 0.90, 0.89, 0.88]


def test_losers_golden():
    row = losers(study(TWINS)).iloc[0]
    assert (row["against"], row["n"], row["lost_1"]) == ("original", 6, pytest.approx(1 / 6))  # 0.88 alone
    row = losers(study(TWINS, [0.95] * 6)).iloc[0]  # −0, −2, −3, −5, −6, −7 points
    assert (row["against"], row["without_control"], row["resampled"]) == ("control", 0, "models")
    assert row[["lost_1", "lost_2", "lost_5"]].tolist() == pytest.approx([5 / 6, 4 / 6, 2 / 6])
    expected = share_below(np.array(TWINS) - 0.95, -0.02)
    assert (row["lost_2_low"], row["lost_2_high"]) == (expected.low, expected.high)


def test_losers_whose_control_is_missing():
    data = study(TWINS, [0.95, 0.95, 0.95, np.nan, 0.95, 0.95])
    row = losers(data).iloc[0]
    assert (row["against"], row["n"], row["without_control"]) == ("control", 5, 1)
    assert row["lost_1"] == pytest.approx(4 / 5) and np.isnan(row["lost_1_low"])  # 5 models are too few
    cell = performance_by_sparsity(data).iloc[0]
    assert (cell["n"], cell["with_control"], cell["lost_1_from_control"]) == (6, 5, pytest.approx(4 / 5))


def test_not_a_number_counts_as_lost():
    twins = [0.95, 0.95, 0.95, 0.95, 0.95, np.nan]
    assert losers(study(twins, [0.95] * 6)).iloc[0]["lost_5"] == pytest.approx(1 / 6)
    data = drawn_study(20, 100, levels=(0.5,), costs=(0.0,))
    broken = data.twins.copy()
    broken.loc[broken["twin_id"] == "m0/magnitude-0.5", "accuracy"] = np.nan
    before, after = (losers(dataclasses.replace(data, twins=t)).iloc[0] for t in (data.twins, broken))
    assert (
        after["lost_5"] >= before["lost_5"] and after["n"] == 20 and after["resampled"] == "models and images"
    )
    own = final_twins(data).query("twin_id == 'm0/magnitude-0.5'")["change_from_control"].item()
    assert after["lost_5"] == pytest.approx(before["lost_5"] + (own > -0.05) / 20)


def test_performance_both_ways():
    row = performance_by_sparsity(study(TWINS, [0.95] * 6)).iloc[0]
    assert row["change_median"] == pytest.approx(0.01) and row["change_from_control_median"] == pytest.approx(
        -0.04
    )
    assert row["change_from_control_low"] < -0.04 < row["change_from_control_high"]
    assert (row["lost_2"], row["lost_2_from_control"]) == (0, pytest.approx(4 / 6))
    assert row["control_accuracy"] == 0.95 and row["change_from_control_working"] == pytest.approx(-0.04)
    without = performance_by_sparsity(study(TWINS)).iloc[0]
    assert without["with_control"] == 0
    assert without.filter(like="control").drop("with_control").isna().all()


def test_losers_with_images_are_those_of_the_table():
    data = drawn_study(40, 500)
    table = losers(data)
    twins = final_twins(data)
    for (_, of_level), (_, row) in zip(twins.groupby("level"), table.iterrows(), strict=True):
        for points in (1, 2, 5):
            lost = (of_level["change_from_control"] < -points / 100 - 1e-9).mean()
            assert row[f"lost_{points}"] == pytest.approx(lost)
            assert row[f"lost_{points}_low"] <= lost <= row[f"lost_{points}_high"]
        assert (row["images"], row["resampled"]) == (500, "models and images")


def test_correlation_over_halves():
    data = drawn_study(40, 500)
    table = correlation_with_original(data).set_index("level")
    original = data.originals[0].predictions == data.labels
    for level in (0.5, 0.8):
        twins = data.populations[f"magnitude-{level}"][0].predictions == data.labels
        control = data.populations["control-0.0"][0].predictions == data.labels
        row = table.loc[level]
        for name, interval in {
            "split_half": split_half(original, twins),
            "control_split_half": split_half(original, control),
            "originals_split_half": split_half(original, original),
        }.items():
            assert row[[name, f"{name}_low", f"{name}_high"]].tolist() == pytest.approx(
                [interval.estimate, interval.low, interval.high]
            )
        assert abs(row["split_half_spearman"] - row["split_half"]) < 0.1
        assert row["originals_std"] == pytest.approx(data.models["accuracy"].std())
        assert (row["originals_differ"], row["measured_on"]) == (True, "halves of the images")
    assert table["pearson"].notna().all() and (table["resampled"] == "models and images").all()


def test_originals_that_differ_by_luck():
    row = correlation_with_original(drawn_study(40, 300, spread=0.0)).iloc[0]
    assert row["originals_differ"] is False
    assert row["originals_why"].startswith("halves of the images agree on the originals at r = ")
    assert row["originals_why"].endswith("points") and "0.7 is needed; spread " in row["originals_why"]
    equal = correlation_with_original(study(TWINS)).iloc[0]
    assert equal["originals_differ"] is False
    assert equal["originals_why"] == "all originals have the same accuracy"


def test_correlation_without_predictions():
    data = dataclasses.replace(drawn_study(12, 100), populations={})
    row = correlation_with_original(data).iloc[0]
    assert np.isnan(row["split_half"]) and row["pearson"] > 0.5
    assert (row["measured_on"], row["resampled"]) == ("the same images", "models")
    assert row["originals_differ"] is None
    assert row["originals_why"].startswith("predictions of the originals are not stored; spread ")


def test_one_model():
    data = drawn_study(1, 50)
    row = correlation_with_original(data).iloc[0]
    assert np.isnan(row["split_half"]) and row["originals_differ"] is None
    assert row["originals_why"] == "fewer than two models"
    assert losers(data)["lost_5_low"].isna().all()


def test_twins_that_are_not_a_number_do_not_correlate():
    data = drawn_study(20, 100)
    broken = data.twins.copy()
    broken.loc[broken["source_id"] == "m3", "accuracy"] = np.nan
    table = correlation_with_original(dataclasses.replace(data, twins=broken))
    kept = [i for i in range(20) if i != 3]
    original, twins = (
        g.predictions[kept] == data.labels for g in (data.originals[0], data.populations["magnitude-0.5"][0])
    )
    assert table["split_half"].iloc[0] == pytest.approx(split_half(original, twins).estimate)


def test_trajectories_have_their_control_at_the_same_epoch():
    data = drawn_study(30, 300, epochs=(0, 1, 2, 3), kept=(1,))
    table = trajectories(data)
    controls = control_twins(data)
    of_level = table[table["target"] == 0.8].set_index("epoch")
    for epoch in range(4):
        control = controls[controls["epoch"] == epoch]
        assert of_level.loc[epoch, "control_accuracy"] == pytest.approx(control["accuracy"].median())
        twins = epochs_of_twins(data).query("epoch == @epoch and target == 0.8")
        change = twins["accuracy"].to_numpy() - control["accuracy"].to_numpy()
        assert of_level.loc[epoch, "change_from_control"] == pytest.approx(np.median(change))
        assert of_level.loc[epoch, "lost_5_from_control"] == pytest.approx((change < -0.05 - 1e-9).mean())
    assert (of_level["with_control"] == 30).all()
    # Predictions are kept after epochs 1 and 3.
    assert of_level["split_half"].notna().tolist() == [False, True, False, True]
    assert of_level["control_split_half"].notna().tolist() == [False, True, False, True]
    original = data.originals[0].predictions == data.labels
    after = data.populations["magnitude-0.8@1"][0].predictions == data.labels
    assert of_level.loc[1, "split_half"] == pytest.approx(split_half(original, after).estimate)


@pytest.mark.parametrize("table", [losers, correlation_with_original, trajectories, performance_by_sparsity])
def test_odd_studies(table):
    twenty = drawn_study(6, 20)
    for data in (
        twenty,
        dataclasses.replace(twenty, labels=None),
        dataclasses.replace(twenty, twins=twenty.twins.assign(accuracy=np.nan)),
        dataclasses.replace(
            twenty, models=twenty.models.assign(accuracy=0.2), twins=twenty.twins.assign(accuracy=0.2)
        ),
        dataclasses.replace(twenty, twins=twenty.twins[twenty.twins["method"] == "control"]),
        drawn_study(6, 20, control=False),
        StudyData(twenty.models, pd.DataFrame()),
    ):
        assert list(table(data).columns) == list(table(twenty).columns)
