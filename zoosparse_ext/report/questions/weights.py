"""Question 8: which weights survive, and do twins keep the same ones?"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from zoosparse_ext.analysis import (
    mask_overlaps,
    mask_overlaps_by_layer,
    ratio_matrix,
    weight_histograms,
    weight_statistics,
)
from zoosparse_ext.analysis.operating import DIVIDE
from zoosparse_ext.analysis.series import magnitude_series, series_order, variational_series
from zoosparse_ext.analysis.weights import ORIGINAL_SERIES
from zoosparse_ext.report.figures.legends import columns_within, legend_above, legend_height
from zoosparse_ext.report.figures.series import colors_in, pairs_in, series_in
from zoosparse_ext.report.figures.style import (
    DASHES,
    INK,
    QUIET,
    SIZE,
    WIDTH,
    Picture,
    band,
    canvas,
    finish,
    percent_axis,
    sparsity_axis,
)
from zoosparse_ext.report.format import capital, number, percent
from zoosparse_ext.report.names import in_words, method_name, with_layers_in_words
from zoosparse_ext.report.questions.question import Question, Table
from zoosparse_ext.report.results import Results
from zoosparse_ext.report.tables import Column

_MAX_PANELS = 6

COLUMNS = (
    Column("relation", "between", "text"),
    Column("first_series", "first", "text"),
    Column("first_label", "target", "text"),
    Column("second_series", "second", "text"),
    Column("second_label", "target", "text"),
    Column("pairs", "pairs", "count"),
    Column("jaccard", "Jaccard", "number", ("jaccard_q25", "jaccard_q75")),
    Column("expected", "independent", "number"),
    Column("excess", "beyond that", "number", ("excess_low", "excess_high")),
)
SURVIVOR_COLUMNS = (
    Column("series", "method", "text"),
    Column("level_label", "target", "text"),
    Column("layer", "layer", "text"),
    Column("survivors", "survivors", "count"),
    Column("mean", "mean", "number"),
    Column("std", "std", "number"),
    Column("abs_median", "median |w|", "number", ("abs_q25", "abs_q75")),
)
DEFINITIONS = """
    Jaccard index: weights kept by both over weights kept by either, among prunable weights. Independent: what
    random masks would have that keep as many weights in every layer; masks that spare the same layers overlap for
    that alone. Beyond that: medians of the difference within pairs, 95 % intervals. Pairs are sampled, at most 500
    a row. Overlap in every layer alone is in tables/mask_overlaps_by_layer.csv. Histograms share their bins between
    originals and twins of a layer.
"""


def answer(results: Results) -> str:
    table = results["mask_overlaps"]
    methods = table[table["relation"] == "methods"]
    methods = methods[methods["second_series"] == variational_series(methods["second_series"])]
    speakers = magnitude_series(methods["first_series"])
    methods = methods[methods["first_series"].isin(speakers or methods["first_series"])]
    matched = methods[methods["first_label"] == "matched"]
    rows = matched if len(matched) else methods.sort_values("first_level").tail(1)
    parts = []
    for row in rows.head(1).to_dict("records"):
        against = method_name(row["second_series"])
        where = "at equal sparsity" if len(matched) else f"at {row['first_label']} against VD's end"
        parts.append(
            f"{method_name(row['first_series'])} and {against} of one model share "
            f"{percent(row['jaccard'], 0)} of the weights that either keeps {where} (independent masks "
            f"with as many weights in every layer: {percent(row['expected'], 0)})"
        )
    models = table[table["relation"] == "models"]
    if len(models):
        excess = models["excess"].abs().max()
        parts.append(
            f"the overlap of the masks of two models differs from chance by {number(100 * excess, 1)} points at most"
        )
    return capital("; ".join(parts)) + "." if parts else "No masks are stored, so overlap is unknown."


def overlap_of_methods(results: Results) -> Picture | None:
    """Jaccard index of a model's pruned masks with its VD mask, against the ratio of pruning."""
    table = results["mask_overlaps"]
    rows = table[(table["relation"] == "methods") & table["first_level"].notna()]
    if rows.empty:
        return None
    colors = colors_in(results)
    with canvas() as (figure, axes):
        named = rows.rename(columns={"first_series": "series", "second_series": "against"})
        others = sorted(named["against"].unique(), key=series_order)
        for name, against in pairs_in(named):
            part, color = rows[(named["series"] == name) & (named["against"] == against)], colors[name]
            first = against == others[0]
            band(axes, part["first_level"], part["jaccard_q25"], part["jaccard_q75"], color)
            label = (f"{name} and {against}" if len(others) == 1 else name) if first else None
            style = {"marker": "o", "ls": "-"} if first else {"marker": "s", "ls": DASHES[1], "mfc": "none"}
            axes.plot(part["first_level"], part["jaccard"], color=color, label=label, **style)
            axes.plot(part["first_level"], part["expected"], color=color, ls=DASHES[2], lw=1.2)
        if len(others) > 1:
            axes.plot([], [], "o-", color=INK, label=f"and {others[0]}")
            further = f"and {', '.join(others[1:])}"
            axes.plot([], [], marker="s", ls=DASHES[1], mfc="none", color=INK, label=further)
        axes.plot([], [], color=INK, ls=DASHES[2], lw=1.2, label="independent masks")
        axes.set_ylim(0, 1)
        axes.set_ylabel("Jaccard index of kept weights")
        sparsity_axis(axes)
        axes.set_xlabel("sparsity of the pruned twin")
        legend_above(axes)
        caption = (
            "Do both methods keep the same weights of a model? VD twins where they ended; medians and "
            "quartiles."
        )
        return finish(figure, "overlap-methods", caption)


