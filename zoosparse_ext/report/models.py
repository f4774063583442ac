"""What the page knows of every single model, for its readers to choose from and point at.

The page has its own small script (`assets/models.js`) over drawings in SVG. Plotly and Vega-Lite were weighed:
either adds a second look beside the figures that matplotlib draws for print, 4.5 MB (Plotly) or 0.8 MB (Vega,
Vega-Lite, Vega-Embed) to a file that people send by mail, colors that do not follow the page's theme without
drawing again, and dots that no keyboard reaches. What is needed is little: dots, a line, an axis, and one chosen
model that is marked in these drawings and in matplotlib's alike.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd

from zoosparse_ext.analysis import StudyData
from zoosparse_ext.analysis.agreement import agreement_of_twins
from zoosparse_ext.analysis.series import is_variational, series_order
from zoosparse_ext.analysis.twins import epochs_of_twins, series_of
from zoosparse_ext.report.figures.palette import colors_of, css_color
from zoosparse_ext.report.names import in_words

MAX_MODELS = 2000  # the page opens in two seconds with these; the tables hold all
MAX_EPOCHS = 26  # of variational dropout; more are thinned out evenly
MAX_LAYERS = 12
_SCALE = 10_000  # shares travel as whole numbers of a hundredth of a percent
_FACTS = (
    "architecture",
    "seed",
    "activation",
    "init",
    "optimizer",
    "lr",
    "weight_decay",
    "momentum",
    "dropout",
)

CHARTS = {
    "accuracy": "Accuracy against sparsity: the twins chosen above. Lines: the median of every method, or the "
    "chosen model along its ratios and epochs; dashed: its original.",
    "original": "Accuracy of the twins chosen above against their originals; dashed: equality.",
    "agreement": "Share of test images on which twin and original agree, against what the twin gained or lost.",
    "layer": "Change in accuracy against the sparsity of the chosen layer.",
}


def models_of(data: StudyData) -> dict[str, Any] | None:
    """Every model with its twins at every step of every series, as JSON; None where there are no twins.

    >>> models = pd.DataFrame({"model_id": ["a"], "accuracy": [0.90], "lr": [0.001]})
    >>> twins = pd.DataFrame({
    ...     "twin_id": ["a1"], "source_id": "a", "method": "magnitude", "scope": "global", "target": 0.5,
    ...     "epoch": 0, "sparsity": 0.5, "accuracy": 0.88})
    >>> shown = models_of(StudyData(models, twins))
    >>> shown["ids"], shown["accuracy"], shown["facts"]
    (['a'], [9000], [{'lr': 0.001}])
    >>> shown["series"][0]["name"], shown["series"][0]["steps"]
    ('MP global', [{'label': '50 %', 'sparsity': [5000], 'accuracy': [8800], 'agreement': [None], 'layers': []}])

    Returns:
        `ids`, `accuracy`, `facts` (what distinguishes a model) aligned over models; `layers`: names; `series`:
        `name`, `color` (in CSS) and `steps`, which are ratios of pruning or epochs of variational dropout;
        `total`: models of the study, of which at most MAX_MODELS are here. Shares are whole numbers of
        1/10,000, unknown ones None.
    """
    if data.twins.empty:
        return None
    models = data.models
    if len(models) > MAX_MODELS:
        models = models.sample(MAX_MODELS, random_state=0).sort_index()
    ids = models["model_id"].tolist()
    layers = data.layer_names()[:MAX_LAYERS]
    return {
        "ids": [str(name) for name in ids],
        "total": len(data.models),
        "accuracy": _whole(models["accuracy"]),
        "facts": _facts(models),
        "layers": [in_words(data, name) for name in layers],
        "series": _series(data, ids, layers),
    }


def as_json(models: dict[str, Any]) -> str:
    """JSON that may stand inside a `<script>` element: no "<", so nothing in it can end the element."""
    return json.dumps(models, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace(
        "<", "\\u003c"
    )


def _series(data: StudyData, ids: list[object], layers: list[str]) -> list[dict[str, Any]]:
    final, colors = agreement_of_twins(data), colors_of(series_of(data))
    made = []
    for name in sorted(final["series"].unique(), key=series_order):
        rows = final[final["series"] == name]
        if is_variational(name):
            steps = _epochs(data, rows, ids, layers)
        else:
            ratios = rows.groupby("level")
            steps = [_step(part["level_label"].iloc[0], part, ids, layers) for _, part in ratios]
        made.append({"name": name, "color": css_color(colors[name]), "steps": steps})
    return made


def _epochs(
    data: StudyData, final: pd.DataFrame, ids: list[object], layers: list[str]
) -> list[dict[str, Any]]:
    """A series of variational dropout by epoch; the last one has the agreement that the predictions tell."""
    twins = epochs_of_twins(data)
    known = final.set_index("twin_id")["agreement"]
    twins = twins[twins["twin_id"].isin(known.index)]
    twins.loc[twins["final"], "agreement"] = twins["twin_id"].map(known)[twins["final"]]
    epochs = np.sort(twins["epoch"].unique())
    kept = np.unique(np.linspace(0, len(epochs) - 1, min(len(epochs), MAX_EPOCHS)).round().astype(int))
    return [_step(f"epoch {epoch}", twins[twins["epoch"] == epoch], ids, layers) for epoch in epochs[kept]]


def _step(label: str, twins: pd.DataFrame, ids: list[object], layers: list[str]) -> dict[str, Any]:
    """One twin a model, aligned with `ids`; of several the last."""
    rows = twins.drop_duplicates("source_id", keep="last").set_index("source_id").reindex(ids)
    values = {name: _whole(rows[name]) for name in ("sparsity", "accuracy", "agreement")}
    return {"label": label, **values, "layers": [_whole(rows[f"sparsity_layer.{name}"]) for name in layers]}


def _whole(shares: pd.Series) -> list[int | None]:
    values = shares.to_numpy(dtype=float)
    return [None if np.isnan(value) else round(value * _SCALE) for value in values]


def _facts(models: pd.DataFrame) -> list[dict[str, Any]]:
    """The columns that tell models apart, and for a single model all of them."""
    columns = [
        name
        for name in _FACTS
        if name in models and (len(models) == 1 or models[name].nunique(dropna=False) > 1)
    ]
    records = json.loads(models[columns].to_json(orient="records", double_precision=10))
    return [{name: value for name, value in record.items() if value is not None} for record in records]
