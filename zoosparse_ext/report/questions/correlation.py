"""Question 6: does a better original make a better twin?"""

from __future__ import annotations

from typing import Any

import pandas as pd

from zoosparse_ext.analysis import correlation_with_original, operating_twins
from zoosparse_ext.analysis.operating import operating_name
from zoosparse_ext.analysis.twins import series_of
from zoosparse_ext.report.figures.dots import dots, sampled
from zoosparse_ext.report.figures.legends import legend_above
from zoosparse_ext.report.figures.palette import colors_of
from zoosparse_ext.report.figures.panels import panels
from zoosparse_ext.report.figures.series import colors_in, series_in, side_by_side
from zoosparse_ext.report.figures.style import (
    DASHES,
    INK,
    PAPER,
    QUIET,
    Picture,
    canvas,
    error_bars,
    finish,
    percent_axis,
    robust_limits,
    sparsity_axis,
)
from zoosparse_ext.report.format import interval, number, spread
from zoosparse_ext.report.questions.question import Question, Table, at_levels
from zoosparse_ext.report.results import Results
from zoosparse_ext.report.tables import SERIES_ROWS, TWINS, Column

CRITERION = 0.7
SAME_IMAGES = "the same images"
COLUMNS = (
    *TWINS,
    Column("sparsity", "sparsity"),
    Column("split_half", "r, halves", "number", ("split_half_low", "split_half_high")),
    Column(
        "control_split_half", "control's", "number", ("control_split_half_low", "control_split_half_high")
    ),
    Column(
        "originals_split_half",
        "originals'",
        "number",
        ("originals_split_half_low", "originals_split_half_high"),
    ),
    Column("pearson", "r, all images", "number", ("pearson_low", "pearson_high")),
    Column("top_kept", "still best"),
    Column("top_expected", "by chance"),
)
DEFINITIONS = """
    On the same images accuracies correlate for the luck that they share. Halves: the original is measured on one
    half of the test images and its twin on the other, over 100 splits. Beside it the same number for the control,
    which is the original, not pruned, trained on for as many epochs; and for the originals with themselves, which
    is about as high as it can get: where originals differ by no more than the luck of the images, a twin cannot
    follow them, and the question has no answer. Intervals on all images by Fisher's z (Bonett and Wright, 2000).
    Still best: share of the best tenth of the originals whose twins are in the best tenth of the twins; models tied
    at the edge count in part.
"""


def answer(results: Results) -> str:
    table = results["correlation"]
    if table.empty:
        return "There are no twins whose accuracy could be compared."
    unlike = table[table["originals_differ"].eq(False)]
    if len(unlike) == len(table):
        return f"The originals do not differ enough to ask: {table['originals_why'].iloc[0]}."
    parts = []
    for row in at_levels(table, (0.8,)).to_dict("records"):
        halves = pd.notna(row["split_half"])
        name = "split_half" if halves else "pearson"
        if pd.isna(row[name]):
            continue
        ends = interval(row[f"{name}_low"], row[f"{name}_high"], "")
        aside = [] if ends == "–" else [ends]
        if halves and pd.notna(row["control_split_half"]):
            aside.append(f"control {number(row['control_split_half'])}")
        told = f" ({'; '.join(aside)})" if aside else ""
        parts.append(f"{number(row[name])} with {row['series']} at {row['level_label']}{told}")
    if not parts:
        return "Too few models, or accuracies that do not vary: correlation is undefined."
    on = _measured_on(table)
    known = table["originals_split_half"].dropna()
    itself = f" The originals on two halves of the images: {number(known.iloc[0])}." if len(known) else ""
    width = table["originals_std"].dropna()
    differ = (
        f" Their accuracies have a standard deviation of {spread(width.iloc[0])} points."
        if len(width)
        else ""
    )
    return f"Pearson's r between originals and twins, {on}, is {', '.join(parts)}.{itself}{differ}"


def _measured_on(table: pd.DataFrame) -> str:
    same = table["measured_on"].eq(SAME_IMAGES).all()
    return "on the same images, whose luck they share" if same else "on different halves of the images"


def original_against_twin(results: Results) -> Picture:
    series, colors = operating_twins(results.data), colors_of(series_of(results.data))
    shown = {
        name: sampled(twins.dropna(subset=["accuracy", "source_accuracy"])) for name, twins in series.items()
    }
    shown = {name: twins for name, twins in shown.items() if len(twins)}
    with panels([value for twins in shown.values() for value in twins["accuracy"]]) as (figure, both):
        for axes in both:
            for name, twins in shown.items():
                style: dict[str, Any] = {
                    "ms": 4,
                    "mec": PAPER,
                    "mew": 0.5,
                    "alpha": 0.75,
                    "color": colors[name],
                }
                label = operating_name(name, twins)
                dots(
                    axes,
                    twins["source_id"],
                    twins["source_accuracy"],
                    twins["accuracy"],
                    label=label,
                    **style,
                )
            if shown:
                limits = robust_limits(pd.concat(list(shown.values()))["source_accuracy"])
                if limits:
                    axes.plot(limits, limits, color=QUIET, lw=1, scaley=False)
            axes.set_ylabel("accuracy of the twin")
            percent_axis(axes.yaxis)
        both[-1].set_xlabel("accuracy of the original")
        percent_axis(both[-1].xaxis, 5)
        legend_above(both[0])
        caption = (
            "One dot a model; the line is equality. Pruned twins at the largest ratio up to 80 %, VD twins where "
            "they ended."
        )
        return finish(figure, "original-and-twin", caption)


def correlation_against_sparsity(results: Results) -> Picture:
    table = results["correlation"]
    halves = table["split_half"].notna().any()
    name_of = "split_half" if halves else "pearson"
    columns = (name_of, f"{name_of}_low", f"{name_of}_high")
    colors = colors_in(results)
    with canvas() as (figure, axes):
        axes.axhline(0, color=INK, lw=1)
        for column, dashes, label in (
            ("originals_split_half", DASHES[1], "originals with themselves"),
            ("control_split_half", DASHES[2], "controls"),
        ):
            level = table[column].astype(float).median() if halves else float("nan")
            if pd.notna(level):
                axes.axhline(level, color=INK, lw=1.2, ls=dashes, label=label)
        shift = side_by_side(series_in(table))
        for name in series_in(table):
            rows = table[table["series"] == name].dropna(subset=[name_of])
            if len(rows):
                error_bars(axes, rows["sparsity"] + shift[name], rows, columns, name, colors[name])
        axes.set_ylim(-1.03, 1.03)
        axes.set_ylabel("Pearson's r over models")
        sparsity_axis(axes)
        legend_above(axes)
        caption = (
            f"Correlation between the accuracy of originals and twins, {_measured_on(table)}; 95 % intervals."
        )
        return finish(figure, "correlation", caption)


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
