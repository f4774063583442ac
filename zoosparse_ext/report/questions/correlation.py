"""Question 6: does a better original make a better twin?"""

from __future__ import annotations

from typing import Any

import pandas as pd

from zoosparse_ext.analysis import correlation_with_original, operating_twins
from zoosparse_ext.analysis.claims import CORRELATED
from zoosparse_ext.analysis.operating import operating_name
from zoosparse_ext.analysis.twins import series_of
from zoosparse_ext.report.figures.dots import dots, sampled
from zoosparse_ext.report.figures.legends import legend, legend_above
from zoosparse_ext.report.figures.palette import colours_of
from zoosparse_ext.report.figures.series import colours_in, series_in
from zoosparse_ext.report.figures.style import (
    INK,
    PAPER,
    QUIET,
    Picture,
    band,
    canvas,
    finish,
    percent_axis,
    robust_limits,
    sparsity_axis,
)
from zoosparse_ext.report.format import number
from zoosparse_ext.report.questions.question import Question, Table
from zoosparse_ext.report.results import Results
from zoosparse_ext.report.tables import SERIES_ROWS, TWINS, Column

COLUMNS = (
    *TWINS,
    Column("sparsity", "sparsity"),
    Column("pearson", "Pearson", "number", ("pearson_low", "pearson_high")),
    Column("spearman", "Spearman", "number", ("spearman_low", "spearman_high")),
    Column("kendall", "Kendall", "number", ("kendall_low", "kendall_high")),
    Column("top_n", "best 10 %", "count"),
    Column("top_kept", "still best"),
    Column("top_expected", "by chance"),
)
DEFINITIONS = """
    Intervals by Fisher's z (Bonett and Wright, 2000). Still best: share of the best tenth of the
    originals whose twins are in the best tenth of the twins; models tied at the edge count in part.
"""


def answer(results: Results) -> str:
    claims = results["claims"]
    rows = claims[(claims["measure"] == CORRELATED.measure) & claims["value"].notna()].to_dict("records")
    if not rows:
        return "Too few models, or accuracies that do not vary: correlation is undefined."
    parts = [
        f"{number(r['value'])} ({r['subject']}; {number(r['low'])} to {number(r['high'])})" for r in rows
    ]
    return f"Pearson's r between the accuracy of originals and twins is {', '.join(parts)}."


def original_against_twin(results: Results) -> Picture:
    with canvas() as (figure, axes):
        drawn, colours = [], colours_of(series_of(results.data))
        for name, twins in operating_twins(results.data).items():
            twins = sampled(twins.dropna(subset=["accuracy", "source_accuracy"]))
            if len(twins):
                style: dict[str, Any] = {
                    "ms": 4,
                    "mec": PAPER,
                    "mew": 0.5,
                    "alpha": 0.75,
                    "color": colours[name],
                }
                label = operating_name(name, twins)
                where = twins["source_accuracy"], twins["accuracy"]
                dots(axes, twins["source_id"], *where, label=label, **style)
                drawn.append(twins)
        if drawn:
            limits = robust_limits(pd.concat(drawn)["source_accuracy"])
            axes.plot(limits, limits, color=QUIET, lw=1)
        axes.set_xlabel("accuracy of the original")
        axes.set_ylabel("accuracy of the twin")
        percent_axis(axes.xaxis)
        percent_axis(axes.yaxis)
        legend_above(axes)
        caption = (
            "One dot a model; the line is equality. Pruned twins at the largest ratio up to 80 %, VD "
            "twins where they ended."
        )
        return finish(figure, "original-and-twin", caption)


def correlation_against_sparsity(results: Results) -> Picture:
    table = results["correlation"]
    colours = colours_in(results)
    with canvas() as (figure, axes):
        axes.axhline(0, color=INK, lw=1)
        for name in series_in(table):
            rows, colour = table[table["series"] == name], colours[name]
            band(axes, rows["sparsity"], rows["pearson_low"], rows["pearson_high"], colour, 0.15)
            axes.plot(rows["sparsity"], rows["pearson"], "o-", color=colour, label=name)
            axes.plot(rows["sparsity"], rows["spearman"], "s", ms=3.5, mfc="none", color=colour)
        if len(table):
            axes.plot([], [], "o-", color=INK, label="Pearson, 95 % interval")
            axes.plot([], [], "s", ms=3.5, mfc="none", color=INK, label="Spearman")
        axes.set_ylim(-1.03, 1.03)
        axes.set_ylabel("correlation over models")
        sparsity_axis(axes)
        legend(axes, loc="lower left", fontsize=8)
        return finish(figure, "correlation", "Correlation between the accuracy of originals and twins.")


CORRELATION = Question(
    id="correlation",
    title="Correlation",
    question="Does a better original make a better twin?",
    answer=answer,
    tables=(
        Table(
            "correlation",
            correlation_with_original,
            "Accuracy of twins with accuracy of originals",
            COLUMNS,
            SERIES_ROWS,
        ),
    ),
    figures=(original_against_twin, correlation_against_sparsity),
    definitions=DEFINITIONS,
)
