"""Question 2: which method wins at equal sparsity and equal training?"""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from zoosparse_ext.analysis import compare_measured, crossover_bracket, measured_pairs
from zoosparse_ext.analysis.series import stands_for_its_method, variational_series
from zoosparse_ext.report.figures.dots import dots, sampled
from zoosparse_ext.report.figures.legends import legend_above
from zoosparse_ext.report.figures.panels import panels
from zoosparse_ext.report.figures.series import colors_in, pairs_in
from zoosparse_ext.report.figures.style import (
    DASHES,
    INK,
    PAPER,
    QUIET,
    Picture,
    error_bars,
    finish,
    percent_axis,
    points_axis,
    sparsity_axis,
)
from zoosparse_ext.report.format import plural, points
from zoosparse_ext.report.questions.question import Question, Table
from zoosparse_ext.report.results import Results
from zoosparse_ext.report.tables import SERIES_ROWS, Column

BAND = 0.005  # half a point: less is no difference
COLUMNS = (
    Column("series", "method", "text", note="beside"),
    Column("verdict", "MP is", "verdict", note="why"),
    Column("level_label", "pairs", "text"),
    Column("budget", "epochs", "text"),
    Column("n", "models", "count"),
    Column("sparsity", "sparsity"),
    Column("magnitude", "MP"),
    Column("variational", "VD"),
    Column("difference_median", "MP − VD", "points", ("difference_low", "difference_high")),
    Column("wins_share", "MP ahead in", interval=("wins_low", "wins_high")),
    Column("collapsed", "collapsed", "count", note="others"),
)
BRACKET_COLUMNS = (
    Column("series", "method", "text"),
    Column("against", "against", "text"),
    Column("low", "MP ahead up to"),
    Column("high", "VD ahead from"),
    Column("ahead", "MP ahead", "count"),
    Column("behind", "VD ahead", "count"),
    Column("equivalent", "equivalent", "count"),
    Column("undecided", "undecided", "count"),
)
DEFINITIONS = """
    Difference: accuracy by magnitude pruning minus accuracy by variational dropout, of the same model on the same
    images, in points. Pairs: an MP twin pruned to exactly the sparsity that its VD twin has after some epochs and
    fine-tuned for as many, or at its end; or one of the grid within 2.5 points of where VD ended. Nothing is
    interpolated. Twins trained for different numbers of epochs are shown, and not judged. Ahead: the 95 % interval
    lies beyond half a point; equivalent: the 90 % interval lies within ± half a point; p-values are adjusted over
    all rows. Where the methods change places is therefore a bracket: the largest measured sparsity at which MP is
    ahead, and the smallest at which VD is, with any KL weight. Collapsed: pairs in which a twin has an empty layer
    or one answer for all images.
"""


def answer(results: Results) -> str:
    table, bracket = results["methods_measured"], results["crossover"]
    if table.empty:
        return "No twins of both methods have the same sparsity here: there is nothing to compare."
    told = [_bracket(row) for row in _standing(bracket).to_dict("records")]
    unequal = table[table["epochs"] != table["against_epochs"]]
    if not told:
        budgets = ", ".join(dict.fromkeys(_budgets(unequal)))
        return f"Nothing was measured at equal epochs ({budgets}): the methods cannot be compared here."
    aside = f" {plural(len(unequal), 'row')} with unequal epochs {'is' if len(unequal) == 1 else 'are'} not judged."
    return f"At equal sparsity and equal epochs: {'; '.join(told)}.{aside if len(unequal) else ''}"


def opening(results: Results) -> list[str]:
    """Where the methods change places, as far as it was measured."""
    return [answer(results)] if len(results["methods_measured"]) else []


def _bracket(row: dict[Any, Any]) -> str:
    counts = [(int(row[name]), name) for name in ("equivalent", "undecided") if row[name]]
    others = " and ".join(f"{name} in {count}" for count, name in counts)
    total = sum(int(row[name]) for name in ("ahead", "behind", "equivalent", "undecided"))
    if not row["ahead"] and not row["behind"]:
        alone = f"{counts[0][1]} in all" if len(counts) == 1 else f"{others} of"
        return f"{row['series']} against {row['against']} is {alone} {total} comparisons"
    return f"{row['why']}{f' ({others} of {total} comparisons)' if others else ''}"


