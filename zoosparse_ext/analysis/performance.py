"""Question 1: performance against sparsity."""

from __future__ import annotations

import numpy as np
import pandas as pd

from zoosparse_ext.analysis.bootstrap import bootstrap, wilson
from zoosparse_ext.analysis.data import StudyData
from zoosparse_ext.analysis.significance import adjusted, signed_rank
from zoosparse_ext.analysis.twins import cells, final_twins

LOSSES = (1, 2, 5)  # points of accuracy
_ROUNDING = 1e-9  # 0.90 − 0.89 is 0.010000000000000009: exactly one point is not more than one


def performance_by_sparsity(data: StudyData) -> pd.DataFrame:
    """Accuracy of the twins per method and level of sparsity.

    >>> models = pd.DataFrame({"model_id": ["a", "b", "c"], "accuracy": [0.90, 0.80, 0.85]})
    >>> twins = pd.DataFrame({
    ...     "twin_id": ["a1", "b1", "c1"], "source_id": ["a", "b", "c"], "method": "magnitude",
    ...     "scope": "global", "target": 0.5, "epoch": 0, "sparsity": 0.5, "accuracy": [0.89, 0.77, 0.85]})
    >>> row = performance_by_sparsity(StudyData(models, twins)).iloc[0]
    >>> row[["accuracy_median", "change_median", "lost_1", "lost_5"]].astype(float).round(3).tolist()
    [0.85, -0.01, 0.333, 0.0]

    Returns:
        one row per `series` and `level`: `n` models, median `sparsity`, `accuracy_{median,q25,q75,min,max}`,
        the same for `source_accuracy` and `control_accuracy` (median only), `change_median` with `change_low`,
        `change_high` (95 % bootstrap over models), its `effect` and `p_adjusted` (see
        :mod:`~zoosparse_ext.analysis.significance`; the family is the table), and `lost_1`, `lost_2`, `lost_5`: shares
        of models that lose strictly more than so many points, each with `_low` and `_high` (95 %, Wilson). A twin whose
        accuracy is NaN counts as lost, and is left out of the quantiles. The same against the control, the unpruned
        model trained on as long: `change_from_control_median`, `_low`, `_high`, `_working`, `lost_1_from_control` …
        with intervals, over the `with_control` twins that have one; NaN without any. `collapsed` twins have an empty
        layer or one answer; `accuracy_working` and `change_working` are medians of the others.
    """
    rows = [
        {"series": series, "level": level, "level_label": twins["level_label"].iloc[0], **_describe(twins)}
        for (series, level), twins in cells(final_twins(data))
    ]
    table = pd.DataFrame(rows, columns=[*_COLUMNS, "p"])
    return table.assign(p_adjusted=adjusted(table.pop("p")))


def _describe(twins: pd.DataFrame) -> dict[str, float]:
    change = twins["change"].to_numpy(dtype=float)
    interval = bootstrap(change)
    accuracy = twins["accuracy"].quantile([0.5, 0.25, 0.75, 0.0, 1.0]).to_list()
    known = twins["control_accuracy"].notna()
    from_control = twins.loc[known, "change_from_control"].to_numpy(dtype=float)
    against_control = bootstrap(from_control)
    return {
        "n": len(twins),
        "sparsity": twins["sparsity"].median(),
        "source_accuracy": twins["source_accuracy"].median(),
        "control_accuracy": twins["control_accuracy"].median(),
        "with_control": int(known.sum()),
        **dict(zip(_ACCURACY, accuracy, strict=True)),
        "change_median": interval.estimate,
        "change_low": interval.low,
        "change_high": interval.high,
        "change_from_control_median": against_control.estimate,
        "change_from_control_low": against_control.low,
        "change_from_control_high": against_control.high,
        **_lost(change, ""),
        **_lost(from_control, "_from_control"),
        **signed_rank(change),
        "collapsed": int((~twins["works"]).sum()),
        **{f"{name}_working": twins.loc[twins["works"], name].median() for name in _WORKING},
    }


def _lost(change: np.ndarray, suffix: str) -> dict[str, float]:
    """Shares that lose more than 1, 2, 5 points, with their intervals."""
    lost: dict[str, float] = {}
    for points in LOSSES:
        share = share_losing(change, points)
        within = wilson(share * len(change), len(change))
        names = (f"lost_{points}{suffix}{end}" for end in ("", "_low", "_high"))
        lost.update(zip(names, (share, within.low, within.high), strict=True))
    return lost


def share_losing(change: np.ndarray, points: float) -> float:
    """Share of models whose accuracy fell by strictly more than `points`; NaN counts as fallen."""
    if len(change) == 0:
        return float("nan")
    return float(np.mean(~(change >= -points / 100 - _ROUNDING)))


_WORKING = ("accuracy", "change", "change_from_control")
_ACCURACY = [f"accuracy_{name}" for name in ("median", "q25", "q75", "min", "max")]
_COLUMNS = [
    "series",
    "level",
    "level_label",
    "n",
    "sparsity",
    "source_accuracy",
    "control_accuracy",
    "with_control",
    *_ACCURACY,
    *(f"{of}_{name}" for of in ("change", "change_from_control") for name in ("median", "low", "high")),
    *(
        f"lost_{points}{suffix}{end}"
        for suffix in ("", "_from_control")
        for points in LOSSES
        for end in ("", "_low", "_high")
    ),
    "effect",
    "collapsed",
    *(f"{name}_working" for name in _WORKING),
]
