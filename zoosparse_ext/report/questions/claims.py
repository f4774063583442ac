"""The paper's statements, as checks with a number and a verdict each."""

from __future__ import annotations

import pandas as pd

from zoosparse_ext.analysis import check_claims
from zoosparse_ext.report.claims import count_verdicts
from zoosparse_ext.report.format import capital, integer, percent, plural
from zoosparse_ext.report.questions.question import Question, Table
from zoosparse_ext.report.results import Results
from zoosparse_ext.report.tables import SERIES_ROWS, Column

COLUMNS = (
    Column("verdict", "verdict", "verdict", note="why"),
    Column("claim", "claim", "text", note="measure"),
    Column("subject", "twins", "text", note="at"),
    Column("value", "measured", "measured"),
    Column("n", "models", "count", note="seen"),
    Column("criterion", "criterion", "text"),
    Column("p_adjusted", "adjusted p", "p"),
)
DEFINITIONS = """
    A check holds when its 95 % interval meets the criterion, and does not hold when the interval lies outside of
    it, if the adjusted p-value is below 0.05; else it is undecided. Below 6 models nothing is decided; where
    originals do not differ enough, no correlation is said to fail. Intervals cover other models and, where
    predictions are stored, other test images. The primary checks are those of the paper's four statements at 50,
    80 and 90 % sparsity, chosen before anything was measured; their p-values are adjusted together by Holm. All
    others are exploratory. The paper states its claims in words; the criteria are this report's. Nothing is
    interpolated between sparsities: a pair stands for a level that is within 2.5 points of it.
"""


def answer(results: Results) -> str:
    claims = results["claims"]
    if claims.empty:
        return "There is nothing to check."
    return (
        f"{capital(count_verdicts(claims))}, of the primary ones; the table has the exploratory checks, too."
    )


def _in_words(results: Results) -> pd.DataFrame:
    """Primary checks first; sparsity, epochs and images in words."""
    claims = results["claims"]
    at = [_at(*pair) for pair in zip(claims["sparsity"], claims["epochs"], strict=True)]
    images = [f"{integer(count)} images" if count > 0 else "" for count in claims["images"].fillna(0)]
    shown = claims.assign(at=at, seen=images)
    return shown.sort_values(
        "primary", ascending=False, kind="stable", key=lambda column: column.astype(bool)
    )


def _at(sparsity: float, epochs: float) -> str:
    """ "79.6 % sparsity, 25 epochs", as far as it is known."""
    parts = [] if pd.isna(sparsity) else [f"{percent(sparsity)} sparsity"]
    return ", ".join([*parts, *([] if pd.isna(epochs) else [plural(epochs, "epoch")])])


CLAIMS = Question(
    id="claims",
    title="The paper's claims, one by one",
    question="Does what the paper found hold here?",
    answer=answer,
    tables=(
        Table("claims", check_claims, "All checks, primary ones first", COLUMNS, SERIES_ROWS, _in_words),
    ),
    definitions=DEFINITIONS,
)
