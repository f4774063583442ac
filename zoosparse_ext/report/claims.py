"""The claims of the paper in words: a matrix of statement and sparsity, and every check as text."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from zoosparse_ext.report.format import DASH, interval, percent, with_unit
from zoosparse_ext.report.tables import badge

HOLDS, FAILS, UNDECIDED, IN_PART = "holds", "does not hold", "undecided", "holds in part"
LEVELS = (0.5, 0.8, 0.9)
_UNEQUAL = re.compile(
    r"\d+ epochs? against \d+"
)  # a reason; a number measured so says nothing about the methods
_MARKS = {HOLDS: "✓", FAILS: "✗", UNDECIDED: "?"}


@dataclass(frozen=True)
class Line:
    """One series in one cell: "✓ MP global +1.2 points (+0.8 … +1.6)"."""

    series: str
    verdict: str
    number: str  # "" where nothing was measured
    why: str  # of what is undecided

    @property
    def mark(self) -> str:
        return _MARKS.get(self.verdict, "")


@dataclass(frozen=True)
class Cell:
    """One statement at one sparsity."""

    level: str
    verdict: str
    lines: list[Line]

    @property
    def badge(self) -> str:
        return badge(self.verdict)


@dataclass(frozen=True)
class Row:
    """One claim of a statement, at every sparsity for which the paper makes it."""

    claim: str
    measure: str
    criterion: str
    cells: list[Cell | None]


def matrix(claims: pd.DataFrame) -> list[Row]:
    """The primary checks of the series that stand for the paper's methods, one row per claim.

    Args:
        claims: from :func:`~zoosparse_ext.analysis.check_claims`.
    """
    chosen = claims[claims["primary"].astype(bool)]
    chosen = standing(chosen)
    rows = []
    for _, checks in chosen.groupby(["statement", "claim"], sort=False):
        first = checks.iloc[0]
        cells = [_cell(level, checks[(checks["level"] - level).abs() < 1e-6]) for level in LEVELS]
        rows.append(Row(str(first["claim"]), str(first["measure"]), str(first["criterion"]), cells))
    return rows


def standing(claims: pd.DataFrame) -> pd.DataFrame:
    """Checks of series that stand for their method; all where none does."""
    stand = claims["stands"].astype(bool)
    return claims[stand] if stand.any() else claims


def _cell(level: float, checks: pd.DataFrame) -> Cell | None:
    if checks.empty:
        return None
    lines = [_line(check) for check in checks.to_dict("records")]
    return Cell(percent(level, 0), overall(checks["verdict"]), _merged(lines))


def _line(check: Mapping[Hashable, Any]) -> Line:
    unit = str(check["unit"])
    number = with_unit(check["value"], unit)
    ends = interval(check["low"], check["high"], unit)
    text = "" if number == DASH else number if ends == DASH else f"{number} ({ends})"
    if _UNEQUAL.fullmatch(str(check["why"])):
        return Line(_compared(check), str(check["verdict"]), "", f"not comparable: {check['why']}")
    why = str(check["why"]) if check["verdict"] == UNDECIDED else ""
    return Line(_compared(check), str(check["verdict"]), text, _short(why) if text else why)


def _compared(check: Mapping[Hashable, Any]) -> str:
    """ "MP global", or "MP global − VD" where two series are compared."""
    against = check["against"]
    is_series = isinstance(against, str) and against not in ("", "control", "original")
    return f"{check['series']} − {against}" if is_series else str(check["series"])


def _short(why: str) -> str:
    """A reason without the number that stands beside it.

    >>> _short("the interval crosses 90 %: 95 % (88 to 97)"), _short("95 % (91 to 97), but p is 0.12, adjusted for 14")
    ('the interval crosses 90 %', 'p is 0.12, adjusted for 14')
    """
    _, but, reason = why.partition(", but ")
    return reason if but else why.partition(": ")[0]


def _merged(lines: list[Line]) -> list[Line]:
    """One line for all series of which nothing was measured for the same reason."""
    merged: list[Line] = []
    for line in lines:
        alike = [other for other in merged if (other.number, other.why) == ("", line.why)]
        if line.number or not alike:
            merged.append(line)
        else:
            place = merged.index(alike[0])
            merged[place] = Line(f"{alike[0].series}, {line.series}", line.verdict, "", line.why)
    return merged


def overall(verdicts: pd.Series) -> str:
    """One verdict over several series.

    >>> overall(pd.Series(["holds", "holds"])), overall(pd.Series(["holds", "does not hold"]))
    ('holds', 'holds in part')
    """
    seen = set(verdicts)
    if len(seen) == 1:
        return str(verdicts.iloc[0])
    if HOLDS in seen:
        return IN_PART
    return FAILS if FAILS in seen else UNDECIDED


def count_verdicts(claims: pd.DataFrame) -> str:
    """ "12 of 15 checks hold, 1 does not, 2 are undecided", of the primary ones of the paper's methods."""
    claims = standing(claims[claims["primary"].astype(bool)])
    counts = claims["verdict"].value_counts()
    holds, fails, undecided = (int(counts.get(verdict, 0)) for verdict in (HOLDS, FAILS, UNDECIDED))
    return (
        f"{holds} of {len(claims)} checks {'holds' if holds == 1 else 'hold'}, {fails} "
        f"{'does' if fails == 1 else 'do'} not, {undecided} {'is' if undecided == 1 else 'are'} undecided"
    )


def readable_claims(claims: pd.DataFrame) -> pd.DataFrame:
    """The claims table for people: every number in its unit, as text.

    Returns:
        columns statement, claim, twins, series, at, measure, measured, interval, models, criterion, verdict, why, and
        told: the number and the reason, as far as a line has room.
    """
    rows = []
    for check in claims.to_dict("records"):
        unit, line = str(check["unit"]), _line(check)
        rows.append(
            {
                "statement": check["statement"],
                "claim": check["claim"],
                "twins": check["subject"],
                "series": line.series,
                "at": percent(check["level"], 0) if check["level"] == check["level"] else DASH,
                "measure": check["measure"],
                "measured": with_unit(check["value"], unit),
                "interval": interval(check["low"], check["high"], unit),
                "models": str(int(check["n"])),
                "criterion": check["criterion"],
                "verdict": check["verdict"],
                "why": check["why"],
                "told": " ".join(filter(None, [line.number, line.why])),
            }
        )
    return pd.DataFrame(rows)
