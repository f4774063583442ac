"""Question 1: what does sparsity cost?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from zoosparse_ext.analysis import Operating, final_twins, performance_by_sparsity, sparsest_affordable
from zoosparse_ext.analysis.series import is_variational, series_order
from zoosparse_ext.analysis.twins import control_twins
from zoosparse_ext.report.collapse import without_collapsed
from zoosparse_ext.report.figures.dots import dots, sampled
from zoosparse_ext.report.figures.legends import legend_above
from zoosparse_ext.report.figures.panels import panels
from zoosparse_ext.report.figures.series import colors_in, series_in, side_by_side
from zoosparse_ext.report.figures.style import (
    DASHES,
    INK,
    PAPER,
    QUIET,
    Picture,
    band,
    error_bars,
    finish,
    percent_axis,
    points_axis,
    sparsity_axis,
)
from zoosparse_ext.report.format import capital, number, percent, points
from zoosparse_ext.report.names import method_name
from zoosparse_ext.report.questions.question import Question, Table, at_levels
from zoosparse_ext.report.results import NO_TWINS, Results
from zoosparse_ext.report.tables import SERIES_ROWS, TWINS, Column

_SHOWN_RATIOS = (0.5, 0.8, 0.9)
CONTROL, ORIGINAL = "control", "original"

COLUMNS = (
    *TWINS,
    Column("sparsity", "sparsity"),
    Column("accuracy_median", "accuracy", interval=("accuracy_q25", "accuracy_q75")),
    Column("accuracy_min", "lowest"),
    Column("accuracy_max", "highest"),
    Column("change_median", "change", "points", ("change_low", "change_high")),
    Column("against", "against", "text"),
    Column("collapsed", "collapsed", "count"),
    Column("accuracy_working", "of the others"),
    Column("change_working", "their change", "points"),
)
DEFINITIONS = """
    Change: accuracy of the twin on the test images minus that of its control, in points. The control is the same
    model, not pruned, trained on for as many epochs; where there is none, its original takes its place, as the
    column says. VD has one row, where it ended, because its sparsity is learned. Small numbers: quartiles of the
    accuracy, 95 % interval of the median change. Collapsed: a layer without weights, or one answer for all test
    images; the columns after it are medians of the other twins. The files have effect sizes and p-values, too.
