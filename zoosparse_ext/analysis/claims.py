"""The headline claims of the paper, measured on this zoo.

The paper states them in words. Each gets a number, a criterion that is printed beside it, and a verdict from
the 95 % interval: "holds" when all of it meets the criterion, "does not hold" when none of it does, else
"undecided".

Source: Honegger, Schürholt, Borth, Sparsified Model Zoo Twins, 2023, https://arxiv.org/abs/2304.13718.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd

from zoosparse_ext.analysis.agreement import agreement_of_originals
from zoosparse_ext.analysis.bootstrap import Interval, bootstrap
from zoosparse_ext.analysis.correlation import correlate
from zoosparse_ext.analysis.data import StudyData, remembered
from zoosparse_ext.analysis.methods import crossover, difference_between, matched_pairs, pairs_by_sparsity
from zoosparse_ext.analysis.operating import DIVIDE, operating_name, operating_twins
from zoosparse_ext.analysis.robustness import deviation_of
from zoosparse_ext.analysis.series import MP, series_order, stands_for_its_method, variational_series
from zoosparse_ext.analysis.twins import series_of

MIN_MODELS = 5  # fewer decide nothing
HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"
_ABOVE_ZERO = 1e-9  # equal accuracies are not an advantage


@dataclass(frozen=True)
class Check:
    """One measurable form of a claim, and the range of the number for which it holds."""

    claim: str
    measure: str
    unit: str  # all but plain numbers ("") are shares: "share", "difference" (signed), "spread"; 0.01 is a point
    criterion: str
    low: float = -np.inf
    high: float = np.inf


@dataclass(frozen=True)
class Claim:
    """One row of the claims table: a check, measured on some twins."""

    claim: str
    subject: str  # which twins: "MP global, 80 %"
    measure: str
    unit: str
    value: float
    low: float
    high: float
    n: int  # models
    criterion: str
    verdict: str
    stands: bool = True  # for magnitude pruning or variational dropout; other series are measured beside them


ROBUST = Check(
    "Both methods are robust", "standard deviation over models of the change in accuracy", "spread",
    "at most 5 points", high=0.05,
)  # fmt: skip
MP_AHEAD = Check(
    "Magnitude pruning is ahead up to 80 % sparsity", "difference in accuracy at equal sparsity",
    "difference", "above 0", low=_ABOVE_ZERO,
)  # fmt: skip
VD_AHEAD = Check(
    "Variational dropout is ahead above 80 % sparsity", "difference in accuracy at equal sparsity",
    "difference", "below 0", high=-_ABOVE_ZERO,
)  # fmt: skip
CROSSING = Check(
    "The methods cross at about 80 % sparsity", "sparsity above which VD stays ahead", "share",
    "between 70 and 90 %", low=0.7, high=0.9,
)  # fmt: skip
# "Almost perfect" agreement: Landis & Koch, Biometrics 1977.
KAPPA = Check(
    "Twins agree with their originals to a high degree", "median Cohen's κ", "", "at least 0.8", low=0.8
)
BEYOND_BASELINE = Check(
    KAPPA.claim, "median agreement beyond that of two different originals", "difference",
    "above 0", low=_ABOVE_ZERO,
)  # fmt: skip
CORRELATED = Check(
    "Performance of original and twin is highly correlated", "Pearson r over models", "",
    "at least 0.7", low=0.7,
)  # fmt: skip


@remembered
def check_claims(data: StudyData) -> pd.DataFrame:
    """The paper's claims as checks: one row per claim and series, the fields of :class:`Claim`.

    Robustness, agreement and correlation are judged on pruned twins at the largest ratio up to 80 % and on
    VD twins where they end. The paper speaks of magnitude pruning and variational dropout; other series (scores,
    patterns, schedules, settings) have rows of their own in which `stands` is False. A claim about a method that
    the zoo does not have is "undecided" with n = 0, so that every claim is always in the table. Fewer than five
    models decide nothing.

    >>> models = pd.DataFrame({"model_id": ["a"], "accuracy": [0.90]})
    >>> set(check_claims(StudyData(models, pd.DataFrame()))["verdict"])
    {'undecided'}
    """
    operating = operating_twins(data)
    claims = [*_robust(operating), *_methods(data), *_agree(data, operating), *_correlated(operating)]
    return pd.DataFrame([asdict(claim) for claim in claims])


def verdict(interval: Interval, low: float = -np.inf, high: float = np.inf) -> str:
    """Whether an interval lies inside [low, high], outside of it, or neither.

    >>> verdict(Interval(0.9, 0.8, 1.0, 50), low=0.7), verdict(Interval(0.9, 0.8, 1.0, 3), low=0.7)
    ('holds', 'undecided')
    """
    if interval.n < MIN_MODELS or np.isnan(interval.low) or np.isnan(interval.high):
        return UNDECIDED
    if low <= interval.low and interval.high <= high:
        return HOLDS
    return FAILS if interval.high < low or interval.low > high else UNDECIDED


def _measured(check: Check, subject: str, interval: Interval, stands: bool) -> Claim:
    return Claim(
        check.claim, subject, check.measure, check.unit, interval.estimate, interval.low, interval.high,
        interval.n, check.criterion, verdict(interval, check.low, check.high), stands,
    )  # fmt: skip


def _judged(operating: dict[str, pd.DataFrame]) -> Iterator[tuple[str, bool, pd.DataFrame]]:
    """Each series with what it is called at its operating point, and whether it stands for its method."""
    speakers = stands_for_its_method(operating)
    for series, twins in operating.items():
        yield operating_name(series, twins), series in speakers, twins


def _robust(operating: dict[str, pd.DataFrame]) -> Iterator[Claim]:
    for subject, stands, twins in _judged(operating):
        spread = deviation_of(twins["change"].to_numpy(dtype=float))
        yield _measured(ROBUST, subject, spread, stands)


def _methods(data: StudyData) -> list[Claim]:
    pairs, matched = pairs_by_sparsity(data), matched_pairs(data)
    speaker = variational_series(series_of(data))
    compared = {*zip(pairs["series"], pairs["against"], strict=True)} or {(MP, speaker)}
    claims: list[Claim] = []
    for series, against in sorted(compared, key=lambda pair: tuple(map(series_order, pair))):
        own, exact = (
            table[(table["series"] == series) & (table["against"] == against)] for table in (pairs, matched)
        )
        subject, stands = f"{series} − {against}", against == speaker
        for check, low, high in ((MP_AHEAD, 0.0, DIVIDE), (VD_AHEAD, DIVIDE, 1.01)):
            claims.append(_measured(check, subject, difference_between(own, low, high), stands))
            at_end = difference_between(exact, low, high)
            if at_end.n:
                sharper = replace(check, measure="the same, pruned to exactly the sparsity VD ended at")
                claims.append(_measured(sharper, subject, at_end, stands))
        claims.append(_crossing(own, subject, stands))
    return claims


def _crossing(pairs: pd.DataFrame, subject: str, stands: bool) -> Claim:
    """What the data say refutes a crossover at 80 % only if they reach that far: the last one may lie beyond."""
    claim = _measured(CROSSING, subject, crossover(pairs), stands)
    reach = pairs["sparsity"].max()
    short = reach < CROSSING.low or (np.isposinf(claim.low) and reach < CROSSING.high)
    return replace(claim, verdict=UNDECIDED) if short else claim


def _agree(data: StudyData, operating: dict[str, pd.DataFrame]) -> Iterator[Claim]:
    baseline = agreement_of_originals(data)
    for subject, stands, twins in _judged(operating):
        yield _measured(KAPPA, subject, bootstrap(twins["kappa"].to_numpy(dtype=float)), stands)
        if len(baseline):
            excess = twins["agreement"].to_numpy(dtype=float) - baseline["agreement"].median()
            yield _measured(BEYOND_BASELINE, subject, bootstrap(excess), stands)


def _correlated(operating: dict[str, pd.DataFrame]) -> Iterator[Claim]:
    for subject, stands, twins in _judged(operating):
        before = twins["source_accuracy"].to_numpy(dtype=float)
        after = twins["accuracy"].to_numpy(dtype=float)
        yield _measured(CORRELATED, subject, correlate(before, after), stands)
