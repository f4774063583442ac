"""Figures of questions 4 to 7: layers, agreement, correlation, trajectories."""

from __future__ import annotations

from typing import Any

import pandas as pd

from zoosparse_ext.analysis import StudyData, operating_twins
from zoosparse_ext.analysis.operating import operating_name
from zoosparse_ext.analysis.series import is_variational, magnitude_series
from zoosparse_ext.analysis.twins import series_of
from zoosparse_ext.report.figures.dots import dots, sampled
from zoosparse_ext.report.figures.legends import legend, legend_above
from zoosparse_ext.report.figures.palette import SEQUENCE, colours_of
from zoosparse_ext.report.figures.performance import Tables, colours_in, series_in
from zoosparse_ext.report.figures.style import (
    DASHES,
    INK,
    PAPER,
    QUIET,
    Picture,
    band,
    canvas,
    finish,
    percent_axis,
    points_axis,
    robust_limits,
    sparsity_axis,
)  # fmt: skip
from zoosparse_ext.report.format import capital
from zoosparse_ext.report.names import method_name

MAX_LAYERS = 12  # lines in one figure


def layers_of_pruning(tables: Tables) -> list[Picture]:
    """Layer against total sparsity, a figure for each series that chooses over all layers (per layer: a diagonal)."""
    table = tables["layers"]
    chosen = [name for name in series_in(table) if not is_variational(name) and "per layer" not in name]
    pictures = []
    for number, name in enumerate(chosen):
        caption = (
            f"{name}: sparsity of each layer against total sparsity, medians and quartiles. Below the diagonal "
            "a layer is spared."
        )
        file = "layers-magnitude" if number == 0 else f"layers-magnitude-{number + 1}"
        pictures.append(_layer_lines(table[table["series"] == name], file, caption))
    return pictures


def layers_of_variational(tables: Tables) -> list[Picture]:
    """The same epoch by epoch, a figure for each series of variational dropout."""
    table = tables["layer_trajectories"]
    pictures = []
    for number, name in enumerate(filter(is_variational, series_in(table))):
        caption = (
            f"{method_name(name)}, epoch by epoch: median sparsity of each layer against total sparsity."
        )
        file = "layers-variational" if number == 0 else f"layers-variational-{number + 1}"
        pictures.append(_layer_lines(table[table["series"] == name], file, capital(caption)))
    return pictures


