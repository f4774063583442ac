"""What the four statements of the paper are measured by, and on which twins: those at 50, 80 and 90 % sparsity."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from zoosparse_ext.analysis.controls import CONTROL
from zoosparse_ext.analysis.data import StudyData, remembered
from zoosparse_ext.analysis.intervals import MODELS
from zoosparse_ext.analysis.methods import NEAR
from zoosparse_ext.analysis.series import (
    MP,
    VD,
    family,
    is_magnitude,
    is_variational,
    series_order,
    stands_for_its_method,
)
from zoosparse_ext.analysis.twins import cells, final_twins, series_of
from zoosparse_ext.analysis.verdicts import Decision

LEVELS = (0.5, 0.8, 0.9)  # sparsities, fixed before anything was measured
LOSS = 0.05  # of accuracy: a model that loses more is a loser
LOSERS = 0.10  # share of them below which a method is robust
ENOUGH_MODELS = 36  # so many without a loser: the first whose limit, 1 − 0.025^(1/n), is below it
AGREEMENT = 0.9  # share of equal predictions
KAPPA = 0.8  # "almost perfect": Landis & Koch, Biometrics 1977
CORRELATED = 0.7
CROSSING = (0.7, 0.9)  # "at about 80 %"
METHODS = ((MP, is_magnitude, "magnitude pruning"), (VD, is_variational, "variational dropout"))


@dataclass(frozen=True)
class Claim:
    """One row of the claims table: a statement, measured on some twins."""

    statement: int
    claim: str
    measure: str
    unit: str  # all but plain numbers ("") are shares: "share", "difference" (signed); 0.01 is a point
    criterion: str
    subject: str  # which twins: "MP global, 80 %"
    series: str
    against: str
    decision: Decision
    level: float = np.nan
    sparsity: float = np.nan
    epochs: float = np.nan
    value: float = np.nan
    low: float = np.nan
    high: float = np.nan
    n: int = 0  # models
    images: int = 0
    resampled: str = MODELS
    primary: bool = False
    stands: bool = True


@dataclass(frozen=True)
class Measure:
    """A statement with one of its measures."""

    statement: int
    claim: str
    measure: str
    unit: str
    criterion: str
    primary: bool = True


ROBUST = Measure(
    1, "Both methods are robust", "share of models that lose more than 5 points", "share", "below 10 %"
)
MP_AHEAD = Measure(
    2, "Magnitude pruning is ahead up to 80 % sparsity", "difference in accuracy at equal sparsity and epochs",
    "difference", "above 0.5 points",
)  # fmt: skip
VD_AHEAD = Measure(
    2, "Variational dropout is ahead above 80 % sparsity", MP_AHEAD.measure, "difference", "below −0.5 points"
)
BRACKET = Measure(
    2, "The methods cross at about 80 % sparsity",
    "crossover bracket: largest sparsity measured with magnitude pruning ahead, smallest with variational dropout",
    "share", "between 70 and 90 %", primary=False,
)  # fmt: skip
AGREES = Measure(
    3, "Twins agree with their originals to a high degree", "median share of equal predictions", "share",
    "at least 90 %",
)  # fmt: skip
AGREES_BY_KAPPA = Measure(3, AGREES.claim, "median Cohen's κ", "", "at least 0.8", primary=False)
OWN_FIRST = Measure(
    3, AGREES.claim, "share of twins whose own original agrees most with them among its peers", "share",
    "above chance", primary=False,
)  # fmt: skip
OWN_MINUS_OTHER = Measure(
    3, AGREES.claim, "agreement with the own original minus that with its peers", "difference", "above 0",
    primary=False,
)  # fmt: skip
CORRELATES = Measure(
    4, "Performance of original and twin is highly correlated",
    "split-half Pearson r over models", "", "at least 0.7",
)  # fmt: skip
CORRELATES_ON_SAME = Measure(
    4, CORRELATES.claim, "Pearson r over models, both on the same images", "", "at least 0.7", primary=False
)


@dataclass(frozen=True)
class Cell:
    """The twins of a series at one of the sparsities fixed beforehand, or why there are none."""

    series: str
    level: float
    stands: bool
    why: str = ""
    twins: pd.DataFrame = field(default_factory=pd.DataFrame)

    def claim(self, measure: Measure, against: str, decision: Decision, **numbers: Any) -> Claim:
        """A row of the table about these twins."""
        where: dict[str, Any] = {"level": self.level, "subject": self.series}
        if len(self.twins):
            sparsity = float(self.twins["sparsity"].median())
            epochs = float(self.twins["epoch"].median())
            where |= {
                "sparsity": sparsity,
                "epochs": epochs,
                "subject": f"{self.series}, {percent(sparsity)}",
            }
        return Claim(
            measure.statement, measure.claim, measure.measure, measure.unit, measure.criterion,
            series=self.series, against=against, decision=decision, stands=self.stands,
            primary=measure.primary and self.stands, **where, **numbers,
        )  # fmt: skip

    def row_of(self, table: pd.DataFrame) -> dict[str, Any]:
        """The row about these twins in a table by series and level."""
        label = self.twins["level_label"].iloc[0]
        found = table[(table["series"] == self.series) & (table["level_label"] == label)]
        return {str(name): value for name, value in found.iloc[0].items()}


@remembered
def cells_at_levels(data: StudyData) -> list[Cell]:
    """Of every series its twins at the end of their training, at each level where their median sparsity is within 2.5
    points of it.

    A series of variational dropout stands at each level with the KL weight that ends nearest to it. Magnitude pruning
    and variational dropout are there also without twins.
    """
    speakers = set(map(family, stands_for_its_method(series_of(data))))
    by_family: dict[str, list[pd.DataFrame]] = {}
    for (series, _), twins in cells(final_twins(data)):
        by_family.setdefault(family(series), []).append(twins)
    missing = [
        (method, f"no twins by {words}")
        for method, is_there, words in METHODS
        if not any(map(is_there, by_family))
    ]
    found = []
    for level in LEVELS:
        found += [_nearest(name, of, level, name in speakers) for name, of in by_family.items()]
        found += [Cell(method, level, True, why) for method, why in missing]
    return sorted(found, key=lambda cell: (cell.level, series_order(family(cell.series))))


@remembered
def near_levels(data: StudyData) -> StudyData:
    """The study with no more twins than those of :func:`cells_at_levels` and all controls: for tables by series and
    level, of which the claims read few rows.
    """
    kept = [cell.twins for cell in cells_at_levels(data) if len(cell.twins)]
    keys = (
        pd.MultiIndex.from_frame(pd.concat(kept)[["twin_id", "epoch"]])
        if kept
        else pd.MultiIndex.from_arrays([[], []])
    )
    twins = data.twins
    # One row of every series stays, or the second of two series with one name would get the name of the first.
    named = ~twins.duplicated(["method", "scope", "series"])
    rows = (
        pd.MultiIndex.from_frame(twins[["twin_id", "epoch"]]).isin(keys)
        | (twins["method"] == CONTROL)
        | named
    )
    return replace(data, twins=twins[rows])


def _nearest(name: str, candidates: list[pd.DataFrame], level: float, stands: bool) -> Cell:
    def distance(twins: pd.DataFrame) -> float:
        return abs(float(twins["sparsity"].median()) - level)

    twins = min(candidates, key=distance)
    if distance(twins) <= NEAR + 1e-9:
        return Cell(str(twins["series"].iloc[0]), level, stands, twins=twins)
    nearest = percent(float(twins["sparsity"].median()))
    return Cell(name, level, stands, f"no twin ends {between(level)}, the nearest at {nearest}")


def percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def between(level: float) -> str:
    return f"between {100 * (level - NEAR):g} and {100 * (level + NEAR):g} %"