def _standing(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the series that stand for their methods; all where there are none."""
    stand = stands_for_its_method([*table["series"], *table["against"]])
    rows = table[table["series"].isin(stand) & table["against"].isin(stand)]
    return rows if len(rows) else table


def _budgets(table: pd.DataFrame) -> list[str]:
    """ "25", or "5 against 25"."""
    return [
        f"{own:g}" if own == other else f"{own:g} against {other:g}"
        for own, other in zip(table["epochs"], table["against_epochs"], strict=True)
    ]


def _in_page(results: Results) -> pd.DataFrame:
    """Equal budgets first."""
    table = results["methods_measured"]
    some = table["collapsed"] > 0
    others = [f"{points(value)} of the others" for value in table["difference_working"]]
    table = table.assign(
        beside="against " + table["against"].astype(str),
        budget=_budgets(table),
        unequal=table["epochs"] != table["against_epochs"],
        others=pd.Series(others, index=table.index, dtype=object).where(some, ""),
    )
    return table.sort_values("unequal", kind="stable")


def difference_against_sparsity(results: Results) -> Picture | None:
    table = results["methods_measured"]
    equal = table[table["epochs"] == table["against_epochs"]]
    unequal = table[table["epochs"] != table["against_epochs"]].dropna(subset=["difference_median"])
    if table["difference_median"].notna().sum() == 0:
        return None
    columns = ("difference_median", "difference_low", "difference_high")
    drawn = equal[list(columns)].to_numpy(dtype=float).ravel()
    with panels([-BAND, BAND, *drawn, *unequal["difference_median"]]) as (figure, both):
        colors, speaker = colors_in(results), variational_series(table["against"])
        for axes in both:
            axes.axhspan(-BAND, BAND, color=QUIET, alpha=0.2, lw=0)
            axes.axhline(0, color=INK, lw=1)
            if len(unequal):
                marks: dict[str, Any] = {
                    "marker": "x",
                    "ls": "none",
                    "color": QUIET,
                    "label": "unequal epochs, not comparable",
                }
                axes.plot(unequal["sparsity"], unequal["difference_median"], **marks)
            for series, against in pairs_in(equal):
                rows = _of_pair(equal, series, against).sort_values("sparsity")
                label = f"{series} − {against}"
                error_bars(axes, rows["sparsity"], rows, columns, label, colors[series], against == speaker)
            axes.set_ylabel("MP − VD, points")
            points_axis(axes.yaxis)
        sparsity_axis(both[-1])
        legend_above(both[0])
        caption = (
            "Magnitude pruning minus variational dropout in the same models, at equal sparsity and equal epochs: "
            "medians and 95 % intervals. Above the gray band, ± half a point, MP is ahead; below it VD is."
        )
        return finish(figure, "difference", caption)


def each_model(results: Results) -> Picture | None:
    """One dot a model: where its VD twin ended, what magnitude pruning does better at exactly that sparsity."""
    pairs = measured_pairs(results.data)
    pairs = pairs[(pairs["pairs"] == "matched") & pairs["at_end"].astype(bool)]
    pairs = pairs[pairs["epochs"] == pairs["against_epochs"]]
    if pairs.empty:
        return None
    with panels([-BAND, BAND, *pairs["difference"]]) as (figure, both):
        for axes in both:
            axes.axhspan(-BAND, BAND, color=QUIET, alpha=0.2, lw=0)
            axes.axhline(0, color=INK, lw=1)
            _dots(axes, results, pairs)
            axes.set_ylabel("MP − VD, points")
            points_axis(axes.yaxis)
        both[-1].set_xlabel("sparsity at which variational dropout ended")
        percent_axis(both[-1].xaxis, 5)
        legend_above(both[0])
        caption = (
            "Each model pruned by magnitude to exactly the sparsity at which its VD twin ended, and trained for as "
            f"many epochs ({', '.join(dict.fromkeys(_budgets(pairs)))}). Dashed: median."
        )
        return finish(figure, "matched", caption)


def _dots(axes: Axes, results: Results, pairs: pd.DataFrame) -> None:
    colors, speaker = colors_in(results), variational_series(pairs["against"])
    for series, against in pairs_in(pairs):
        rows, color = _of_pair(pairs, series, against), colors[series]
        style: dict[str, Any] = {"ms": 4, "mec": PAPER, "mew": 0.5, "alpha": 0.8, "color": color}
        if against != speaker:
            style |= {"mec": color, "mfc": "none", "mew": 1.0}
        shown = sampled(rows)
        label = f"{series} − {against}"
        dots(axes, shown["source_id"], shown["sparsity"], shown["difference"], label=label, **style)
        axes.axhline(rows["difference"].median(), color=color, ls=DASHES[1], lw=1.2)


def _of_pair(table: pd.DataFrame, series: str, against: str) -> pd.DataFrame:
    return table[(table["series"] == series) & (table["against"] == against)]


METHODS = Question(
    id="methods",
    title="Which method wins where",
    question="Magnitude pruning or variational dropout, at equal sparsity and equal training?",
    answer=answer,
    tables=(
        Table("methods_measured", compare_measured, "Every measured pair", COLUMNS, SERIES_ROWS, _in_page),
        Table("crossover", crossover_bracket, "Where the methods change places", BRACKET_COLUMNS),
    ),
    figures=(difference_against_sparsity, each_model),
    definitions=DEFINITIONS,
    opening=opening,
)
