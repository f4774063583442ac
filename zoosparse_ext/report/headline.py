"""The first screen in words: which method, at which sparsity, at what cost, and which claims hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from zoosparse_ext.analysis import Operating, sparsest_affordable
from zoosparse_ext.analysis.claims import (
    CORRELATED,
    CROSSING,
    FAILS,
    HOLDS,
    KAPPA,
    MP_AHEAD,
    ROBUST,
    UNDECIDED,
)
from zoosparse_ext.analysis.twins import VD
from zoosparse_ext.report.format import capital, measured, number, percent, points

Tables = Mapping[str, pd.DataFrame]
NO_TWINS = "This zoo has no twins yet."
_NAMES = {
    "MP global": "global magnitude pruning",
    "MP per layer": "per-layer magnitude pruning",
    "MP": "magnitude pruning",
    VD: "variational dropout",
}


def method_name(series: str) -> str:
    """ "MP global" in words."""
    return _NAMES.get(series, series)


def headline(tables: Tables) -> str:
    """Which method, at which sparsity, at what cost."""
    choices = sparsest_affordable(tables["performance"])
    if not choices:
        return NO_TWINS
    name, sparsity, cost = method_name(choices[0].series), percent(choices[0].sparsity, 0), _cost(choices[0])
    if choices[0].within:
        return capital(f"{name} goes furthest at little cost: {sparsity} sparsity for {cost}.")
    return f"Every method costs more than one point; {name} costs least: {cost} at {sparsity} sparsity."


def comparison(tables: Tables) -> list[str]:
    """The other methods beside the best one, and both at equal sparsity, a sentence each."""
    others = [_beside(choice) for choice in sparsest_affordable(tables["performance"])[1:]]
    sentences = [capital("; ".join(others)) + "."] if others else []
    matched = tables["methods_matched"]
    for row in matched[matched["level_label"] == "all"].head(1).to_dict("records"):
        where = f"the sparsity at which its variational twin ends (median {percent(row['sparsity'], 0)})"
        sentences.append(f"With every model pruned by magnitude to {where}, {_winner(row)}.")
    return sentences


def _beside(choice: Operating) -> str:
    name, sparsity, cost = method_name(choice.series), percent(choice.sparsity, 0), _cost(choice)
    if choice.series == VD:
        return f"{name} ends at {sparsity} sparsity, {'for' if choice.within else 'at a cost of'} {cost}"
    return f"{name} reaches {sparsity} for {cost}" if choice.within else f"{name} costs {cost} at {sparsity}"


def _cost(choice: Operating) -> str:
    """ "0.7 points of accuracy (0.1 to 1.3)": what the median model loses, and the 95 % interval of that."""
    gains = choice.change > 0.0005  # less rounds to 0.0 points
    sign = 100 if gains else -100
    text = f"{'a gain of ' if gains else ''}{number(sign * choice.change, 1)} points of accuracy"
    if np.isnan(choice.low):
        return text
    low, high = sorted((sign * choice.low, sign * choice.high))
    return f"{text} ({number(low, 1)} to {number(high, 1)})"


def _winner(row: Mapping[object, object]) -> str:
    """Who is ahead, from a row of magnitude − VD and its interval."""
    median, low, high = (float(str(row[f"difference_{name}"])) for name in ("median", "low", "high"))
    magnitude = method_name(str(row["series"]))
    if np.isnan(low):
        return f"{magnitude} differs from it by {points(median)} points"
    if low <= 0 <= high:
        known = f"{points(median)} points, {points(low)} to {points(high)}"
        return f"{magnitude} and variational dropout cannot be told apart ({known})"
    name, ends = (magnitude, (low, high)) if median > 0 else (method_name(VD), (-high, -low))
    interval = f"{number(100 * ends[0], 1)} to {number(100 * ends[1], 1)}"
    return f"{name} is ahead by {number(abs(100 * median), 1)} points ({interval})"


# What the first number of a claim is, in as few words as fit on its line.
_SHORT = {
    ROBUST.measure: "std of the change",
    MP_AHEAD.measure: "MP − VD",
    CROSSING.measure: "crossover",
    KAPPA.measure: "median Cohen's κ",
    CORRELATED.measure: "Pearson's r",
}


@dataclass(frozen=True)
class ClaimInShort:
    """A claim on one line: its first measure for every series, and one verdict over all its checks."""

    claim: str
    numbers: str
    verdict: str


def claims_in_short(claims: pd.DataFrame) -> list[ClaimInShort]:
    """The claims table folded to one line per claim, for the first screen."""
    lines = []
    for claim, checks in claims.groupby("claim", sort=False):
        measure, unit = checks["measure"].iloc[0], checks["unit"].iloc[0]
        first = checks[checks["measure"] == measure].to_dict("records")
        numbers = [f"{measured(row['value'], unit)} ({_series_of(row['subject'])})" for row in first]
        points_of = ", points" if unit in ("spread", "difference") else ""
        text = f"{_SHORT.get(measure, measure)}{points_of}: {', '.join(numbers)}"
        lines.append(ClaimInShort(str(claim), text, _overall(checks["verdict"])))
    return lines


def _series_of(subject: str) -> str:
    """ "MP global" of "MP global, 80 %" and of "MP global − VD"."""
    return subject.partition(",")[0].removesuffix(" − VD")


def _overall(verdicts: pd.Series) -> str:
    seen = set(verdicts)
    if len(seen) == 1:
        return str(verdicts.iloc[0])
    if HOLDS in seen:
        return "holds in part"
    return FAILS if FAILS in seen else UNDECIDED


def count_verdicts(claims: pd.DataFrame) -> str:
    """ "12 of 15 checks hold, 1 does not, 2 are undecided"."""
    counts = claims["verdict"].value_counts()
    holds, fails, undecided = (int(counts.get(verdict, 0)) for verdict in (HOLDS, FAILS, UNDECIDED))
    return (
        f"{holds} of {len(claims)} checks {'holds' if holds == 1 else 'hold'}, {fails} "
        f"{'does' if fails == 1 else 'do'} not, {undecided} {'is' if undecided == 1 else 'are'} undecided"
    )
