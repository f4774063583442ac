"""What a zoo and its twins show, for programs; and the report of a zoo."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from zoosparse_ext.analysis import StudyData
from zoosparse_ext.errors import require_kind
from zoosparse_ext.report.claims import readable_claims
from zoosparse_ext.report.opening import Opening, headlines, opening
from zoosparse_ext.report.page import write_report
from zoosparse_ext.report.questions import QUESTIONS, analyzed
from zoosparse_ext.report.record import as_record
from zoosparse_ext.report.results import Results
from zoosparse_ext.report.stored import source_of
from zoosparse_ext.zoo import Zoo
from zoosparse_ext.zoo.folder import MANIFEST


class Findings:
    """Tables, claims and answers of a zoo, each made when it is first asked for.

    Made by :func:`zoosparse_ext.analyze`.

    Args:
        results: the tables, and the study that they are of.
        title: of the study.
    """

    def __init__(self, results: Results, title: str) -> None:
        self._results = results
        self.title = title

    def __repr__(self) -> str:
        data = self._results.data
        return f"Findings({data.n_models} models, {data.twins['twin_id'].nunique()} twins, {len(self.tables)} tables)"

    @property
    def tables(self) -> Mapping[str, pd.DataFrame]:
        """Every table of the report by its name; `list(found.tables)` are the names."""
        return self._results

    @property
    def claims(self) -> pd.DataFrame:
        """The paper's claims as checks: statement, number measured, interval, verdict; numbers as numbers."""
        return self._results["claims"]

    @property
    def readable_claims(self) -> pd.DataFrame:
        """The same for people: every number in its unit, as text."""
        return readable_claims(self.claims)

    @cached_property
    def summary(self) -> list[str]:
        """The sentences of the first screen of the report."""
        return headlines(self._results, QUESTIONS)

    @cached_property
    def answers(self) -> dict[str, str]:
        """The answer to each question of the report, by its id, such as ``"performance"``."""
        return {question.id: question.answer(self._results) for question in QUESTIONS}

    @property
    def data(self) -> StudyData:
        """What was analyzed, for the functions of `zoosparse_ext.analysis`."""
        return self._results.data

    def record(self) -> dict[str, Any]:
        """What `report.json` holds. Figures are drawn for it, which takes some seconds.

        Keys: `title`, `answer`, `conditions`, `claims` and `questions`, each of these with its answer and the names of
        its figures and tables.
        """
        first: Opening = opening(self._results, QUESTIONS)
        sections = [question.answered(self._results) for question in QUESTIONS]
        record: dict[str, Any] = json.loads(as_record(self.title, first, sections))
        return record


def analyze_zoo(zoo: Zoo | str | Path) -> Findings:
    """See :func:`zoosparse_ext.analyze`."""
    opened = _opened(zoo)
    results = analyzed(StudyData.from_zoo(opened), provenance=opened.provenance)
    return Findings(results, title_of(opened))


def write_zoo_report(zoo: Zoo | str | Path, out: Path, title: str | None = None) -> Path:
    """See :func:`zoosparse_ext.write_report`."""
    source = None
    if isinstance(zoo, str | Path) and (manifest := Path(zoo) / MANIFEST).is_file():
        source = source_of(manifest.read_bytes())  # before it is opened: it may be written to meanwhile
    opened = _opened(zoo)
    return write_report(
        StudyData.from_zoo(opened),
        out,
        title=title_of(opened) if title is None else title,
        provenance=opened.provenance,
        source=source,
    )


def title_of(zoo: Zoo) -> str:
    """That of the study that made the zoo, else one with the name of its folder."""
    settings = zoo.provenance.get("settings")
    told = settings.get("title") if isinstance(settings, dict) else None
    place = "a model zoo" if zoo.folder is None else zoo.folder.name
    return str(told) if told else f"Sparse twins of {place}"


def _opened(zoo: Zoo | str | Path) -> Zoo:
    require_kind("zoo", zoo, (Zoo, str, Path), "a zs.Zoo, or the folder of one")
    return zoo if isinstance(zoo, Zoo) else Zoo.open(zoo)
