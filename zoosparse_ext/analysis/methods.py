"""Question 2: which method wins at equal sparsity, and where they cross.

Variational dropout (VD) reaches its sparsity by itself, so equal sparsity has to be made: (a) every VD epoch
against the same model's magnitude twins, interpolated to that epoch's sparsity, averaged within bins; (b) a
magnitude twin pruned to exactly the sparsity its VD twin ended at. In both, differences are taken within a
model, and the model is the unit. Magnitude pruning is that of :func:`~zoosparse_ext.analysis.series.magnitude_series`,
each series on its own, against every series of VD on its own.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from zoosparse_ext.analysis.bootstrap import Interval, bootstrap, bootstrap_columns, medians, wilson
from zoosparse_ext.analysis.data import Array, StudyData, remembered
from zoosparse_ext.analysis.series import is_variational, magnitude_series
from zoosparse_ext.analysis.significance import adjusted, signed_rank
from zoosparse_ext.analysis.twins import bin_label, bin_middle, cells, epochs_of_twins, final_twins, series_of

_REACHED_BY = 0.25  # share of the models that a bin needs to bear on the crossover
_PAIR = ["series", "against"]  # labels of the magnitude series and of the VD series
_PAIR_COLUMNS = [*_PAIR, "level", "source_id", "sparsity", "magnitude", "variational", "difference"]
_DIFFERENCE_COLUMNS = ["difference_median", "difference_low", "difference_high"]
_WIN_COLUMNS = ["wins_share", "wins_low", "wins_high"]
_BIN_COLUMNS = [*_PAIR, "level", "level_label", "n", "sparsity", "magnitude", "variational",
                *_DIFFERENCE_COLUMNS, *_WIN_COLUMNS, "effect", "p"]  # fmt: skip
_MATCHED_COLUMNS = [*(name for name in _BIN_COLUMNS if name != "level"), "collapsed", "difference_working"]


@remembered
def pairs_by_sparsity(data: StudyData) -> pd.DataFrame:
    """Each model's VD epochs beside its own magnitude twins at the same sparsity, averaged within tenths of
    sparsity.

    Magnitude accuracy is linear between a model's ratios, starting from the original at sparsity 0; epochs
    sparser than its sparsest magnitude twin are left out, not extrapolated. VD epochs before the last are
    models on the way, not trained to an end; :func:`matched_pairs` has no such handicap.

    Returns:
        one row per magnitude `series`, VD series `against`, `level` (middle of the tenth) and `source_id`: mean
        `sparsity`, accuracies `magnitude` and `variational`, `difference` = magnitude − variational.
    """
    twins = epochs_of_twins(data)
    vd = twins[twins["series"].map(is_variational).astype(bool) & (twins["epoch"] > 0)].copy()
    vd = vd.assign(against=vd["series"], level=bin_middle(vd["sparsity"]))
    magnitude = twins[twins["series"].isin(magnitude_series(series_of(data))) & twins["final"]]
    parts = []
    for series, group in magnitude.groupby("series"):
        part = vd.assign(series=series, magnitude=_interpolated(group, vd), variational=vd["accuracy"])
        parts.append(part.dropna(subset=["magnitude", "variational"]))
    if not parts:
        return pd.DataFrame(columns=_PAIR_COLUMNS)
    columns = ["sparsity", "magnitude", "variational"]
    means = pd.concat(parts).groupby([*_PAIR, "level", "source_id"], as_index=False)[columns].mean()
    return means.assign(difference=means["magnitude"] - means["variational"])[_PAIR_COLUMNS]


def _interpolated(magnitude: pd.DataFrame, at: pd.DataFrame) -> Array:
    """Accuracy on the curve of the same model at every row's sparsity, [len(at)]; NaN beyond its end."""
    columns = ["accuracy", "source_accuracy"]
    curve = magnitude.groupby(["source_id", "sparsity"], as_index=False)[columns].mean()
    origin = curve.drop_duplicates("source_id").query("sparsity > 0")
    origin = origin.assign(sparsity=0.0, accuracy=origin["source_accuracy"])
    curve = pd.concat([origin, curve]).sort_values(["source_id", "sparsity"], ignore_index=True)
    # All curves in one: model i lies between 2i and 2i + 1, so that a single search serves all.
    models = pd.Index(curve["source_id"].unique())
    start, place = (2.0 * models.get_indexer(table["source_id"]) for table in (curve, at))
    sparsity, accuracy = curve["sparsity"].to_numpy(float), curve["accuracy"].to_numpy(float)
    x = at["sparsity"].to_numpy(float)
    right = np.searchsorted(start + sparsity, place + x)
    inside = (right < len(curve)) & (np.append(start, -1.0)[right] == place) & (place >= 0)
    right = np.where(inside, right, 0)
    left = np.where(sparsity[right] == x, right, right - 1)
    width = sparsity[right] - sparsity[left]
    share = np.divide(x - sparsity[left], width, out=np.zeros(len(x)), where=width > 0)
    result = accuracy[left] + share * (accuracy[right] - accuracy[left])
    return np.where(inside, result, np.nan)


