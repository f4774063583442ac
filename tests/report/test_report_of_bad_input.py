"""Whatever a study lacks: the report says what can be said, and shows no NaN as a number."""

from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic_zoo import synthetic_zoo

from zoosparse_ext.analysis import StudyData
from zoosparse_ext.report import write_report


class Text(HTMLParser):
    """The text of a page without its styles, scripts and drawings."""

    def __init__(self) -> None:
        super().__init__()
        self.inside: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag, attributes):
        if tag in ("style", "script"):
            self.inside.append(tag)

    def handle_endtag(self, tag):
        if self.inside and self.inside[-1] == tag:
            self.inside.pop()

    def handle_data(self, data):
        if not self.inside:
            self.words.append(data)


def text_of(page: Path) -> str:
    parser = Text()
    parser.feed(page.read_text(encoding="utf-8"))
    return " ".join(" ".join(parser.words).split()).replace("\xa0", " ")


@pytest.fixture(scope="module")
def small() -> StudyData:
    return StudyData.from_zoo(synthetic_zoo(7, images=60, ratios=(0.5, 0.8, 0.9), fine_tuning=1))


def of_method(study: StudyData, *methods: str) -> pd.DataFrame:
    return study.twins[study.twins["method"].isin(methods)]


def first_model(study: StudyData) -> dict[str, object]:
    models = study.models[:1]
    return {"models": models, "twins": study.twins[study.twins["source_id"].isin(models["model_id"])]}


def at_chance(study: StudyData) -> dict[str, object]:
    models, twins = study.models.assign(accuracy=0.1), study.twins.assign(accuracy=0.1, one_answer=1.0)
    return {"models": models, "twins": twins, "populations": {}}


def some_nan(study: StudyData) -> dict[str, object]:
    failed = study.twins["source_id"].isin(study.models["model_id"][:2]) & (study.twins["target"] == 0.9)
    columns = ["accuracy", "loss", "agreement", "kappa", "agreement_on_errors"]
    twins = study.twins.copy()
    twins.loc[failed, columns] = np.nan
    return {"twins": twins, "populations": {}}


def with_gaps(study: StudyData) -> dict[str, object]:
    twins = study.twins
    missing = (twins["source_id"] == twins["source_id"].iloc[0]) & (twins["target"] == 0.8)
    missing |= (twins["scope"] == "layer") & (twins["target"] == 0.5)
    return {"twins": twins[~missing]}


def three_series(study: StudyData) -> dict[str, object]:
    cubic = of_method(study, "magnitude")
    cubic = cubic[cubic["matched"].isna() & (cubic["scope"] == "global")]
    cubic = cubic.assign(twin_id=cubic["twin_id"] + "-cubic", series="magnitude-global-cubic")
    return {"twins": pd.concat([study.twins, cubic], ignore_index=True)}


CASES = {
    "one model": first_model,
    "all equal": lambda study: {
        "models": study.models.assign(accuracy=0.5),
        "twins": study.twins.assign(accuracy=0.5),
        "populations": {},
    },
    "all at chance": at_chance,
    "no VD": lambda study: {"twins": of_method(study, "magnitude").query("matched.isna()")},
    "no MP": lambda study: {"twins": of_method(study, "variational")},
    "three series": three_series,
    "a grid with gaps": with_gaps,
    "NaN twins": some_nan,
    "all twins NaN": lambda study: {"twins": study.twins.assign(accuracy=np.nan), "populations": {}},
    "no labels": lambda study: {"labels": None},
    "tables alone": lambda study: {"labels": None, "populations": {}},
    "no twins": lambda study: {"twins": pd.DataFrame()},
}


@pytest.mark.parametrize("case", [*CASES, "20 test images"])
def test_the_report_says_what_can_be_said(small: StudyData, case: str, tmp_path: Path) -> None:
    if case == "20 test images":
        data = StudyData.from_zoo(synthetic_zoo(7, images=20, ratios=(0.5, 0.8), fine_tuning=1))
    else:
        data = dataclasses.replace(small, **CASES[case](small))
    page = write_report(data, tmp_path)
    text = text_of(page)
    shown = re.findall(r"[^.]{0,40}(?<![A-Za-z])(?:nan|NaN|inf|None)(?![A-Za-z])[^.]{0,40}", text)
    assert [words for words in shown if "None of" not in words] == []
    for drawing in (tmp_path / "figures").glob("*.svg"):
        assert not re.search(r">(nan|inf|None)\b", drawing.read_text(encoding="utf-8")), drawing.name
    record = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    verdicts = {claim["verdict"] for claim in record["claims"]}
    assert verdicts <= {"holds", "does not hold", "undecided"} and "undecided" in verdicts
    if case in ("one model", "no twins", "all twins NaN"):
        decided = [c for c in record["claims"] if c["verdict"] != "undecided" and c["n"] < 6]
        assert decided == []
    if case in ("no labels", "tables alone"):
        assert "is not known without labels" in text and "class (which is 0" not in text
    if case == "no MP":
        assert "No twins of both methods have the same sparsity here" in text
