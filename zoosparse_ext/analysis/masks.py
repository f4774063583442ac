"""Question 8, second half: do two twins keep the same weights.

Everything works on packed masks (uint8, eight columns a byte), so 34,000 twins of 2,464 parameters are 10 MB.
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from zoosparse_ext.analysis.agreement import sample_pairs
from zoosparse_ext.analysis.bootstrap import Interval, bootstrap, bootstrap_pairs
from zoosparse_ext.analysis.data import Array, StudyData
from zoosparse_ext.analysis.series import is_variational
from zoosparse_ext.analysis.twins import cells, final_twins
from zoosparse_ext.analysis.weights import twin_rows
from zoosparse_ext.errors import InputError

MAX_PAIRS = 500  # per cell of the table
_CHUNK_BYTES = 32_000_000
_BITS_IN_BYTE = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)
_CELLS = ["relation", "first_series", "first_level", "first_label",
          "second_series", "second_level", "second_label"]  # fmt: skip
_JACCARD = [f"jaccard{suffix}" for suffix in ("", "_q25", "_q75", "_low", "_high")]
_COLUMNS = [*_CELLS, "pairs", *_JACCARD, "expected"]


def popcount(packed: Array) -> Array:
    """Set bits per row of uint8 [..., B]: int64 [...].

    >>> popcount(np.array([[0b1011, 255], [0, 0]], dtype=np.uint8)).tolist()
    [11, 0]
    """
    counts = np.bitwise_count(packed) if hasattr(np, "bitwise_count") else _BITS_IN_BYTE[packed]
    return np.asarray(counts.sum(axis=-1, dtype=np.int64))


class Overlap(NamedTuple):
    """Jaccard index of pairs of masks, and what independent masks of the same sizes would have."""

    jaccard: Array  # [n]
    expected: Array  # [n]


def mask_overlap(first: Array, second: Array, prunable: Array) -> Overlap:
    """Weights kept by both over weights kept by either, among the prunable ones.

    >>> a, b = np.array([[0b0111]], dtype=np.uint8), np.array([[0b1110]], dtype=np.uint8)
    >>> mask_overlap(a, b, np.array([0b1111], dtype=np.uint8)).jaccard.tolist()
    [0.5]

    Args:
        first: uint8 [n, B] packed masks, 1 = kept.
        second: uint8 [n, B].
        prunable: uint8 [B], the columns to count; biases, which are always kept, would feign agreement.

    Returns:
        jaccard [n], and expected [n] = d₁d₂ / (d₁ + d₂ − d₁d₂) for densities d₁, d₂. NaN where both masks are
        empty.

    Raises:
        InputError: shapes differ.
    """
    if first.shape != second.shape or first.shape[-1:] != prunable.shape:
        raise InputError(
            f"mask_overlap: packed masks of shape {first.shape} and {second.shape}, "
            f"prunable columns of shape {prunable.shape}; the last dimensions must be equal"
        )
    both, either = popcount(first & second & prunable), popcount((first | second) & prunable)
    total = max(1, int(popcount(prunable)))
    d1, d2 = popcount(first & prunable) / total, popcount(second & prunable) / total
    return Overlap(_ratio(both, either), _ratio(d1 * d2, d1 + d2 - d1 * d2))


def _ratio(numerator: Array, denominator: Array) -> Array:
    return np.divide(numerator, denominator, out=np.full(len(numerator), np.nan), where=denominator > 0)


def mask_overlaps(data: StudyData, *, max_pairs: int = MAX_PAIRS, seed: int = 0) -> pd.DataFrame:
    """Overlap of kept weights between methods, between ratios, and between models.

    Args:
        max_pairs: pairs per row of the table; drawn at random when there are more.
        seed: of those draws.

    Returns:
        one row per `relation` and pair of cells: "methods" (a model's pruned twins, including those
        matched to its VD twin, against its VD twin), "ratios" (two ratios of one model and series), "models"
        (two models at one series and level); `first_*`, `second_*` name the cells, `pairs` counts, `jaccard`
        with quartiles and the 95 % interval of its median (`_low`, `_high`; models are resampled), and
        `expected`, the median for independent masks of the same sizes. Empty without stored masks.
    """
    pairs = pd.concat(
        [_method_pairs(data), _ratio_pairs(data), _model_pairs(data, max_pairs, seed)], ignore_index=True
    )
    rows = []
    for key, cell in pairs.groupby(_CELLS, sort=False, dropna=False):
        if len(cell) > max_pairs:
            cell = cell.sample(max_pairs, random_state=seed)
        overlap = _overlap_of_pairs(data, list(cell["first"]), list(cell["second"]))
        known = ~np.isnan(overlap.jaccard)
        if known.any():
            jaccard, expected = overlap.jaccard[known], overlap.expected[known]
            quartiles = np.quantile(jaccard, [0.5, 0.25, 0.75])
            interval = _interval(jaccard, cell[known])
            rows.append(
                (*key, len(jaccard), *quartiles, interval.low, interval.high, float(np.median(expected)))
            )
    return pd.DataFrame(rows, columns=_COLUMNS)


def _interval(jaccard: Array, pairs: pd.DataFrame) -> Interval:
    """Of the median: the unit is the model, and the pairs of different models share theirs."""
    if (pairs["relation"] != "models").all():
        return bootstrap(jaccard)
    models = pd.factorize(pd.concat([pairs["first"], pairs["second"]]))[0]
    return bootstrap_pairs(jaccard, *np.split(models, 2))


def _cell_pairs(relation: str, joined: pd.DataFrame) -> pd.DataFrame:
    names = {"twin_id_1": "first", "twin_id_2": "second"}
    for number, side in ((1, "first"), (2, "second")):
        names |= {f"series_{number}": f"{side}_series", f"level_{number}": f"{side}_level"}
        names[f"level_label_{number}"] = f"{side}_label"
    return joined.rename(columns=names).assign(relation=relation)[[*_CELLS, "first", "second"]]


_TWIN = ["twin_id", "source_id", "series", "level", "level_label"]


def _method_pairs(data: StudyData) -> pd.DataFrame:
    twins = final_twins(data)
    is_vd = twins["series"].map(is_variational).astype(bool)
    vd = twins[is_vd][_TWIN]
    joined = twins[~is_vd][_TWIN].merge(vd, on="source_id", suffixes=("_1", "_2"))
    matched = final_twins(data, matched=True)
    matched = matched[[*_TWIN, "matched"]].assign(level=np.nan, level_label="matched")
    to_vd = matched.merge(
        vd, left_on=["source_id", "matched"], right_on=["source_id", "twin_id"], suffixes=("_1", "_2")
    )
    return _cell_pairs("methods", pd.concat([joined, to_vd], ignore_index=True))


def _ratio_pairs(data: StudyData) -> pd.DataFrame:
    twins = final_twins(data)
    pruned = twins[~twins["series"].map(is_variational).astype(bool)][_TWIN]
    joined = pruned.merge(pruned, on=["source_id", "series"], suffixes=("_1", "_2"))
    joined = joined[joined["level_1"] < joined["level_2"]].sort_values(["level_1", "level_2"], kind="stable")
    return _cell_pairs("ratios", joined.assign(series_1=joined["series"], series_2=joined["series"]))


def _model_pairs(data: StudyData, max_pairs: int, seed: int) -> pd.DataFrame:
    parts = []
    for _, twins in cells(final_twins(data)):
        twins = twins[_TWIN].reset_index(drop=True)
        first, second = sample_pairs(len(twins), max_pairs, seed)
        pairs = (
            twins.iloc[first]
            .reset_index(drop=True)
            .add_suffix("_1")
            .join(twins.iloc[second].reset_index(drop=True).add_suffix("_2"))
        )
        parts.append(pairs[pairs["source_id_1"] != pairs["source_id_2"]])
    return _cell_pairs("models", pd.concat(parts) if parts else pd.DataFrame(columns=_columns_of_two()))


def _columns_of_two() -> list[str]:
    return [f"{name}_{side}" for side in (1, 2) for name in _TWIN]


def _overlap_of_pairs(data: StudyData, first: list[str], second: list[str]) -> Overlap:
    """Overlap of pairs; NaN where masks are not stored, have another layout, or are both empty."""
    index, groups = twin_rows(data), data.twin_groups
    by_groups: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
    for place, (a, b) in enumerate(zip(first, second, strict=True)):
        if a in index and b in index:
            key = (index[a][0], index[b][0])
            by_groups.setdefault(key, []).append((place, index[a][1], index[b][1]))
    values = np.full((2, len(first)), np.nan)
    for (one, other), rows in by_groups.items():
        left, right = groups[one], groups[other]
        if left.packed_masks is None or right.packed_masks is None or left.layers != right.layers:
            continue
        prunable = left.packed_prunable()
        chunk = max(1, _CHUNK_BYTES // max(1, len(prunable)))
        for start in range(0, len(rows), chunk):
            places, one_rows, other_rows = np.array(rows[start : start + chunk]).T
            masks = left.packed_masks[one_rows], right.packed_masks[other_rows]
            values[:, places] = mask_overlap(*masks, prunable)
    return Overlap(*values)


def ratio_matrix(overlaps: pd.DataFrame, series: str) -> pd.DataFrame:
    """Median Jaccard index between every two ratios of one series, as a symmetric matrix with ones
    inside.

    Args:
        overlaps: from :func:`mask_overlaps`.
    """
    rows = overlaps[(overlaps["relation"] == "ratios") & (overlaps["first_series"] == series)]
    levels = sorted(set(rows["first_level"]) | set(rows["second_level"]))
    matrix = pd.DataFrame(np.eye(len(levels)), index=levels, columns=levels)
    value = rows.set_index(["first_level", "second_level"])["jaccard"].to_dict()
    for low, high in combinations(levels, 2):
        matrix.loc[low, high] = matrix.loc[high, low] = value.get((low, high), np.nan)
    return matrix
