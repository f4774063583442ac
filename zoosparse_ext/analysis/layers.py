"""Question 4: how sparsity is spread over the layers, and which layers are spared."""

from __future__ import annotations

import numpy as np
import pandas as pd

from zoosparse_ext.analysis.bootstrap import bootstrap
from zoosparse_ext.analysis.data import StudyData, remembered
from zoosparse_ext.analysis.twins import cells, epochs_of_twins, final_twins

_KEYS = ["series", "level", "level_label"]
_COLUMNS = [
    *_KEYS,
    "layer",
    "weights",
    "n",
    "total",
    "sparsity",
    "sparsity_q25",
    "sparsity_q75",
    "kept_ratio",
    "kept_ratio_low",
    "kept_ratio_high",
]


@remembered
def layer_sparsity(data: StudyData) -> pd.DataFrame:
    """Sparsity of every layer beside the total, per method and level.

    >>> models = pd.DataFrame({"model_id": ["a"], "accuracy": [0.90]})
    >>> twins = pd.DataFrame({
    ...     "twin_id": ["a1"], "source_id": "a", "method": "magnitude", "scope": "global", "target": 0.5,
    ...     "epoch": 0, "accuracy": 0.9, "sparsity": 0.5, "sparsity_layer.conv": 0.2,
    ...     "sparsity_layer.fc": 0.6})
    >>> layer_sparsity(StudyData(models, twins))[["layer", "sparsity", "kept_ratio"]].values.tolist()
    [['conv', 0.2, 1.6], ['fc', 0.6, 0.8]]

    Returns:
        one row per `series`, `level` and `layer`, in the order of the network: `weights` (prunable, the
        denominator; NaN where the data do not say), `n` models, `total` and `sparsity` (medians),
        `sparsity_q25`, `sparsity_q75`, and `kept_ratio` = median over models of (share kept in the layer) /
        (share kept overall) with its 95 % bootstrap interval (`_low`, `_high`): above 1 the layer is spared,
        below 1 it pays. A layer that an architecture does
        not have is left out for its models.
    """
    names, sizes = data.layer_names(), layer_sizes(data)
    rows = []
    for (series, level), twins in cells(final_twins(data)):
        label = twins["level_label"].iloc[0]
        for name in names:
            described = _describe(twins, name)
            if described["n"]:
                keys = {"series": series, "level": level, "level_label": label, "layer": name}
                rows.append({**keys, "weights": sizes.get(name, np.nan), **described})
    return pd.DataFrame(rows, columns=_COLUMNS)


def _describe(twins: pd.DataFrame, name: str) -> dict[str, float]:
    twins = twins[twins[f"sparsity_layer.{name}"].notna()]
    layer = twins[f"sparsity_layer.{name}"].astype(float)
    kept = (1 - twins["sparsity"]).where(twins["sparsity"] < 1)
    q25, median, q75 = layer.quantile([0.25, 0.5, 0.75])
    kept_ratio = bootstrap(((1 - layer) / kept).to_numpy(dtype=float))
    return {
        "n": len(twins),
        "total": twins["sparsity"].median(),
        "sparsity": median,
        "sparsity_q25": q25,
        "sparsity_q75": q75,
        "kept_ratio": round(kept_ratio.estimate, 12),
        "kept_ratio_low": kept_ratio.low,
        "kept_ratio_high": kept_ratio.high,
    }


def layer_sizes(data: StudyData) -> dict[str, float]:
    """Prunable weights of each layer; NaN where architectures of one zoo differ in it."""
    sizes: dict[str, set[int]] = {}
    for group in (*data.originals, *data.twin_groups):
        for layer in group.layers:
            if layer.prunable:
                sizes.setdefault(layer.name, set()).add(layer.size)
    return {name: float(next(iter(seen))) if len(seen) == 1 else np.nan for name, seen in sizes.items()}


def spared_layers(data: StudyData) -> pd.DataFrame:
    """Which layer each series spares most and least.

    Returns:
        one row per `series` and `level`: `most_spared`, `most_spared_ratio`, `most_pruned`,
        `most_pruned_ratio` (the `kept_ratio` of :func:`layer_sparsity`).
    """
    rows = []
    for (series, level), table in cells(layer_sparsity(data).dropna(subset=["kept_ratio"])):
        most, least = (table.iloc[at(table["kept_ratio"].to_numpy())] for at in (np.argmax, np.argmin))
        ends = (most["layer"], most["kept_ratio"], least["layer"], least["kept_ratio"])
        rows.append((series, level, table["level_label"].iloc[0], *ends))
    spared = ["most_spared", "most_spared_ratio", "most_pruned", "most_pruned_ratio"]
    return pd.DataFrame(rows, columns=[*_KEYS, *spared])


def layer_trajectories(data: StudyData) -> pd.DataFrame:
    """Median sparsity of every layer per epoch of fine-tuning or VD.

    Returns:
        one row per `series`, `target` (NaN for VD), `epoch` and `layer`: `n`, `total`, `sparsity` (medians).
    """
    twins = epochs_of_twins(data)
    columns = {name: f"sparsity_layer.{name}" for name in data.layer_names()}
    rows = []
    for (series, target, epoch), group in cells(twins, "series", "target", "epoch"):
        total = group["sparsity"].median()
        for name, column in columns.items():
            n = int(group[column].notna().sum())
            if n:
                rows.append((series, target, epoch, name, n, total, group[column].median()))
    return pd.DataFrame(rows, columns=["series", "target", "epoch", "layer", "n", "total", "sparsity"])
