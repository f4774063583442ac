"""Question 2: which method wins at equal sparsity?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from zoosparse_ext.analysis import (
    compare_by_sparsity,
    compare_matched,
    crossover,
    matched_pairs,
    pairs_by_sparsity,
)
from zoosparse_ext.analysis.claims import CROSSING
from zoosparse_ext.analysis.series import magnitude_series, variational_series
from zoosparse_ext.analysis.twins import series_of
from zoosparse_ext.report.collapse import without_collapsed
from zoosparse_ext.report.figures.dots import dots, sampled
from zoosparse_ext.report.figures.legends import legend, legend_above
from zoosparse_ext.report.figures.palette import colours_of
from zoosparse_ext.report.figures.series import colours_in, pairs_in
from zoosparse_ext.report.figures.style import (
    DASHES,
    INK,
    PAPER,
    Picture,
    canvas,
    error_bars,
    finish,
    percent_axis,
    points_axis,
    sparsity_axis,
)
from zoosparse_ext.report.format import capital, number, percent, points
from zoosparse_ext.report.names import method_name
from zoosparse_ext.report.questions.question import Question, Table
from zoosparse_ext.report.results import Results
from zoosparse_ext.report.tables import SERIES_ROWS, Column

COLUMNS = (
    Column("series", "method", "text"),
    Column("against", "against", "text"),
    Column("level_label", "sparsity", "text"),
    Column("n", "models", "count"),
    Column("sparsity", "median sparsity"),
    Column("magnitude", "magnitude"),
    Column("variational", "variational"),
    Column("difference_median", "difference", "points", ("difference_low", "difference_high")),
    Column("wins_share", "MP ahead in", interval=("wins_low", "wins_high")),
    Column("effect", "effect", "number"),
    Column("p_adjusted", "adjusted p", "p"),
)
DEFINITIONS = """
    All differences are magnitude minus variational, in points, taken within a model; the model is the
    unit that is resampled. (a) uses VD epochs on the way, which had less training than the last one,
    and interpolates magnitude accuracy between ratios; (b) has neither handicap. Crossover: where the
    median difference last falls through zero. Other scores than the magnitude are not compared here,
    nor, where there are plain ones, patterns, schedules and other settings. Effect: rank-biserial
    correlation of the differences, 1 where MP is ahead in every model. Adjusted p: Wilcoxon's signed-rank
    test of no difference, adjusted over all rows of a table by Benjamini and Hochberg.
