"""Question 3: how many models lose to sparsity, and how many collapse?"""

from __future__ import annotations

import math
from functools import partial

import pandas as pd

from zoosparse_ext.analysis import collapse, emptied_layers, losers, robustness
from zoosparse_ext.report.collapse import emptied, emptied_in_full, layers_of
from zoosparse_ext.report.figures.legends import legend_above
from zoosparse_ext.report.figures.series import colors_in, series_in, side_by_side
from zoosparse_ext.report.figures.style import (
    DASHES,
    QUIET,
    Picture,
    canvas,
    error_bars,
    finish,
    percent_axis,
    sparsity_axis,
)
from zoosparse_ext.report.format import interval, percent, plural
from zoosparse_ext.report.questions.question import Question, Table, at_levels
from zoosparse_ext.report.results import NO_TWINS, Results
from zoosparse_ext.report.tables import SERIES_ROWS, TWINS, Column

CRITERION = 0.1  # of the models may lose more than 5 points
COLUMNS = (
    *TWINS,
    Column("sparsity", "sparsity"),
    Column("lost_1", "lose > 1", interval=("lost_1_low", "lost_1_high")),
    Column("lost_2", "lose > 2", interval=("lost_2_low", "lost_2_high")),
    Column("lost_5", "lose > 5", interval=("lost_5_low", "lost_5_high")),
    Column("against", "against", "text"),
    Column("collapsed", "collapsed", "count"),
    Column("resampled", "interval over", "text"),
)
SPREAD_COLUMNS = (
    *TWINS,
    Column("std_before", "std before", "spread"),
    Column("std_after", "std after", "spread"),
    Column("ratio", "after / before", "number", ("ratio_low", "ratio_high")),
    Column("p_adjusted", "adjusted p", "p"),
    Column("verdict", "population", "text"),
    Column("failures", "failures", "count"),
)
COLLAPSE_COLUMNS = (
    Column("series", "method", "text"),
    Column("level_label", "target", "text"),
    Column("n", "twins", "count"),
    Column("empty_layers", "empty layer", "count"),
    Column("layers", "layers", "text"),
    Column("one_answer", "one answer", "count"),
    Column("dead_outputs", "dead outputs", "count"),
    Column("accuracy", "accuracy"),
    Column("accuracy_working", "others"),
    Column("change", "− original", "points"),
    Column("change_working", "others", "points"),
)


def answer(results: Results) -> str:
    table = results["losers"]
    if table.empty:
        return NO_TWINS
    parts = []
    for row in at_levels(table, (0.8,)).to_dict("records"):
        ends = interval(row["lost_5_low"], row["lost_5_high"], "share")
        aside = "" if ends == "–" else f" ({ends})"
        parts.append(f"{percent(row['lost_5'])}{aside} with {row['series']} at {percent(row['sparsity'], 0)}")
    against = " or ".join(sorted({f"the {name}" for name in table["against"]}))
    told = f"Models that fall more than 5 points below {against}: {', '.join(parts)}."
    return f"{told} {emptied_in_full(results)}"


def opening(results: Results) -> list[str]:
    """What is empty, where something is."""
    return [*filter(None, [emptied(results)])]


def definitions(results: Results) -> str:
    chance = results.data.chance
    known = "is not known without labels" if math.isnan(chance) else f"is {percent(chance)} here"
    return f"""
        Lose > 5: share of models whose twin has more than 5 points less than the control, which is the same model,
        not pruned, trained on for as many epochs; or than the original where there is no control. Twins without a
        number count as lost. Small numbers: 95 % intervals. The paper's statement that both methods are robust is
        checked against 10 %. Spread: sample standard deviation over models, in points. Wider, narrower: the 95 %
        bootstrap interval of after / before excludes 1, and the Pitman–Morgan test of equal spread, adjusted over
        all rows, is below 0.05. A twin fails when it falls more than half of the way from its original to guessing
        the most frequent class (which {known}), or is not a number. Empty layer: all prunable weights of a tensor
        are zero; dead output: all that comes in to an output or a channel is; one answer: one class for all test
        images. − original: median change from the original. Others: medians of twins without an empty layer
        and with more than one answer.
    """


def _in_page(results: Results) -> pd.DataFrame:
    table = results["collapse"]
    return table.assign(layers=[layers_of(results, row) for row in table.to_dict("records")])


def losing(results: Results, points: int) -> Picture | None:
    table = results["losers"].dropna(subset=[f"lost_{points}"])
    if table.empty:
        return None
    colors, columns = colors_in(results), (f"lost_{points}", f"lost_{points}_low", f"lost_{points}_high")
    with canvas() as (figure, axes):
        if points == 5:
            axes.axhline(CRITERION, color=QUIET, lw=1.2, ls=DASHES[1], label="10 %")
        shift = side_by_side(series_in(table))
        for name in series_in(table):
            rows = table[table["series"] == name]
            error_bars(axes, rows["sparsity"] + shift[name], rows, columns, name, colors[name])
        axes.set_ylim(-0.03, 1.03)
        told = plural(points, "point")
        axes.set_ylabel(f"lose more than {told}")
        percent_axis(axes.yaxis)
        sparsity_axis(axes)
        legend_above(axes)
        against = " or ".join(sorted({f"the {name}" for name in table["against"]}))
        caption = f"Share of models whose twin has more than {told} less than {against}; 95 % intervals."
        return finish(figure, f"losers-{points}", caption)


ROBUSTNESS = Question(
    id="robustness",
    title="Robustness",
    question="How many models lose to sparsity, and how many collapse?",
    answer=answer,
    tables=(
        Table("losers", losers, "Models that lose", COLUMNS, SERIES_ROWS),
        Table(
            "collapse",
            collapse,
            "Twins with layers, outputs or answers missing",
            COLLAPSE_COLUMNS,
            SERIES_ROWS,
            _in_page,
        ),
        Table("robustness", robustness, "Spread of accuracy over models", SPREAD_COLUMNS, SERIES_ROWS),
        Table("emptied_layers", emptied_layers),
    ),
    figures=(partial(losing, points=5), partial(losing, points=1)),
    definitions=definitions,
    opening=opening,
)
