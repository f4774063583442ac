from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from zoosparse_ext.analysis import (
    StudyData,
    compare_by_sparsity,
    compare_matched,
    crossover,
    pairs_by_sparsity,
)
from zoosparse_ext.analysis.methods import last_sign_change


def study(
    magnitude: dict[float, float], variational: list[tuple[float, float]], original: float = 0.9
) -> StudyData:
    """One model: magnitude accuracy by ratio, and (sparsity, accuracy) of each VD epoch from epoch 0 on."""
    rows = [
        {"twin_id": f"mp-{ratio}", "method": "magnitude", "scope": "global", "target": ratio, "epoch": 0,
         "sparsity": ratio, "accuracy": accuracy}
        for ratio, accuracy in magnitude.items()
    ] + [
        {"twin_id": "vd", "method": "variational", "epoch": epoch, "sparsity": sparsity, "accuracy": accuracy}
        for epoch, (sparsity, accuracy) in enumerate(variational)
    ]  # fmt: skip
    models = pd.DataFrame({"model_id": ["a"], "accuracy": [original]})
    return StudyData(models, pd.DataFrame(rows).assign(source_id="a"))


def test_interpolation_and_bins():
    # Magnitude falls by 0.1 from 0 to 0.5 and by 0.2 from 0.5 to 0.9: 0.85 at 0.25 and 0.75 at 0.6.
    data = study({0.5: 0.8, 0.9: 0.6}, [(0.0, 0.9), (0.25, 0.80), (0.6, 0.80), (0.95, 0.7)])
    pairs = pairs_by_sparsity(data)
    assert pairs["level"].tolist() == [0.25, 0.65]  # epoch 0 and what lies beyond 0.9 are left out
    assert pairs["magnitude"].tolist() == pytest.approx([0.85, 0.75])
    assert pairs["difference"].tolist() == pytest.approx([0.05, -0.05])
    assert crossover(pairs).estimate == pytest.approx(0.425)


def test_epochs_in_one_bin_count_once():
    data = study({0.5: 0.9}, [(0.0, 0.9), (0.42, 0.8), (0.44, 0.9)])
    row = compare_by_sparsity(data).iloc[0]
    assert row["n"] == 1 and row["difference_median"] == pytest.approx(0.05)


def test_crossover_states():
    x = np.array([0.5, 0.7, 0.9])
    y = np.array(
        [[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0], [1.0, -1.0, -1.0], [1.0, -1.0, 1.0], [-1.0, 3.0, -1.0]]
    )
    assert last_sign_change(x, y).tolist() == pytest.approx([np.inf, -np.inf, 0.6, np.inf, 0.85])


def test_crossover_interval_covers_the_truth():
    generator = np.random.default_rng(0)
    level = np.tile([0.65, 0.75, 0.85], 50)
    noise = generator.normal(0, 0.002, 150)
    pairs = pd.DataFrame({"source_id": np.repeat(np.arange(50), 3), "level": level, "sparsity": level})
    interval = crossover(pairs.assign(difference=0.1 * (0.8 - level) + noise))
    assert interval.low < 0.8 < interval.high and interval.high - interval.low < 0.05
    assert crossover(pairs[:0].assign(difference=0.0)).n == 0


def test_matched_twins(data):
    table = compare_matched(data)
    overall = table[table["level_label"] == "all"]
    assert overall["series"].tolist() == ["MP global", "MP per layer"] and (overall["n"] == 12).all()
    parts = table[(table["series"] == "MP global") & (table["level_label"] != "all")]
    assert parts["n"].sum() == 12
    matched = data.twins[data.twins["matched"].notna()].set_index("twin_id")
    by_vd = data.twins[data.twins["method"] == "variational"].groupby("twin_id")["sparsity"].last()
    assert (matched["sparsity"] - matched["matched"].map(by_vd)).abs().max() < 0.01


def test_a_tie_is_half_a_win():
    row = compare_by_sparsity(study({0.5: 0.9}, [(0.0, 0.9), (0.4, 0.9)])).iloc[0]
    assert row["wins_share"] == 0.5
