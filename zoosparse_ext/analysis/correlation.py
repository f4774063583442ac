"""Question 6: does a better original make a better twin."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy import stats

from zoosparse_ext.analysis.bootstrap import Interval
from zoosparse_ext.analysis.data import Array, StudyData
from zoosparse_ext.analysis.twins import cells, final_twins
from zoosparse_ext.errors import InputError

_FUNCTIONS = {"pearson": "pearsonr", "spearman": "spearmanr", "kendall": "kendalltau"}  # of scipy.stats
COEFFICIENTS = tuple(_FUNCTIONS)
TOP_SHARE = 0.1
_Z = 1.959963984540054  # 97.5 % quantile of the normal distribution
_INTERVALS = [f"{name}{suffix}" for name in COEFFICIENTS for suffix in ("", "_low", "_high")]
_TOP = ["top_n", "top_kept", "top_expected"]
_COLUMNS = ["series", "level", "level_label", "n", "sparsity", *_INTERVALS, *_TOP]


def correlate(x: Array, y: Array, coefficient: str = "pearson") -> Interval:
    """A correlation with its 95 % interval.

    >>> interval = correlate(np.arange(10.0), np.array([0, 2, 1, 3, 5, 4, 6, 8, 7, 9.0]), "spearman")
    >>> [round(value, 3) for value in (interval.estimate, interval.low, interval.high)]
    [0.964, 0.8, 0.994]

    Args:
        x: [N].
        y: [N]; pairs with NaN are left out.
        coefficient: "pearson", "spearman" or "kendall" (τ-b).

    Returns:
        coefficient, interval, pairs used. NaN where either side does not vary or there are fewer than three
        pairs; the interval is NaN for fewer than five.

    Source: Fisher's z with variance 1/(n−3), (1 + r²/2)/(n−3), 0.437/(n−4): Bonett & Wright, Sample Size
    Requirements for Estimating Pearson, Kendall and Spearman Correlations, Psychometrika 2000.
    """
    if coefficient not in COEFFICIENTS:
        raise InputError(f"correlate: coefficient {coefficient!r}, expected one of {', '.join(COEFFICIENTS)}")
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    defined = ~(np.isnan(x) | np.isnan(y))
    x, y = x[defined], y[defined]
    n = len(x)
    if n < 3 or np.ptp(x) < 1e-12 or np.ptp(y) < 1e-12:
        return Interval(np.nan, np.nan, np.nan, n)
    r = float(getattr(stats, _FUNCTIONS[coefficient])(x, y).statistic)
    if n < 5:
        return Interval(r, np.nan, np.nan, n)
    variance = {"pearson": 1 / (n - 3), "spearman": (1 + r * r / 2) / (n - 3), "kendall": 0.437 / (n - 4)}[
        coefficient
    ]
    z, half = math.atanh(min(max(r, -1 + 1e-12), 1 - 1e-12)), _Z * math.sqrt(variance)
    return Interval(r, math.tanh(z - half), math.tanh(z + half), n)


def top_overlap(before: Array, after: Array, share: float = TOP_SHARE) -> tuple[int, float]:
    """How many of the best models stay among the best: their number, and the share that stays.

    >>> top_overlap(np.array([0.9, 0.8, 0.7, 0.6]), np.array([0.5, 0.8, 0.7, 0.6]), share=0.5)
    (2, 0.5)

    The number is round(share · N), at least one. A model tied with the last of the best counts in part, so
    the order of the rows does not matter. NaN ranks last.
    """
    n = len(before)
    if n == 0:
        return 0, float("nan")
    top = max(1, round(share * n))
    return top, float((_membership(before, top) * _membership(after, top)).sum() / top)


def _membership(values: Array, top: int) -> Array:
    """1 for a member of the top, else 0; ties with the last one share the remaining places evenly."""
    values = np.where(np.isnan(values), -np.inf, values)
    threshold = np.sort(values)[-top]
    above, tied = values > threshold, values == threshold
    return above + tied * (top - above.sum()) / tied.sum()


def correlation_with_original(data: StudyData) -> pd.DataFrame:
    """Correlation of original and twin accuracy over models, and rank stability of the best tenth.

    Returns:
        one row per `series` and `level`: `n`, median `sparsity`; `pearson`, `spearman`, `kendall`, each with
        `_low` and `_high` (see :func:`correlate`); `top_n` = size of the best tenth, `top_kept` = share of it
        that is in the best tenth after sparsification, `top_expected` = the share that chance would keep.
    """
    rows = []
    for (series, level), twins in cells(final_twins(data)):
        before, after = twins["source_accuracy"].to_numpy(float), twins["accuracy"].to_numpy(float)
        row = {"series": series, "level": level, "level_label": twins["level_label"].iloc[0], "n": len(twins)}
        row["sparsity"] = twins["sparsity"].median()
        for name in COEFFICIENTS:
            interval = correlate(before, after, name)
            row.update({name: interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high})
        row["top_n"], row["top_kept"] = top_overlap(before, after)
        row["top_expected"] = row["top_n"] / len(twins)
        rows.append(row)
    return pd.DataFrame(rows, columns=_COLUMNS)
