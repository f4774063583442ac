"""The eight answers in one sentence each, computed from the tables."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from zoosparse_ext.analysis.agreement import baseline
from zoosparse_ext.analysis.measures import AGREES_BY_KAPPA, BRACKET, CORRELATES
from zoosparse_ext.analysis.series import (
    is_variational,
    magnitude_series,
    series_order,
    variational_series,
)
from zoosparse_ext.report.collapse import emptied_in_full
from zoosparse_ext.report.format import capital, number, percent, plural, points
from zoosparse_ext.report.headline import NO_TWINS, Tables
from zoosparse_ext.report.names import method_name

_SHOWN_RATIOS = (0.5, 0.8, 0.9)
_ALIKE = 0.1  # kept ratios closer than this differ by rounding and the size of small layers


def performance(tables: Tables) -> str:
    table = tables["performance"]
    parts = []
    for name in sorted(table["series"].unique(), key=series_order):
        rows = table[table["series"] == name]
        if not is_variational(name):
            shown = rows["level"].round(3).isin(_SHOWN_RATIOS)
            rows = rows[shown] if shown.any() else rows.iloc[[_closest(rows["level"], 0.8)]]
        costs = [
            f"{points(r['change_median'])} at {percent(r['sparsity'], 0)}" for r in rows.to_dict("records")
        ]
        if costs:
            parts.append(f"{', '.join(costs)} by {method_name(name)}")
    if table.empty:
        return NO_TWINS
    return f"Median change in accuracy, in points: {'; '.join(parts)}."


def methods(tables: Tables) -> str:
    claims = tables["claims"]
    rows = claims[(claims["measure"] == BRACKET.measure) & claims["stands"].astype(bool)]
    parts = [
        f"{method_name(row['series'])} against {method_name(row['against'])}: {row['why']}"
        for row in rows.to_dict("records")
    ]
    return capital("; ".join(parts)) + "."


def robustness(tables: Tables) -> str:
    table = tables["robustness"]
    if table.empty:
        return NO_TWINS
    wider, narrower = (int((table["verdict"] == verdict).sum()) for verdict in ("wider", "narrower"))
    failed, total = table["failures"].sum(min_count=1), plural(int(table["n"].sum()), "twin")
    failures = (
        f"{failed:,.0f} of {total} failed" if failed >= 0 else "how many failed is unknown without labels"
    )
    return (
        f"The spread of accuracy widens at {wider} and narrows at {narrower} of {len(table)} settings and "
        "cannot "
        f"be told from unchanged at the others; {failures}. "
        f"{emptied_in_full(tables)}"
    )


def layers(tables: Tables) -> str:
    table = tables["spared_layers"]
    parts = []
    for name in sorted(table["series"].unique(), key=series_order):
        rows = table[table["series"] == name]
        row = rows.iloc[_closest(rows["level"], 0.8)]
        most, least = row["most_spared_ratio"], row["most_pruned_ratio"]
        if most - least < _ALIKE:
            parts.append(f"{method_name(name)} prunes all layers alike")
            continue
        where = "at its end" if is_variational(name) else f"at {row['level_label']}"
        parts.append(
            f"{method_name(name)} {where} spares {row['most_spared']} ({number(most)} times the average "
            "share "
            f"kept) and prunes {row['most_pruned']} hardest ({number(least)} times)"
        )
    return capital("; ".join(parts)) + "." if parts else "The twins table has no sparsity by layer."


def agreement(tables: Tables) -> str:
    claims = tables["claims"]
    kappa = claims[(claims["measure"] == AGREES_BY_KAPPA.measure) & claims["value"].notna()].to_dict(
        "records"
    )
    if not kappa:
        return "No predictions are stored, so agreement is unknown."
    parts = ", ".join(
        f"{number(row['value'])} ({row['subject']}; {number(row['low'])} to {number(row['high'])})"
        for row in kappa
    )
    of_two = baseline(tables["agreement_of_originals"])
    known = (
        ""
        if np.isnan(of_two.estimate)
        else f"; two different originals agree on {percent(of_two.estimate)} of the images "
        f"({number(100 * of_two.low, 1)} to {number(100 * of_two.high, 1)})"
    )
    return f"Median Cohen's κ with the original is {parts}{known}."


def correlation(tables: Tables) -> str:
    claims = tables["claims"]
    rows = claims[(claims["measure"] == CORRELATES.measure) & claims["value"].notna()].to_dict("records")
    if not rows:
        return "Too few models, or accuracies that do not vary: correlation is undefined."
    parts = [
        f"{number(r['value'])} ({r['subject']}; {number(r['low'])} to {number(r['high'])})" for r in rows
    ]
    return f"Pearson's r between originals on one half of the images and twins on the other is {', '.join(parts)}."


def trajectories(tables: Tables) -> str:
    table = tables["trajectories"]
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
            gain, epochs = rows["change"].iloc[-1] - rows["change"].iloc[0], rows["epoch"].max()
            at = percent(rows["target"].iloc[0], 0)
            of = f" of {method_name(name)}" if several else ""
            parts.append(
                f"fine-tuning{of} for {plural(epochs, 'epoch')} at {at} changes the median by {points(gain)} points"
            )
    return capital("; ".join(parts)) + "." if parts else NO_TWINS


def weights(tables: Tables) -> str:
    table = tables["mask_overlaps"]
    methods = table[table["relation"] == "methods"]
    methods = methods[methods["second_series"] == variational_series(methods["second_series"])]
    speakers = magnitude_series(methods["first_series"])
    methods = methods[methods["first_series"].isin(speakers or methods["first_series"])]
    matched = methods[methods["first_label"] == "matched"]
    rows = matched if len(matched) else methods.sort_values("first_level").tail(1)
    parts = []
    for row in rows.head(1).to_dict("records"):
        against = method_name(row["second_series"])
        where = "at equal sparsity" if len(matched) else f"at {row['first_label']} against VD's end"
        parts.append(
            f"{method_name(row['first_series'])} and {against} of one model share "
            f"{percent(row['jaccard'], 0)} of the weights that either keeps {where} (independent masks: "
            f"{percent(row['expected'], 0)})"
        )
    models = table[table["relation"] == "models"]
    if len(models):
        excess = (models["jaccard"] - models["expected"]).abs().max()
        parts.append(
            f"masks of two models overlap within {number(100 * excess, 0)} points of what chance gives"
        )
    return capital("; ".join(parts)) + "." if parts else "No masks are stored, so overlap is unknown."


def _closest(levels: pd.Series, to: float) -> int:
    """Position of the level nearest to a ratio; of series without levels the first."""
    return int((levels - to).abs().fillna(0).to_numpy().argmin())


ANSWERS: dict[str, Callable[[Tables], str]] = {
    "performance": performance,
    "methods": methods,
    "robustness": robustness,
    "layers": layers,
    "agreement": agreement,
    "correlation": correlation,
    "trajectories": trajectories,
    "weights": weights,
}