def compare_by_sparsity(data: StudyData) -> pd.DataFrame:
    """Magnitude pruning against VD at equal sparsity, per tenth of sparsity, over models.

    >>> models = pd.DataFrame({"model_id": ["a"], "accuracy": [0.9]})
    >>> twins = pd.DataFrame({
    ...     "twin_id": ["m", "v"], "source_id": "a", "method": ["magnitude", "variational"],
    ...     "scope": ["global", None], "target": [0.8, None], "epoch": 1, "sparsity": [0.8, 0.4],
    ...     "accuracy": [0.7, 0.75]})
    >>> row = compare_by_sparsity(StudyData(models, twins)).iloc[0]   # halfway between 0.9 and 0.7 stands 0.8
    >>> row["level_label"], row[["difference_median", "wins_share"]].astype(float).round(3).tolist()
    ('40–50 %', [0.05, 1.0])

    Returns:
        one row per magnitude `series`, VD series `against` and tenth: `n` models, medians of `sparsity`, `magnitude`,
        `variational` accuracy; `difference_{median,low,high}` of magnitude − variational (95 % bootstrap);
        `wins_share` of models where magnitude is ahead (ties count half), with its Wilson interval; `effect` and
        `p_adjusted` (see :mod:`~zoosparse_ext.analysis.significance`; the family is the table). Empty when a method is
        missing.
    """
    rows = []
    for (series, against, level), pairs in cells(pairs_by_sparsity(data), *_PAIR, "level"):
        keys = {"series": series, "against": against, "level": level, "level_label": bin_label(level)}
        rows.append({**keys, **_summary(pairs)})
    return _adjusted(pd.DataFrame(rows, columns=_BIN_COLUMNS))


def _summary(pairs: pd.DataFrame) -> dict[str, float]:
    difference = pairs["difference"].to_numpy(dtype=float)
    interval = bootstrap(difference)
    wins = float((difference > 0).sum() + 0.5 * (difference == 0).sum())
    share = wilson(wins, len(difference))
    middle = pairs[["sparsity", "magnitude", "variational"]].median().to_dict()
    return {
        "n": len(pairs),
        **middle,
        **dict(zip(_DIFFERENCE_COLUMNS, (interval.estimate, interval.low, interval.high), strict=True)),
        **dict(zip(_WIN_COLUMNS, (share.estimate, share.low, share.high), strict=True)),
        **signed_rank(difference),
    }


def matched_pairs(data: StudyData) -> pd.DataFrame:
    """Each VD twin's last epoch beside the magnitude twin that was pruned to its sparsity.

    Returns:
        one row per magnitude `series`, VD series `against` and `source_id`, the columns of :func:`pairs_by_sparsity`,
        and `works`: neither twin has an empty layer or answers one class for all test images. Several VD twins of a
        model and series are averaged, so that a model counts once.
    """
    matched = final_twins(data, matched=True)
    matched = matched[matched["series"].isin(magnitude_series(series_of(data)))]
    vd = final_twins(data)
    vd = vd[vd["series"].map(is_variational).astype(bool)].set_index("twin_id")
    of_vd = {name: matched["matched"].map(vd[name]) for name in ("accuracy", "series", "works")}
    pairs = matched.assign(
        magnitude=matched["accuracy"], variational=of_vd["accuracy"], against=of_vd["series"]
    )
    pairs["works"] = matched["works"] & of_vd["works"].eq(True)
    pairs = pairs.dropna(subset=["magnitude", "variational"])
    columns = {"sparsity": "mean", "magnitude": "mean", "variational": "mean", "works": "all"}
    if pairs.empty:
        return pd.DataFrame(columns=[*_PAIR_COLUMNS, "works"])
    means = pairs.groupby([*_PAIR, "source_id"], as_index=False).agg(columns)
    level = bin_middle(means["sparsity"])
    means = means.assign(level=level, difference=means["magnitude"] - means["variational"])
    return means[[*_PAIR_COLUMNS, "works"]]


