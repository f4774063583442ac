"""Question 2: which method wins at equal sparsity and equal epochs.

Variational dropout (VD) reaches its sparsity by itself, so equal sparsity has to be made, and is measured, never
interpolated. Two kinds of pairs of twins of one model:

- **matched**: the VD twin after epoch e, and a magnitude twin that was pruned to exactly that sparsity and fine-tuned;
- **ratio**: the VD twin at its end, and a magnitude twin of the ratio grid whose sparsity lies within 2.5 points.

Only equal budgets are compared: VD after e epochs with magnitude pruning (MP) after e epochs of fine-tuning. Other
pairs are in the table, undecided.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from zoosparse_ext.analysis.bootstrap import wilson
from zoosparse_ext.analysis.data import StudyData, remembered
from zoosparse_ext.analysis.groups import Array
from zoosparse_ext.analysis.intervals import Estimate, median
from zoosparse_ext.analysis.series import family, is_magnitude, is_variational
from zoosparse_ext.analysis.significance import adjusted, signed_rank
from zoosparse_ext.analysis.twins import cells, each, epochs_of_twins, final_twins, level_label
from zoosparse_ext.analysis.verdicts import (
    AHEAD,
    BEHIND,
    EQUIVALENT,
    UNDECIDED,
    Decision,
    compared,
    undecided,
)

NEAR = 0.025  # sparsities that lie no further apart are compared
MATCHED, RATIO = "matched", "ratio"
_CELL = ["series", "against", "pairs", "level", "epochs", "against_epochs"]
_PAIR_COLUMNS = [*_CELL, "at_end", "source_id", "twin_id", "against_id", "sparsity", "against_sparsity",
                 "magnitude", "variational", "difference", "works"]  # fmt: skip
_BRACKET_COLUMNS = ["series", "against", "low", "high", "low_epochs", "high_epochs", AHEAD, BEHIND, EQUIVALENT,
                    UNDECIDED, "n", "why"]  # fmt: skip
_COLUMNS = [*_CELL, "level_label", "at_end", "n", "sparsity", "against_sparsity", "magnitude", "variational",
            "difference_median", "difference_low", "difference_high", "difference_low90", "difference_high90",
            "wins_share", "wins_low", "wins_high", "effect", "collapsed", "difference_working",
            "images", "resampled", "p", "p_adjusted", "verdict", "why"]  # fmt: skip


@remembered
def measured_pairs(data: StudyData) -> pd.DataFrame:
    """Magnitude twins beside VD twins of the same models at equal sparsity.

    Returns:
        one row per pair: magnitude `series` and VD series `against`; `pairs` ("matched" or "ratio"); `level` (the
        ratio asked for, NaN for matched ones); `epochs` of fine-tuning and `against_epochs` of VD; `at_end` (the VD
        twin ends there); `source_id`, `twin_id`, `against_id`; `sparsity`, `against_sparsity`; accuracies `magnitude`
        and `variational`, `difference` = magnitude − variational, where an accuracy that is NaN counts as 0; `works`:
        both accuracies are numbers, no layer of either twin is empty, neither answers one class for all test images.
        Without an accuracy on both sides there is no pair.
    """
    vd = epochs_of_twins(data)
    vd = vd[each(is_variational, vd["series"]).astype(bool)]
    columns = {"twin_id": "against_id", "series": "against", "epoch": "against_epochs", "final": "at_end",
               "sparsity": "against_sparsity", "accuracy": "variational", "works": "against_works",
               "source_id": "source_id"}  # fmt: skip
    vd = vd[list(columns)].rename(columns=columns)
    pairs = pd.concat([_matched(data, vd), _of_ratios(data, vd)], ignore_index=True)
    pairs = pairs[(pairs["sparsity"] - pairs["against_sparsity"]).abs() <= NEAR + 1e-9]
    pairs = pairs[pairs[["magnitude", "variational"]].notna().any(axis=1)].copy()
    known = pairs[["magnitude", "variational"]].notna().all(axis=1)
    pairs["works"] = pairs["works"].eq(True) & pairs["against_works"].eq(True) & known
    pairs["difference"] = pairs["magnitude"].fillna(0.0) - pairs["variational"].fillna(0.0)
    return pairs[_PAIR_COLUMNS].reset_index(drop=True)


def _magnitude(data: StudyData, *, matched: bool) -> pd.DataFrame:
    twins = final_twins(data, matched=matched)
    twins = twins[each(is_magnitude, twins["series"]).astype(bool)]
    return twins.rename(columns={"epoch": "epochs", "accuracy": "magnitude"})


def _matched(data: StudyData, vd: pd.DataFrame) -> pd.DataFrame:
    """Pairs of a twin with the VD twin and epoch to which it was matched."""
    twins = _magnitude(data, matched=True).drop(columns="source_id")
    last = vd.loc[vd["at_end"], ["against_id", "against_epochs"]].set_index("against_id")["against_epochs"]
    epoch = twins["matched_epoch"].astype(float)
    twins["against_id"] = twins["matched"]
    twins["against_epochs"] = epoch.fillna(twins["matched"].map(last).astype(float))
    vd = vd.astype({"against_epochs": float})
    return twins.merge(vd, on=["against_id", "against_epochs"]).assign(pairs=MATCHED, level=np.nan)


def _of_ratios(data: StudyData, vd: pd.DataFrame) -> pd.DataFrame:
    """Pairs of every twin of the ratio grid with every VD twin of the same model where that ends."""
    twins = _magnitude(data, matched=False)
    return twins.merge(vd[vd["at_end"]], on="source_id").assign(pairs=RATIO)


@remembered
def compare_measured(data: StudyData) -> pd.DataFrame:
    """Magnitude pruning against VD at equal sparsity and equal epochs, each row at a sparsity that was measured.

    >>> names = [f"m{i}" for i in range(8)]
    >>> models = pd.DataFrame({"model_id": names, "accuracy": 0.9})
    >>> vd = pd.DataFrame({
    ...     "twin_id": [f"{name}/vd" for name in names], "source_id": names, "method": "variational", "epoch": 25,
    ...     "sparsity": 0.79, "accuracy": 0.85})
    >>> mp = vd.assign(twin_id=[f"{name}/mp" for name in names], method="magnitude", scope="global", target=0.8,
    ...                sparsity=0.8, accuracy=0.87)
    >>> row = compare_measured(StudyData(models, pd.concat([mp, vd]))).iloc[0]
    >>> row["pairs"], row["level_label"], row["verdict"], row["why"]
    ('ratio', '80 %', 'ahead', 'ahead by 2.0 points (2.0 to 2.0)')
    >>> compare_measured(StudyData(models, pd.concat([mp.assign(epoch=5), vd])))["why"].item()
    '5 epochs against 25'

    Returns:
        one row per magnitude `series`, VD series `against`, `pairs`, `level`, `epochs` and `against_epochs` (see
        :func:`measured_pairs`): `n` models, medians of `sparsity`, `against_sparsity` and of the accuracies
        `magnitude` and `variational`; `difference_median` of magnitude − variational with its 95 % and 90 % intervals
        (:mod:`~zoosparse_ext.analysis.intervals`; `images` and `resampled` say over what); `wins_share` of models
        where magnitude is ahead (ties count half) with its Wilson interval; `effect` (matched-pairs rank-biserial
        correlation); `collapsed` pairs of which a twin does not work, and `difference_working`, the median of the
        others; `p` of the nearest decision, `p_adjusted` for the table; `verdict` of magnitude pruning ("ahead",
        "behind", "equivalent", "undecided") and `why`. Several pairs of a model in a row are averaged. Empty when a
        method is missing.
    """
    table = compared_alone(data)
    table["p_adjusted"] = adjusted(table["p"])
    among = f"{table['p'].notna().sum()} comparisons"
    decisions = [
        Decision(*row[:3]).among(row[3], among)
        for row in table[["verdict", "why", "p", "p_adjusted"]].itertuples(index=False)
    ]
    table["verdict"], table["why"] = [of.verdict for of in decisions], [of.why for of in decisions]
    return table


@remembered
def compared_alone(data: StudyData) -> pd.DataFrame:
    """The rows of :func:`compare_measured`, each judged as if it were the only one: without `p_adjusted`."""
    rows = []
    for keys, pairs in cells(measured_pairs(data), *_CELL):
        cell: dict[str, Any] = dict(zip(_CELL, keys, strict=True))
        estimate = difference_of(data, pairs)
        rows.append({**cell, **_described(pairs), **_interval(estimate), **vars(_decision(cell, estimate))})
    return pd.DataFrame(rows, columns=_COLUMNS)


def crossover_bracket(data: StudyData) -> pd.DataFrame:
    """Between which measured sparsities the methods change places.

    Returns:
        one row per magnitude `series` and VD series `against` (its KL weights together, by which it ends at several
        sparsities): `low`, the largest measured sparsity at which magnitude pruning is ahead, and `high`, the smallest
        at which VD is, NaN where there is none; `low_epochs`, `high_epochs`, the budget there; how many rows of
        :func:`compare_measured` with equal budgets say `ahead`, `behind`, `equivalent`, `undecided`; `n`, models of
        the row with most; `why`, in words.
    """
    table, rows = compare_measured(data), []
    table = table[table["epochs"] == table["against_epochs"]]
    if table.empty:
        return pd.DataFrame(columns=_BRACKET_COLUMNS)
    table = table.assign(against=table["against"].map(family))
    for (series, against), points in cells(table, "series", "against"):
        by_verdict = {
            name: points[points["verdict"] == name] for name in (AHEAD, BEHIND, EQUIVALENT, UNDECIDED)
        }
        low, high = by_verdict[AHEAD].nlargest(1, "sparsity"), by_verdict[BEHIND].nsmallest(1, "sparsity")
        rows.append(
            {
                "series": series,
                "against": against,
                "low": low["sparsity"].max(),
                "high": high["sparsity"].max(),
                "low_epochs": low["epochs"].max(),
                "high_epochs": high["epochs"].max(),
                **{name: len(part) for name, part in by_verdict.items()},
                "n": points["n"].max(),
                "why": f"{series} is ahead {_at(by_verdict[AHEAD])}, {against} {_at(by_verdict[BEHIND])}",
            }
        )
    return pd.DataFrame(rows, columns=_BRACKET_COLUMNS)


def _at(points: pd.DataFrame) -> str:
    """ "at 52, 66 and 79 %"."""
    percents = [f"{100 * sparsity:.0f}" for sparsity in sorted(points["sparsity"])]
    percents = list(dict.fromkeys(percents))
    if not percents:
        return "at no sparsity"
    return f"at {' and '.join(filter(None, [', '.join(percents[:-1]), percents[-1]]))} %"


def difference_of(data: StudyData, pairs: pd.DataFrame) -> Estimate:
    """The median difference in accuracy of one cell of :func:`measured_pairs`, over models, and images if stored."""
    first = data.correct(pairs["twin_id"])
    epoch = int(pairs["against_epochs"].iloc[0])
    second = None if first is None else data.correct(pairs["against_id"], epoch)
    if first is None or second is None:
        return median(pairs.groupby("source_id")["difference"].mean().to_numpy(float))
    first[pairs["magnitude"].isna()] = False
    second[pairs["variational"].isna()] = False
    return median(_per_model(np.subtract(first, second, dtype=np.int8), pairs["source_id"]))


def _per_model(matrix: Array, sources: Iterable[object]) -> Array:
    """Rows of one model averaged, [pairs, M] → [n, M]."""
    numbers, names = pd.factorize(np.array(list(sources), dtype=object))
    if len(names) == len(matrix):
        return matrix
    sums = np.zeros((len(names), matrix.shape[1]), np.float32)
    np.add.at(sums, numbers, matrix)
    return np.asarray(sums / np.bincount(numbers)[:, None])


def _decision(cell: dict[str, Any], estimate: Estimate) -> Decision:
    if cell["epochs"] != cell["against_epochs"]:
        return undecided(f"{_epochs(cell['epochs'])} against {cell['against_epochs']:g}")
    return compared(estimate)


def _described(pairs: pd.DataFrame) -> dict[str, object]:
    models = pairs.groupby("source_id")
    columns = ["sparsity", "against_sparsity", "magnitude", "variational", "difference"]
    means, works = models[columns].mean(), models["works"].all()
    difference = means["difference"].to_numpy(float)
    share = wilson(float((difference > 0).sum() + 0.5 * (difference == 0).sum()), len(difference))
    return {
        "level_label": _label(pairs.iloc[0]),
        "at_end": bool(pairs["at_end"].all()),
        "n": len(means),
        **means[columns[:-1]].median().to_dict(),
        "wins_share": share.estimate,
        "wins_low": share.low,
        "wins_high": share.high,
        "effect": signed_rank(difference)["effect"],
        "collapsed": int((~works).sum()),
        "difference_working": means.loc[works, "difference"].median(),
    }


def _interval(estimate: Estimate) -> dict[str, object]:
    ends = {name: getattr(estimate, name) for name in ("low", "high", "low90", "high90")}
    return {
        "difference_median": estimate.value,
        **{f"difference_{name}": value for name, value in ends.items()},
        "images": estimate.images,
        "resampled": estimate.resampled,
    }


def _label(pair: pd.Series) -> str:
    """ "80 %", or for matched pairs "end" or "epoch 5"."""
    if pair["pairs"] == RATIO:
        return level_label(pair["level"])
    return "end" if pair["at_end"] else f"epoch {pair['against_epochs']:g}"


def _epochs(count: float) -> str:
    return f"{count:g} epoch" + "s" * (count != 1)
