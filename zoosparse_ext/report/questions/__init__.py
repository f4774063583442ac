"""The questions of the report, in their order: one file each.

Sections of the page, files beside it, `report.json` and the first screen derive from this list. A new question is one
file here and one line below.

>>> [question.id for question in QUESTIONS][:3]
['claims', 'performance', 'methods']
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from zoosparse_ext.analysis import StudyData
from zoosparse_ext.report.questions.agreement import AGREEMENT
from zoosparse_ext.report.questions.claims import CLAIMS
from zoosparse_ext.report.questions.correlation import CORRELATION
from zoosparse_ext.report.questions.layers import LAYERS
from zoosparse_ext.report.questions.methods import METHODS
from zoosparse_ext.report.questions.performance import PERFORMANCE
from zoosparse_ext.report.questions.question import Question, Table
from zoosparse_ext.report.questions.robustness import ROBUSTNESS
from zoosparse_ext.report.questions.trajectories import TRAJECTORIES
from zoosparse_ext.report.questions.weights import WEIGHTS
from zoosparse_ext.report.results import Results

__all__ = ["QUESTIONS", "Question", "Table", "analyzed"]

QUESTIONS: tuple[Question, ...] = (
    CLAIMS,
    PERFORMANCE,
    METHODS,
    ROBUSTNESS,
    LAYERS,
    AGREEMENT,
    CORRELATION,
    TRAJECTORIES,
    WEIGHTS,
)


def analyzed(
    data: StudyData,
    questions: Iterable[Question] = QUESTIONS,
    provenance: Mapping[str, Any] | None = None,
    known: Mapping[str, pd.DataFrame] | None = None,
) -> Results:
    """The tables of all questions, by name."""
    tables = {table.name: table.analysis for question in questions for table in question.tables}
    return Results(data, tables, provenance, known)
