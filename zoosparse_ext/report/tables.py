"""Data frames as sortable tables of the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from zoosparse_ext.report.format import (
    DASH,
    integer,
    interval,
    number,
    p_value,
    percent,
    points,
    sort_key,
    spread,
    with_unit,
)

MAX_ROWS = 30  # shown in the page; the files hold all
SERIES_ROWS = 150  # of tables of one row per series and level, whose last series must not be cut off
_FORMATS: dict[str, Callable[[Any], str]] = {
    "count": integer,
    "percent": percent,
    "points": points,
    "spread": spread,
    "number": number,
    "p": p_value,
}


@dataclass(frozen=True)
class Column:
    """One column: which values, under which heading, in which unit, and what stands smaller below each."""

    key: str
    heading: str
    kind: str = "percent"  # text, verdict, count, percent, points (signed), spread (points), number, p,
    # or measured: in the unit that the row has in its column "unit"
    interval: tuple[str, str] | None = None  # columns of its ends
    note: str | None = None  # column of a text

    @property
    def is_text(self) -> bool:
        return self.kind in ("text", "verdict")


TWINS = (
    Column("series", "method", "text"),
    Column("level_label", "target", "text"),
    Column("n", "models", "count"),
)


@dataclass(frozen=True)
class Cell:
    text: str
    sort: str  # what the browser sorts by: the number itself
    note: str = ""  # the interval or a remark, smaller
    badge: str = ""  # class of a verdict


@dataclass(frozen=True)
class HtmlTable:
    """What the template needs to draw a table."""

    name: str  # of the files with all rows and columns
    caption: str
    columns: Sequence[Column]
    rows: list[list[Cell]]
    total: int

    @property
    def cut(self) -> bool:
        return self.total > len(self.rows)


def html_table(
    name: str, caption: str, frame: pd.DataFrame, columns: Sequence[Column], rows: int = MAX_ROWS
) -> HtmlTable:
    """The first rows of a frame, formatted.

    Args:
        name: of the CSV and Parquet files that hold the whole frame.
        caption: says what a row is.
        frame: any table of the analysis.
        columns: what to show; columns that the frame lacks are left out.
        rows: how many are shown.
    """
    present = [column for column in columns if column.key in frame]
    records = frame.head(rows).to_dict("records")
    cells = [[_cell(record, column) for column in present] for record in records]
    return HtmlTable(name, caption, present, cells, len(frame))


def _cell(record: dict[Any, Any], column: Column) -> Cell:
    value = record[column.key]
    remark = _text(record[column.note]) if column.note else ""
    note = "" if remark == DASH else remark
    if column.is_text:
        text = _text(value)
        return Cell(text, text, note, badge(text) if column.kind == "verdict" else "")
    if column.kind == "measured":
        unit = str(record["unit"])
        ends = interval(record["low"], record["high"], unit)
        return Cell(with_unit(value, unit), sort_key(value), note or ("" if ends == DASH else ends))
    show = _FORMATS[column.kind]
    if column.interval:
        low, high = (float(record[key]) for key in column.interval)
        note = "" if math.isnan(low) or math.isnan(high) else f"{_bare(show(low))} … {_bare(show(high))}"
    return Cell(show(value), sort_key(value), note)


def _text(value: Any) -> str:
    return DASH if value is None or value != value or value == "" else str(value)


def badge(verdict: str) -> str:
    """The class of a verdict in the page.

    >>> badge("does not hold")
    'does-not-hold'
    """
    return verdict.replace(" ", "-")


def _bare(text: str) -> str:
    return text.removesuffix(" %")
