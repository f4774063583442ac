"""Correlation of accuracies on opposite halves of the test images."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from zoosparse_ext.analysis import split_half
from zoosparse_ext.analysis.halves import _halves, in_blocks, ranked_halves
from zoosparse_ext.errors import InputError


def answers(generator, n, images, *, spread, rho, alike=1.0):
    """Whether originals and twins are right; their skills correlate at rho, and they err on the same images."""
    skill = generator.normal(size=n)
    twin = rho * skill + np.sqrt(1 - rho**2) * generator.normal(size=n)
    ease = generator.normal(1.5, 1.5, images)
    own = alike * generator.normal(size=(n, images))
    other = 0.7 * own + 0.7 * alike * generator.normal(size=(n, images))
    return spread * skill[:, None] + ease + own > 0, spread * twin[:, None] + ease + other > 0


@pytest.mark.parametrize("images", [2, 7, 60, 99, 100, 101, 1234])
def test_blocks_hold_every_image_once(images):
    correct = np.random.default_rng(0).random((4, images)) < 0.7
    blocks = in_blocks(correct)
    assert blocks.images == images and blocks.counts.shape == (4, min(100, images))
    assert blocks.counts.sum(axis=1).tolist() == correct.sum(axis=1).tolist()
    sizes = in_blocks(np.ones((1, images), dtype=bool)).counts
    assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize("images", [61, 450])
def test_equals_the_mean_over_splits(images):
    before, after = answers(np.random.default_rng(1), 12, images, spread=1, rho=0.6)
    first, second = in_blocks(before).counts, in_blocks(after).counts
    expected, ranked = [], []
    for half in _halves(first.shape[1], 10, 0).T.astype(bool):
        assert half.sum() == len(half) // 2
        for one, other in ((half, ~half), (~half, half)):
            sides = first[:, one].sum(axis=1), second[:, other].sum(axis=1)
            expected.append(stats.pearsonr(*sides).statistic)
            ranked.append(stats.spearmanr(*sides).statistic)
    assert split_half(before, after, splits=10).estimate == pytest.approx(np.mean(expected))
    assert ranked_halves(in_blocks(before), in_blocks(after), splits=10) == pytest.approx(np.mean(ranked))


def test_models_left_out_in_turn_give_the_interval():
    before, after = answers(np.random.default_rng(2), 9, 400, spread=1, rho=0.8)
    interval = split_half(before, after)
    models = [split_half(np.delete(before, i, 0), np.delete(after, i, 0)).estimate for i in range(9)]
    by_models = 8 / 9 * ((np.arctanh(models) - np.mean(np.arctanh(models))) ** 2).sum()
    half = np.arctanh(interval.high) - np.arctanh(interval.estimate)
    assert np.arctanh(interval.estimate) - np.arctanh(interval.low) == pytest.approx(half)
    assert (half / stats.t.ppf(0.975, 8)) ** 2 > by_models  # images add to it
    assert (half / stats.t.ppf(0.975, 8)) ** 2 < 2 * by_models


def test_halves_do_not_share_luck():
    """Equally good models that err at random correlate with themselves on the same images, and not on halves."""
    correct = np.random.default_rng(3).random((200, 1000)) < 0.8
    interval = split_half(correct, correct)
    assert abs(interval.estimate) < 0.1 and interval.low < 0 < interval.high


def test_the_same_ability_correlates():
    before, after = answers(np.random.default_rng(4), 100, 2000, spread=1, rho=1)
    interval = split_half(before, after)
    assert interval.estimate > 0.95 and interval.low > 0.9 and interval.high < 1
    assert split_half(before, ~before).estimate < -0.9


def test_is_the_same_again_and_for_any_order_of_models():
    before, after = answers(np.random.default_rng(5), 30, 300, spread=1, rho=0.5)
    first, again = split_half(before, after), split_half(before, after)
    assert first == again and first.estimate != split_half(before, after, seed=1).estimate
    order = np.random.default_rng(6).permutation(30)
    shuffled = split_half(before[order], after[order])
    assert [shuffled.estimate, shuffled.low] == pytest.approx([first.estimate, first.low])


def test_undefined_is_nan():
    some = np.random.default_rng(7).random((6, 40)) < 0.5
    for before, after in (
        (some, np.ones_like(some)),  # twins do not differ
        (some[:2], some[:2]),
        (some[:0], some[:0]),
        (some[:, :1], some[:, :1]),
        (some[:, :0], some[:, :0]),
    ):
        interval = split_half(before, after)
        assert np.isnan([interval.estimate, interval.low, interval.high]).all() and interval.n == len(before)
    few = split_half(some[:4], some[:4])
    assert np.isfinite(few.estimate) and np.isnan(few.low)


def test_bad_arguments():
    with pytest.raises(InputError, match=r"shape \(2, 3\) and \(2, 4\); both must be \[models, images\]"):
        split_half(np.zeros((2, 3), bool), np.zeros((2, 4), bool))
    with pytest.raises(InputError, match="splits is 0, expected at least 1"):
        split_half(np.zeros((5, 6), bool), np.zeros((5, 6), bool), splits=0)


@pytest.mark.parametrize(("n", "images", "spread", "rho"), [(8, 200, 1, 0.5), (40, 200, 0.3, 0.95)])
def test_intervals_cover(n, images, spread, rho):
    """95 % intervals hold the correlation of other models on other images, in about 95 of 100 studies."""
    generator = np.random.default_rng(8)
    many = (answers(generator, 2000, images, spread=spread, rho=rho) for _ in range(6))
    truth = np.mean([split_half(*one, splits=20).estimate for one in many])
    intervals = [split_half(*answers(generator, n, images, spread=spread, rho=rho)) for _ in range(100)]
    covered = np.mean([interval.low <= truth <= interval.high for interval in intervals])
    assert covered >= 0.9
