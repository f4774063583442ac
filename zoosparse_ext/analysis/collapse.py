"""What sparsification emptied: layers without weights, outputs without inputs, networks with one answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from zoosparse_ext.analysis.data import StudyData
from zoosparse_ext.analysis.twins import cells, final_twins
from zoosparse_ext.sparsify.collapse import empty_layers, layers_in_words

MATCHED = "matched"
_MEDIANS = ["accuracy", "accuracy_working", "change", "change_working"]
_COLUMNS = ["series", "level", "level_label", "n", "empty_layers", "layers", "dead_outputs",
            "dead_outputs_median", "one_answer", "emptied", "collapsed", *_MEDIANS]  # fmt: skip


def collapse(data: StudyData) -> pd.DataFrame:
    """How many twins have something empty, per series and level, matched twins in rows of their own.

    >>> models = pd.DataFrame({"model_id": ["a", "b"], "accuracy": [0.90, 0.80]})
    >>> twins = pd.DataFrame({
    ...     "twin_id": ["a1", "b1"], "source_id": ["a", "b"], "method": "magnitude", "scope": "global", "target": 0.9,
    ...     "epoch": 0, "sparsity": 0.9, "accuracy": [0.10, 0.75], "sparsity_layer.conv": [1.0, 0.8]})
    >>> row = collapse(StudyData(models, twins)).iloc[0]
    >>> row["layers"], row[["n", "empty_layers", "collapsed", "accuracy_working"]].astype(float).tolist()
    ('conv in 1', [2.0, 1.0, 1.0, 0.75])

    Returns:
        one row per `series` and `level`, and one with the label "matched" for twins that were pruned to the sparsity of
        others ("matched, epoch 5" where not to that of their last epoch; "matched to VD, kl 30" where there are several
        series): `n` twins; how many of them have an empty layer (`empty_layers`; `layers` names these), outputs without
        incoming weights (`dead_outputs`, and the median number of such outputs), one answer for all test images
        (`one_answer`), no weight left (`emptied`); `collapsed`, those with an empty layer or one answer; medians of
        accuracy and of its change over all, and over those that did not collapse (`_working`). NaN where a zoo of an
        earlier version does not say.
    """
    rows = [
        {"series": series, "level": level, "level_label": twins["level_label"].iloc[0], **_describe(twins)}
        for (series, level), twins in _cells(data)
    ]
    return pd.DataFrame(rows, columns=_COLUMNS)


def _describe(twins: pd.DataFrame) -> dict[str, object]:
    working = twins[twins["works"]]
    dead, one = twins["dead_outputs"].astype(float).dropna(), twins["one_answer"].astype(float).dropna()
    return {
        "n": len(twins),
        "empty_layers": int((twins["empty_layers"] > 0).sum()),
        "layers": layers_in_words(empty_layers(twins)),
        "dead_outputs": int((dead > 0).sum()) if len(dead) else np.nan,
        "dead_outputs_median": dead.median(),
        "one_answer": int((one == 1).sum()) if len(one) else np.nan,
        "emptied": int((twins["sparsity"] == 1).sum()),
        "collapsed": len(twins) - len(working),
        "accuracy": twins["accuracy"].median(),
        "accuracy_working": working["accuracy"].median(),
        "change": twins["change"].median(),
        "change_working": working["change"].median(),
    }


def emptied_layers(data: StudyData) -> pd.DataFrame:
    """Which layers are empty in how many twins.

    Returns:
        one row per `series`, `level` and `layer` that is empty in any of its `twins`; "matched" as in
        :func:`collapse`.
    """
    rows = [
        {
            "series": series,
            "level": level,
            "level_label": twins["level_label"].iloc[0],
            "layer": layer,
            "twins": n,
        }
        for (series, level), twins in _cells(data)
        for layer, n in empty_layers(twins).items()
    ]
    return pd.DataFrame(rows, columns=["series", "level", "level_label", "layer", "twins"])


def _cells(data: StudyData) -> Iterator[tuple[tuple[Any, ...], pd.DataFrame]]:
    """Twins by series and level, then matched ones by series and what they are matched to."""
    yield from cells(final_twins(data))
    matched = final_twins(data, matched=True)
    to = matched["matched"].map(final_twins(data).drop_duplicates("twin_id").set_index("twin_id")["series"])
    several = to.nunique() > 1
    labels = [
        MATCHED + (f" to {series}" if several else "") + ("" if np.isnan(epoch) else f", epoch {epoch:g}")
        for series, epoch in zip(to, matched["matched_epoch"].astype(float), strict=True)
    ]
    matched = matched.assign(level=np.nan, level_label=labels)
    for (series, level, _), twins in cells(matched, "series", "level", "level_label"):
        yield (series, level), twins
