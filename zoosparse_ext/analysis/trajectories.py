"""Question 7: how twins develop over the epochs of fine-tuning or variational dropout."""

from __future__ import annotations

import numpy as np
import pandas as pd

from zoosparse_ext.analysis.bootstrap import bootstrap
from zoosparse_ext.analysis.correlation import HALVES_COLUMNS, correlate, halves_of_twins
from zoosparse_ext.analysis.data import StudyData
from zoosparse_ext.analysis.performance import LOSSES, share_losing
from zoosparse_ext.analysis.robustness import standard_deviation
from zoosparse_ext.analysis.twins import cells, epochs_of_twins

_MEASURES = (
    "sparsity",
    "accuracy",
    "change",
    "change_from_control",
    "agreement",
    "kappa",
    "agreement_on_errors",
)
_CHANGES = ("change", "change_from_control")
_NAMES = ["twin_id", "source_id", "control_id"]
_USED = [*_NAMES, "series", "target", "epoch", "source_accuracy", "control_accuracy", "works", *_MEASURES]
_COLUMNS = ["series", "target", "epoch", "n",
            *(f"{name}{suffix}" for name in _MEASURES for suffix in ("", "_q25", "_q75")),
            *(f"{name}_{end}" for name in _CHANGES for end in ("low", "high")), "control_accuracy", "with_control",
            "accuracy_std", "pearson", "spearman", *HALVES_COLUMNS,
            *(f"lost_{points}{suffix}" for suffix in ("", "_from_control") for points in LOSSES),
            "collapsed"]  # fmt: skip


def trajectories(data: StudyData) -> pd.DataFrame:
    """Performance, sparsity, spread, agreement and correlation per epoch.

    >>> models = pd.DataFrame({"model_id": ["a"], "accuracy": [0.90]})
    >>> twins = pd.DataFrame({"twin_id": "a-vd", "source_id": "a", "method": "variational", "epoch": [0, 1],
    ...                       "sparsity": [0.0, 0.7], "accuracy": [0.90, 0.85]})
    >>> trajectories(StudyData(models, twins))[["series", "epoch", "sparsity", "accuracy"]].values.tolist()
    [['VD', 0, 0.0, 0.9], ['VD', 1, 0.7, 0.85]]

    Returns:
        one row per `series`, `target` (asked sparsity; NaN for VD) and `epoch` (0 = before the first step):
        `n` twins; median, `_q25`, `_q75` of `sparsity`, `accuracy`, `change`, `change_from_control`, `agreement`,
        `kappa`, `agreement_on_errors`; `change_low`, `change_high`, `change_from_control_low`, `_high`, 95 % bootstrap
        intervals of the median changes; `control_accuracy`, the median of the controls after as many epochs, and
        `with_control`, how many twins have one; `accuracy_std`; `pearson` and `spearman` with the original's accuracy,
        and over halves of the images where predictions of the epoch are stored: columns from `split_half` to
        `resampled` of :func:`~zoosparse_ext.analysis.correlation.correlation_with_original`; `lost_1`, `lost_2`,
        `lost_5` against the original, and `lost_1_from_control` … against the control; `collapsed`.
    """
    # Only what is needed, and names as plain text: both make many small groups several times as fast.
    twins = epochs_of_twins(data)[_USED].astype(dict.fromkeys(_NAMES, object))
    rows = []
    for (series, target, epoch), group in cells(twins, "series", "target", "epoch"):
        row = {"series": series, "target": target, "epoch": epoch, "n": len(group)}
        quartiles = group[list(_MEASURES)].astype(float).quantile([0.5, 0.25, 0.75])
        for suffix, values in zip(("", "_q25", "_q75"), quartiles.to_numpy(), strict=True):
            row.update((f"{name}{suffix}", value) for name, value in zip(_MEASURES, values, strict=True))
        for name in _CHANGES:
            interval = bootstrap(group[name].to_numpy(dtype=float))
            row |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
        known = group["control_accuracy"].notna()
        row |= {"control_accuracy": group["control_accuracy"].median(), "with_control": int(known.sum())}
        accuracy, original = group["accuracy"].to_numpy(float), group["source_accuracy"].to_numpy(float)
        row["accuracy_std"] = standard_deviation(accuracy[~np.isnan(accuracy)])
        row["pearson"] = correlate(original, accuracy, "pearson").estimate
        row["spearman"] = correlate(original, accuracy, "spearman").estimate
        row |= halves_of_twins(data, group)
        for suffix, change in (
            ("", group["change"]),
            ("_from_control", group.loc[known, "change_from_control"]),
        ):
            row |= {
                f"lost_{points}{suffix}": share_losing(change.to_numpy(float), points) for points in LOSSES
            }
        row["collapsed"] = int((~group["works"]).sum())
        rows.append(row)
    return pd.DataFrame(rows, columns=_COLUMNS).astype({"originals_differ": object})  # also None
