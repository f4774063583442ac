"""Correlation of two accuracies that share no test image: one is measured on half of them, one on the other half.

Accuracies of one model on the same images share the luck of these images, and correlate for that alone. Halves do not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations_with_replacement

import numpy as np
from scipy import stats

from zoosparse_ext.analysis.bootstrap import LEVEL, Interval
from zoosparse_ext.analysis.groups import Array
from zoosparse_ext.errors import InputError

SPLITS = 100
_BLOCKS = 100  # sets of images that a split sends to one half or the other
_GROUPS = 20  # of blocks, left out in turn
_SPLITS_IN_TURN = 10  # of those that are repeated for every group
_MIN_MODELS = 5  # for an interval
_NEARLY_ONE = 1 - 1e-9  # Fisher's z of 1 is infinite
_ROUNDING = 1e-9  # of a sum of squares: what does not vary


@dataclass(frozen=True)
class Blocks:
    """How many images of each block a model has right: what splits and intervals are computed from."""

    counts: Array  # [n, K] float64, whole numbers
    images: int


def in_blocks(correct: Array, seed: int = 0) -> Blocks:
    """Right answers of every model, counted within random blocks of images.

    >>> blocks = in_blocks(np.array([[True, True, False], [False, False, False]]))
    >>> blocks.counts.sum(axis=1).tolist(), blocks.images
    ([2.0, 0.0], 3)

    Args:
        correct: bool [n, M].
        seed: of the order of images. The same M and seed give the same blocks.

    Returns:
        counts over at most 100 blocks, whose sizes differ by one image at most.
    """
    n, images = correct.shape
    blocks = min(_BLOCKS, images)
    if blocks == 0:
        return Blocks(np.zeros((n, 0), dtype=np.float64), 0)
    shuffled = np.take(correct, _order(images, seed), axis=1).view(np.uint8)
    whole = images // blocks * blocks
    counts = (
        shuffled[:, :whole]
        .reshape(n, images // blocks, blocks)
        .sum(axis=1, dtype=np.uint32)
        .astype(np.float64)
    )
    counts[:, : images - whole] += shuffled[:, whole:]
    return Blocks(counts, images)


@lru_cache(maxsize=4)
def _order(images: int, seed: int) -> Array:
    return np.random.default_rng(seed).permutation(images)


@lru_cache(maxsize=4)
def _halves(blocks: int, splits: int, seed: int) -> Array:
    """Which blocks are in the first half of each split, float64 [K, S] of ones and zeros."""
    generator = np.random.default_rng((seed, 1))
    ranks = generator.random((splits, blocks)).argsort(axis=1).argsort(axis=1)
    return np.ascontiguousarray((ranks < blocks // 2).T.astype(np.float64))


def split_half(before: Array, after: Array, *, splits: int = SPLITS, seed: int = 0) -> Interval:
    """Correlation over models of two accuracies, each measured on another half of the test images.

    >>> skill = np.linspace(0.5, 0.9, 20)[:, None]
    >>> draw = np.random.default_rng(0).random
    >>> before, after = draw((20, 400)) < skill, draw((20, 400)) < skill
    >>> interval = split_half(before, after)
    >>> round(interval.estimate, 2), interval.n, interval.low < interval.estimate < interval.high
    (0.94, 20, True)

    Args:
        before: bool [n, M], whether each model is right about each image.
        after: bool [n, M], the same of their twins, row by row. The same array gives the reliability of `before`.
        splits: random halves of the images; each is used both ways.
        seed: of the splits.

    Returns:
        Pearson's r, its mean over splits, and a 95 % interval for other models and other images: a jackknife over
        models and one over groups of images, their variances added, on Fisher's z. n counts the models. NaN where
        a side does not vary over models, or there are fewer than three models or two images; the interval is NaN
        for fewer than five models. Splits in which a side does not vary are left out.

    Raises:
        InputError: shapes differ, or `splits` is not positive.

    Source: Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 11; Owen, The Pigeonhole Bootstrap,
    2007, for two crossed factors.
    """
    before, after = np.asarray(before), np.asarray(after)
    if before.ndim != 2 or before.shape != after.shape:
        raise InputError(
            f"split_half: right answers of shape {before.shape} and {after.shape}; both must be [models, images]"
        )
    if splits < 1:
        raise InputError(f"split_half: splits is {splits}, expected at least 1")
    first = in_blocks(before.astype(bool, copy=False), seed)
    second = first if after is before else in_blocks(after.astype(bool, copy=False), seed)
    return split_half_of_blocks(first, second, splits=splits, seed=seed)


def split_half_of_blocks(before: Blocks, after: Blocks, *, splits: int = SPLITS, seed: int = 0) -> Interval:
    """:func:`split_half` of what :func:`in_blocks` counted."""
    n, blocks = before.counts.shape
    if n < 3 or blocks < 2:
        return Interval(np.nan, np.nan, np.nan, n)
    halves = _halves(blocks, splits, seed)
    first, second = (_centred(side.counts) for side in (before, after))
    estimate, without_groups = _over_images(first, second, halves)
    if n < _MIN_MODELS or math.isnan(estimate):
        return Interval(estimate, np.nan, np.nan, n)
    variance = _jackknife(_without_models(first, second, halves)) + _jackknife(without_groups)
    half = float(stats.t.ppf(0.5 + LEVEL / 2, n - 1)) * math.sqrt(variance)
    z = math.atanh(min(max(estimate, -_NEARLY_ONE), _NEARLY_ONE))
    return Interval(estimate, math.tanh(z - half), math.tanh(z + half), n)


def ranked_halves(before: Blocks, after: Blocks, *, splits: int = _SPLITS_IN_TURN, seed: int = 0) -> float:
    """Spearman's ρ over halves of the images, its mean over splits; NaN as in :func:`split_half`."""
    n, blocks = before.counts.shape
    if n < 3 or blocks < 2:
        return float("nan")
    x, y = _sides(before.counts, after.counts, _halves(blocks, splits, seed))
    x, y = (_centred(stats.rankdata(side, axis=0)) for side in (x, y))
    return float(_means(_ratio((x * y).sum(axis=0), (x * x).sum(axis=0), (y * y).sum(axis=0))))