"""


def answer(results: Results) -> str:
    table = read_against(results["performance"])
    if table.empty:
        return NO_TWINS
    said: dict[str, list[str]] = {}
    for name in sorted(table["series"].unique(), key=series_order):
        rows = at_levels(table[table["series"] == name], _SHOWN_RATIOS)
        costs = [
            f"{points(r['change_median'])} at {percent(r['sparsity'], 0)}" for r in rows.to_dict("records")
        ]
        against = str(rows["against"].iloc[0])
        said.setdefault(against, []).append(f"{', '.join(costs)} by {method_name(name)}")
    names = {CONTROL: "the controls", ORIGINAL: "the originals"}
    parts = [f"against {names[against]}: {'; '.join(costs)}" for against, costs in said.items()]
    return f"Median change in accuracy, in points, {'. '.join(parts)}."


def read_against(performance: pd.DataFrame) -> pd.DataFrame:
    """The table with changes from the control where a series has one, else from the original; `against` says which."""
    with_control = performance["with_control"] > 0
    table = performance.assign(against=with_control.map({True: CONTROL, False: ORIGINAL}))
    for name in ("median", "low", "high", "working"):
        from_control = performance[f"change_from_control_{name}"]
        table[f"change_{name}"] = performance[f"change_{name}"].where(~with_control, from_control)
    return table


def _in_page(results: Results) -> pd.DataFrame:
    return read_against(results["performance"])


def opening(results: Results) -> list[str]:
    """Which method, at which sparsity, at what cost; then the others beside it."""
    table = read_against(results["performance"])
    choices = sparsest_affordable(table)
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
    """The key figure: medians with quartiles, VD along its epochs, originals and controls as lines."""
    performance, epochs = results["performance"], results["trajectories"]
    original = results.data.models["accuracy"].quantile([0.25, 0.5, 0.75]).to_numpy(dtype=float)
    controls = control_twins(results.data)
    control = controls.loc[controls["final"], "accuracy"].median()
    tuned = performance[~performance["series"].map(is_variational).astype(bool)]
    drawn = [*original, control, *tuned["accuracy_median"], *tuned["accuracy_q25"], *tuned["accuracy_q75"]]
    drawn += [*epochs.loc[epochs["series"].map(is_variational).astype(bool), "accuracy"]]
    with panels(drawn, height=3.2) as (figure, both):
        colors = colors_in(results)
        for axes in both:
            axes.axhspan(original[0], original[2], color=QUIET, alpha=0.15, lw=0)
            axes.axhline(original[1], color=INK, lw=1.2, ls=DASHES[1], label="originals")
            if not np.isnan(control):
                axes.axhline(control, color=INK, lw=1.2, ls=DASHES[2], label="controls")
            for name in series_in(tuned):
                _medians(axes, tuned[tuned["series"] == name], name, colors[name])
            for name in filter(is_variational, series_in(epochs)):
                _path(axes, results, name, colors[name])
            axes.set_ylabel("test accuracy")
            percent_axis(axes.yaxis)
        sparsity_axis(both[-1])
        legend_above(both[0])
        caption = (
            "Median test accuracy against sparsity, bands: quartiles. VD: dashed along its epochs, a dot for each "
            "model at the end. Open marks: medians without collapsed twins."
        )
        return finish(figure, "accuracy", caption)


def _medians(axes: Axes, rows: pd.DataFrame, name: str, color: str) -> None:
    """Medians of all twins, and, where some collapsed, of those that work."""
    band(axes, rows["sparsity"], rows["accuracy_q25"], rows["accuracy_q75"], color, 0.22)
    axes.plot(rows["sparsity"], rows["accuracy_median"], "o-", color=color, label=name)
    some = rows[(rows["collapsed"] > 0) & (rows["collapsed"] < rows["n"])]
    axes.plot(some["sparsity"], some["accuracy_working"], "o", mfc=PAPER, color=color)


def _path(axes: Axes, results: Results, name: str, color: str) -> None:
    """Variational dropout along its epochs, and every model where it ended."""
    epochs = results["trajectories"]
    rows = epochs[epochs["series"] == name]
    band(axes, rows["sparsity"], rows["accuracy_q25"], rows["accuracy_q75"], color, 0.2)
    axes.plot(rows["sparsity"], rows["accuracy"], color=color, ls=DASHES[1], label=name)
    ends = final_twins(results.data)
    final = sampled(ends[ends["series"] == name])
    style: dict[str, Any] = {"ms": 3.2, "mew": 0, "alpha": 0.6, "color": color}
    dots(axes, final["source_id"], final["sparsity"], final["accuracy"], **style)


def change_against_sparsity(results: Results) -> Picture:
    table = read_against(results["performance"])
    columns = ("change_median", "change_low", "change_high")
    colors = colors_in(results)
    with panels([0, *table["change_median"], *table["change_low"], *table["change_high"]]) as (figure, both):
        for axes in both:
            axes.axhline(0, color=INK, lw=1)
            shift = side_by_side(series_in(table))
            for name in series_in(table):
                rows = table[table["series"] == name]
                error_bars(axes, rows["sparsity"] + shift[name], rows, columns, name, colors[name])
                some = rows[(rows["collapsed"] > 0) & (rows["collapsed"] < rows["n"])]
                axes.plot(some["sparsity"], some["change_working"], "o", mfc=PAPER, color=colors[name])
            axes.set_ylabel("change, points")
            points_axis(axes.yaxis)
        sparsity_axis(both[-1])
        legend_above(both[0])
        against = " or ".join(sorted({f"the {name}" for name in table["against"]}))
        caption = (
            f"Median change in accuracy from {against}, 95 % intervals. Open marks: without collapsed twins."
        )
        return finish(figure, "change", caption)


PERFORMANCE = Question(
    id="performance",
    title="Performance against sparsity",
    question="What does sparsity cost?",
    answer=answer,
    tables=(
        Table(
            "performance",
            performance_by_sparsity,
            "One row per method and sparsity",
            COLUMNS,
            SERIES_ROWS,
            _in_page,
        ),
    ),
    figures=(change_against_sparsity,),
    definitions=DEFINITIONS,
    opening=opening,
    key_figure=accuracy_against_sparsity,
)
