"""Seeded percentile bootstrap in which the model is the unit that is resampled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from zoosparse_ext.analysis.groups import Array
from zoosparse_ext.errors import InputError

LEVEL = 0.95
RESAMPLES = 2000
_CHUNK_ELEMENTS = 4_000_000  # floats resampled at once: 32 MB

# A statistic reduces one axis: median(samples, axis=1) of [R, n, ...] gives [R, ...].
Statistic = Callable[..., Array]
# Reduces the columns of [n, k], in populations given by counts [R, n], to [R, k].
Reduction = Callable[[Array, Array], Array]


@dataclass(frozen=True)
class Interval:
    """An estimate, its confidence interval, and the number of units (models) behind it."""

    estimate: float
    low: float
    high: float
    n: int


def bootstrap(
    values: Array,
    statistic: Statistic = np.median,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Percentile interval of a statistic over models.

    >>> interval = bootstrap(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.mean)
    >>> interval.estimate, interval.n, interval.low < 3.0 < interval.high
    (3.0, 5, True)
    >>> interval == bootstrap(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.mean)
    True

    Args:
        values: [n] one number per model, or [n, k] several; rows are resampled together. Rows with NaN are
            left out of a vector; a statistic of a matrix has to deal with them.
        statistic: called as `statistic(samples, axis=…)`; infinite results are ordered as infinite, not
            averaged.
        level: coverage of the interval.
        resamples: number of bootstrap populations.
        seed: same seed, same interval.

    Returns:
        estimate on the data itself, interval, n. Fewer than two models: the interval is NaN; none: all NaN.

    Source: Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    if not 0 < level < 1:
        raise InputError(f"bootstrap: level is {level}, expected a share between 0 and 1")
    values = np.asarray(values, dtype=np.float64)
    if values.ndim == 1:
        values = values[~np.isnan(values)]
        if statistic is np.median:
            return bootstrap_columns(values[:, None], medians, level=level, resamples=resamples, seed=seed)
    n = len(values)
    if n == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    estimate = float(statistic(values[None], axis=1)[0])
    replicates = _replicates(values, statistic, resamples, seed) if n > 1 else np.empty(0)
    return _percentiles(estimate, replicates, n, level)


def bootstrap_columns(
    values: Array,
    reduction: Reduction,
    statistic: Callable[[Array], Array] = lambda reduced: reduced[:, 0],
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The same for medians or deviations of columns, ten times faster: rows are counted instead of drawn.

    >>> values = np.array([[1.0, 9.0], [2.0, np.nan], [3.0, 7.0]])
    >>> bootstrap_columns(values, medians, lambda of: of[:, 1] - of[:, 0]).estimate
    6.0

    Args:
        values: [n, k], one row per model.
        reduction: :func:`medians` or :func:`deviations`.
        statistic: of the reduced columns, [R, k] → [R]. Default: the first of them.
        level, resamples, seed: as of :func:`bootstrap`.
    """
    n = len(values)
    if n == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    estimate = float(statistic(reduction(values, np.ones((1, n), dtype=np.uint16)))[0])
    replicates = statistic(reduction(values, _counts(n, resamples, seed))) if n > 1 else np.empty(0)
    return _percentiles(estimate, replicates, n, level)


