from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy import stats

from zoosparse_ext.analysis import Interval, bootstrap, wilson
from zoosparse_ext.analysis.bootstrap import bootstrap_pairs, deviations, medians
from zoosparse_ext.errors import InputError


@pytest.mark.parametrize("statistic", [np.mean, np.median])
def test_equals_scipy_up_to_resampling(statistic):
    """An end lies between those of scipy at levels a little lower and higher: a median moves in steps."""
    values = np.random.default_rng(1).normal(size=61)
    interval = bootstrap(values, statistic, resamples=9999)
    narrow, wide = (
        stats.bootstrap(
            (values,),
            statistic,
            method="percentile",
            n_resamples=9999,
            confidence_level=level,
            random_state=np.random.default_rng(2),
        ).confidence_interval
        for level in (0.93, 0.97)
    )
    assert wide.low <= interval.low <= narrow.low
    assert narrow.high <= interval.high <= wide.high


def test_chunks_do_not_change_the_shape_of_the_result(monkeypatch):
    values = np.arange(7.0)
    module = sys.modules[bootstrap.__module__]  # its name in the package is taken by the function
    monkeypatch.setattr(module, "_CHUNK_ELEMENTS", 20)
    interval = bootstrap(values, np.mean, resamples=101)
    assert interval.low < 3.0 < interval.high


def test_pairs_follow_their_models():
    """Against drawing models one by one and repeating every pair as often as both of its models came up."""
    first, second = np.triu_indices(7, k=1)
    values = np.random.default_rng(2).normal(size=len(first))
    values[3] = np.nan
    interval = bootstrap_pairs(values, first, second, resamples=400, seed=5)
    generator = np.random.default_rng(5)
    medians = []
    for _ in range(400):
        drawn = np.bincount(generator.integers(0, 7, 7), minlength=7)
        repeated = np.repeat(values, drawn[first] * drawn[second])
        medians.append(np.nanmedian(repeated) if np.isfinite(repeated).any() else np.nan)
    low, high = np.nanquantile(medians, [0.025, 0.975], method="nearest")
    assert (interval.low, interval.high, interval.n) == (low, high, 7)
    assert interval.estimate == np.nanmedian(values)
    assert bootstrap_pairs(np.array([]), np.array([], int), np.array([], int)).n == 0


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    "models", [1, 2, 63, 400]
)  # of 400, only those near the middle are added up one by one
def test_counting_models_equals_repeating_them(models, order):
    generator = np.random.default_rng(models)
    values = generator.normal(size=(models, 2)).round(1)  # with ties
    values[generator.random(models) < 0.1, 1] = np.nan
    counts = generator.multinomial(models, np.full(models, 1 / models), size=50).astype(np.uint16)
    repeated = [np.repeat(values, row, axis=0) for row in counts]
    expected = [[np.median(column[~np.isnan(column)]) for column in drawn.T] for drawn in repeated]
    laid_out = np.asarray(counts, order=order)
    np.testing.assert_array_equal(medians(values, laid_out), expected)
    np.testing.assert_array_equal(deviations(values[:, :1], laid_out), deviations(values[:, :1], counts))


def test_a_middle_that_lies_elsewhere_is_found():
    values, counts = np.arange(400.0)[:, None], np.zeros((2, 400), dtype=np.uint16)
    counts[0, 3], counts[1, [390, 399]] = 400, 200
    assert medians(values, counts).ravel().tolist() == [3.0, 394.5]


def test_edges():
    assert bootstrap(np.array([])).n == 0
    single = bootstrap(np.array([2.0, np.nan]))
    assert (single.estimate, single.n) == (2.0, 1) and np.isnan(single.low)
    assert bootstrap(np.full(5, 0.3)) == Interval(0.3, 0.3, 0.3, 5)
    with pytest.raises(InputError, match="level is 95"):
        bootstrap(np.ones(3), level=95)


@pytest.mark.parametrize(("successes", "n"), [(0, 12), (3, 12), (12, 12), (500, 1000)])
def test_wilson_equals_scipy(successes, n):
    reference = stats.binomtest(successes, n).proportion_ci(method="wilson")
    interval = wilson(successes, n)
    assert (interval.low, interval.high) == pytest.approx((reference.low, reference.high))
    assert np.isnan(wilson(0, 0).estimate)
