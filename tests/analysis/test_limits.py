"""Limits over models and images: exact where they can be, and as often right as they say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from zoosparse_ext.analysis.intervals import (
    median,
    paired_difference,
    paired_difference_of_accuracies,
    share,
    share_below,
)
from zoosparse_ext.analysis.resampling import GROUPS, RESAMPLES, image_means
from zoosparse_ext.errors import InputError


def outcomes(generator, n, images, spread=0.0, of_images=0.0, differing=0.1, difference=0.0):
    """First correct − second correct, int8 [n, M]: −1, 0, 1.

    The expected difference varies by `spread` over models and by `of_images` over images; answers differ on a share
    `differing` of the images.
    """
    expected = generator.normal(difference, spread, (n, 1)) + generator.normal(0, of_images, (1, images))
    expected = np.clip(expected, -differing, differing)
    drawn = generator.random((n, images))
    return (drawn < (differing + expected) / 2).astype(np.int8) - (drawn > 1 - (differing - expected) / 2)


@pytest.mark.parametrize(("n", "place"), [(6, 0), (9, 1), (12, 2), (19, 4)])
def test_few_models_have_the_order_statistics_of_the_sign_test(n, place):
    values = np.random.default_rng(n).normal(size=n)
    estimate = median(values)
    ordered = np.sort(values)
    assert (estimate.low, estimate.high) == (ordered[place], ordered[-1 - place])
    assert 2 * stats.binom.cdf(place, n, 0.5) <= 0.05 < 2 * stats.binom.cdf(place + 1, n, 0.5)
    above = int((values > 0.3).sum())
    assert estimate.p_above(0.3) == pytest.approx(
        stats.binomtest(above, n, 0.5, alternative="greater").pvalue if above > n / 2 else 1.0, rel=2e-3
    )


def test_fewer_than_six_models_decide_nothing():
    for estimate in (median(np.arange(5.0)), share(np.ones(5, bool)), median(np.ones((5, 30), bool))):
        assert np.isnan([estimate.low, estimate.high, estimate.low90, estimate.high90, estimate.p]).all()
        assert np.isnan(estimate.p_above(0.0)) and estimate.n == 5 and not np.isnan(estimate.value)
    assert np.isnan(median(np.full(8, np.nan)).value) and median(np.full(8, np.nan)).n == 0
    assert np.isnan(share(np.zeros(0, bool)).value)


@pytest.mark.parametrize("n", [8, 30])
@pytest.mark.parametrize("bound", [-0.004, 0.0, 0.007, 0.05])
def test_p_values_and_intervals_say_the_same(n, bound):
    generator = np.random.default_rng(3)
    for _ in range(5):
        estimate = median(outcomes(generator, n, 300, 0.01, difference=0.01))
        assert (estimate.p_above(bound) <= 0.025 * 1.002) == (estimate.low > bound)
        assert (estimate.p_below(bound) <= 0.05 * 1.002) == (estimate.high90 < bound)
        inside = estimate.low90 > -0.02 and estimate.high90 < 0.02
        assert (estimate.p_within(0.02) <= 0.05 * 1.002) == inside


@pytest.mark.parametrize("n", [8, 15, 24, 60])
@pytest.mark.parametrize(
    ("spread", "of_images", "differing"),
    [(0.0, 0.0, 0.1), (0.02, 0.0, 0.1), (0.005, 0.2, 0.3), (0.02, 0.15, 0.3)],
)
def test_intervals_hold_the_truth_as_often_as_they_say(n, spread, of_images, differing):
    generator = np.random.default_rng(7)
    runs, held, held90 = 100, 0, 0
    for _ in range(runs):
        estimate = median(outcomes(generator, n, 400, spread, of_images, differing, 0.01))
        held += estimate.low <= 0.01 <= estimate.high
        held90 += estimate.low90 <= 0.01 <= estimate.high90
    # Not below the stated level by more than chance allows in one of a thousand such tests.
    assert held >= stats.binom.ppf(0.001, runs, 0.95) and held90 >= stats.binom.ppf(0.001, runs, 0.90)


def test_models_alone_are_too_sure_where_images_are_shared():
    """All models of a zoo see the same images: an error of these is an error of all."""
    generator = np.random.default_rng(5)
    runs = [outcomes(generator, 24, 400, 0.005, 0.2, 0.3) for _ in range(60)]
    alone = sum(abs(e.value) > 0 and not e.low <= 0 <= e.high for e in (median(r.mean(axis=1)) for r in runs))
    crossed = sum(not e.low <= 0 <= e.high for e in map(median, runs))
    assert alone > 15 and crossed < 10


def test_shares_hold_the_truth_as_often_as_they_say():
    generator = np.random.default_rng(11)
    runs, held = 200, 0
    for _ in range(runs):
        difference = np.where(generator.random((30, 1)) < 0.2, -0.15, 0.0)
        noise = outcomes(generator, 30, 300, differing=0.05)
        estimate = share_below(noise + difference, -0.05)
        held += estimate.low <= 0.2 <= estimate.high
    assert held >= stats.binom.ppf(0.001, runs, 0.95)


def test_images_near_the_threshold_do_not_make_losers():
    """All models lose 4 points, and by chance of the images a quarter appears to lose more than 5."""
    generator = np.random.default_rng(13)
    for _ in range(20):
        estimate = share_below(outcomes(generator, 24, 500, differing=0.1, difference=-0.04), -0.05)
        assert estimate.low < 0.1


def test_more_images_than_groups_give_the_same_interval_up_to_chance():
    matrix = outcomes(np.random.default_rng(17), 30, 20 * GROUPS, 0.0, 0.2, 0.3)
    means = image_means(matrix)
    assert means.groups.shape == (30, GROUPS) and means.resampled.shape == (30, RESAMPLES)
    assert means.values == pytest.approx(matrix.mean(axis=1))
    exact = matrix.mean(axis=0).std() / np.sqrt(matrix.shape[1])
    assert means.resampled.mean(axis=0).std() == pytest.approx(exact, rel=0.12)


def test_the_order_of_chunks_and_dtypes_change_nothing(monkeypatch):
    matrix = outcomes(np.random.default_rng(19), 25, 700)
    whole = median(matrix)
    monkeypatch.setitem(image_means.__globals__, "_CHUNK_ELEMENTS", 2000)
    parts = median(matrix.astype(float))
    assert (parts.low, parts.high) == pytest.approx((whole.low, whole.high))


def test_few_images_on_which_all_agree_are_not_certain():
    """The rule of three: what none of 20 images shows may be on 3 of 20."""
    estimate = median(np.zeros((24, 20), np.int8))
    assert estimate.value == 0 and 0.1 < estimate.high < 0.25 and estimate.p_within(0.005) > 0.05
    equal = median(np.ones((24, 20), bool))
    assert equal.value == equal.high == 1 and 0.7 < equal.low < 0.9
    assert median(np.zeros((24, 10_000), np.int8)).p_within(0.005) < 0.01


def test_less_data_never_makes_a_sharper_statement():
    generator = np.random.default_rng(23)
    matrix = outcomes(generator, 64, 2000, 0.01)
    widths = [
        [(e := median(matrix[:n, :images])).high - e.low for images in (20, 200, 2000)]
        for n in (8, 16, 32, 64)
    ]
    assert (np.diff(widths, axis=1) < 0).all() and (np.diff(widths, axis=0) < 0).all()


def test_pairs_are_checked():
    correct = np.ones((8, 20), bool)
    assert paired_difference(correct, ~correct).value == 1
    with pytest.raises(InputError, match=r"paired_difference: correctness of shape \(8, 20\) and \(7, 20\)"):
        paired_difference(correct, correct[:7])
    with pytest.raises(InputError, match=r"paired_difference: .* takes one number per model"):
        paired_difference(np.ones(8), np.ones(8))
    with pytest.raises(InputError, match="paired_difference_of_accuracies: accuracies of shape"):
        paired_difference_of_accuracies(np.ones(8), np.ones(7))
    accuracies = paired_difference_of_accuracies(np.r_[np.ones(8), np.nan], np.zeros(9))
    assert (accuracies.n, accuracies.value, accuracies.images, accuracies.resampled) == (8, 1, 0, "models")


def test_a_quantity_that_is_no_mean_of_images_is_resampled_by_its_replicates():
    generator = np.random.default_rng(29)
    matrix = outcomes(generator, 30, 200, 0.01)
    means = image_means(matrix)
    estimate = median(means.values**3, means.resampled**3, images=200)
    assert estimate.images == 200 and estimate.resampled == "models and images"
    assert estimate.low <= estimate.value <= estimate.high