def overlap_of_ratios(results: Results) -> Picture | None:
    table = results["mask_overlaps"]
    rows = table[table["relation"] == "ratios"]
    if rows.empty:
        return None
    names = series_in(rows.rename(columns={"first_series": "series"}))
    name = [*magnitude_series(names), *names][0]
    matrix = ratio_matrix(table, name)
    with canvas() as (figure, axes):
        axes.grid(False)
        picture = axes.imshow(
            matrix.to_numpy(float), vmin=0, vmax=1, cmap="cividis", origin="lower", aspect="auto"
        )
        labels = [f"{100 * level:.4g}" for level in matrix.index]
        axes.set_xticks(range(len(labels)), labels)
        axes.set_yticks(range(len(labels)), labels)
        for (i, j), value in np.ndenumerate(matrix.to_numpy(float)):
            if len(labels) <= 12 and not math.isnan(value):
                axes.text(
                    j,
                    i,
                    f"{100 * value:.0f}",
                    ha="center",
                    va="center",
                    color="white" if value < 0.55 else "black",
                )
        axes.set_xlabel("sparsity, %")
        axes.set_ylabel("sparsity, %")
        percent_axis(figure.colorbar(picture).ax.yaxis)
        return finish(
            figure,
            "overlap-ratios",
            f"{name}: overlap of the masks of one model at two ratios (Jaccard index), medians over models.",
        )


def overlap_of_models(results: Results) -> Picture | None:
    table = results["mask_overlaps"]
    rows = table[table["relation"] == "models"].merge(
        results["performance"][["series", "level", "sparsity"]],
        left_on=["first_series", "first_level"], right_on=["series", "level"], how="left",
    )  # fmt: skip
    if rows.empty:
        return None
    colors = colors_in(results)
    with canvas() as (figure, axes):
        for name in series_in(rows):
            part, color = rows[rows["series"] == name], colors[name]
            axes.plot(part["sparsity"], part["jaccard"], "o-", color=color, label=name)
            axes.plot(part["sparsity"], part["expected"], color=color, ls=DASHES[2], marker="_", lw=1.2)
        axes.plot([], [], color=INK, ls=DASHES[2], lw=1.2, label="independent masks")
        axes.set_ylim(0, 1)
        axes.set_ylabel("Jaccard index of kept weights")
        sparsity_axis(axes)
        legend_above(axes)
        return finish(
            figure,
            "overlap-models",
            "Do two different models keep weights at the same places? Medians over pairs.",
        )


def size_of_survivors(results: Results) -> Picture | None:
    """How much larger the surviving weights are than the original ones, over all layers."""
    table = results["weight_statistics"]
    original = table[table["series"] == ORIGINAL_SERIES].set_index("layer")["abs_median"]
    twins = table[table["series"] != ORIGINAL_SERIES]
    if twins.empty or original.empty:
        return None
    ratio = twins.assign(ratio=twins["abs_median"] / twins["layer"].map(original))
    means = ratio.groupby(["series", "level"], dropna=False, as_index=False)["ratio"].mean()
    means = means.merge(
        results["performance"][["series", "level", "sparsity"]], on=["series", "level"], how="left"
    )
    colors = colors_in(results)
    with canvas() as (figure, axes):
        axes.axhline(1, color=INK, lw=1)
        for name in series_in(means):
            rows = means[means["series"] == name]
            axes.plot(rows["sparsity"], rows["ratio"], "o-", color=colors[name], label=name)
        axes.set_ylabel("median |w| of survivors / of originals")
        sparsity_axis(axes)
        legend_above(axes)
        return finish(
            figure,
            "survivor-size",
            "How much larger surviving weights are than weights were before; mean over layers.",
        )


