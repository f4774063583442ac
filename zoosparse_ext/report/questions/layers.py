"""Question 4: where are the weights removed, and which layers are spared?"""

from __future__ import annotations

import pandas as pd

from zoosparse_ext.analysis import layer_sparsity, layer_trajectories, spared_layers
from zoosparse_ext.analysis.series import is_variational, series_order
from zoosparse_ext.report.figures.legends import legend_above
from zoosparse_ext.report.figures.palette import SEQUENCE
from zoosparse_ext.report.figures.series import series_in
from zoosparse_ext.report.figures.style import (
    DASHES,
    QUIET,
    Picture,
    band,
    canvas,
    finish,
    percent_axis,
    sparsity_axis,
)
from zoosparse_ext.report.format import capital, number
from zoosparse_ext.report.names import in_words, method_name, with_layers_in_words
from zoosparse_ext.report.questions.question import Question, Table, closest
from zoosparse_ext.report.results import Results
from zoosparse_ext.report.tables import TWINS, Column

_ALIKE = 0.1  # kept ratios closer than this differ by rounding and the size of small layers
MAX_LAYERS = 12  # lines in one figure

COLUMNS = (
    *TWINS,
    Column("layer", "layer", "text"),
    Column("weights", "prunable", "count"),
    Column("total", "total sparsity"),
    Column("sparsity", "layer sparsity", interval=("sparsity_q25", "sparsity_q75")),
    Column("kept_ratio", "kept, times average", "number", ("kept_ratio_low", "kept_ratio_high")),
)
DEFINITIONS = """
    Layer sparsity: zeros over the prunable weights of the layer. Kept, times average: share of weights kept in the
    layer over the share kept in all, with the 95 % interval of the median; above 1 the layer is spared.
"""


def answer(results: Results) -> str:
    table = results["spared_layers"]
    parts = []
    for name in sorted(table["series"].unique(), key=series_order):
        rows = table[table["series"] == name]
        row = rows.iloc[closest(rows["level"], 0.8)]
        most, least = row["most_spared_ratio"], row["most_pruned_ratio"]
        if most - least < _ALIKE:
            parts.append(f"{method_name(name)} prunes all layers alike")
            continue
        where = "at its end" if is_variational(name) else f"at {row['level_label']}"
        spared, pruned = (in_words(results.data, row[f"most_{what}"]) for what in ("spared", "pruned"))
        parts.append(
            f"{method_name(name)} {where} spares {spared} ({number(most)} times the average share kept) "
            f"and prunes {pruned} hardest ({number(least)} times)"
        )
    return capital("; ".join(parts)) + "." if parts else "The twins table has no sparsity by layer."


def layers_of_pruning(results: Results) -> list[Picture]:
    """Layer against total sparsity, a figure for each series that chooses over all layers (per layer: a diagonal)."""
    table = results["layers"]
    chosen = [name for name in series_in(table) if not is_variational(name) and "per layer" not in name]
    pictures = []
    for count, name in enumerate(chosen):
        caption = (
            f"{name}: sparsity of each layer against total sparsity, medians and quartiles. Below the diagonal "
            "a layer is spared."
        )
        file = "layers-magnitude" if count == 0 else f"layers-magnitude-{count + 1}"
        pictures.append(_layer_lines(results, table[table["series"] == name], file, caption))
    return pictures


def layers_of_variational(results: Results) -> list[Picture]:
    """The same epoch by epoch, a figure for each series of variational dropout."""
    table = results["layer_trajectories"]
    pictures = []
    for count, name in enumerate(filter(is_variational, series_in(table))):
        caption = (
            f"{method_name(name)}, epoch by epoch: median sparsity of each layer against total sparsity."
        )
        file = "layers-variational" if count == 0 else f"layers-variational-{count + 1}"
        pictures.append(_layer_lines(results, table[table["series"] == name], file, capital(caption)))
    return pictures


def _layer_lines(results: Results, rows: pd.DataFrame, name: str, caption: str) -> Picture:
    with canvas() as (figure, axes):
        axes.plot([0, 1], [0, 1], color=QUIET, lw=1)
        layers = list(dict.fromkeys(rows["layer"]))
        for number, layer in enumerate(layers[:MAX_LAYERS]):
            part, color = rows[rows["layer"] == layer], SEQUENCE[number % len(SEQUENCE)]
            if "sparsity_q25" in part:
                band(axes, part["total"], part["sparsity_q25"], part["sparsity_q75"], color, 0.15)
            dashes = DASHES[number // len(SEQUENCE) % len(DASHES)]
            axes.plot(
                part["total"],
                part["sparsity"],
                color=color,
                ls=dashes,
                marker="o",
                ms=3,
                label=in_words(results.data, layer),
            )
        if len(layers) > MAX_LAYERS:
            caption += f" The first {MAX_LAYERS} of {len(layers)} layers; all are in the table."
        axes.set_ylim(0, 1)
        axes.set_ylabel("sparsity of the layer")
        percent_axis(axes.yaxis)
        sparsity_axis(axes)
        legend_above(axes)
        return finish(figure, name, caption)


def _in_page(results: Results) -> pd.DataFrame:
    return with_layers_in_words(results.data, results["layers"])


LAYERS = Question(
    id="layers",
    title="Layer by layer",
    question="Where are the weights removed, and which layers are spared?",
    answer=answer,
    tables=(
        Table(
            "layers",
            layer_sparsity,
            "Medians over models; small numbers: quartiles, 95 % interval of the last column",
            COLUMNS,
            arranged=_in_page,
        ),
        Table("spared_layers", spared_layers),
        Table("layer_trajectories", layer_trajectories),
    ),
    figures=(layers_of_pruning, layers_of_variational),
    definitions=DEFINITIONS,
)
