"""The first screen in words: what the questions put there, and what its words mean."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from zoosparse_ext.analysis import check_claims
from zoosparse_ext.analysis.series import magnitude_series, variational_series
from zoosparse_ext.report.claims import Row, count_verdicts, matrix
from zoosparse_ext.report.collapse import MEANING
from zoosparse_ext.report.conditions import conditions, controlled
from zoosparse_ext.report.figures.style import Picture
from zoosparse_ext.report.questions.question import Question, pictures
from zoosparse_ext.report.results import NO_TWINS, Results

_READING = (
    "Little cost: the median model loses at most one point; the sparsity is the largest of those measured, and nothing "
    "is known of those between them. In brackets: 95 % intervals, with the model as the unit. "
    "MP: magnitude pruning; VD: variational dropout."
)
_SERIES = "Every combination of method, scope, schedule and settings is a series of its own."
_STANDING = (
    "Where magnitude pruning is compared with variational dropout, {standing} stand for them; other series are "
    "measured beside them."
)


@dataclass(frozen=True)
class Opening:
    """The answer of the first screen: the first sentence, the others, what their words mean, and a figure."""

    headline: str
    sentences: list[str]
    conditions: str  # of training, and of what losses are read against
    reading: str
    figure: Picture | None
    claims: pd.DataFrame

    @property
    def matrix(self) -> list[Row]:
        """The paper's statements at each sparsity."""
        return matrix(self.claims)

    @property
    def verdicts(self) -> str:
        return count_verdicts(self.claims)


def opening(results: Results, questions: Iterable[Question]) -> Opening:
    """The sentences and the first key figure of the questions, in their order."""
    questions = list(questions)
    drawn = [
        picture
        for question in questions
        if question.key_figure and len(results.data.twins)
        for picture in pictures(question.key_figure(results))
    ]
    headline, *sentences = headlines(results, questions)
    told = " ".join(filter(None, (conditions(results), controlled(results))))
    figure = drawn[0] if drawn else None
    claims = results["claims"] if "claims" in results else check_claims(results.data)
    return Opening(headline, sentences, told, reading(results), figure, claims)


def headlines(results: Results, questions: Iterable[Question]) -> list[str]:
    """The sentences of the first screen, at least one."""
    said = [sentence for question in questions if question.opening for sentence in question.opening(results)]
    return said or [NO_TWINS]


def reading(results: Results) -> str:
    """What the words of the first screen mean, as far as they are needed."""
    names = list(results["collapse"]["series"].unique())
    sentences = [_READING]
    magnitude, variational = magnitude_series(names), variational_series(names)
    if set(names) - {*magnitude, variational}:
        sentences.append(_SERIES)
        if magnitude:
            standing = f"{', '.join(magnitude)} and {variational}"
            sentences.append(_STANDING.format(standing=standing))
    if results["collapse"]["collapsed"].sum():
        sentences.append(MEANING)
    return " ".join(sentences)
