"""Question 8, second half: do two twins keep the same weights.

Everything works on packed masks (uint8, eight columns a byte), so 34,000 twins of 2,464 parameters are 10 MB.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from zoosparse_ext.analysis.agreement import sample_pairs
from zoosparse_ext.analysis.bits import popcount
from zoosparse_ext.analysis.bootstrap import Interval, bootstrap, bootstrap_pairs
from zoosparse_ext.analysis.data import StudyData
from zoosparse_ext.analysis.groups import Array, Group
from zoosparse_ext.analysis.series import is_variational
from zoosparse_ext.analysis.twins import cells, final_twins
from zoosparse_ext.analysis.weights import twin_rows
from zoosparse_ext.errors import InputError

MAX_PAIRS = 500  # per cell of the table
_CHUNK_BYTES = 32_000_000
_CELLS = ["relation", "first_series", "first_level", "first_label",
          "second_series", "second_level", "second_label"]  # fmt: skip
_JACCARD = [f"jaccard{suffix}" for suffix in ("", "_q25", "_q75", "_low", "_high")]
_CHANCE = ["expected", "excess", "excess_low", "excess_high"]
_MEASURES, _MEASURES_BY_LAYER = ["pairs", *_JACCARD, *_CHANCE], ["pairs", *_JACCARD[:3], *_CHANCE]
_COLUMNS = [*_CELLS, *_MEASURES]


class Overlap(NamedTuple):
    """Jaccard index of pairs of masks, and what independent masks of the same sparsity in every layer would have."""

    jaccard: Array  # [n]
    expected: Array  # [n]


class Kept(NamedTuple):
    """Weights that pairs of masks keep, counted in each of L layers."""

    both: Array  # int64 [n, L]
    first: Array  # int64 [n, L]
    second: Array  # int64 [n, L]
    sizes: Array  # int64 [L]

    def overlap(self) -> Overlap:
        """Over all layers together."""
        by_chance = self._by_chance().sum(axis=1)
        kept = (self.first + self.second).sum(axis=1)
        both = self.both.sum(axis=1)
        return Overlap(_ratio(both, kept - both), _ratio(by_chance, kept - by_chance))

    def overlap_by_layer(self) -> Overlap:
        """Of every layer alone, [n, L] each."""
        kept, by_chance = self.first + self.second, self._by_chance()
        return Overlap(_ratio(self.both, kept - self.both), _ratio(by_chance, kept - by_chance))

    def _by_chance(self) -> Array:
        """Weights that both keep, expected of independent masks that keep as many of every layer, [n, L]."""
        return self.first * (self.second / np.maximum(self.sizes, 1))


def mask_overlap(first: Array, second: Array, prunable: Array) -> Overlap:
    """Weights kept by both over weights kept by either, among the prunable ones.

    >>> a, b = np.array([[0b0111]], dtype=np.uint8), np.array([[0b1110]], dtype=np.uint8)
    >>> mask_overlap(a, b, np.array([0b1111], dtype=np.uint8)).jaccard.tolist()
    [0.5]

    Args:
        first: uint8 [n, B] packed masks, 1 = kept.
        second: uint8 [n, B].
        prunable: uint8 [B], the columns to count; biases, which are always kept, would feign agreement. Or [L, B],
            those of every layer.

    Returns:
        jaccard [n], and expected [n] = Σ s·d₁·d₂ / Σ s·(d₁ + d₂ − d₁d₂) over layers of s weights with densities d₁,
        d₂: masks that spare the same layers overlap for that alone. NaN where both masks are empty.

    Raises:
        InputError: shapes differ.
    """
    return kept_weights(first, second, np.atleast_2d(prunable)).overlap()


def kept_weights(first: Array, second: Array, layers: Array) -> Kept:
    """What pairs of packed masks, uint8 [n, B], keep of every layer, uint8 [L, B]."""
    if first.shape != second.shape or first.shape[-1:] != layers.shape[1:]:
        raise InputError(
            f"mask_overlap: packed masks of shape {first.shape} and {second.shape}, "
            f"prunable columns of shape {layers.shape}; the last dimensions must be equal"
        )
    counts = np.zeros((3, len(first), len(layers)), dtype=np.int64)
    for number, layer in enumerate(layers):
        used = np.flatnonzero(layer)
        if len(used) == 0:
            continue
        span = slice(used[0], used[-1] + 1)  # of the bytes in which the layer lies
        one, other = first[:, span] & layer[span], second[:, span] & layer[span]
        counts[:, :, number] = popcount(one & other), popcount(one), popcount(other)
    return Kept(counts[0], counts[1], counts[2], popcount(layers))


def _ratio(numerator: Array, denominator: Array) -> Array:
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)


def mask_overlaps(data: StudyData, *, max_pairs: int = MAX_PAIRS, seed: int = 0) -> pd.DataFrame:
    """Overlap of kept weights between methods, between ratios, and between models.

    Args:
        max_pairs: pairs per row of the table; drawn at random when there are more.
        seed: of those draws.

    Returns:
        one row per `relation` and pair of cells: "methods" (a model's pruned twins, including those
        matched to the end of its VD twin, against its VD twin), "ratios" (two ratios of one model and series), "models"
        (two models at one series and level); `first_*`, `second_*` name the cells, `pairs` counts, `jaccard`
        with quartiles and the 95 % interval of its median (`_low`, `_high`; models are resampled),
        `expected`, the median for independent masks of the same sparsity in every layer, and `excess`, the median
        of jaccard − expected within pairs, with its interval. Empty without stored masks.
    """
    rows = []
    for key, pairs in _pairs_of_cells(data, max_pairs, seed):
        overlap, _ = _overlaps(data, pairs)
        if described := _describe(overlap, pairs):
            rows.append((*key, *described))
    return pd.DataFrame(rows, columns=_COLUMNS)


def mask_overlaps_by_layer(data: StudyData, *, max_pairs: int = MAX_PAIRS, seed: int = 0) -> pd.DataFrame:
    """The same for every layer alone, between methods and between models: where two twins keep the same weights.

    Returns:
        the columns of :func:`mask_overlaps` but `jaccard_low`, `jaccard_high`, and `layer`, in the order of the
        network. A pair that keeps no weight of a layer does not count there.
    """
    rows = []
    for key, pairs in _pairs_of_cells(data, max_pairs, seed, by_layer=True):
        _, by_layer = _overlaps(data, pairs)
        for name, overlap in by_layer.items():
            if described := _describe(overlap, pairs, by_layer=True):
                rows.append((*key, name, *described))
    return pd.DataFrame(rows, columns=[*_CELLS, "layer", *_MEASURES_BY_LAYER])


def _describe(overlap: Overlap, pairs: pd.DataFrame, by_layer: bool = False) -> list[float] | None:
    """The measures of a cell; None where no pair has any."""
    known = ~np.isnan(overlap.jaccard)
    if not known.any():
        return None
    jaccard, expected, pairs = overlap.jaccard[known], overlap.expected[known], pairs[known]
    measures = [len(jaccard), *map(float, np.quantile(jaccard, [0.5, 0.25, 0.75]))]
    if not by_layer:
        interval = _interval(jaccard, pairs)
        measures += [interval.low, interval.high]
    excess = _interval(jaccard - expected, pairs)
    return [*measures, float(np.median(expected)), excess.estimate, excess.low, excess.high]


def _interval(values: Array, pairs: pd.DataFrame) -> Interval:
    """Of the median: the unit is the model, and the pairs of different models share theirs."""
    if (pairs["relation"] != "models").all():
        return bootstrap(values)
    models = pd.factorize(pd.concat([pairs["first"], pairs["second"]]))[0]
    return bootstrap_pairs(values, *np.split(models, 2))


def _pairs_of_cells(
    data: StudyData, max_pairs: int, seed: int, by_layer: bool = False
) -> Iterator[tuple[Any, pd.DataFrame]]:
    """What names a cell, and its pairs of twins; by layer no two ratios, whose masks are mostly nested."""
    ratios = [] if by_layer else [_ratio_pairs(data)]
    pairs = pd.concat([_method_pairs(data), *ratios, _model_pairs(data, max_pairs, seed)], ignore_index=True)
    for key, cell in pairs.groupby(_CELLS, sort=False, dropna=False):
        yield key, cell.sample(max_pairs, random_state=seed) if len(cell) > max_pairs else cell


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
    last = _last_epoch(data, matched["matched"])
    matched = matched[matched["matched_epoch"].isna() | (matched["matched_epoch"] == last)]
    matched = matched[[*_TWIN, "matched"]].assign(level=np.nan, level_label="matched")
    to_vd = matched.merge(
        vd, left_on=["source_id", "matched"], right_on=["source_id", "twin_id"], suffixes=("_1", "_2")
    )
    return _cell_pairs("methods", pd.concat([joined, to_vd], ignore_index=True))


def _last_epoch(data: StudyData, twin_ids: pd.Series) -> pd.Series:
    """Of every twin; masks of earlier epochs are those of other twins."""
    return twin_ids.map(data.twins.groupby("twin_id")["epoch"].max())


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


def _overlaps(data: StudyData, pairs: pd.DataFrame) -> tuple[Overlap, dict[str, Overlap]]:
    """Overlap of pairs, over all layers and in each; NaN where masks are not stored, differ in layout, or are empty."""
    index, groups, n = twin_rows(data), data.twin_groups, len(pairs)
    by_groups: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
    for place, (a, b) in enumerate(zip(pairs["first"], pairs["second"], strict=True)):
        if a in index and b in index:
            key = (index[a][0], index[b][0])
            by_groups.setdefault(key, []).append((place, index[a][1], index[b][1]))
    total = _unknown(n)
    by_layer: dict[str, Overlap] = {}
    for (one, other), rows in by_groups.items():
        left, right = groups[one], groups[other]
        if left.packed_masks is None or right.packed_masks is None or left.layers != right.layers:
            continue
        names, layers = packed_layers(left)
        chunk = max(1, _CHUNK_BYTES // max(1, layers.shape[1]))
        for start in range(0, len(rows), chunk):
            places, one_rows, other_rows = np.array(rows[start : start + chunk]).T
            kept = kept_weights(left.packed_masks[one_rows], right.packed_masks[other_rows], layers)
            _put(total, places, kept.overlap())
            parts = kept.overlap_by_layer()
            for number, name in enumerate(names):
                part = Overlap(parts.jaccard[:, number], parts.expected[:, number])
                _put(by_layer.setdefault(name, _unknown(n)), places, part)
    return total, by_layer


def _unknown(n: int) -> Overlap:
    return Overlap(np.full(n, np.nan), np.full(n, np.nan))


def _put(whole: Overlap, places: Array, part: Overlap) -> None:
    whole.jaccard[places], whole.expected[places] = part


def packed_layers(group: Group) -> tuple[list[str], Array]:
    """Names of the prunable layers, and the columns of each as bits: uint8 [L, ceil(P/8)], little bit order."""
    layers = [layer for layer in group.layers if layer.prunable]
    bits = np.zeros((len(layers), group.n_parameters), dtype=bool)
    for row, layer in zip(bits, layers, strict=True):
        row[layer.start : layer.stop] = True
    return [layer.name for layer in layers], np.packbits(bits, axis=1, bitorder="little")


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
