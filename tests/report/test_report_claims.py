"""The claims in words: a matrix of statement and sparsity in which every number was measured."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from zoosparse_ext.analysis import StudyData
from zoosparse_ext.report import readable_claims
from zoosparse_ext.report.claims import matrix
from zoosparse_ext.report.conditions import conditions, controlled
from zoosparse_ext.report.figures.panels import close_up, panels
from zoosparse_ext.report.page import _facts
from zoosparse_ext.report.questions import QUESTIONS, analyzed, trajectories
from zoosparse_ext.report.results import Results

NAN = math.nan


def claims(**columns: list[object]) -> pd.DataFrame:
    rows = len(next(iter(columns.values())))
    usual = {"statement": 1, "claim": "Robust", "subject": "s", "series": "MP global", "against": None, "level": 0.8,
             "sparsity": 0.8, "epochs": 25, "measure": "share", "unit": "share", "value": 0.02, "low": 0.01,
             "high": 0.05, "n": 20, "images": 100, "resampled": "models and images", "criterion": "below 10 %",
             "p": 0.01, "p_adjusted": 0.02, "verdict": "holds", "why": "", "primary": True, "stands": True}  # fmt: skip
    return pd.DataFrame({name: columns.get(name, [value] * rows) for name, value in usual.items()})


def test_a_cell_has_a_line_for_each_series_and_one_verdict():
    (row,) = matrix(claims(series=["MP global", "VD"], verdict=["holds", "does not hold"]))
    before, at_80, after = row.cells
    assert before is None and after is None and at_80.level == "80 %"
    assert (at_80.verdict, at_80.badge) == ("holds in part", "holds-in-part")
    assert [(line.mark, line.series, line.number) for line in at_80.lines] == [
        ("✓", "MP global", "2.0 % (1.0 … 5.0 %)"),
        ("✗", "VD", "2.0 % (1.0 … 5.0 %)"),
    ]
    assert (row.claim, row.measure, row.criterion) == ("Robust", "share", "below 10 %")


def test_what_is_undecided_says_why_once_and_in_few_words():
    why = [
        "the interval crosses 10 %: 2 of 6",
        "no twin between 77.5 and 82.5 %",
        "no twin between 77.5 and 82.5 %",
    ]
    table = claims(series=["a", "b", "c"], value=[0.3, NAN, NAN], verdict=["undecided"] * 3, why=why)
    (row,) = matrix(table)
    crossing, missing = row.cells[1].lines
    assert (crossing.series, crossing.why) == ("a", "the interval crosses 10 %")
    assert (missing.series, missing.number, missing.why) == ("b, c", "", "no twin between 77.5 and 82.5 %")


def test_a_difference_at_unequal_epochs_is_no_number_of_the_matrix():
    table = claims(
        value=[-0.61], unit=["difference"], against=["VD"], verdict=["undecided"], why=["5 epochs against 25"]
    )
    (line,) = matrix(table)[0].cells[1].lines
    assert (line.series, line.number, line.why) == (
        "MP global − VD",
        "",
        "not comparable: 5 epochs against 25",
    )
    assert readable_claims(table)["told"].item() == "not comparable: 5 epochs against 25"


def test_only_primary_checks_of_the_methods_are_in_the_matrix():
    table = claims(
        series=["MP global", "random global", "VD"], stands=[True, False, True], primary=[True, True, False]
    )
    (row,) = matrix(table)
    assert [line.series for line in row.cells[1].lines] == ["MP global"]
    assert matrix(table.iloc[:0]) == []


def test_every_number_of_the_matrix_is_in_the_tables_of_the_study(many: StudyData):
    results = analyzed(many)
    measured = set(results["claims"]["value"].dropna())
    rows = matrix(results["claims"])
    assert len(rows) == 5 and all(len(row.cells) == 3 for row in rows)
    shown = results["claims"].query("primary and stands")
    assert set(shown["value"].dropna()) <= measured and set(shown["level"]) == {0.5, 0.8, 0.9}


@pytest.mark.parametrize(
    ("values", "limits"),
    [
        ([0.9, 0.91, 0.92, 0.93, 0.1], (0.8976, 0.9324)),
        ([0.9, 0.8, 0.6, 0.4, 0.1], None),  # spread out: one scale shows all
        ([0.900, 0.901, 0.902, 0.95], None),  # less than ten points in all
        ([0.9, NAN, 0.1], None),
        ([], None),
    ],
)
def test_a_collapse_gets_a_panel_of_its_own(values, limits):
    assert close_up(values) == limits
    with panels(values) as (_, both):
        assert len(both) == (1 if limits is None else 2)
        if limits:
            assert both[0].get_ylim() == limits


def study(controls: bool = False, epochs: tuple[int, int] = (25, 25)) -> StudyData:
    names = [f"m{i}" for i in range(6)]
    models = pd.DataFrame({"model_id": names, "accuracy": 0.9})
    rows = [("magnitude", "global", 0.8, epochs[0]), ("variational", None, NAN, epochs[1])]
    rows += [("control", None, 0.0, 25)] * controls
    twins = [
        {"twin_id": f"{name}/{method}", "source_id": name, "method": method, "scope": scope, "target": target,
         "epoch": epoch, "sparsity": 0.0 if method == "control" else 0.8, "accuracy": 0.85}
        for name in names
        for method, scope, target, epoch in rows
    ]  # fmt: skip
    return StudyData(models, pd.DataFrame(twins))


def test_the_first_screen_states_its_conditions():
    noted = {"magnitude-global": {"optimizer": "adam", "lr": "lr 0.003"}, "variational": {"lr": "source lr"}}
    results = Results(study(), {}, {"twins": noted})
    assert conditions(results) == (
        "Twins were trained: MP global for 25 epochs, at learning rate 0.003; VD for 25 epochs, at each model's own "
        "learning rate."
    )
    equal = Results(study(), {}, {"twins": {key: {"lr": "source lr"} for key in noted}})
    assert conditions(equal) == "Twins were trained for 25 epochs, at each model's own learning rate."
    assert conditions(Results(study(epochs=(5, 25)), {})) == (
        "Twins were trained: MP global for 5 epochs; VD for 25 epochs; learning rates were not recorded."
    )


def test_what_is_measured_against_a_control_says_so():
    with_control, without = analyzed(study(controls=True)), analyzed(study())
    assert controlled(with_control).startswith("Costs and losses are read against controls")
    assert controlled(without).startswith("There is no control: costs are read against the originals")
    for results, word in ((with_control, "control"), (without, "original")):
        answers = {question.id: question.answer(results) for question in QUESTIONS}
        assert (
            f"against the {word}s" in answers["performance"] and f"below the {word}" in answers["robustness"]
        )
        shown = results["claims"].query("statement == 1 and primary and value == value")
        assert set(shown["against"]) == {word}


def test_unequal_budgets_are_shown_as_not_comparable():
    (question,) = [question for question in QUESTIONS if question.id == "methods"]
    results = analyzed(study(epochs=(5, 25)))
    assert question.answer(results) == (
        "Nothing was measured at equal epochs (5 against 25): the methods cannot be compared here."
    )
    (picture, *_) = question.answered(results).figures
    assert "unequal epochs, not comparable" in picture.svg
    assert np.isnan(analyzed(study())["crossover"]["low"]).all()  # equal accuracies: no method is ahead


def test_controls_are_counted_apart_from_twins():
    facts = _facts(study(controls=True))
    assert {"6 models", "12 twins", "6 controls"} <= set(facts)
    assert not any("control" in fact for fact in _facts(study()))


def test_fine_tuning_is_told_by_the_accuracy_that_it_reaches():
    """The median change of single models is another number: it moves though the median accuracy does not."""
    table = pd.DataFrame({"series": "MP global", "target": 0.9, "epoch": [0, 25], "sparsity": 0.9,
                          "accuracy": [0.101, 0.101], "change": [-0.871, -0.861]})  # fmt: skip
    said = trajectories.answer(Results(study(), {"trajectories": lambda data: table}))
    assert said == "25 epochs of fine-tuning at 90 % sparsity take the median accuracy from 10.1 % to 10.1 %."
