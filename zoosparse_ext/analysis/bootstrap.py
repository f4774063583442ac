"""Seeded percentile bootstrap in which the model is the unit that is resampled."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from zoosparse_ext.analysis.data import Array
from zoosparse_ext.errors import InputError

LEVEL = 0.95
RESAMPLES = 2000
_CHUNK_ELEMENTS = 4_000_000  # floats resampled at once: 32 MB

# A statistic reduces one axis: median(samples, axis=1) of [R, n, ...] gives [R, ...].
Statistic = Callable[..., Array]


@dataclass(frozen=True)
class Interval:
    """An estimate, its confidence interval, and the number of units (models) behind it."""

    estimate: float
    low: float
    high: float
    n: int


def nan_median(values: Array, axis: int = -1) -> Array:
    """`np.nanmedian` that is NaN, without a warning, where there is nothing to take a median of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(np.nanmedian(values, axis=axis))


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
    n = len(values)
    if n == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    estimate = float(statistic(values[None], axis=1)[0])
    if n == 1:
        return Interval(estimate, np.nan, np.nan, 1)
    replicates = _replicates(values, statistic, resamples, seed)
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