def surviving_weights(results: Results) -> Picture | None:
    """Density of the surviving weights per layer: originals, pruned twins near 80 %, VD twins."""
    table = results["weight_histograms"]
    if table.empty:
        return None
    layers, colors = list(dict.fromkeys(table["layer"]))[:_MAX_PANELS], colors_in(results)
    rows = math.ceil(len(layers) / 2)
    with canvas(WIDTH, 1.6 * rows + 0.7, (rows, min(2, len(layers))), "constrained", squeeze=False) as (
        figure,
        panels,
    ):
        for axes in panels.flat[len(layers) :]:
            axes.set_visible(False)
        for axes, layer in zip(panels.flat, layers, strict=False):
            part = table[table["layer"] == layer]
            shown = [_at_operating_level(part[part["series"] == name]) for name in part["series"].unique()]
            for series in shown:
                _density(axes, series, colors)
            axes.set_title(in_words(results.data, layer))
            axes.set_yticks([])
            axes.set_ylim(0, _height(shown))
        figure.supxlabel("weight")
        figure.supylabel("density")
        handles, labels = panels.flat[0].get_legend_handles_labels()
        columns = columns_within(72 * figure.get_figwidth(), labels, size=SIZE)
        if columns < len(handles):
            figure.set_figheight(figure.get_figheight() + legend_height(math.ceil(len(handles) / columns)))
        figure.legend(handles, labels, loc="outside upper center", ncols=columns)
        caption = (
            "Density of the surviving weights per layer, on bins shared by all: originals (gray), pruned "
            "twins at the largest ratio up to 80 %, VD twins where they ended. A peak at zero that leaves its "
            "frame is cut off."
        )
        return finish(figure, "weights", caption)


def _height(shown: list[pd.DataFrame]) -> float:
    """Of the frame: room for everything but the weights next to zero, of which there may be very many."""
    highest = 0.0
    for rows in shown:
        beside = np.abs(np.arange(len(rows)) - len(rows) // 2) > 1
        highest = max(highest, rows["density"].to_numpy(dtype=float)[beside].max(initial=0.0))
    return 1.25 * highest or 1.0


def _at_operating_level(rows: pd.DataFrame) -> pd.DataFrame:
    levels = rows["level"].dropna()
    if levels.empty:
        return rows
    reached = levels[levels <= DIVIDE + 1e-9]
    return rows[rows["level"] == (reached.max() if len(reached) else levels.min())]


def _density(axes: Axes, rows: pd.DataFrame, colors: dict[str, str]) -> None:
    series = str(rows["series"].iloc[0])
    edges = np.append(rows["left"].to_numpy(), rows["right"].to_numpy()[-1:])
    if series == ORIGINAL_SERIES:
        axes.stairs(rows["density"], edges, fill=True, color=QUIET, alpha=0.3, label="original")
        return
    label = f"{series}, {rows['level_label'].iloc[0]}"
    axes.stairs(rows["density"], edges, color=colors[series], lw=1.3, label=label)


def _survivors_in_page(results: Results) -> pd.DataFrame:
    return with_layers_in_words(results.data, results["weight_statistics"])


WEIGHTS = Question(
    id="weights",
    title="Weights",
    question="Which weights survive, and do twins keep the same ones?",
    answer=answer,
    tables=(
        Table(
            "mask_overlaps", mask_overlaps, "Overlap of kept weights: medians and quartiles of pairs", COLUMNS
        ),
        Table(
            "weight_statistics",
            weight_statistics,
            "Surviving weights per layer, of at most 100 models",
            SURVIVOR_COLUMNS,
            arranged=_survivors_in_page,
        ),
        Table("mask_overlaps_by_layer", mask_overlaps_by_layer),
        Table("weight_histograms", weight_histograms),
    ),
    figures=(overlap_of_methods, overlap_of_ratios, overlap_of_models, size_of_survivors, surviving_weights),
    definitions=DEFINITIONS,
)
