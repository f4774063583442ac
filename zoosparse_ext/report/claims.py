"""The claims of the paper in words: every check, each claim on one line, and how many hold."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

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
from zoosparse_ext.analysis.series import VD
from zoosparse_ext.report.format import DASH, integer, interval, measured

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
    """The claims table folded to one line per claim; the verdict is that of the series that stand for their method."""
    lines = []
    for claim, checks in claims.groupby("claim", sort=False):
        measure, unit = checks["measure"].iloc[0], checks["unit"].iloc[0]
        first = checks[checks["measure"] == measure]
        stand = _standing(first)
        numbers, beside = (
            ", ".join(
                f"{measured(row['value'], unit)} ({_series_of(row['subject'])})"
                for row in rows.to_dict("records")
            )
            for rows in (first[stand], first[~stand])
        )
        points_of = ", points" if unit in ("spread", "difference") else ""
        text = f"{_SHORT.get(measure, measure)}{points_of}: {numbers}{'; beside them ' if beside else ''}{beside}"
        lines.append(ClaimInShort(str(claim), text, _overall(checks.loc[_standing(checks), "verdict"])))
    return lines


def _standing(claims: pd.DataFrame) -> pd.Series:
    """Rows of series that stand for their method; all of them where none does."""
    stand = claims["stands"].astype(bool)
    return stand if stand.any() else ~stand


def _series_of(subject: str) -> str:
    """ "MP global, cubic" of "MP global, cubic, 80 %", and "MP global" of "MP global − VD"."""
    series, _, against = subject.partition(" − ")
    if against:
        return series if against == VD else subject
    head, _, last = subject.rpartition(", ")
    return head if head and last.endswith(" %") else subject


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


def readable_claims(claims: pd.DataFrame) -> pd.DataFrame:
    """The claims table for people: every number in its unit, as text.

    Args:
        claims: from :func:`~zoosparse_ext.analysis.check_claims`.

    Returns:
        columns claim, twins, measure, measured, interval, models, criterion, verdict.
    """
    rows = [
        (
            c["claim"],
            c["subject"],
            c["measure"],
            _with_unit(c["value"], c["unit"]),
            interval(c["low"], c["high"], c["unit"]),
            integer(c["n"]),
            c["criterion"],
            c["verdict"],
        )
        for c in claims.to_dict("records")
    ]
    names = ["claim", "twins", "measure", "measured", "interval", "models", "criterion", "verdict"]
    return pd.DataFrame(rows, columns=names)


def _with_unit(value: float, unit: str) -> str:
    text = measured(value, unit)
    return f"{text} points" if unit in ("spread", "difference") and text != DASH else text
