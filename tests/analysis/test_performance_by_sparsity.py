from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from zoosparse_ext.analysis import performance_by_sparsity, robustness, sparsest_affordable


def test_golden(magnitude_study):
    # Changes: −1, −3, −6, +1, 0 points.
    study = magnitude_study([0.90, 0.90, 0.90, 0.80, 0.80], [0.89, 0.87, 0.84, 0.81, 0.80])
    row = performance_by_sparsity(study).iloc[0]
    assert row["accuracy_median"] == 0.84
    assert (row["accuracy_q25"], row["accuracy_q75"]) == (0.81, 0.87)
    assert (row["accuracy_min"], row["accuracy_max"]) == (0.80, 0.89)
    assert row["change_median"] == pytest.approx(-0.01)
    assert (row["lost_1"], row["lost_2"], row["lost_5"]) == (
        0.4,
        0.4,
        0.2,
    )  # exactly one point is not more than one
    assert row["change_low"] <= row["change_median"] <= row["change_high"]


def test_nan_counts_as_lost(magnitude_study):
    row = performance_by_sparsity(magnitude_study([0.9, 0.9], [np.nan, 0.9])).iloc[0]
    assert row["lost_5"] == 0.5 and row["accuracy_median"] == 0.9 and row["n"] == 2


def test_rows_and_order(data):
    table = performance_by_sparsity(data)
    assert list(table["series"].unique()) == ["MP global", "MP per layer", "VD"]
    assert list(table["level_label"][:9]) == [f"{r} %" for r in range(10, 100, 10)]
    assert table["level_label"].iloc[-1] == "end"
    assert (table["n"] == 12).all()  # matched twins are not part of the grid


def test_spread_golden(magnitude_study):
    row = robustness(magnitude_study([0.8, 0.9, 1.0], [0.6, 0.8, 1.0])).iloc[0]
    assert row["iqr_before"] == pytest.approx(0.1) and row["iqr_after"] == pytest.approx(0.2)
    assert row["range_after"] == pytest.approx(0.4) and row["ratio"] == pytest.approx(2.0)


def test_verdict_on_spread(magnitude_study):
    before = list(np.linspace(0.8, 1.0, 40))
    verdicts = {
        factor: robustness(magnitude_study(before, [0.9 + factor * (b - 0.9) for b in before])).iloc[0][
            "verdict"
        ]
        for factor in (0.5, 1.0, 2.0)
    }
    assert verdicts == {0.5: "narrower", 1.0: "undecided", 2.0: "wider"}
    assert robustness(magnitude_study([0.9], [0.9])).iloc[0]["verdict"] == "–"


def test_failures(magnitude_study):
    # The most frequent class is 30 % of the labels, so that halfway from 90 % is 60 %.
    study = magnitude_study([0.9, 0.9, 0.9, 0.9], [0.61, 0.59, np.nan, 0.9])
    row = robustness(dataclasses.replace(study, labels=np.array([0, 0, 0, 1, 1, 2, 2, 3, 4, 5]))).iloc[0]
    assert row["failures"] == 2 and row["failure_share"] == 0.5
    unknown = robustness(study).iloc[0]  # without labels the accuracy of guessing is unknown
    assert np.isnan(study.chance) and unknown[["failures", "failure_share"]].isna().all()


def test_sparsest_affordable(magnitude_study, data):
    (point,) = sparsest_affordable(performance_by_sparsity(magnitude_study([0.9] * 3, [0.89] * 3)))
    assert point.within and point.level == 0.5 and point.change == pytest.approx(-0.01)
    (point,) = sparsest_affordable(performance_by_sparsity(magnitude_study([0.9] * 3, [0.88] * 3)))
    assert not point.within
    points = sparsest_affordable(performance_by_sparsity(data))
    assert [p.series for p in points] == ["MP global", "MP per layer", "VD"]
    assert [p.within for p in points] == [True, True, False]
