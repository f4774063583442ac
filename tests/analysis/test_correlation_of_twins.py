from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from zoosparse_ext.analysis import correlate, correlation_with_original, top_overlap
from zoosparse_ext.errors import InputError

X = np.random.default_rng(0).normal(size=40)
Y = X + np.random.default_rng(1).normal(size=40)


@pytest.mark.parametrize(
    ("name", "function"),
    [("pearson", stats.pearsonr), ("spearman", stats.spearmanr), ("kendall", stats.kendalltau)],
)
def test_equals_scipy(name, function):
    interval = correlate(X, Y, name)
    assert interval.estimate == pytest.approx(function(X, Y).statistic) and interval.n == 40
    assert interval.low < interval.estimate < interval.high


def test_pearson_interval_equals_scipy():
    reference = stats.pearsonr(X, Y).confidence_interval()
    assert (correlate(X, Y).low, correlate(X, Y).high) == pytest.approx((reference.low, reference.high))


def test_perfect_and_undefined():
    assert correlate(X, X).estimate == pytest.approx(1.0) and correlate(X, X).low > 0.999
    for interval in (correlate(X, np.ones(40)), correlate(X[:2], Y[:2]), correlate(X, np.full(40, np.nan))):
        assert np.isnan([interval.estimate, interval.low, interval.high]).all()
    short = correlate(X[:4], Y[:4])
    assert np.isfinite(short.estimate) and np.isnan(short.low)
    with pytest.raises(InputError, match="'tau', expected one of pearson"):
        correlate(X, Y, "tau")


def test_nan_pairs_are_left_out():
    y = np.where(np.arange(40) < 10, np.nan, Y)
    assert correlate(X, y).n == 30
    assert correlate(X, y).estimate == pytest.approx(stats.pearsonr(X[10:], Y[10:]).statistic)


def test_top_overlap():
    before = np.array([0.9, 0.8, 0.7, 0.6])
    assert top_overlap(before, before, 0.5) == (2, 1.0)
    assert top_overlap(before, -before, 0.5) == (2, 0.0)
    assert top_overlap(before, np.array([np.nan, 0.8, 0.7, 0.1]), 0.5) == (2, 0.5)
    # All equal afterwards: two places shared by four models, half a place each.
    assert top_overlap(before, np.ones(4), 0.5) == (2, 0.5)
    assert top_overlap(before[:1], before[:1]) == (1, 1.0)


def test_table(data):
    table = correlation_with_original(data)
    assert len(table) == 19 and (table["top_n"] == 1).all()
    assert table["top_expected"].iloc[0] == pytest.approx(1 / 12)
