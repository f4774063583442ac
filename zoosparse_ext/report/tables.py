"""Data frames as sortable tables of the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from zoosparse_ext.report.format import DASH, integer, number, p_value, percent, points, sort_key, spread

MAX_ROWS = 30  # shown in the page; the files hold all
SERIES_ROWS = 150  # of tables of one row per series and level, whose last series must not be cut off
_FORMATS: dict[str, Callable[[Any], str]] = {
    "text": str,
    "count": integer,
    "percent": percent,
    "points": points,
    "spread": spread,
    "number": number,
    "p": p_value,
}


@dataclass(frozen=True)
class Column:
    """One column: which values, under which heading, in which unit, and the columns of its interval."""

    key: str
    heading: str
    kind: str = "percent"  # text, count, percent, points (signed), spread (points), number, p
    interval: tuple[str, str] | None = None


TWINS = (
    Column("series", "method", "text"),
    Column("level_label", "target", "text"),
    Column("n", "models", "count"),
)


@dataclass(frozen=True)
class Cell:
    text: str
    sort: str  # what the browser sorts by: the number itself
    note: str = ""  # the interval, smaller


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
    value, show = record[column.key], _FORMATS[column.kind]
    if column.kind == "text":
        text = DASH if value is None or value != value else str(value)
        return Cell(text, text)
    note = ""
    if column.interval:
        low, high = (record[key] for key in column.interval)
        note = "" if math.isnan(low) or math.isnan(high) else f"{_bare(show(low))} … {_bare(show(high))}"
    return Cell(show(value), sort_key(value), note)


def _bare(text: str) -> str:
    return text.removesuffix(" %")
