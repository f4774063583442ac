"""Many comparisons at once: how large a difference is, and whether chance would give one as large among so many.

Every table that asks the same question of many settings (methods × sparsities) is one family of tests, whose p-values
are adjusted together so that of all differences called real at 0.05 at most 5 % are expected to be chance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from zoosparse_ext.analysis.groups import Array

LEVEL = 0.05
_ENUMERATED = 13  # differences; up to so many scipy is exact with ties as well


def signed_rank(differences: Array) -> dict[str, float]:
    """Whether differences within models lie around zero: effect and p-value.

    >>> signed_rank(np.array([1.0, 2.0, 3.0, 4.0, -5.0]))
    {'effect': 0.3333333333333333, 'p': 0.625}

    Args:
        differences: [n], one a model; NaN is left out, and zeros say nothing.

    Returns:
        `effect`: matched-pairs rank-biserial correlation, from −1 (all below zero) to 1 (all above); `p` of Wilcoxon's
        signed-rank test. Both are NaN where no difference is left.

    Source: Wilcoxon, Individual Comparisons by Ranking Methods, 1945; Kerby, The Simple Difference Formula, 2014.
    """
    differences = differences[~np.isnan(differences) & (differences != 0)]
    if len(differences) == 0:
        return {"effect": np.nan, "p": np.nan}
    ranks = stats.rankdata(np.abs(differences))
    effect = float((ranks * np.sign(differences)).sum() / ranks.sum())
    if len(differences) <= _ENUMERATED:
        return {"effect": effect, "p": _of_all_signs(ranks, differences > 0)}
    return {"effect": effect, "p": float(stats.wilcoxon(differences).pvalue)}


def _of_all_signs(ranks: Array, positive: Array) -> float:
    """Two-sided p-value of the sum of positive ranks among those of all 2ⁿ signs, also with ties.

    Equal to `stats.wilcoxon`, which draws up all signs of tied ranks one by one and takes a second for 13.
    """
    halves = np.rint(2 * ranks).astype(np.int64)  # average ranks of ties are halves
    ways = np.zeros(halves.sum() + 1)
    ways[0] = 1
    for rank in halves:
        ways[rank:] += ways[:-rank].copy()
    observed = halves[positive].sum()
    return float(min(1.0, 2 * min(ways[: observed + 1].sum(), ways[observed:].sum()) / ways.sum()))


def equal_spread(before: Array, after: Array) -> float:
    """p-value of equal variances of the same models before and after; NaN where it cannot be told.

    >>> equal_spread(np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 4.0, 6.0, 8.5])) < 0.01
    True

    Source: Pitman, A Note on Normal Correlation, 1939; Morgan, 1939: the variances are equal where the sum and the
    difference are uncorrelated.
    """
    total, difference = before + after, before - after
    if len(before) < 3 or np.ptp(total) < 1e-12 or np.ptp(difference) < 1e-12:
        return float("nan")
    return float(stats.pearsonr(total, difference).pvalue)


def adjusted(p: Sequence[float] | pd.Series | Array) -> Array:
    """p-values of one family of tests, adjusted for their number; NaN stays NaN and does not count.

    >>> adjusted([0.01, 0.04, float("nan"), 0.03]).tolist()
    [0.03, 0.04, nan, 0.04]

    Source: Benjamini & Hochberg, Controlling the False Discovery Rate, 1995.
    """
    values = np.asarray(p, dtype=float)
    tested = ~np.isnan(values)
    if tested.any():
        values = values.copy()
        values[tested] = stats.false_discovery_control(values[tested], method="bh")
    return values


def holm(p: Sequence[float] | pd.Series | Array) -> Array:
    """p-values of one family, adjusted so that with chance 5 % not even one is wrong; NaN as in :func:`adjusted`.

    >>> holm([0.01, 0.04, float("nan"), 0.03]).tolist()
    [0.03, 0.06, nan, 0.06]

    Source: Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979.
    """
    values = np.asarray(p, dtype=float).copy()
    order = np.argsort(values)[: np.count_nonzero(~np.isnan(values))]  # NaN comes last
    steps = values[order] * np.arange(len(order), 0, -1)
    values[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return values