def bootstrap_pairs(
    values: Array,
    first: Array,
    second: Array,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Median over pairs of different models; the models are resampled, not the pairs, which share them.

    A pair counts as often as its two models are drawn together.

    >>> bootstrap_pairs(np.array([0.9, 0.8, 0.7]), np.array([0, 0, 1]), np.array([1, 2, 2])).estimate
    0.8

    Args:
        values: [m], one number per pair; NaN is left out.
        first, second: [m], numbers of the models of each pair.
        level, resamples, seed: as of :func:`bootstrap`.

    Returns:
        estimate, interval, and the number of models.
    """
    if len(values) == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    n = int(max(first.max(), second.max())) + 1
    estimate = float(medians(values[:, None], np.ones((1, len(values)), dtype=np.uint16))[0, 0])
    drawn = _counts(n, resamples, seed).T
    together = drawn[first].astype(np.uint32) * drawn[second]  # [m, R]
    return _percentiles(estimate, medians(values[:, None], together.T)[:, 0], n, level)


def _percentiles(estimate: float, replicates: Array, n: int, level: float) -> Interval:
    """The middle `level` of the replicates that are defined."""
    replicates = replicates[~np.isnan(replicates)]
    if len(replicates) == 0:
        return Interval(estimate, np.nan, np.nan, n)
    tail = (1 - level) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail], method="nearest")
    return Interval(estimate, float(low), float(high), n)


def _replicates(values: Array, statistic: Statistic, resamples: int, seed: int) -> Array:
    """The statistic of `resamples` populations drawn with replacement, [R], a chunk at a time."""
    generator = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_ELEMENTS // values.size)
    parts = []
    for start in range(0, resamples, chunk):
        size = (min(chunk, resamples - start), len(values))
        parts.append(statistic(values[generator.integers(0, len(values), size)], axis=1))
    return np.concatenate(parts)


@lru_cache(maxsize=8)
def _counts(n: int, resamples: int, seed: int) -> Array:
    """How often each of n models is drawn into each population, uint16 [R, n]; most tables have the same n.

    The counts of one model lie side by side, which is how :func:`medians` adds them up.
    """
    generator = np.random.default_rng(seed)
    counts = np.empty((resamples, n), dtype=np.uint16)
    for row in counts:
        row[:] = np.bincount(generator.integers(0, n, n), minlength=n)
    return np.asfortranarray(counts)


def medians(values: Array, counts: Array) -> Array:
    """Medians of the columns of values [n, k] in populations that hold model i counts[r, i] times, [R, k].

    NaN does not count in its column.

    >>> medians(np.array([[1.0], [2.0], [4.0]]), np.array([[1, 1, 1], [0, 1, 1]])).tolist()
    [[2.0], [3.0]]
    """
    drawn = counts.T  # [n, R]
    result = np.full((len(counts), values.shape[1]), np.nan)
    for column, of_column in enumerate(values.T):
        order = np.argsort(of_column)[: np.count_nonzero(~np.isnan(of_column))]  # NaN comes last
        if len(order) == 0:
            continue
        # The middle of a population is near that of the others: only there is it looked for, if it is there in all.
        margin = int(4 * np.sqrt(len(order))) + 4
        near = slice(max(0, len(order) // 2 - margin), len(order) // 2 + margin)
        below = _how_many(drawn[order[: near.start]])
        upto = _running_sums(below, drawn[order[near]])  # this small or smaller
        total = upto[-1] + _how_many(drawn[order[near.stop :]])
        lower, upper = (total + 1) // 2, total // 2 + 1
        if (below >= np.maximum(lower, 1)).any() or (upto[-1] < np.minimum(upper, total)).any():
            near, upto = slice(0, None), _running_sums(np.zeros_like(total), drawn[order])
        ranked = of_column[order[near]]
        middle = (ranked[np.argmax(upto >= half, axis=0)] for half in (lower, upper))
        result[:, column] = np.where(total > 0, sum(middle) / 2, np.nan)
    return result


def _how_many(drawn: Array) -> Array:
    """How many models are drawn into each population, of counts [n, R]: [R]."""
    return np.asarray(drawn.sum(axis=0, dtype=np.int64))


def _running_sums(first: Array, drawn: Array) -> Array:
    """A sum [R], and one row [n, R] more at a time, int64 [n, R]; `np.cumsum` takes five times as long."""
    sums = drawn.astype(np.int64)
    for before, row in zip((first, *sums), sums, strict=False):
        row += before
    return sums


def deviations(values: Array, counts: Array) -> Array:
    """Sample standard deviations of the columns of values [n, k] in the same populations, [R, k].

    NaN for fewer than two models.

    >>> deviations(np.array([[1.0], [2.0], [4.0]]), np.array([[1, 1, 1], [2, 0, 1]])).round(3).tolist()
    [[1.528], [1.732]]
    """
    n = int(counts[0].sum())
    if n < 2:
        return np.full((len(counts), values.shape[1]), np.nan)
    centred = values - values.mean(axis=0)
    counts = np.ascontiguousarray(counts)  # or the last bits of the sums would depend on the layout
    squares, sums = counts @ centred**2, counts @ centred
    variance = squares - sums**2 / n
    variance[variance < 1e-12 * squares] = 0.0  # equal values: what is left is rounding
    return np.asarray(np.sqrt(variance / (n - 1)))


def wilson(successes: float, n: int) -> Interval:
    """95 % interval of a share, sound near 0 and 1 and for few models.

    >>> interval = wilson(0, 10)
    >>> interval.estimate, interval.low, round(interval.high, 3)
    (0.0, 0.0, 0.278)

    Source: Wilson, Probable Inference, the Law of Succession, and Statistical Inference, JASA 1927.
    """
    if n == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    z = 1.959963984540054
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else float(centre - half)
    high = 1.0 if successes == n else float(centre + half)
    return Interval(share, low, high, n)
