"""Question 5: does the twin still say what its original said?"""

from __future__ import annotations

import numpy as np
import pandas as pd

from zoosparse_ext.analysis import agreement_by_sparsity, agreement_of_originals
from zoosparse_ext.analysis.agreement import baseline
from zoosparse_ext.analysis.claims import KAPPA
from zoosparse_ext.report.figures.legends import legend
from zoosparse_ext.report.figures.series import colours_in, series_in
from zoosparse_ext.report.figures.style import (
    DASHES,
    INK,
    QUIET,
    Picture,
    band,
    canvas,
    finish,
    percent_axis,
    sparsity_axis,
)
from zoosparse_ext.report.format import number, percent, plural
from zoosparse_ext.report.questions.question import Question, Table
from zoosparse_ext.report.results import Results
from zoosparse_ext.report.tables import SERIES_ROWS, TWINS, Column

COLUMNS = (
    *TWINS,
    Column("sparsity", "sparsity"),
    Column("agreement", "equal predictions", interval=("agreement_q25", "agreement_q75")),
    Column("kappa", "Cohen's κ", "number", ("kappa_q25", "kappa_q75")),
    Column("kappa_n", "κ defined", "count"),
    Column(
        "agreement_on_errors", "on errors", interval=("agreement_on_errors_q25", "agreement_on_errors_q75")
    ),
)


def answer(results: Results) -> str:
    claims = results["claims"]
    kappa = claims[(claims["measure"] == KAPPA.measure) & claims["value"].notna()].to_dict("records")
    if not kappa:
        return "No predictions are stored, so agreement is unknown."
    parts = ", ".join(
        f"{number(row['value'])} ({row['subject']}; {number(row['low'])} to {number(row['high'])})"
        for row in kappa
    )
    of_two = baseline(results["agreement_of_originals"])
    known = (
        ""
        if np.isnan(of_two.estimate)
        else f"; two different originals agree on {percent(of_two.estimate)} of the images "
        f"({number(100 * of_two.low, 1)} to {number(100 * of_two.high, 1)})"
    )
    return f"Median Cohen's κ with the original is {parts}{known}."


def definitions(results: Results) -> str:
    labels = results.data.labels
    images = "the test images" if labels is None else plural(len(labels), "test image")
    pairs = plural(len(results["agreement_of_originals"]), "pair")
    return f"""
        Equal predictions: share of {images} on which twin and original predict the same class. κ: agreement
        beyond chance, undefined where both always predict one class. On errors: share of equal predictions
        on the images the original got wrong. Baseline: {pairs} of different originals. The table in the files
        has the 95 % interval of every median as well; models are resampled, also for the baseline.
    """


def _known(table: pd.DataFrame) -> pd.DataFrame:
    return table.dropna(subset=["agreement"])


def agreement_against_sparsity(results: Results) -> Picture:
    table, baseline = results["agreement"], results["agreement_of_originals"]["agreement"].astype(float)
    colours = colours_in(results)
    with canvas() as (figure, axes):
        if len(baseline):
            low, median, high = baseline.quantile([0.25, 0.5, 0.75])
            axes.axhspan(low, high, color=QUIET, alpha=0.18, lw=0)
            axes.axhline(median, color=INK, lw=1.2, ls=DASHES[1], label="two different originals")
        for name in series_in(table):
            rows, colour = table[table["series"] == name], colours[name]
            band(axes, rows["sparsity"], rows["agreement_q25"], rows["agreement_q75"], colour)
            axes.plot(rows["sparsity"], rows["agreement"], "o-", color=colour, label=name)
        axes.set_ylabel("equal predictions")
        percent_axis(axes.yaxis)
        sparsity_axis(axes)
        legend(axes, loc="best")
        caption = (
            "Share of test images on which twin and original agree, median and quartiles; dashed: two "
            "different originals."
        )
        return finish(figure, "agreement", caption)


def kappa_against_sparsity(results: Results) -> Picture:
    table = results["agreement"]
    measures = (("kappa", "Cohen's κ", "-", "o"), ("agreement_on_errors", "on errors", DASHES[1], "s"))
    colours = colours_in(results)
    with canvas() as (figure, axes):
        for name in series_in(table):
            rows, colour = table[table["series"] == name], colours[name]
            axes.plot([], [], color=colour, label=name)
            for measure, _, dashes, marker in measures:
                axes.plot(rows["sparsity"], rows[measure], color=colour, ls=dashes, marker=marker, ms=3.5)
        for _, label, dashes, marker in measures:
            axes.plot([], [], color=INK, ls=dashes, marker=marker, ms=3.5, label=label)
        axes.set_ylabel("κ, or share of the original's errors")
        sparsity_axis(axes)
        legend(axes, loc="best")
        caption = "Cohen's κ, and agreement on the images that the original got wrong; medians."
        return finish(figure, "kappa", caption)


AGREEMENT = Question(
    id="agreement",
    title="Agreement",
    question="Does the twin still say what its original said?",
    answer=answer,
    tables=(
        Table(
            "agreement",
            agreement_by_sparsity,
            "Medians over models; small numbers: quartiles",
            COLUMNS,
            SERIES_ROWS,
            _known,
        ),
        Table("agreement_of_originals", agreement_of_originals),
    ),
    figures=(agreement_against_sparsity, kappa_against_sparsity),
    definitions=definitions,
)