"""


def answer(results: Results) -> str:
    claims, table = results["claims"], results["methods_by_sparsity"]
    crossing = claims[claims["measure"] == CROSSING.measure].iloc[0]
    if crossing["n"] == 0:
        return "Only one of the two methods has twins here: there is nothing to compare."
    speaker = variational_series(table["against"])
    table = table[table["against"] == speaker]
    name = magnitude_series(table["series"])[0]
    reach = percent(table.loc[table["series"] == name, "sparsity"].max(), 0)
    name, against = method_name(name), method_name(speaker)
    if np.isposinf(crossing["value"]):
        return capital(f"{name} is still ahead in the sparsest tenth that VD reaches, at about {reach}.")
    if np.isneginf(crossing["value"]):
        return capital(f"{against} is ahead of {name} at every sparsity compared, up to {reach}.")
    low, high = (
        percent(v, 0) if np.isfinite(v) else "beyond the data" for v in (crossing["low"], crossing["high"])
    )
    return capital(
        f"{name} is ahead up to about {percent(crossing['value'], 0)} sparsity and {against} above "
        f"(95 % interval of the crossover: {low} to {high})."
    )


def opening(results: Results) -> list[str]:
    """Both methods at equal sparsity."""
    matched = results["methods_matched"]
    sentences = []
    for row in matched[matched["level_label"] == "all"].head(1).to_dict("records"):
        where = f"the sparsity at which its variational twin ends (median {percent(row['sparsity'], 0)})"
        sentences.append(f"With every model pruned by magnitude to {where}, {_winner(row)}.")
    return sentences


def _winner(row: Mapping[object, object]) -> str:
    """Who is ahead, from a row of magnitude − VD and its interval."""
    median, low, high, working = (
        float(str(row[f"difference_{name}"])) for name in ("median", "low", "high", "working")
    )
    magnitude, variational = (method_name(str(row[side])) for side in ("series", "against"))
    collapsed, n = (int(str(row[name])) for name in ("collapsed", "n"))
    aside = f"; {without_collapsed(collapsed, n, f'{points(working)} points')}" if collapsed else ""
    if np.isnan(low):
        return f"{magnitude} differs from it by {points(median)} points{aside}"
    if low <= 0 <= high:
        known = f"{points(median)} points, {points(low)} to {points(high)}{aside}"
        return f"{magnitude} and {variational} cannot be told apart ({known})"
    ahead = median > 0
    name, ends = (magnitude, (low, high)) if ahead else (variational, (-high, -low))
    interval = f"{number(100 * ends[0], 1)} to {number(100 * ends[1], 1)}"
    aside = (
        f"; {without_collapsed(collapsed, n, number(100 * (working if ahead else -working), 1))}"
        if collapsed
        else ""
    )
    return f"{name} is ahead by {number(abs(100 * median), 1)} points ({interval}{aside})"


def difference_against_sparsity(results: Results) -> Picture:
    table, pairs = results["methods_by_sparsity"], pairs_by_sparsity(results.data)
    columns = ("difference_median", "difference_low", "difference_high")
    with canvas() as (figure, axes):
        axes.axhline(0, color=INK, lw=1)
        colours, speaker = colours_in(results), variational_series(table["against"])
        for shift, (name, against) in zip(
            (-0.004, 0.004, *[0.0] * len(table)), pairs_in(table), strict=False
        ):
            rows, colour = _of_pair(table, name, against), colours[name]
            estimates = rows["sparsity"] + shift  # side by side
            error_bars(axes, estimates, rows, columns, f"{name} − {against}", colour, against == speaker)
            crossing = crossover(_of_pair(pairs, name, against))
            if np.isfinite(crossing.estimate):
                axes.axvline(crossing.estimate, color=colour, ls=DASHES[2], lw=1.2)
        axes.set_ylabel("difference in accuracy, points")
        points_axis(axes.yaxis)
        sparsity_axis(axes)
        legend(axes, room=3, loc="lower left")
        caption = (
            "(a) Magnitude pruning minus variational dropout at equal sparsity, within each model, per "
            "tenth of "
            "sparsity: median and 95 % interval. Above zero magnitude pruning is ahead. Dotted: the "
            "crossover."
        )
        return finish(figure, "difference", caption)


def matched_differences(results: Results) -> Picture | None:
    pairs = matched_pairs(results.data)
    if pairs.empty:
        return None
    with canvas() as (figure, axes):
        axes.axhline(0, color=INK, lw=1)
        colours, speaker = colours_of(series_of(results.data)), variational_series(pairs["against"])
        for name, against in pairs_in(pairs):
            rows, colour = _of_pair(pairs, name, against), colours[name]
            shown = sampled(rows)
            style: dict[str, Any] = {"ms": 4, "mec": PAPER, "mew": 0.5, "alpha": 0.8, "color": colour}
            if against != speaker:
                style |= {"mec": colour, "mfc": "none", "mew": 1.0}
            where = shown["sparsity"], shown["difference"]
            dots(axes, shown["source_id"], *where, label=f"{name} − {against}", **style)
            axes.axhline(rows["difference"].median(), color=colour, ls=DASHES[1], lw=1.2)
        axes.set_ylabel("difference in accuracy, points")
        points_axis(axes.yaxis)
        axes.set_xlabel("sparsity at which variational dropout ended")
        percent_axis(axes.xaxis)
        legend_above(axes)
        caption = (
            "(b) Each model pruned by magnitude to exactly the sparsity its VD twin ended at. One dot a "
            "model; "
            "dashed: median. Above zero magnitude pruning is ahead."
        )
        return finish(figure, "matched", caption)


def _of_pair(table: pd.DataFrame, series: str, against: str) -> pd.DataFrame:
    return table[(table["series"] == series) & (table["against"] == against)]


METHODS = Question(
    id="methods",
    title="Which method wins where",
    question="Magnitude pruning or variational dropout, at equal sparsity?",
    answer=answer,
    tables=(
        Table("methods_by_sparsity", compare_by_sparsity, "(a) By tenths of sparsity", COLUMNS, SERIES_ROWS),
        Table(
            "methods_matched",
            compare_matched,
            "(b) At exactly the sparsity at which VD ended",
            COLUMNS,
            SERIES_ROWS,
        ),
    ),
    figures=(difference_against_sparsity, matched_differences),
    definitions=DEFINITIONS,
    opening=opening,
)
