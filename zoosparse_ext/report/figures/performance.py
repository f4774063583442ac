"""Figures of questions 1 to 3: performance, methods, robustness."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from zoosparse_ext.analysis import StudyData, final_twins, measured_pairs
from zoosparse_ext.analysis.performance import LOSSES
from zoosparse_ext.analysis.series import is_variational, series_order, variational_series
from zoosparse_ext.analysis.twins import series_of
from zoosparse_ext.report.figures.dots import dots, sampled
from zoosparse_ext.report.figures.legends import legend, legend_above
from zoosparse_ext.report.figures.palette import colours_of
from zoosparse_ext.report.figures.style import (
    DASHES,
    INK,
    PAPER,
    QUIET,
    Picture,
    band,
    canvas,
    error_bars,
    finish,
    percent_axis,
    points_axis,
    robust_limits,
    sparsity_axis,
)  # fmt: skip

Tables = Mapping[str, pd.DataFrame]
_MARKERS = "osD"  # one for each of LOSSES


def series_in(table: pd.DataFrame) -> list[str]:
    """Series of a table in the order in which they are shown."""
    return sorted(table["series"].unique(), key=series_order)


def colours_in(tables: Tables) -> dict[str, str]:
    """The colour of every series of a study."""
    names: set[str] = set()
    for name in ("performance", "collapse"):  # the second has those of matched twins as well
        names |= set(tables[name]["series"]) if name in tables else set()
    return colours_of(names)


def accuracy_against_sparsity(data: StudyData, tables: Tables) -> Picture:
    """The key figure: medians with quartiles and range, VD along its epochs, the originals as a line."""
    performance, trajectories = tables["performance"], tables["trajectories"]
    with canvas(5.8, 3.7) as (figure, axes):
        original = data.models["accuracy"].quantile([0.25, 0.5, 0.75]).to_numpy(dtype=float)
        axes.axhspan(original[0], original[2], color=QUIET, alpha=0.15, lw=0)
        axes.axhline(original[1], color=INK, lw=1.2, ls=DASHES[1], label="originals: median, quartiles")
        colours = colours_in(tables)
        for name in series_in(performance):
            if not is_variational(name):
                rows, colour = performance[performance["series"] == name], colours[name]
                band(axes, rows["sparsity"], rows["accuracy_min"], rows["accuracy_max"], colour, 0.08)
                band(axes, rows["sparsity"], rows["accuracy_q25"], rows["accuracy_q75"], colour, 0.25)
                axes.plot(rows["sparsity"], rows["accuracy_median"], "o-", color=colour, label=name)
        ends = final_twins(data)
        for name in filter(is_variational, series_in(trajectories)):
            vd, colour = trajectories[trajectories["series"] == name], colours[name]
            band(axes, vd["sparsity"], vd["accuracy_q25"], vd["accuracy_q75"], colour, 0.2)
            axes.plot(
                vd["sparsity"], vd["accuracy"], color=colour, ls=DASHES[1], label=f"{name}, epoch by epoch"
            )
            final = sampled(ends[ends["series"] == name])
            style: dict[str, Any] = {"ms": 3.2, "mew": 0, "alpha": 0.6, "color": colour}
            where = final["sparsity"], final["accuracy"]
            dots(axes, final["source_id"], *where, label=f"{name}, each model at the end", **style)
        axes.set_ylabel("test accuracy")
        percent_axis(axes.yaxis)
        sparsity_axis(axes)
        legend(axes, loc="lower left")
        caption = (
            "Test accuracy against sparsity. Lines: median over models; dark bands: quartiles; light "
            "bands: lowest to highest model."
        )
        return finish(figure, "accuracy", caption)


def pairs_in(table: pd.DataFrame) -> list[tuple[str, str]]:
    """The magnitude series of a table, each with the VD series it is compared with, in order."""
    found = {*zip(table["series"], table["against"], strict=True)}
    return sorted(found, key=lambda pair: tuple(map(series_order, pair)))


def _of_pair(table: pd.DataFrame, series: str, against: str) -> pd.DataFrame:
    return table[(table["series"] == series) & (table["against"] == against)]


def change_against_sparsity(tables: Tables) -> Picture:
    table = tables["performance"]
    columns = ("change_median", "change_low", "change_high")
    colours = colours_in(tables)
    with canvas() as (figure, axes):
        axes.axhline(0, color=INK, lw=1)
        for name in series_in(table):
            rows = table[table["series"] == name]
            error_bars(axes, rows["sparsity"], rows, columns, name, colours[name])
        axes.set_ylabel("change in accuracy, points")
        points_axis(axes.yaxis)
        sparsity_axis(axes)
        legend(axes, loc="lower left")
        return finish(figure, "change", "Median change from the original, with its 95 % interval.")


def losers_against_sparsity(tables: Tables) -> Picture:
    table = tables["performance"]
    colours = colours_in(tables)
    with canvas() as (figure, axes):
        for name in series_in(table):
            rows, colour = table[table["series"] == name], colours[name]
            axes.plot([], [], color=colour, label=name)
            for losses, dashes, marker in zip(LOSSES, DASHES, _MARKERS, strict=False):
                axes.plot(
                    rows["sparsity"], rows[f"lost_{losses}"], color=colour, ls=dashes, marker=marker, ms=3.5
                )
        for losses, dashes, marker in zip(LOSSES, DASHES, _MARKERS, strict=False):
            axes.plot([], [], color=INK, ls=dashes, marker=marker, ms=3.5, label=f"more than {losses}")
        axes.set_ylim(-0.03, 1.03)
        axes.set_ylabel("share of models")
        percent_axis(axes.yaxis)
        sparsity_axis(axes)
        legend(axes, loc="upper left")
        return finish(figure, "losers", "Share of models that lose more than 1, 2 or 5 points of accuracy.")


def difference_against_sparsity(data: StudyData, tables: Tables) -> Picture:
    table = tables["methods_measured"]
    table = table[table["epochs"] == table["against_epochs"]]
    columns = ("difference_median", "difference_low", "difference_high")
    with canvas() as (figure, axes):
        axes.axhline(0, color=INK, lw=1)
        colours, speaker = colours_in(tables), variational_series(table["against"])
        for shift, (name, against) in zip(
            (-0.004, 0.004, *[0.0] * len(table)), pairs_in(table), strict=False
        ):
            rows, colour = _of_pair(table, name, against), colours[name]
            estimates = rows["sparsity"] + shift  # side by side
            error_bars(axes, estimates, rows, columns, f"{name} − {against}", colour, against == speaker)
        axes.set_ylabel("difference in accuracy, points")
        points_axis(axes.yaxis)
        sparsity_axis(axes)
        legend(axes, room=3, loc="lower left")
        caption = (
            "(a) Magnitude pruning minus variational dropout at equal sparsity and equal epochs, within each model, "
            "where it was measured: median and 95 % interval. Above zero magnitude pruning is ahead."
        )
        return finish(figure, "difference", caption)


def matched_differences(data: StudyData) -> Picture | None:
    pairs = measured_pairs(data)
    pairs = pairs[pairs["epochs"] == pairs["against_epochs"]]
    pairs = pairs[(pairs["pairs"] == "matched") & pairs["at_end"].eq(True)]
    if pairs.empty:
        return None
    with canvas() as (figure, axes):
        axes.axhline(0, color=INK, lw=1)
        colours, speaker = colours_of(series_of(data)), variational_series(pairs["against"])
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


def spread_against_sparsity(tables: Tables) -> Picture:
    table = _with_sparsity(tables["robustness"], tables)
    colours = colours_in(tables)
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


def change_spread(tables: Tables) -> Picture:
    table = _with_sparsity(tables["robustness"], tables)
    colours = colours_in(tables)
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


def _with_sparsity(table: pd.DataFrame, tables: Tables) -> pd.DataFrame:
    """A table of series and levels with the median sparsity beside the level."""
    sparsity = tables["performance"][["series", "level", "sparsity"]]
    return table.merge(sparsity, on=["series", "level"], how="left")