def compare_matched(data: StudyData) -> pd.DataFrame:
    """Magnitude pruning against VD at exactly the sparsity VD ended at: all models, then per tenth of
    sparsity.

    Returns:
        per magnitude `series` and VD series `against` a row "all" and one per occupied tenth; the columns of
        :func:`compare_by_sparsity`, `collapsed` (models of which a twin has an empty layer or answers one class for
        all test images) and `difference_working`, the median difference of the other models.
    """
    pairs = matched_pairs(data)
    rows = []
    for (series, against), group in cells(pairs, *_PAIR):
        tenths = list(cells(group, "level"))
        parts = [(bin_label(level), part) for (level,), part in tenths] if len(tenths) > 1 else []
        for label, part in [("all", group), *parts]:
            keys = {"series": series, "against": against, "level_label": label}
            working = part.loc[part["works"].astype(bool), "difference"].median()
            collapsed = {"collapsed": int((~part["works"].astype(bool)).sum()), "difference_working": working}
            rows.append({**keys, **_summary(part), **collapsed})
    return _adjusted(pd.DataFrame(rows, columns=_MATCHED_COLUMNS))


def _adjusted(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(p_adjusted=adjusted(table.pop("p")))


def difference_between(pairs: pd.DataFrame, low: float, high: float) -> Interval:
    """Median over models of the mean difference (magnitude − variational) within sparsities [low, high)."""
    inside = pairs[(pairs["sparsity"] >= low) & (pairs["sparsity"] < high)]
    return bootstrap(inside.groupby("source_id")["difference"].mean().to_numpy(dtype=float))


def crossover(pairs: pd.DataFrame) -> Interval:
    """The sparsity above which VD stays ahead of one magnitude series, with a bootstrap interval over models.

    >>> pairs = pd.DataFrame({"level": [0.25, 0.75] * 3, "source_id": ["a", "a", "b", "b", "c", "c"],
    ...                       "sparsity": [0.2, 0.8] * 3, "difference": [0.02, -0.01] * 3})
    >>> round(crossover(pairs).estimate, 3)
    0.6

    Args:
        pairs: the rows of one series from :func:`pairs_by_sparsity`.

    Returns:
        where the curve of median differences, linear between the bins' median sparsities, last falls through
        zero; +inf where magnitude is ahead in the sparsest bin, −inf where VD is ahead in every bin. Bins
        that fewer than a quarter of the models reach are left out. NaN without pairs.
    """
    table = pairs.pivot_table(index="source_id", columns="level", values="difference")
    table = table.loc[:, table.notna().mean() >= _REACHED_BY]
    if table.empty:
        return Interval(np.nan, np.nan, np.nan, 0)
    sparsity = pairs.groupby("level")["sparsity"].median().loc[table.columns].to_numpy(dtype=float)

    return bootstrap_columns(table.to_numpy(dtype=float), medians, partial(last_sign_change, sparsity))


def last_sign_change(x: Array, y: Array) -> Array:
    """Per row of y [R, k]: the x where it last falls through zero; ±inf as in :func:`crossover`."""
    result = np.full(len(y), -np.inf)
    for left in range(y.shape[1] - 1):
        before, after = y[:, left], y[:, left + 1]
        with np.errstate(invalid="ignore", divide="ignore"):
            crossing = x[left] + (x[left + 1] - x[left]) * before / (before - after)
        result = np.where((before > 0) & (after <= 0), crossing, result)
    return np.where(y[:, -1] > 0, np.inf, result)
