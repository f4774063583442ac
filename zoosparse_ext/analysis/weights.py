"""Question 8, first half: how the surviving weights are distributed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from zoosparse_ext.analysis.data import StudyData, remembered
from zoosparse_ext.analysis.groups import Array, Group, Layer, places
from zoosparse_ext.analysis.twins import cells, final_twins

ORIGINAL_SERIES = "original"
BINS = 61  # odd: the middle bin holds the weights around zero
MAX_MODELS = 100  # per series and level; a histogram needs no more
_RANGE_QUANTILE = 0.999  # of |w| in the originals; what lies outside is counted, not shown
_KEYS = ["series", "level", "level_label", "layer"]


def weight_histograms(
    data: StudyData, *, bins: int = BINS, max_models: int = MAX_MODELS, seed: int = 0
) -> pd.DataFrame:
    """Histograms of the surviving prunable weights, per layer, on bins shared by the originals and all their
    twins.

    Args:
        bins: bins per layer, from −r to r, where r is the 99.9 % quantile of |w| in the originals.
        max_models: models per series and level, drawn at random when there are more.
        seed: of that draw.

    Returns:
        one row per `series` ("original" first), `level`, `layer` and bin: `left`, `right`, `count`, and
        `density`, which integrates to the share of surviving weights inside the range. Empty without stored
        weights.
    """
    rows, edges = [], _shared_edges(data, bins, max_models, seed)
    for key, layer, values in _survivors(data, max_models, seed):
        edge = edges[layer]
        counts, _ = np.histogram(values, edge)
        density = counts / (max(len(values), 1) * np.diff(edge))
        parts = {"left": edge[:-1], "right": edge[1:], "count": counts, "density": density}
        rows.append(pd.DataFrame({**dict(zip(_KEYS, (*key, layer), strict=True)), **parts}))
    if not rows:
        return pd.DataFrame(columns=[*_KEYS, "left", "right", "count", "density"])
    return pd.concat(rows, ignore_index=True)


def weight_statistics(data: StudyData, *, max_models: int = MAX_MODELS, seed: int = 0) -> pd.DataFrame:
    """Moments of the surviving prunable weights per layer.

    Returns:
        one row per `series`, `level` and `layer`: `survivors` (count, over the sampled models), `mean`,
        `std`, `abs_median` (of |w|), `abs_q25`, `abs_q75`. Empty without stored weights; NaN where nothing
        survived.
    """
    rows = []
    for key, layer, values in _survivors(data, max_models, seed):
        absolute = np.abs(values)
        quartiles = np.quantile(absolute, [0.5, 0.25, 0.75]) if len(values) else [np.nan] * 3
        moments = (values.mean(), values.std()) if len(values) else (np.nan, np.nan)
        rows.append((*key, layer, len(values), *map(float, moments), *map(float, quartiles)))
    names = ["survivors", "mean", "std", "abs_median", "abs_q25", "abs_q75"]
    return pd.DataFrame(rows, columns=[*_KEYS, *names])


def _shared_edges(data: StudyData, bins: int, max_models: int, seed: int) -> dict[str, Array]:
    """Bin edges per layer, [bins + 1], wide enough for the originals, or else for the twins."""
    radius: dict[str, float] = {}
    for key, layer, values in _survivors(data, max_models, seed):
        if layer in radius and key[0] != ORIGINAL_SERIES and data.originals:
            continue
        widest = float(np.quantile(np.abs(values), _RANGE_QUANTILE)) if len(values) else 0.0
        radius[layer] = max(radius.get(layer, 0.0), widest)
    return {layer: np.linspace(-(r or 1.0), r or 1.0, bins + 1) for layer, r in radius.items()}


def _survivors(
    data: StudyData, max_models: int, seed: int
) -> Iterator[tuple[tuple[str, float, str], str, Array]]:
    """(series, level, label), layer, and its finite surviving weights over the sampled models."""
    originals = [(group, np.arange(len(group.rows))) for group in data.originals]
    yield from _by_layer((ORIGINAL_SERIES, 0.0, "0 %"), _sample(originals, max_models, seed))
    index = twin_rows(data)
    for (series, level), twins in cells(final_twins(data)):
        chosen: dict[int, list[int]] = {}
        for twin_id in twins["twin_id"]:
            if twin_id in index:
                number, row = index[twin_id]
                chosen.setdefault(number, []).append(row)
        rows = [(data.twin_groups[number], np.array(rows)) for number, rows in chosen.items()]
        yield from _by_layer((series, level, twins["level_label"].iloc[0]), _sample(rows, max_models, seed))


@remembered
def twin_rows(data: StudyData) -> dict[str, tuple[int, int]]:
    """Where a twin is stored: twin_id → (number in `data.twin_groups`, row)."""
    return places(data.twin_groups)


def _sample(rows: list[tuple[Group, Array]], max_models: int, seed: int) -> list[tuple[Group, Array]]:
    """At most `max_models` rows in all, an equal share of every group."""
    share = max(1, max_models // max(1, len(rows)))
    generator = np.random.default_rng(seed)
    return [(g, r if len(r) <= share else np.sort(generator.permutation(r)[:share])) for g, r in rows]


def _by_layer(key: tuple[str, float, str], rows: list[tuple[Group, Array]]) -> Iterator[tuple]:
    values: dict[str, list[Array]] = {}
    for group, chosen in rows:
        if group.weights is None or len(chosen) == 0:
            continue
        weights = group.weights[chosen]  # [n, P]
        kept = _kept(group, weights, chosen)
        for layer in group.layers:
            if layer.prunable:
                values.setdefault(layer.name, []).append(_finite(weights, kept, layer))
    for name, parts in values.items():
        yield key, name, np.concatenate(parts)


def _kept(group: Group, weights: Array, chosen: Array) -> Array:
    """bool [n, P]: the mask where there is one, else the weights that are not zero."""
    if group.packed_masks is None:
        return weights != 0
    bits = np.unpackbits(group.packed_masks[chosen], axis=1, count=weights.shape[1], bitorder="little")
    return bits.astype(bool)


def _finite(weights: Array, kept: Array, layer: Layer) -> Array:
    columns = slice(layer.start, layer.stop)
    values = weights[:, columns][kept[:, columns]]
    return values[np.isfinite(values)]
