"""Question 7: how do twins get there, epoch by epoch?"""

from __future__ import annotations

from typing import Any

import pandas as pd

from zoosparse_ext.analysis import trajectories
from zoosparse_ext.analysis.series import is_variational, magnitude_series, series_order
from zoosparse_ext.report.figures.legends import legend_above
from zoosparse_ext.report.figures.palette import SEQUENCE
from zoosparse_ext.report.figures.panels import panels
from zoosparse_ext.report.figures.series import colors_in, series_in
from zoosparse_ext.report.figures.style import (
    DASHES,
    INK,
    Picture,
    band,
    canvas,
    finish,
    percent_axis,
    points_axis,
)
from zoosparse_ext.report.format import capital, percent, plural
from zoosparse_ext.report.names import method_name
from zoosparse_ext.report.questions.question import Question, Table, closest
from zoosparse_ext.report.results import NO_TWINS, Results
from zoosparse_ext.report.tables import Column

COLUMNS = (
    Column("series", "method", "text"),
    Column("target", "target"),
    Column("epoch", "epoch", "count"),
    Column("n", "models", "count"),
    Column("sparsity", "sparsity", interval=("sparsity_q25", "sparsity_q75")),
    Column("accuracy", "accuracy", interval=("accuracy_q25", "accuracy_q75")),
    Column("change", "change", "points", ("change_low", "change_high")),
    Column("agreement", "equal predictions"),
    Column("kappa", "κ", "number"),
    Column("pearson", "Pearson", "number"),
    Column("split_half", "halves", "number"),
    Column("change_from_control", "from control", "points"),
)
DEFINITIONS = """
    Epoch 0: before the first step, that is just pruned, or the original with its dropout rates about to be learned.
    Change: from the original, with its 95 % interval; from control: from the unpruned model after as many epochs.
    Pearson: with the originals' accuracy on the same images; halves: on different halves of them. Sparsity of every
    layer per epoch is in tables/layer_trajectories.csv.
"""


def answer(results: Results) -> str:
    table = results["trajectories"]
    parts = []
    for name in sorted(filter(is_variational, table["series"].unique()), key=series_order):
        vd = table[table["series"] == name]
        first, last = vd.iloc[0], vd.iloc[-1]
        parts.append(
            f"in {plural(last['epoch'], 'epoch')} {method_name(name)} goes from "
            f"{percent(first['sparsity'])} to "
            f"{percent(last['sparsity'])} sparsity and from {percent(first['accuracy'])} to "
            f"{percent(last['accuracy'])} median accuracy"
        )
    tuned = table[~table["series"].map(is_variational).astype(bool) & table["target"].notna()]
    several = tuned["series"].nunique() > 1
    for name in (
        magnitude_series(tuned["series"])[:1] or sorted(tuned["series"].unique(), key=series_order)[:1]
    ):
        rows = tuned[tuned["series"] == name]
        rows = rows[rows["target"] == rows["target"].max()]
        if rows["epoch"].max() > 0:
            first, last = rows.iloc[0], rows.iloc[-1]
            at = percent(rows["target"].iloc[0], 0)
            of = f" of {method_name(name)}" if several else ""
            parts.append(
                f"{plural(last['epoch'], 'epoch')} of fine-tuning{of} at {at} sparsity take the median accuracy from "
                f"{percent(first['accuracy'])} to {percent(last['accuracy'])}"
            )
    return capital("; ".join(parts)) + "." if parts else NO_TWINS


def _variational_first(results: Results) -> pd.DataFrame:
    """VD has one trajectory, magnitude pruning one per ratio."""
    return results["trajectories"].sort_values("series", key=_pruned, kind="stable")


def _pruned(series: pd.Series) -> pd.Series:
    return ~series.map(is_variational).astype(bool)


def variational_by_epoch(results: Results) -> Picture | None:
    table, colors = results["trajectories"], colors_in(results)
    names = list(filter(is_variational, series_in(table)))
    if not names:
        return None
    with canvas(panels=(2, 1), sharex=True) as (figure, (upper, lower)):
        for axes, column, label in ((upper, "accuracy", "test accuracy"), (lower, "sparsity", "sparsity")):
            for name in names:
                rows = table[table["series"] == name]
                band(axes, rows["epoch"], rows[f"{column}_q25"], rows[f"{column}_q75"], colors[name])
                axes.plot(rows["epoch"], rows[column], color=colors[name], label=name)
            axes.set_ylabel(label)
            percent_axis(axes.yaxis)
        lower.set_xlabel("epoch of variational dropout")
        if len(names) > 1:
            legend_above(upper)
        return finish(figure, "vd-epochs", "Variational dropout per epoch: median and quartiles over models.")


