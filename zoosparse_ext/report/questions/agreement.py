"""Question 5: does the twin still say what its original said?"""

from __future__ import annotations

import pandas as pd

from zoosparse_ext.analysis import agreement_by_sparsity, agreement_of_originals
from zoosparse_ext.report.figures.legends import legend_above
from zoosparse_ext.report.figures.panels import panels
from zoosparse_ext.report.figures.series import colors_in, series_in, side_by_side
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
    sparsity_axis,
)
from zoosparse_ext.report.format import interval, number, percent, plural
from zoosparse_ext.report.questions.question import Question, Table, at_levels
from zoosparse_ext.report.results import Results
from zoosparse_ext.report.tables import SERIES_ROWS, TWINS, Column

COLUMNS = (
    *TWINS,
    Column("sparsity", "sparsity"),
    Column("agreement", "equal predictions", interval=("agreement_low", "agreement_high")),
    Column("control_agreement", "control's"),
    Column("own_rank_first", "own first", interval=("own_rank_first_low", "own_rank_first_high")),
    Column("own_rank_chance", "by chance"),
    Column("own_minus_other", "own − other", "points", ("own_minus_other_low", "own_minus_other_high")),
    Column("kappa", "Cohen's κ", "number", ("kappa_low", "kappa_high")),
)


def answer(results: Results) -> str:
    table = _known(results)
    if table.empty:
        return "No predictions are stored, so agreement is unknown."
    parts = []
    for row in at_levels(table, (0.8,)).to_dict("records"):
        ends = interval(row["agreement_low"], row["agreement_high"], "share")
        aside = [] if ends == "–" else [ends]
        if pd.notna(row["control_agreement"]):
            aside.append(f"controls {percent(row['control_agreement'])}")
        if pd.notna(row["own_rank_first"]):
            first, chance = percent(row["own_rank_first"], 0), percent(row["own_rank_chance"], 0)
            aside.append(f"closer to its own original than to any peer in {first}, by chance in {chance}")
        told = f" ({'; '.join(aside)})" if aside else ""
        parts.append(
            f"{percent(row['agreement'])} by {row['series']} at {percent(row['sparsity'], 0)} sparsity{told}"
        )
    return f"Share of test images on which twin and original predict the same class, medians: {', '.join(parts)}."


def definitions(results: Results) -> str:
    labels = results.data.labels
    images = "the test images" if labels is None else plural(len(labels), "test image")
    pairs = plural(len(results["agreement_of_originals"]), "pair")
    return f"""
        Equal predictions: share of {images} on which twin and original predict the same class; medians over models.
        The control is the original itself, not pruned, trained on for as many epochs. Peers: originals within one
        point of the accuracy of the own one; models without peers are left out. Own first: share of twins that agree
        with their own original more than with any of its peers, ties counted in part; by chance it would be one in as
        many as there are originals to choose from. Own − other: agreement with
        the own original minus mean agreement with the peers. κ: agreement beyond that of two models that predict
        classes equally often but independently. On errors: share of equal predictions on images that the original
        got wrong. The dashed line is the median of {pairs} of different originals. Small numbers: 95 % intervals.
    """


def _known(results: Results) -> pd.DataFrame:
    return results["agreement"].dropna(subset=["agreement"])


def agreement_against_sparsity(results: Results) -> Picture:
    table, others = _known(results), results["agreement_of_originals"]["agreement"].astype(float)
    colors, columns = colors_in(results), ("agreement", "agreement_low", "agreement_high")
    drawn = [
        *table["agreement"],
        *table["agreement_q25"],
        *table["agreement_q75"],
        *table["control_agreement"],
    ]
    with panels([*drawn, others.median()]) as (figure, both):
        for axes in both:
            if len(others):
                axes.axhline(others.median(), color=QUIET, lw=1.2, ls=DASHES[1], label="two originals")
            controls = table["control_agreement"].median()
            if pd.notna(controls):
                axes.axhline(controls, color=INK, lw=1.2, ls=DASHES[2], label="controls")
            shift = side_by_side(series_in(table))
            for name in series_in(table):
                rows = table[table["series"] == name]
                band(axes, rows["sparsity"], rows["agreement_q25"], rows["agreement_q75"], colors[name])
                error_bars(axes, rows["sparsity"] + shift[name], rows, columns, name, colors[name])
            axes.set_ylabel("equal predictions")
            percent_axis(axes.yaxis)
        sparsity_axis(both[-1])
        legend_above(both[0])
        caption = "Share of test images on which twin and original agree: medians, 95 % intervals; bands: quartiles."
        return finish(figure, "agreement", caption)


def own_first(results: Results) -> Picture | None:
    """Whether twins know their own original among others that are as accurate."""
    table = results["agreement"].dropna(subset=["own_rank_first"])
    if table.empty:
        return None
    colors, columns = colors_in(results), ("own_rank_first", "own_rank_first_low", "own_rank_first_high")
    with canvas() as (figure, axes):
        shift = side_by_side(series_in(table))
        for name in series_in(table):
            rows = table[table["series"] == name].sort_values("sparsity")
            error_bars(axes, rows["sparsity"] + shift[name], rows, columns, name, colors[name])
            axes.plot(rows["sparsity"], rows["own_rank_chance"], color=colors[name], ls=DASHES[2], lw=1.2)
        axes.plot([], [], color=INK, ls=DASHES[2], lw=1.2, label="by chance")
        axes.set_ylim(-0.03, 1.03)
        axes.set_ylabel("own original first")
        percent_axis(axes.yaxis)
        sparsity_axis(axes)
        legend_above(axes)
        peers = number(table["peers"].median(), 0)
        caption = (
            "Share of twins that agree with their own original more than with any other within one point of its "
            f"accuracy (median: {peers} compared); 95 % intervals."
        )
        return finish(figure, "own-first", caption)


AGREEMENT = Question(
    id="agreement",
    title="Agreement",
    question="Does the twin still say what its original said?",
    answer=answer,
    tables=(
        Table("agreement", agreement_by_sparsity, "Medians over models", COLUMNS, SERIES_ROWS, _known),
        Table("agreement_of_originals", agreement_of_originals),
    ),
    figures=(agreement_against_sparsity, own_first),
    definitions=definitions,
)
