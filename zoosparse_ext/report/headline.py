"""The first screen in words: which method, at which sparsity, at what cost, and which claims hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from zoosparse_ext.analysis import Operating, sparsest_affordable
from zoosparse_ext.analysis.measures import AGREES, BRACKET, CORRELATES, MP_AHEAD, ROBUST
from zoosparse_ext.analysis.series import VD, is_variational
from zoosparse_ext.analysis.verdicts import FAILS, HOLDS, UNDECIDED
from zoosparse_ext.report.collapse import emptied
from zoosparse_ext.report.format import capital, measured, number, percent, points
from zoosparse_ext.report.names import method_name

Tables = Mapping[str, pd.DataFrame]
NO_TWINS = "This zoo has no twins yet."


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
    """The other series beside the best one, both methods at equal sparsity, and what is empty, a sentence each."""
    others = [_beside(choice) for choice in sparsest_affordable(tables["performance"])[1:]]
    sentences = [capital("; ".join(others)) + "."] if others else []
    pairs = tables["methods_measured"]
    exact = pairs[
        (pairs["pairs"] == "matched")
        & pairs["at_end"].eq(True)
        & (pairs["epochs"] == pairs["against_epochs"])
    ]
    for row in exact.head(1).to_dict("records"):
        where = f"the sparsity at which its variational twin ends (median {percent(row['sparsity'], 0)})"
        sentences.append(f"With every model pruned by magnitude to {where}, {_winner(row)}.")
    return [*sentences, *filter(None, [emptied(tables)])]


def _beside(choice: Operating) -> str:
    name, sparsity, cost = method_name(choice.series), percent(choice.sparsity, 0), _cost(choice)
    if is_variational(choice.series):
        return f"{name} ends at {sparsity} sparsity, {'for' if choice.within else 'at a cost of'} {cost}"
    return f"{name} reaches {sparsity} for {cost}" if choice.within else f"{name} costs {cost} at {sparsity}"


def _cost(choice: Operating) -> str:
    """ "0.7 points of accuracy (0.1 to 1.3)": what the median model loses, and the 95 % interval of that."""
    gains = choice.change > 0.0005  # less rounds to 0.0 points
    sign = 100 if gains else -100
    text = f"{'a gain of ' if gains else ''}{number(sign * choice.change, 1)} points of accuracy"
    aside = []
    if not np.isnan(choice.low):
        low, high = sorted((sign * choice.low, sign * choice.high))
        aside.append(f"{number(low, 1)} to {number(high, 1)}")
    if choice.collapsed:
        aside.append(_without(choice.collapsed, choice.n, number(sign * choice.working, 1)))
    return f"{text} ({'; '.join(aside)})" if aside else text


def _without(collapsed: int, n: int, working: str) -> str:
    """The median of those that work, beside that of all."""
    if collapsed == n:
        return "every twin collapsed" if n > 1 else "the twin collapsed"
    return f"{working} without the {collapsed} of {n} that collapsed"


def _winner(row: Mapping[object, object]) -> str:
    """Who is ahead, from a row of magnitude − VD and its interval."""
    median, low, high, working = (
        float(str(row[f"difference_{name}"])) for name in ("median", "low", "high", "working")
    )
    magnitude, variational = (method_name(str(row[side])) for side in ("series", "against"))
    collapsed, n = (int(str(row[name])) for name in ("collapsed", "n"))
    aside = f"; {_without(collapsed, n, f'{points(working)} points')}" if collapsed else ""
    if np.isnan(low):
        return f"{magnitude} differs from it by {points(median)} points{aside}"
    if low <= 0 <= high:
        known = f"{points(median)} points, {points(low)} to {points(high)}{aside}"
        return f"{magnitude} and {variational} cannot be told apart ({known})"
    ahead = median > 0
    name, ends = (magnitude, (low, high)) if ahead else (variational, (-high, -low))
    interval = f"{number(100 * ends[0], 1)} to {number(100 * ends[1], 1)}"
    aside = (
        f"; {_without(collapsed, n, number(100 * (working if ahead else -working), 1))}" if collapsed else ""
    )
    return f"{name} is ahead by {number(abs(100 * median), 1)} points ({interval}{aside})"


# What the first number of a claim is, in as few words as fit on its line.
_SHORT = {
    ROBUST.measure: "lose more than 5 points",
    MP_AHEAD.measure: "MP − VD",
    BRACKET.measure: "crossover bracket",
    AGREES.measure: "equal predictions",
    CORRELATES.measure: "split-half r",
}


@dataclass(frozen=True)
class ClaimInShort:
    """A claim on one line: its first measure for every series, and one verdict over all its checks."""

    claim: str
    numbers: str
    verdict: str


def claims_in_short(claims: pd.DataFrame) -> list[ClaimInShort]:
    """The claims table folded to one line per claim; the verdict is that of the series that stand for their method."""
    lines = []
    for claim, checks in claims.groupby("claim", sort=False):
        measure, unit = checks["measure"].iloc[0], checks["unit"].iloc[0]
        first = checks[checks["measure"] == measure]
        stand = _standing(first)
        numbers, beside = (
            ", ".join(
                f"{measured(row['value'], unit)} ({_series_of(row['subject'])})"
                for row in rows[rows["value"].notna()].to_dict("records")
            )
            for rows in (first[stand], first[~stand])
        )
        points_of = ", points" if unit in ("spread", "difference") else ""
        numbers = numbers or "not measured"
        text = f"{_SHORT.get(measure, measure)}{points_of}: {numbers}{'; beside them ' if beside else ''}{beside}"
        lines.append(ClaimInShort(str(claim), text, _overall(checks.loc[_standing(checks), "verdict"])))
    return lines


def _standing(claims: pd.DataFrame) -> pd.Series:
    """Rows of series that stand for their method; all of them where none does."""
    stand = claims["stands"].astype(bool)
    return stand if stand.any() else ~stand


def _series_of(subject: str) -> str:
    """ "MP global, cubic" of "MP global, cubic, 80 %", and "MP global" of "MP global − VD, 80 %"."""
    head, _, last = subject.rpartition(", ")
    named = head if head and last.endswith(" %") else subject
    series, _, against = named.partition(" − ")
    return series if against == VD else named


def _overall(verdicts: pd.Series) -> str:
    seen = set(verdicts)
    if len(seen) == 1:
        return str(verdicts.iloc[0])
    if HOLDS in seen:
        return "holds in part"
    return FAILS if FAILS in seen else UNDECIDED


def count_verdicts(claims: pd.DataFrame) -> str:
    """ "12 of 15 checks hold, 1 does not, 2 are undecided", of those of the paper's methods."""
    claims = claims[_standing(claims)]
    counts = claims["verdict"].value_counts()
    holds, fails, undecided = (int(counts.get(verdict, 0)) for verdict in (HOLDS, FAILS, UNDECIDED))
    return (
        f"{holds} of {len(claims)} checks {'holds' if holds == 1 else 'hold'}, {fails} "
        f"{'does' if fails == 1 else 'do'} not, {undecided} {'is' if undecided == 1 else 'are'} undecided"
    )
