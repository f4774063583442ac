from __future__ import annotations

import math

import pandas as pd
import pytest

from zoosparse_ext.report import readable_claims
from zoosparse_ext.report.format import interval, measured, number, percent, plural, points
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
        (interval(NAN, 0.02, "difference"), "–"),
        (plural(1, "model"), "1 model"),
        (plural(1200, "model"), "1,200 models"),
    ],
)
def test_numbers_for_people(shown, expected):
    assert shown == expected


def test_readable_claims_of_no_crossover():
    claims = pd.DataFrame(
        [
            {"claim": "c", "subject": "MP", "measure": "m", "unit": "share", "value": INF, "low": 0.8,
             "high": INF, "n": 9, "criterion": "x", "verdict": "undecided"}
        ]
    )  # fmt: skip
    row = readable_claims(claims).iloc[0]
    assert (row["measured"], row["interval"], row["models"]) == ("never in the data", "80.0 % … ∞", "9")


def test_tables_keep_numbers_to_sort_by_and_are_cut():
    frame = pd.DataFrame({"x": [0.25, NAN] * MAX_ROWS, "low": 0.2, "high": 0.3, "name": "<a>"})
    columns = (Column("x", "x", interval=("low", "high")), Column("name", "n", "text"), Column("absent", "?"))
    table = html_table("t", "caption", frame, columns)
    assert len(table.rows) == MAX_ROWS and table.total == 2 * MAX_ROWS and table.cut
    first, second = table.rows[0][0], table.rows[1][0]
    assert (first.text, first.sort, first.note) == ("25.0 %", "0.25", "20.0 … 30.0")
    assert (second.text, second.sort) == ("–", "")
    assert [column.key for column in table.columns] == ["x", "name"]