def _centred(counts: Array) -> Array:
    return counts - counts.mean(axis=0, dtype=np.float64)


def _sides(before: Array, after: Array, halves: Array) -> tuple[Array, Array]:
    """Sums over opposite halves, each used both ways: [n, 2S] of the originals, [n, 2S] of the twins."""
    x, y = before @ halves, after @ halves
    others_x, others_y = before.sum(axis=1, keepdims=True) - x, after.sum(axis=1, keepdims=True) - y
    return np.concatenate([x, others_x], axis=1), np.concatenate([others_y, y], axis=1)


def _over_images(before: Array, after: Array, halves: Array) -> tuple[float, Array]:
    """The mean r over splits, and the same without each group of blocks in turn, [G].

    Covariances of sums over blocks are sums of covariances of blocks, [K, K]: models need not be looked at again.
    """
    blocks, splits = halves.shape
    groups = min(_GROUPS, blocks)
    kept = np.arange(blocks)[:, None] * groups // blocks != np.arange(groups)  # [K, G]
    some = halves[:, :_SPLITS_IN_TURN]
    first, second = (
        np.concatenate([all_of, (part[:, None, :] * kept[:, :, None]).reshape(blocks, -1)], axis=1)
        for all_of, part in ((halves, some), (1 - halves, 1 - some))
    )  # [K, S + G S']
    r = _r(before.T @ after, before.T @ before, after.T @ after, first, second)  # [2, S + G S']
    without = r[:, splits:].reshape(2, groups, -1).swapaxes(1, 2).reshape(-1, groups)
    return float(_means(r[:, :splits].ravel())), _means(without)


def _r(xy: Array, xx: Array, yy: Array, first: Array, second: Array) -> Array:
    """Pearson's r of sums over the blocks in `first` and in `second`, [K, S] each, both ways: [2, S]."""
    return np.stack(
        [
            _ratio(
                (one * (xy @ other)).sum(axis=0),
                (one * (xx @ one)).sum(axis=0),
                (other * (yy @ other)).sum(axis=0),
            )
            for one, other in ((first, second), (second, first))
        ]
    )


def _without_models(before: Array, after: Array, halves: Array) -> Array:
    """The mean r over splits without each model in turn, [n]."""
    n = len(before)
    products = [x * y for x, y in combinations_with_replacement(_sides(before, after, halves), 2)]
    # Leaving a row out takes that much from sums of squares around the mean.
    xx, xy, yy = (product.sum(axis=0) - n / (n - 1) * product for product in products)
    return _means(_ratio(xy, xx, yy).T)


def _ratio(xy: Array, xx: Array, yy: Array) -> Array:
    """xy / √(xx · yy), NaN where a side does not vary."""
    varies = (xx > _ROUNDING) & (yy > _ROUNDING)
    root = np.sqrt(np.where(varies, xx * yy, 1.0))
    return np.where(varies, xy / root, np.nan)


def _jackknife(replicates: Array) -> float:
    """Variance of Fisher's z, from the r that is left without each unit in turn."""
    z = np.arctanh(np.clip(replicates[~np.isnan(replicates)], -_NEARLY_ONE, _NEARLY_ONE))
    m = len(z)
    return float((m - 1) / m * ((z - z.mean()) ** 2).sum()) if m > 1 else 0.0


def _means(values: Array) -> Array:
    """Means over the first axis of what is defined; NaN without any."""
    defined = ~np.isnan(values)
    number = defined.sum(axis=0)
    total = np.where(defined, values, 0.0).sum(axis=0)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)
