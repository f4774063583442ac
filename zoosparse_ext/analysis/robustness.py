"""Question 3: how many models lose what their control does not, and whether a population widens or narrows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from zoosparse_ext.analysis.bootstrap import Interval, bootstrap_columns, deviations
from zoosparse_ext.analysis.data import StudyData
from zoosparse_ext.analysis.groups import Array
from zoosparse_ext.analysis.images import correct_of
from zoosparse_ext.analysis.intervals import shares_below
from zoosparse_ext.analysis.performance import LOSSES
from zoosparse_ext.analysis.significance import LEVEL, adjusted, equal_spread
from zoosparse_ext.analysis.twins import cells, final_twins
from zoosparse_ext.analysis.verdicts import UNDECIDED

_COLUMNS = [
    "series", "level", "level_label", "n", "std_before", "std_after", "iqr_before", "iqr_after",
    "range_before", "range_after", "ratio", "ratio_low", "ratio_high", "p_adjusted", "verdict", "std_change",
    "failures", "failure_share",
]  # fmt: skip
_LOSERS = [
    "series", "level", "level_label", "n", "sparsity", "against", "without_control",
    *(f"lost_{points}{end}" for points in LOSSES for end in ("", "_low", "_high")), "images", "resampled", "collapsed",
]  # fmt: skip


def losers(data: StudyData) -> pd.DataFrame:
    """Share of the models that lose more than 1, 2 and 5 points to sparsity, per method and level.

    A twin is read against the control: the same original, not pruned, trained on as long. What both gain or lose is
    not an effect of sparsity.

    >>> models = pd.DataFrame({"model_id": list("abcdef"), "accuracy": 0.9})
    >>> twins = pd.DataFrame({
    ...     "twin_id": ["a1", "b1", "c1", "d1", "e1", "f1"], "source_id": list("abcdef"), "method": "magnitude",
    ...     "scope": "global", "target": 0.5, "epoch": 0, "sparsity": 0.5,
    ...     "accuracy": [0.90, 0.90, 0.90, 0.885, 0.87, 0.80]})
    >>> row = losers(StudyData(models, twins)).iloc[0]
    >>> row["against"], row[["lost_1", "lost_2", "lost_5"]].astype(float).round(2).tolist()
    ('original', [0.5, 0.33, 0.17])

    Returns:
        one row per `series` and `level`: `n` models, median `sparsity`; `against`, "control", or "original" where no
        twin has a control; `without_control`, twins that are not counted in `n` because theirs is missing while others
        have one; `lost_1`, `lost_2`, `lost_5`: shares of models that lose strictly more than so many points, each with
        a 95 % interval (`_low`, `_high`; see :mod:`~zoosparse_ext.analysis.intervals`) over models and, where
        predictions are stored, `images` (`resampled` says which); `collapsed`, of the counted twins. A twin whose
        accuracy is NaN counts as lost.
    """
    rows = [
        {
            "series": series,
            "level": level,
            "level_label": twins["level_label"].iloc[0],
            **losses_of(data, twins),
        }
        for (series, level), twins in cells(final_twins(data))
    ]
    return pd.DataFrame(rows, columns=_LOSERS)


def losses_of(data: StudyData, twins: pd.DataFrame) -> dict[str, object]:
    """The columns of :func:`losers` from `n` on, of some twins at one epoch each.

    Args:
        twins: rows of :func:`~zoosparse_ext.analysis.twins.epochs_of_twins`, a twin for each model.
    """
    with_control = twins["control_accuracy"].notna()
    against = "control" if with_control.any() else "original"
    counted = twins[with_control] if against == "control" else twins
    losses = _differences(data, counted, against)
    found: dict[str, object] = {
        "n": len(counted),
        "sparsity": counted["sparsity"].median(),
        "against": against,
        "without_control": len(twins) - len(counted),
    }
    shares = shares_below(losses, [-points / 100 for points in LOSSES])
    for points, share in zip(LOSSES, shares, strict=True):
        found |= {
            f"lost_{points}": share.value,
            f"lost_{points}_low": share.low,
            f"lost_{points}_high": share.high,
        }
        found |= {"images": share.images, "resampled": share.resampled}
    return found | {"collapsed": int((~counted["works"].astype(bool)).sum())}


def _differences(data: StudyData, twins: pd.DataFrame, against: str) -> Array:
    """Twin minus control or original: of each image, int8 [n, M], or else of accuracies, [n]."""
    lost = twins["accuracy"].isna().to_numpy()
    of_twins = correct_of(data, twins["twin_id"], twins["epoch"])
    if against == "control":
        change, of_others = (
            twins["change_from_control"],
            correct_of(data, twins["control_id"], twins["epoch"]),
        )
    else:
        change, of_others = twins["change"], data.correct(twins["source_id"])
    if of_twins is None or of_others is None:
        return change.to_numpy(dtype=float)
    differences = np.subtract(of_twins, of_others, dtype=np.int8)
    differences[lost] = -1  # wrong on every image, so that they count as lost
    return differences


def robustness(data: StudyData) -> pd.DataFrame:
    """Spread of accuracy over the population before and after, per method and level of sparsity.

    >>> models = pd.DataFrame({"model_id": ["a", "b", "c"], "accuracy": [0.8, 0.9, 1.0]})
    >>> twins = pd.DataFrame({
    ...     "twin_id": ["a1", "b1", "c1"], "source_id": ["a", "b", "c"], "method": "magnitude",
    ...     "scope": "global", "target": 0.5, "epoch": 0, "sparsity": 0.5, "accuracy": [0.6, 0.8, 1.0]})
    >>> row = robustness(StudyData(models, twins)).iloc[0]
    >>> row[["std_before", "std_after", "ratio", "std_change", "failures"]].astype(float).round(3).tolist()
    [0.1, 0.2, 2.0, 0.1, nan]

    Returns:
        one row per `series` and `level`: sample standard deviation, interquartile range and range over the
        same models before and after; `ratio` = std after / std before with a 95 % bootstrap interval over
        models; `p_adjusted` of equal spread (see :mod:`~zoosparse_ext.analysis.significance`; the family is the
        table); `verdict` ("wider" or "narrower" when the interval excludes 1 and `p_adjusted` is below 0.05, else
        "undecided");
        `std_change`, the standard deviation of the change (0: all models lose the same); `failures`, twins
        that fell more than half of the way from their original to guessing the most frequent class, or are
        NaN (how many is NaN itself without labels, where that class is not known). With fewer than two models spreads
        are NaN.
    """
    rows = []
    for (series, level), twins in cells(final_twins(data)):
        rows.append(
            {
                "series": series,
                "level": level,
                "level_label": twins["level_label"].iloc[0],
                "n": len(twins),
                **_spreads(twins),
                **_failures(twins, data.chance),
            }
        )
    table = pd.DataFrame(rows, columns=[*_COLUMNS, "p"])
    table["p_adjusted"] = adjusted(table.pop("p"))
    table["verdict"] = [_verdict(row) for row in table.to_dict("records")]
    return table


def _verdict(row: dict[Any, Any]) -> str:
    if np.isnan(row["ratio_low"]):
        return "–"
    if not row["p_adjusted"] < LEVEL or row["ratio_low"] <= 1 <= row["ratio_high"]:
        return UNDECIDED
    return "wider" if row["ratio_low"] > 1 else "narrower"


def _spreads(twins: pd.DataFrame) -> dict[str, object]:
    pairs = twins[["source_accuracy", "accuracy"]].dropna().to_numpy(dtype=float)  # [n, 2]
    ratio = bootstrap_columns(pairs, deviations, _ratio)
    spread: dict[str, object] = {"ratio": ratio.estimate, "ratio_low": ratio.low, "ratio_high": ratio.high}
    spread["p"] = equal_spread(*pairs.T)
    for column, name in enumerate(("before", "after")):
        values = pairs[:, column]
        spread[f"std_{name}"] = standard_deviation(values)
        spread[f"iqr_{name}"] = (
            float(np.subtract(*np.quantile(values, [0.75, 0.25]))) if len(values) else np.nan
        )
        spread[f"range_{name}"] = float(np.ptp(values)) if len(values) else np.nan
    spread["std_change"] = standard_deviation(pairs[:, 1] - pairs[:, 0])
    return spread


def standard_deviation(values: Array) -> float:
    """Sample standard deviation; NaN for fewer than two values."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else np.nan


def deviation_of(values: Array) -> Interval:
    """Sample standard deviation of [n] with its bootstrap interval; NaN is left out."""
    return bootstrap_columns(values[~np.isnan(values)][:, None], deviations)


def _ratio(before_after: Array) -> Array:
    """std after / std before of [R, 2]; NaN where the originals do not differ at all."""
    before, after = before_after.T  # [R] each
    return after / np.where(before > 1e-12, before, np.nan)


def _failures(twins: pd.DataFrame, chance: float) -> dict[str, float]:
    if np.isnan(chance):
        return {"failures": np.nan, "failure_share": np.nan}
    halfway = (twins["source_accuracy"] + chance) / 2
    failed = int((~(twins["accuracy"] >= halfway)).sum())
    return {"failures": failed, "failure_share": failed / len(twins) if len(twins) else np.nan}
