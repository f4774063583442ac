from __future__ import annotations

import math

import pandas as pd
import pytest

from zoosparse_ext.report import readable_claims
from zoosparse_ext.report.claims import claims_in_short
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


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((INF, 0.8, INF), ("VD does not lead in the end", "above 80.0 %")),
        ((-INF, -INF, 0.8), ("VD leads at every sparsity", "below 80.0 %")),
        ((-INF, -INF, -INF), ("VD leads at every sparsity", "the whole interval")),
        ((0.8, -INF, INF), ("80.0 %", "undetermined")),
    ],
)
def test_a_crossover_outside_of_the_data_is_told_in_words(values, words):
    row = {"claim": "c", "subject": "MP − VD", "measure": "m", "unit": "share", "n": 9, "criterion": "x"}
    row |= {
        "verdict": "undecided",
        "stands": True,
        **dict(zip(("value", "low", "high"), values, strict=True)),
    }
    readable = readable_claims(pd.DataFrame([row])).iloc[0]
    assert (readable["measured"], readable["interval"], readable["models"]) == (*words, "9")
    assert claims_in_short(pd.DataFrame([row]))[0].numbers == f"m: {words[0]} (MP)"


def test_tables_keep_numbers_to_sort_by_and_are_cut():
    frame = pd.DataFrame({"x": [0.25, NAN] * MAX_ROWS, "low": 0.2, "high": 0.3, "name": "<a>"})
    columns = (Column("x", "x", interval=("low", "high")), Column("name", "n", "text"), Column("absent", "?"))
    table = html_table("t", "caption", frame, columns)
    assert len(table.rows) == MAX_ROWS and table.total == 2 * MAX_ROWS and table.cut
    first, second = table.rows[0][0], table.rows[1][0]
    assert (first.text, first.sort, first.note) == ("25.0 %", "0.25", "20.0 … 30.0")
    assert (second.text, second.sort) == ("–", "")
    assert [column.key for column in table.columns] == ["x", "name"]
