"""Question 3: does sparsification widen or narrow the population, and how many models fail?"""

from __future__ import annotations

from zoosparse_ext.analysis import collapse, emptied_layers, robustness
from zoosparse_ext.report.collapse import emptied, emptied_in_full
from zoosparse_ext.report.figures.legends import legend
from zoosparse_ext.report.figures.series import colours_in, series_in, with_sparsity
from zoosparse_ext.report.figures.style import (
    INK,
    Picture,
    canvas,
    error_bars,
    finish,
    points_axis,
    robust_limits,
    sparsity_axis,
)
from zoosparse_ext.report.format import percent, plural
from zoosparse_ext.report.questions.question import Question, Table
from zoosparse_ext.report.results import NO_TWINS, Results
from zoosparse_ext.report.tables import SERIES_ROWS, TWINS, Column

COLUMNS = (
    *TWINS,
    Column("std_before", "std before", "spread"),
    Column("std_after", "std after", "spread"),
    Column("ratio", "after / before", "number", ("ratio_low", "ratio_high")),
    Column("p_adjusted", "adjusted p", "p"),
    Column("verdict", "population", "text"),
    Column("std_change", "std of change", "spread"),
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
    Column("change", "change", "points"),
    Column("change_working", "others", "points"),
)


def answer(results: Results) -> str:
    table = results["robustness"]
    if table.empty:
        return NO_TWINS
    wider, narrower = (int((table["verdict"] == verdict).sum()) for verdict in ("wider", "narrower"))
    failed, total = int(table["failures"].sum()), int(table["n"].sum())
    return (
        f"The spread of accuracy widens at {wider} and narrows at {narrower} of {len(table)} settings and "
        "cannot "
        f"be told from unchanged at the others; {failed:,} of {plural(total, 'twin')} failed. "
        f"{emptied_in_full(results)}"
    )


def opening(results: Results) -> list[str]:
    """What is empty, where something is."""
    return [*filter(None, [emptied(results)])]


def definitions(results: Results) -> str:
    chance = percent(results.data.chance)
    return f"""
        std: sample standard deviation over models, in points of accuracy. Wider, narrower: the 95 %
        bootstrap interval of after / before excludes 1 and the Pitman–Morgan test of equal spread, adjusted
        over all rows by Benjamini and Hochberg, is below 0.05. A twin fails when it falls more than half of the
        way from its original to guessing the most frequent class ({chance} here), or is not a number.
        Twins pruned to the sparsity of their VD twins are not counted here. The second table counts them as well:
        empty layer: all prunable weights of a tensor are zero; dead output: all that comes in to an output or a channel
        is; one answer: one class for all test images. Others: medians without twins that have an empty layer or
        one answer.
    """


def spread_against_sparsity(results: Results) -> Picture:
    table = with_sparsity(results["robustness"], results)
    colours = colours_in(results)
    with canvas() as (figure, axes):
        axes.axhline(1, color=INK, lw=1)
        for name in series_in(table):
            rows = table[table["series"] == name]
            columns = ("ratio", "ratio_low", "ratio_high")
            error_bars(axes, rows["sparsity"], rows, columns, name, colours[name])
        axes.set_ylabel("spread after / spread before")
        sparsity_axis(axes)
        legend(axes, loc="upper left")
        caption = (
            "Standard deviation of accuracy over the population, after over before, with 95 % intervals. "
            "Above 1 the population has widened."
        )
        return finish(figure, "spread", caption)


def change_spread(results: Results) -> Picture:
    table = with_sparsity(results["robustness"], results)
    colours = colours_in(results)
    with canvas() as (figure, axes):
        for name in series_in(table):
            rows = table[table["series"] == name]
            axes.plot(rows["sparsity"], rows["std_change"], "o-", color=colours[name], label=name)
        limits = robust_limits(table["std_change"])
        axes.set_ylim(0, limits[1] if limits else 1)
        axes.set_ylabel("standard deviation of the change, points")
        points_axis(axes.yaxis, signed=False)
        sparsity_axis(axes)
        legend(axes, loc="upper left")
        caption = (
            "How differently the models react: standard deviation over models of the change in accuracy."
        )
        return finish(figure, "change-spread", caption)


ROBUSTNESS = Question(
    id="robustness",
    title="Robustness",
    question="Does sparsification widen or narrow the population, and how many models fail?",
    answer=answer,
    tables=(
        Table("robustness", robustness, "Spread of accuracy over models", COLUMNS, SERIES_ROWS),
        Table(
            "collapse",
            collapse,
            "Twins with layers, outputs or answers missing",
            COLLAPSE_COLUMNS,
            SERIES_ROWS,
        ),
        Table("emptied_layers", emptied_layers),
    ),
    figures=(spread_against_sparsity, change_spread),
    definitions=definitions,
    opening=opening,
)
