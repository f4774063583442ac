"""Question 1: what does sparsity cost?"""

from __future__ import annotations

from typing import Any

import numpy as np

from zoosparse_ext.analysis import Operating, final_twins, performance_by_sparsity, sparsest_affordable
from zoosparse_ext.analysis.performance import LOSSES
from zoosparse_ext.analysis.series import is_variational, series_order
from zoosparse_ext.report.collapse import without_collapsed
from zoosparse_ext.report.figures.dots import dots, sampled
from zoosparse_ext.report.figures.legends import legend
from zoosparse_ext.report.figures.series import colours_in, series_in
from zoosparse_ext.report.figures.style import (
    DASHES,
    INK,
    QUIET,
    Picture,
    band,
    canvas,
    error_bars,
    finish,
    percent_axis,
    points_axis,
    sparsity_axis,
)
from zoosparse_ext.report.format import capital, number, percent, points
from zoosparse_ext.report.names import method_name
from zoosparse_ext.report.questions.question import Question, Table, closest
from zoosparse_ext.report.results import NO_TWINS, Results
from zoosparse_ext.report.tables import SERIES_ROWS, TWINS, Column

_SHOWN_RATIOS = (0.5, 0.8, 0.9)
_MARKERS = "osD"  # one for each of LOSSES

COLUMNS = (
    *TWINS,
    Column("sparsity", "sparsity"),
    Column("accuracy_median", "accuracy", interval=("accuracy_q25", "accuracy_q75")),
    Column("accuracy_min", "lowest"),
    Column("accuracy_max", "highest"),
    Column("change_median", "change", "points", ("change_low", "change_high")),
    *(Column(f"lost_{points}", f"lose > {points}") for points in LOSSES),
    Column("effect", "effect", "number"),
    Column("p_adjusted", "adjusted p", "p"),
)
DEFINITIONS = """
    Change: accuracy of the twin minus that of its original, on the test images, in points. Lose > 1:
    share of models whose accuracy falls by strictly more than one point. VD has one row, because nobody
    asks it for a sparsity: it stands where it ended. Small numbers: quartiles of the accuracy, 95 %
    bootstrap interval of the median change; the files have the intervals of the shares (Wilson), too.
    Effect: rank-biserial correlation of the changes, −1 where every model loses and 1 where every model
    gains. Adjusted p: Wilcoxon's signed-rank test of no change, adjusted over all rows by Benjamini and
    Hochberg.
"""


def answer(results: Results) -> str:
    table = results["performance"]
    parts = []
    for name in sorted(table["series"].unique(), key=series_order):
        rows = table[table["series"] == name]
        if not is_variational(name):
            shown = rows["level"].round(3).isin(_SHOWN_RATIOS)
            rows = rows[shown] if shown.any() else rows.iloc[[closest(rows["level"], 0.8)]]
        costs = [
            f"{points(r['change_median'])} at {percent(r['sparsity'], 0)}" for r in rows.to_dict("records")
        ]
        if costs:
            parts.append(f"{', '.join(costs)} by {method_name(name)}")
    if table.empty:
        return NO_TWINS
    return f"Median change in accuracy, in points: {'; '.join(parts)}."


def opening(results: Results) -> list[str]:
    """Which method, at which sparsity, at what cost; then the others beside it."""
    choices = sparsest_affordable(results["performance"])
    if not choices:
        return [NO_TWINS]
    others = [_beside(choice) for choice in choices[1:]]
    return [_best(choices[0]), *([capital("; ".join(others)) + "."] if others else [])]


def _best(choice: Operating) -> str:
    name, sparsity, cost = method_name(choice.series), percent(choice.sparsity, 0), _cost(choice)
    if choice.within:
        return capital(f"{name} goes furthest at little cost: {sparsity} sparsity for {cost}.")
    return f"Every method costs more than one point; {name} costs least: {cost} at {sparsity} sparsity."


def _beside(choice: Operating) -> str:
    name, sparsity, cost = method_name(choice.series), percent(choice.sparsity, 0), _cost(choice)
    if is_variational(choice.series):
        return f"{name} ends at {sparsity} sparsity, {'for' if choice.within else 'at a cost of'} {cost}"
    return f"{name} reaches {sparsity} for {cost}" if choice.within else f"{name} costs {cost} at {sparsity}"


def _cost(choice: Operating) -> str:
    """ "0.7 points of accuracy (0.1 to 1.3)": what the median model loses, and the 95 % interval of that."""
    gains = choice.change > 0.0005  # less rounds to 0.0 points
    sign = 100 if gains else -100
    text = f"{'a gain of ' if gains else ''}{number(sign * choice.change, 1)} points of accuracy"
    aside = []
    if not np.isnan(choice.low):
        low, high = sorted((sign * choice.low, sign * choice.high))
        aside.append(f"{number(low, 1)} to {number(high, 1)}")
    if choice.collapsed:
        aside.append(without_collapsed(choice.collapsed, choice.n, number(sign * choice.working, 1)))
    return f"{text} ({'; '.join(aside)})" if aside else text