def tuning_by_epoch(results: Results) -> Picture | None:
    """Recovery of accuracy during fine-tuning, at the ratios where there is something to recover."""
    table = results["trajectories"]
    rows = table[~table["series"].map(is_variational).astype(bool) & table["target"].notna()]
    if rows.empty:
        return None
    name = [*magnitude_series(rows["series"]), *series_in(rows)][0]
    rows = rows[rows["series"] == name]
    ratios = [ratio for ratio in sorted(rows["target"].unique()) if ratio >= 0.5][-5:] or sorted(
        rows["target"].unique()
    )
    with panels([0, *rows.loc[rows["target"].isin(ratios), "change"]]) as (figure, both):
        for axes in both:
            axes.axhline(0, color=INK, lw=1)
            for ratio, color in zip(ratios, SEQUENCE, strict=False):
                part = rows[rows["target"] == ratio]
                label = f"{100 * ratio:.4g} %"
                axes.plot(part["epoch"], part["change"], "o-", ms=3, color=color, label=label)
            axes.set_ylabel("change, points")
            points_axis(axes.yaxis)
        both[-1].set_xlabel("epoch of fine-tuning (0: just pruned)")
        both[-1].xaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]
        legend_above(both[0])
        caption = f"{name}: median change from the original per epoch of fine-tuning, by sparsity."
        return finish(figure, "tuning-epochs", caption)


def population_by_epoch(results: Results) -> Picture | None:
    """Spread and correlation per epoch of variational dropout."""
    table, colors = results["trajectories"], colors_in(results)
    table = table[table["accuracy_std"].notna()]
    names = list(filter(is_variational, series_in(table)))
    if not names:
        return None
    with canvas(panels=(2, 1), sharex=True) as (figure, (upper, lower)):
        for name in names:
            rows, color, prefix = (
                table[table["series"] == name],
                colors[name],
                f"{name}: " * (len(names) > 1),
            )
            upper.plot(rows["epoch"], rows["accuracy_std"], color=color)
            lower.plot(rows["epoch"], rows["pearson"], color=color, label=f"{prefix}all images")
            halves = rows.dropna(subset=["split_half"])
            if len(halves):
                marks: dict[str, Any] = {
                    "marker": "o",
                    "ms": 3.5,
                    "ls": DASHES[2],
                    "label": f"{prefix}halves",
                }
                lower.plot(halves["epoch"], halves["split_half"], color=color, **marks)
        upper.set_ylabel("std, points")
        upper.set_ylim(bottom=0)
        points_axis(upper.yaxis, signed=False)
        lower.set_ylabel("Pearson's r")
        lower.set_xlabel("epoch of variational dropout")
        legend_above(upper, of=lower)
        caption = (
            "Variational dropout per epoch: standard deviation over the population, and correlation with the "
            "originals on all images and on different halves of them."
        )
        return finish(figure, "population-epochs", caption)


def agreement_by_epoch(results: Results) -> Picture | None:
    table = results["trajectories"].dropna(subset=["agreement"])
    if table.empty:
        return None
    colors = colors_in(results)
    with canvas() as (figure, axes):
        for name in series_in(table):
            rows = table[table["series"] == name]
            part, label = rows, name
            if not is_variational(name):
                ratio = float(rows["target"].iloc[closest(rows["target"], 0.8)])
                part, label = rows[rows["target"] == ratio], f"{name}, {100 * ratio:.4g} %"
            band(axes, part["epoch"], part["agreement_q25"], part["agreement_q75"], colors[name])
            axes.plot(part["epoch"], part["agreement"], "o-", ms=3, color=colors[name], label=label)
        axes.set_xlabel("epoch")
        axes.set_ylabel("equal predictions")
        percent_axis(axes.yaxis)
        legend_above(axes)
        return finish(
            figure,
            "agreement-epochs",
            "Agreement with the original per epoch of fine-tuning or variational dropout.",
        )


TRAJECTORIES = Question(
    id="trajectories",
    title="Trajectories",
    question="How do twins get there, epoch by epoch?",
    answer=answer,
    tables=(
        Table(
            "trajectories",
            trajectories,
            "Medians per epoch; small numbers: quartiles",
            COLUMNS,
            arranged=_variational_first,
        ),
    ),
    figures=(variational_by_epoch, tuning_by_epoch, agreement_by_epoch, population_by_epoch),
    definitions=DEFINITIONS,
)