def _layer_lines(rows: pd.DataFrame, name: str, caption: str) -> Picture:
    with canvas() as (figure, axes):
        axes.plot([0, 1], [0, 1], color=QUIET, lw=1)
        layers = list(dict.fromkeys(rows["layer"]))
        for number, layer in enumerate(layers[:MAX_LAYERS]):
            part, colour = rows[rows["layer"] == layer], SEQUENCE[number % len(SEQUENCE)]
            if "sparsity_q25" in part:
                band(axes, part["total"], part["sparsity_q25"], part["sparsity_q75"], colour, 0.15)
            dashes = DASHES[number // len(SEQUENCE) % len(DASHES)]
            axes.plot(part["total"], part["sparsity"], color=colour, ls=dashes, marker="o", ms=3, label=layer)
        if len(layers) > MAX_LAYERS:
            caption += f" The first {MAX_LAYERS} of {len(layers)} layers; all are in the table."
        axes.set_ylim(0, 1)
        axes.set_ylabel("sparsity of the layer")
        percent_axis(axes.yaxis)
        sparsity_axis(axes)
        legend(axes, room=MAX_LAYERS + 1, loc="upper left", fontsize=8)
        return finish(figure, name, caption)


def agreement_against_sparsity(tables: Tables) -> Picture:
    table, baseline = tables["agreement"], tables["agreement_of_originals"]["agreement"].astype(float)
    colours = colours_in(tables)
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


def kappa_against_sparsity(tables: Tables) -> Picture:
    table = tables["agreement"]
    measures = (("kappa", "Cohen's κ", "-", "o"), ("agreement_on_errors", "on errors", DASHES[1], "s"))
    colours = colours_in(tables)
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


def original_against_twin(data: StudyData) -> Picture:
    with canvas() as (figure, axes):
        drawn, colours = [], colours_of(series_of(data))
        for name, twins in operating_twins(data).items():
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


def correlation_against_sparsity(tables: Tables) -> Picture:
    table = tables["correlation"]
    colours = colours_in(tables)
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


def variational_by_epoch(tables: Tables) -> Picture | None:
    table, colours = tables["trajectories"], colours_in(tables)
    names = list(filter(is_variational, series_in(table)))
    if not names:
        return None
    with canvas(panels=(2, 1), sharex=True) as (figure, (upper, lower)):
        for axes, column, label in ((upper, "accuracy", "test accuracy"), (lower, "sparsity", "sparsity")):
            for name in names:
                rows = table[table["series"] == name]
                band(axes, rows["epoch"], rows[f"{column}_q25"], rows[f"{column}_q75"], colours[name])
                axes.plot(rows["epoch"], rows[column], color=colours[name], label=name)
            axes.set_ylabel(label)
            percent_axis(axes.yaxis)
        lower.set_xlabel("epoch of variational dropout")
        if len(names) > 1:
            legend_above(upper)
        return finish(figure, "vd-epochs", "Variational dropout per epoch: median and quartiles over models.")


def tuning_by_epoch(tables: Tables) -> Picture | None:
    """Recovery of accuracy during fine-tuning, at the ratios where there is something to recover."""
    table = tables["trajectories"]
    rows = table[~table["series"].map(is_variational).astype(bool) & table["target"].notna()]
    if rows.empty:
        return None
    name = [*magnitude_series(rows["series"]), *series_in(rows)][0]
    rows = rows[rows["series"] == name]
    ratios = [ratio for ratio in sorted(rows["target"].unique()) if ratio >= 0.5][-5:] or sorted(
        rows["target"].unique()
    )
    with canvas() as (figure, axes):
        axes.axhline(0, color=INK, lw=1)
        for ratio, colour in zip(ratios, SEQUENCE, strict=False):
            part = rows[rows["target"] == ratio]
            axes.plot(part["epoch"], part["change"], "o-", ms=3, color=colour, label=f"{100 * ratio:.4g} %")
        axes.set_xlabel("epoch of fine-tuning (0: just pruned)")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_ylabel("change in accuracy, points")
        points_axis(axes.yaxis)
        legend(axes, loc="best", title="sparsity", ncols=2)
        return finish(
            figure, "tuning-epochs", f"{name}: median change from the original per epoch of fine-tuning."
        )


def population_by_epoch(tables: Tables) -> Picture | None:
    """Spread and correlation per epoch of variational dropout."""
    table, colours = tables["trajectories"], colours_in(tables)
    table = table[table["accuracy_std"].notna()]
    names = list(filter(is_variational, series_in(table)))
    if not names:
        return None
    with canvas(panels=(2, 1), sharex=True) as (figure, (upper, lower)):
        for name in names:
            rows, colour, prefix = (
                table[table["series"] == name],
                colours[name],
                f"{name}: " * (len(names) > 1),
            )
            upper.plot(rows["epoch"], rows["accuracy_std"], color=colour)
            lower.plot(rows["epoch"], rows["pearson"], color=colour, label=f"{prefix}Pearson")
            lower.plot(rows["epoch"], rows["spearman"], color=colour, ls=DASHES[2], label=f"{prefix}Spearman")
        upper.set_ylabel("std, points")
        upper.set_ylim(bottom=0)
        points_axis(upper.yaxis, signed=False)
        lower.set_ylabel("correlation")
        lower.set_xlabel("epoch of variational dropout")
        legend(lower, loc="best", ncols=2)
        caption = (
            "Variational dropout per epoch: spread over the population, and correlation with the originals."
        )
        return finish(figure, "population-epochs", caption)


def agreement_by_epoch(tables: Tables) -> Picture | None:
    table = tables["trajectories"].dropna(subset=["agreement"])
    if table.empty:
        return None
    colours = colours_in(tables)
    with canvas() as (figure, axes):
        for name in series_in(table):
            rows = table[table["series"] == name]
            part, label = rows, name
            if not is_variational(name):
                ratio = _closest(rows["target"], 0.8)
                part, label = rows[rows["target"] == ratio], f"{name}, {100 * ratio:.4g} %"
            band(axes, part["epoch"], part["agreement_q25"], part["agreement_q75"], colours[name])
            axes.plot(part["epoch"], part["agreement"], "o-", ms=3, color=colours[name], label=label)
        axes.set_xlabel("epoch")
        axes.set_ylabel("equal predictions")
        percent_axis(axes.yaxis)
        legend(axes, loc="best")
        return finish(
            figure,
            "agreement-epochs",
            "Agreement with the original per epoch of fine-tuning or variational dropout.",
        )


def _closest(values: pd.Series, to: float) -> float:
    return float(values.iloc[int((values - to).abs().argmin())])
