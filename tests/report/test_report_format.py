from __future__ import annotations

import math

import pandas as pd
import pytest

from zoosparse_ext.report.format import interval, measured, number, percent, plural, points, with_unit
from zoosparse_ext.report.tables import MAX_ROWS, Column, html_table

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (percent(0.5), "50.0 %"),
        (percent(NAN), "–"),
        (percent(-INF), "−∞"),
        (points(0.0004), "0.0"),
        (points(-0.0004), "0.0"),
        (points(-0.012), "−1.2"),
        (points(0.012), "+1.2"),
        (number(-0.0), "0.00"),
        (measured(0.0123, "spread"), "1.23"),
        (measured(0.786, "share"), "78.6 %"),
        (measured(0.786, ""), "0.79"),
        (interval(-0.01, 0.02, "difference"), "−1.0 … +2.0"),
        (interval(0.1, 0.25, "share"), "10.0 … 25.0 %"),
        (with_unit(0.0123, "difference"), "+1.2 points"),
        (with_unit(NAN, "difference"), "–"),
        (interval(NAN, 0.02, "difference"), "–"),
        (plural(1, "model"), "1 model"),
        (plural(1200, "model"), "1,200 models"),
    ],
)
def test_numbers_for_people(shown, expected):
    assert shown == expected


def test_tables_keep_numbers_to_sort_by_and_are_cut():
    frame = pd.DataFrame({"x": [0.25, NAN] * MAX_ROWS, "low": 0.2, "high": 0.3, "name": "<a>"})
    columns = (Column("x", "x", interval=("low", "high")), Column("name", "n", "text"), Column("absent", "?"))
    table = html_table("t", "caption", frame, columns)
    assert len(table.rows) == MAX_ROWS and table.total == 2 * MAX_ROWS and table.cut
    first, second = table.rows[0][0], table.rows[1][0]
    assert (first.text, first.sort, first.note) == ("25.0 %", "0.25", "20.0 … 30.0")
    assert (second.text, second.sort) == ("–", "")
    assert [column.key for column in table.columns] == ["x", "name"]


def test_cells_of_verdicts_remarks_and_units():
    frame = pd.DataFrame({"verdict": ["does not hold", None], "why": ["because", ""], "value": [0.012, NAN],
                          "low": 0.01, "high": 0.02, "unit": ["difference", ""]})  # fmt: skip
    columns = (Column("verdict", "verdict", "verdict", note="why"), Column("value", "measured", "measured"))
    (verdict, value), (missing, unknown) = html_table("t", "caption", frame, columns).rows
    assert (verdict.text, verdict.badge, verdict.note) == ("does not hold", "does-not-hold", "because")
    assert (missing.text, missing.note, unknown.text) == ("–", "", "–")
    assert (value.text, value.sort, value.note) == ("+1.2 points", "0.012", "+1.0 … +2.0")