def accuracy_against_sparsity(results: Results) -> Picture:
    """The key figure: medians with quartiles and range, VD along its epochs, the originals as a line."""
    performance, trajectories = results["performance"], results["trajectories"]
    with canvas(5.8, 3.7) as (figure, axes):
        original = results.data.models["accuracy"].quantile([0.25, 0.5, 0.75]).to_numpy(dtype=float)
        axes.axhspan(original[0], original[2], color=QUIET, alpha=0.15, lw=0)
        axes.axhline(original[1], color=INK, lw=1.2, ls=DASHES[1], label="originals: median, quartiles")
        colours = colours_in(results)
        for name in series_in(performance):
            if not is_variational(name):
                rows, colour = performance[performance["series"] == name], colours[name]
                band(axes, rows["sparsity"], rows["accuracy_min"], rows["accuracy_max"], colour, 0.08)
                band(axes, rows["sparsity"], rows["accuracy_q25"], rows["accuracy_q75"], colour, 0.25)
                axes.plot(rows["sparsity"], rows["accuracy_median"], "o-", color=colour, label=name)
        ends = final_twins(results.data)
        for name in filter(is_variational, series_in(trajectories)):
            vd, colour = trajectories[trajectories["series"] == name], colours[name]
            band(axes, vd["sparsity"], vd["accuracy_q25"], vd["accuracy_q75"], colour, 0.2)
            axes.plot(
                vd["sparsity"], vd["accuracy"], color=colour, ls=DASHES[1], label=f"{name}, epoch by epoch"
            )
            final = sampled(ends[ends["series"] == name])
            style: dict[str, Any] = {"ms": 3.2, "mew": 0, "alpha": 0.6, "color": colour}
            where = final["sparsity"], final["accuracy"]
            dots(axes, final["source_id"], *where, label=f"{name}, each model at the end", **style)
        axes.set_ylabel("test accuracy")
        percent_axis(axes.yaxis)
        sparsity_axis(axes)
        legend(axes, loc="lower left")
        caption = (
            "Test accuracy against sparsity. Lines: median over models; dark bands: quartiles; light "
            "bands: lowest to highest model."
        )
        return finish(figure, "accuracy", caption)


def change_against_sparsity(results: Results) -> Picture:
    table = results["performance"]
    columns = ("change_median", "change_low", "change_high")
    colours = colours_in(results)
    with canvas() as (figure, axes):
        axes.axhline(0, color=INK, lw=1)
        for name in series_in(table):
            rows = table[table["series"] == name]
            error_bars(axes, rows["sparsity"], rows, columns, name, colours[name])
        axes.set_ylabel("change in accuracy, points")
        points_axis(axes.yaxis)
        sparsity_axis(axes)
        legend(axes, loc="lower left")
        return finish(figure, "change", "Median change from the original, with its 95 % interval.")


def losers_against_sparsity(results: Results) -> Picture:
    table = results["performance"]
    colours = colours_in(results)
    with canvas() as (figure, axes):
        for name in series_in(table):
            rows, colour = table[table["series"] == name], colours[name]
            axes.plot([], [], color=colour, label=name)
            for losses, dashes, marker in zip(LOSSES, DASHES, _MARKERS, strict=False):
                axes.plot(
                    rows["sparsity"], rows[f"lost_{losses}"], color=colour, ls=dashes, marker=marker, ms=3.5
                )
        for losses, dashes, marker in zip(LOSSES, DASHES, _MARKERS, strict=False):
            axes.plot([], [], color=INK, ls=dashes, marker=marker, ms=3.5, label=f"more than {losses}")
        axes.set_ylim(-0.03, 1.03)
        axes.set_ylabel("share of models")
        percent_axis(axes.yaxis)
        sparsity_axis(axes)
        legend(axes, loc="upper left")
        return finish(figure, "losers", "Share of models that lose more than 1, 2 or 5 points of accuracy.")


PERFORMANCE = Question(
    id="performance",
    title="Performance against sparsity",
    question="What does sparsity cost?",
    answer=answer,
    tables=(
        Table(
            "performance", performance_by_sparsity, "One row per method and sparsity", COLUMNS, SERIES_ROWS
        ),
    ),
    figures=(change_against_sparsity, losers_against_sparsity),
    definitions=DEFINITIONS,
    opening=opening,
    key_figure=accuracy_against_sparsity,
)
