"""The headline claims of the paper, measured on this zoo.

The paper states four things in words. Each gets a number, a criterion that is printed beside it, and a verdict at each
of three sparsities fixed beforehand (50, 80, 90 %), for every series of twins: "holds" where all of the 95 % interval
meets the criterion, "does not hold" where none of it does, else "undecided", with one clause that says why.

The primary family is the first measure of each statement, for the series that stand for magnitude pruning and
variational dropout: its p-values are adjusted by Holm. Everything else explores, is adjusted by Benjamini and Hochberg,
and says so (`primary` is False). What the adjusted p-value does not bear is undecided.

Source: Honegger, Schürholt, Borth, Sparsified Model Zoo Twins, 2023, https://arxiv.org/abs/2304.13718.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from zoosparse_ext.analysis.data import StudyData, remembered
from zoosparse_ext.analysis.measures import Claim
from zoosparse_ext.analysis.significance import adjusted, holm
from zoosparse_ext.analysis.statements import agree, correlated, methods, robust

COLUMNS = ["statement", "claim", "subject", "series", "against", "level", "sparsity", "epochs", "measure", "unit",
           "value", "low", "high", "n", "images", "resampled", "criterion", "p", "p_adjusted", "verdict", "why",
           "primary", "stands"]  # fmt: skip


@remembered
def check_claims(data: StudyData) -> pd.DataFrame:
    """The paper's four statements as checks on a study.

    Every statement is in the table at 50, 80 and 90 % sparsity, also where no twin is there: n = 0, undecided.

    >>> models = pd.DataFrame({"model_id": ["a"], "accuracy": [0.90]})
    >>> table = check_claims(StudyData(models, pd.DataFrame()))
    >>> set(table["verdict"]), sorted(set(table["statement"])), sorted(set(table["level"].dropna()))
    ({'undecided'}, [1, 2, 3, 4], [0.5, 0.8, 0.9])

    Returns:
        one row per check, sparsity and series, the fields of :class:`~zoosparse_ext.analysis.measures.Claim`:
        `statement` (1–4) and `claim`, in words; `subject`, which twins: "MP global, 80 %"; `series`, and `against`
        what; `level`, the sparsity fixed beforehand (NaN for the crossover), `sparsity`, the measured median, `epochs`
        of training; `measure`, its `unit` and `criterion`; `value`, `low`, `high` (95 %) over `n` models and `images`
        (`resampled` says which of both); `p`, two-sided, of the criterion's bound, `p_adjusted` for its family;
        `verdict` ("holds", "does not hold", "undecided") and `why`; `primary`; `stands` (for magnitude pruning or
        variational dropout; other series are measured beside them).
    """
    claims = [*robust(data), *methods(data), *agree(data), *correlated(data)]
    return _judged(claims)


def _judged(claims: list[Claim]) -> pd.DataFrame:
    """The table of claims, each decided as one of its family."""
    table = pd.DataFrame([{**vars(claim), **vars(claim.decision)} for claim in claims])
    p = table["p"].to_numpy(dtype=float)
    primary = table["primary"].to_numpy(dtype=bool)
    table["p_adjusted"] = np.where(
        primary, holm(np.where(primary, p, np.nan)), adjusted(np.where(primary, np.nan, p))
    )
    known = ~np.isnan(p)
    family = {
        True: f"{(known & primary).sum()} primary checks",
        False: f"{(known & ~primary).sum()} exploratory checks",
    }
    decisions = [
        claim.decision.among(of, family[claim.primary]) if known[row] else claim.decision
        for row, (claim, of) in enumerate(zip(claims, table["p_adjusted"], strict=True))
    ]
    table["verdict"], table["why"] = [of.verdict for of in decisions], [of.why for of in decisions]
    return table[COLUMNS]
