"""Question 6: does a better original make a better twin."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy import stats

from zoosparse_ext.analysis.bootstrap import Interval
from zoosparse_ext.analysis.data import StudyData, remembered
from zoosparse_ext.analysis.groups import Array
from zoosparse_ext.analysis.halves import Blocks, in_blocks, ranked_halves, split_half_of_blocks
from zoosparse_ext.analysis.images import correct_of
from zoosparse_ext.analysis.intervals import MODELS, MODELS_AND_IMAGES
from zoosparse_ext.analysis.robustness import standard_deviation
from zoosparse_ext.analysis.twins import cells, final_twins
from zoosparse_ext.errors import InputError

_FUNCTIONS = {"pearson": "pearsonr", "spearman": "spearmanr", "kendall": "kendalltau"}  # of scipy.stats
COEFFICIENTS = tuple(_FUNCTIONS)
TOP_SHARE = 0.1
_Z = 1.959963984540054  # 97.5 % quantile of the normal distribution
_INTERVALS = [f"{name}{suffix}" for name in COEFFICIENTS for suffix in ("", "_low", "_high")]
_TOP = ["top_n", "top_kept", "top_expected"]
HALVES_COLUMNS = [
    *(f"split_half{suffix}" for suffix in ("", "_low", "_high", "_spearman")),
    *(f"{of}_split_half{suffix}" for of in ("control", "originals") for suffix in ("", "_low", "_high")),
    "originals_std", "originals_differ", "originals_why", "measured_on", "resampled",
]  # fmt: skip
_COLUMNS = ["series", "level", "level_label", "n", "sparsity", *_INTERVALS, *HALVES_COLUMNS, *_TOP]
HALVES, SAME_IMAGES = "halves of the images", "the same images"
RELIABLE = 0.7  # of the originals with themselves; a twin as good as its original on every image has no more
_EQUAL = 1e-9  # standard deviation: what does not vary
_UNKNOWN = Interval(math.nan, math.nan, math.nan, 0)


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

    On the same test images accuracies correlate for the luck that they share, so that where predictions are stored the
    original is measured on one half of the images and its twin on the other (see :func:`split_half`). How high that can
    be is limited by how much the originals differ: beside it is what one half of the images says about the other half
    of the same originals, and what training on without pruning leaves of it (the control).

    Returns:
        one row per `series` and `level`: `n`, median `sparsity`; `pearson`, `spearman`, `kendall` on all images, each
        with `_low` and `_high` (see :func:`correlate`); `split_half` with `_low`, `_high`, and `split_half_spearman`;
        `control_split_half` and `originals_split_half` (`_low`, `_high`), of controls and of the originals with
        themselves; `originals_std`, the standard deviation of the originals' accuracy; `originals_differ` (True,
        False, or None where it cannot be told) and `originals_why`; `measured_on` ("halves of the images", or "the same
        images" where predictions are not stored and `split_half` is NaN); `resampled`, over what the interval goes;
        `top_n` = size of the best tenth, `top_kept` = share of it that is in the best tenth after sparsification,
        `top_expected` = the share that chance would keep.
    """
    rows = []
    for (series, level), twins in cells(final_twins(data)):
        before, after = twins["source_accuracy"].to_numpy(float), twins["accuracy"].to_numpy(float)
        row = {"series": series, "level": level, "level_label": twins["level_label"].iloc[0], "n": len(twins)}
        row["sparsity"] = twins["sparsity"].median()
        for name in COEFFICIENTS:
            row |= _columns(name, correlate(before, after, name))
        row |= halves_of_twins(data, twins)
        row["top_n"], row["top_kept"] = top_overlap(before, after)
        row["top_expected"] = row["top_n"] / len(twins)
        rows.append(row)
    return pd.DataFrame(rows, columns=_COLUMNS).astype({"originals_differ": object})  # also None


def halves_of_twins(data: StudyData, twins: pd.DataFrame) -> dict[str, object]:
    """Split-half correlation of some twins at one epoch each, beside that of their controls and their originals.

    Args:
        twins: rows of :func:`~zoosparse_ext.analysis.twins.epochs_of_twins`, a twin for each model; those with NaN
            accuracy are left out.
    """
    twins = twins[twins["accuracy"].notna() & twins["source_accuracy"].notna()]
    seen = _seen(data)
    sources = seen.blocks(data, twins["source_id"])
    of_twins = None if sources is None else _counted(correct_of(data, twins["twin_id"], twins["epoch"]))
    known = twins[twins["control_accuracy"].notna()]
    models = seen.blocks(data, known["source_id"])
    controls = seen.blocks(data, known["control_id"], known["epoch"])
    own = split_half_of_blocks(sources, of_twins) if sources and of_twins else _UNKNOWN
    spread = standard_deviation(twins["source_accuracy"].to_numpy(dtype=float))
    reliability = seen.correlation(sources, sources)
    return {
        **_columns("split_half", own),
        "split_half_spearman": ranked_halves(sources, of_twins) if sources and of_twins else np.nan,
        **_columns("control_split_half", seen.correlation(models, controls)),
        **_columns("originals_split_half", reliability),
        "originals_std": spread,
        **_differ(spread, reliability),
        "measured_on": HALVES if of_twins else SAME_IMAGES,
        "resampled": MODELS_AND_IMAGES if of_twins else MODELS,
    }


def _differ(spread: float, reliability: Interval) -> dict[str, object]:
    """Whether originals differ by more than the luck of the images; a twin cannot follow what is not there."""
    if np.isnan(spread):
        return {"originals_differ": None, "originals_why": "fewer than two models"}
    if spread < _EQUAL:
        return {"originals_differ": False, "originals_why": "all originals have the same accuracy"}
    width = f"spread {100 * spread:.2g} points"
    if np.isnan(reliability.estimate):
        why = (
            "predictions of the originals are not stored"
            if reliability is _UNKNOWN
            else "too few models or images"
        )
        return {"originals_differ": None, "originals_why": f"{why}; {width}"}
    r = f"{reliability.estimate:.2f}"
    if reliability.estimate < RELIABLE:
        why = f"halves of the images agree on the originals at r = {r}, {RELIABLE} is needed; {width}"
        return {"originals_differ": False, "originals_why": why}
    return {
        "originals_differ": True,
        "originals_why": f"halves of the images agree on them at r = {r}; {width}",
    }


class _Remembered:
    """Right answers of originals and controls, which are those of many cells, and how these correlate."""

    def __init__(self) -> None:
        self._blocks: dict[object, Blocks | None] = {}
        self._correlations: dict[tuple[int, int], Interval] = {}

    def blocks(self, data: StudyData, ids: pd.Series, epochs: pd.Series | None = None) -> Blocks | None:
        """Of originals; with epochs, of controls."""
        key = tuple(ids), None if epochs is None else tuple(epochs)
        if key not in self._blocks:
            self._blocks[key] = _counted(
                data.correct(ids) if epochs is None else correct_of(data, ids, epochs)
            )
        return self._blocks[key]

    def correlation(self, first: Blocks | None, second: Blocks | None) -> Interval:
        """Of what :meth:`blocks` gave."""
        if first is None or second is None:
            return _UNKNOWN
        key = id(first), id(second)  # both are kept
        if key not in self._correlations:
            self._correlations[key] = split_half_of_blocks(first, second)
        return self._correlations[key]


@remembered
def _seen(data: StudyData) -> _Remembered:
    return _Remembered()


def _counted(correct: Array | None) -> Blocks | None:
    return None if correct is None else in_blocks(correct)


def _columns(name: str, interval: Interval) -> dict[str, object]:
    return {name: interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}
