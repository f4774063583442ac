"""Every number that answers a question has its interval, with the model as the unit."""

from __future__ import annotations

import pytest

from zoosparse_ext.analysis.agreement import agreement_of_originals, baseline
from zoosparse_ext.report import analyzed

MEDIANS = {
    "performance": ["change_median", "lost_1", "lost_2", "lost_5"],
    "methods_measured": ["difference_median", "wins_share"],
    "robustness": ["ratio"],
    "layers": ["kept_ratio"],
    "agreement": ["agreement", "kappa", "agreement_on_errors"],
    "correlation": ["pearson", "spearman", "kendall"],
    "trajectories": ["change"],
    "mask_overlaps": ["jaccard"],
}


@pytest.mark.parametrize(("table", "name"), [(table, name) for table in MEDIANS for name in MEDIANS[table]])
def test_intervals_hold_their_estimates(data, table, name):
    rows = analyzed(data)[table].dropna(subset=[name])
    stem = name.removesuffix("_median").removesuffix("_share")
    low, estimate, high = (rows[column] for column in (f"{stem}_low", name, f"{stem}_high"))
    assert len(rows) and low.notna().all() and high.notna().all()
    assert (low <= estimate + 1e-12).all() and (estimate <= high + 1e-12).all()
    assert (low < high).any()


def test_the_baseline_counts_models_not_pairs(data):
    pairs = agreement_of_originals(data)
    interval = baseline(pairs)
    assert interval.n == data.n_models < len(pairs)
    assert interval.estimate == pairs["agreement"].median()
    assert interval.low < interval.estimate < interval.high
