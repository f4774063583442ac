"""The dataset card of a zoo: what is in it, how well its models do, how to load it."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence

import pandas as pd

from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.zoo.epochs import base_epochs
from zoosparse_ext.zoo.plain import plain
from zoosparse_ext.zoo.store import Zoo

_WIDTH, _HEIGHT, _MARGIN = 480, 240, 36
_BINS = 24
_COLOURS = {"magnitude": "#1f77b4", "variational": "#d62728"}


def card(zoo: Zoo, license: str, figures: Sequence[str]) -> str:
    """`README.md` with the front matter of the Hugging Face Hub; its tables show in the Hub's viewer."""
    tables = [name for name in ("models", "history", "twins") if len(getattr(zoo, name))]
    configs = "\n".join(f"- config_name: {name}\n  data_files: tables/{name}.parquet" for name in tables)
    shown = "\n\n".join(f"![{figure}]({figure})" for figure in figures)
    first = "original" if "original" in zoo.populations else next(iter(zoo.populations))
    group = f'population("{first}")' if len(zoo.populations[first]) == 1 else f'populations["{first}"][0]'
    return f"""---
license: {json.dumps(license)}
tags:
- model-zoo
- weight-space-learning
- sparsity
configs:
{configs}
---

# A zoo of {sum(map(len, zoo.populations.get("original", []))):,} models

{_populations(zoo)}

{_metrics(zoo)}

{shown}

## Load it

```python
import zoosparse_ext as zs

zoo = zs.import_zoo("path/of/this/folder", epochs="all")
zoo.{group}.weights  # one row per model, one column per parameter
zoo.models, zoo.history, zoo.twins  # tables
```

Without the package: every file in `weights/` holds a matrix `weights` (float32, a row per model), and for sparse twins
`packed_masks` (uint8, bit j of byte i is column 8·i + j, 1 = kept). `index_dict.json` says where each layer lies in a
row: weight, then bias. Rows are in the order of `tables/<population>-<group>.parquet`.

```python
from safetensors.torch import load_file

weights = load_file("weights/{first}-0-0.safetensors")["weights"]
```

## Definitions

Sparsity is the share of exact zeros among the prunable weights (biases do not count). Agreement is the share of test
images on which a twin and its original predict the same class. Accuracy, agreement and sparsity are shares in [0, 1].

Data: `{json.dumps(plain(zoo.dataset))}`

Licence: {license}
"""


def figures(zoo: Zoo) -> dict[str, str]:
    """Drawings as SVG by file name: accuracies of the models, and accuracy against sparsity of the twins."""
    drawn = {}
    accuracy = _column(zoo.models, "accuracy")
    if len(accuracy):
        drawn["figures/accuracy.svg"] = _histogram(accuracy, "test accuracy of the models")
    twins = last_rows(zoo.twins)
    if len(twins) and "accuracy" in twins and bool(twins["accuracy"].notna().any()):
        drawn["figures/twins.svg"] = _scatter(twins, "test accuracy of the twins against their sparsity")
    return drawn


def last_rows(twins: pd.DataFrame) -> pd.DataFrame:
    """Rows of the twins' last epochs."""
    if not len(twins):
        return twins
    return twins.loc[twins.groupby("twin_id")["epoch"].idxmax()]


def _populations(zoo: Zoo) -> str:
    lines = ["| population | models | architecture | parameters |", "|---|---|---|---|"]
    for base, names in base_epochs(zoo).items():
        for group in zoo.populations[base]:
            architecture = group.architecture
            earlier = sum(_holds(zoo, name, architecture) for name in names if name != base)
            epochs = f" (and {earlier} earlier epoch{'s' * (earlier > 1)})" if earlier else ""
            lines.append(
                f"| {base}{epochs} | {len(group):,} | {architecture.name} | {architecture.n_parameters:,} |"
            )
    return "\n".join(lines)


def _holds(zoo: Zoo, population: str, architecture: Architecture) -> bool:
    return any(group.architecture == architecture for group in zoo.populations[population])


def _metrics(zoo: Zoo) -> str:
    lines = ["| models | sparsity | accuracy (median) | lowest | highest |", "|---|---|---|---|---|"]
    accuracy = _column(zoo.models, "accuracy")
    if len(accuracy):
        lines.append(f"| original | 0% | {_three(accuracy)} |")
    twins = last_rows(zoo.twins)
    matched = twins["matched"].notna()
    kind = twins["method"] + (", " + twins["scope"]).fillna("") + matched.map({True: ", matched", False: ""})
    # Twins that were matched to others have a sparsity each.
    kinds = twins.groupby([kind, twins["target"].mask(matched)], dropna=False)
    for (name, target), rows in kinds if len(twins) else ():
        sparsity, values = _column(rows, "sparsity"), _column(rows, "accuracy")
        if len(values):
            shown = f"{sparsity.median():.0%}" + ("" if target != target else f" (asked {target:.0%})")
            lines.append(f"| {name} | {shown} | {_three(values)} |")
    return "\n".join(lines) if len(lines) > 2 else "No accuracies are recorded."


def _three(values: pd.Series) -> str:
    return f"{values.median():.1%} | {values.min():.1%} | {values.max():.1%}"


def _column(table: pd.DataFrame, name: str) -> pd.Series:
    return table[name].dropna() if name in table else pd.Series(dtype=float)


def _histogram(values: pd.Series, title: str) -> str:
    low, high = float(values.min()), float(values.max())
    width = (high - low) / _BINS or 1.0
    counts = [0] * _BINS
    for value in values:
        counts[min(_BINS - 1, int((value - low) / width))] += 1
    step, top = (_WIDTH - 2 * _MARGIN) / _BINS, max(counts)
    bars = []
    for number, count in enumerate(counts):
        height = (_HEIGHT - 2 * _MARGIN) * count / top
        x, y = _MARGIN + number * step, _HEIGHT - _MARGIN - height
        bars.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{step - 1:.1f}" height="{height:.1f}" fill="#1f77b4"/>'
        )
    return _svg(title, bars, f"{low:.1%}", f"{high:.1%}")


def _scatter(twins: pd.DataFrame, title: str) -> str:
    dots = []
    for row in twins[["sparsity", "accuracy", "method"]].dropna().itertuples(index=False):
        x = _MARGIN + (_WIDTH - 2 * _MARGIN) * row.sparsity
        y = _HEIGHT - _MARGIN - (_HEIGHT - 2 * _MARGIN) * row.accuracy
        dots.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="{_COLOURS.get(row.method, "#555")}"/>')
    return _svg(f"{title} (blue: magnitude, red: variational)", dots, "0 %", "100 %")


def _svg(title: str, shapes: Sequence[str], low: str, high: str) -> str:
    axis = _HEIGHT - _MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif">',
            f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
            f'<text x="{_MARGIN}" y="20" font-size="12">{html.escape(title)}</text>',
            *shapes,
            f'<line x1="{_MARGIN}" y1="{axis}" x2="{_WIDTH - _MARGIN}" y2="{axis}" stroke="black"/>',
            f'<text x="{_MARGIN}" y="{axis + 16}" font-size="11">{low}</text>',
            f'<text x="{_WIDTH - _MARGIN}" y="{axis + 16}" font-size="11" text-anchor="end">{high}</text>',
            "</svg>\n",
        ]
    )
