"""Which method, at which sparsity, at what cost: the points at which a method would be used."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from zoosparse_ext.analysis.agreement import agreement_of_twins
from zoosparse_ext.analysis.data import StudyData
from zoosparse_ext.analysis.series import MP, VD, is_magnitude, is_variational, series_order

DIVIDE = 0.8  # sparsity at which the paper sees the methods change places
TOLERANCE = 0.01  # of accuracy: what "at little cost" means
_OPERATING_COLUMNS = ["level", "sparsity", "change_median", "change_low", "change_high", "n", "collapsed"]


@dataclass(frozen=True)
class Operating:
    """How far a series can be pushed, and what the median model loses there (95 % interval)."""

    series: str
    level: float
    sparsity: float
    change: float
    low: float
    high: float
    n: int
    collapsed: int = 0  # twins with an empty layer, or one answer for all test images
    working: float = np.nan  # what the median of the others loses

    @property
    def within(self) -> bool:
        """Whether the median model loses at most one point."""
        return self.change >= -TOLERANCE - 1e-9


def sparsest_affordable(performance: pd.DataFrame) -> list[Operating]:
    """Per series the sparsest level at which the median model loses at most one point, the best series first.

    A series that loses more at every level comes last, at the level where it loses least.

    Args:
        performance: from :func:`~zoosparse_ext.analysis.performance_by_sparsity`.
    """
    chosen = []
    for series, rows in performance.dropna(subset=["change_median"]).groupby("series"):
        within = rows[rows["change_median"] >= -TOLERANCE - 1e-9]
        best = within.nlargest(1, "sparsity") if len(within) else rows.nlargest(1, "change_median")
        level, sparsity, change, low, high, n, collapsed = best[_OPERATING_COLUMNS].iloc[0]
        working = float(best["change_working"].iloc[0])
        chosen.append(
            Operating(str(series), level, sparsity, change, low, high, int(n), int(collapsed), working)
        )
    return sorted(chosen, key=lambda point: (not point.within, -point.sparsity, -point.change))


def operating_twins(data: StudyData) -> dict[str, pd.DataFrame]:
    """The twins to judge a series on: pruned ones at their largest ratio up to 80 %, VD where it ends.

    A method without twins is there with no rows.
    """
    twins = agreement_of_twins(data)
    series = {}
    for name, group in twins.groupby("series"):
        if not is_variational(str(name)):
            ratios = np.sort(group["level"].dropna().unique())
            reached = ratios[ratios <= DIVIDE + 1e-9]
            group = group[group["level"] == (reached[-1] if len(reached) else ratios[:1].sum())]
        series[str(name)] = group
    for method, is_there in ((VD, is_variational), (MP, is_magnitude)):
        if not any(map(is_there, series)):
            series[method] = twins.iloc[:0]
    return dict(sorted(series.items(), key=lambda item: series_order(item[0])))


def operating_name(series: str, twins: pd.DataFrame) -> str:
    """ "MP global, 80 %": a series with the median sparsity of its twins."""
    return f"{series}, {100 * twins['sparsity'].median():.3g} %" if len(twins) else series
