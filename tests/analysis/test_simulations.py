"""Zoos with a known truth: wrong verdicts are as rare as they should be, right ones frequent where effects are large.

What decides is asked 200 times for each truth. Whole tables of claims take longer: a few of each in the suite, 200 by
`make simulations`.
"""

from __future__ import annotations

import os
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from tests.analysis.simulated import Simulation, Truth
from zoosparse_ext.analysis import check_claims, paired_difference
from zoosparse_ext.analysis.halves import split_half
from zoosparse_ext.analysis.intervals import share_below
from zoosparse_ext.analysis.verdicts import BAND, compared

RUNS = 200
TABLES = int(os.environ.get("ZOOSPARSE_SIMULATIONS", "5"))  # whole tables of claims for each truth
HARMLESS = {0.5: 0.0, 0.8: 0.0, 0.9: 0.0}


def allowed(rate: float, runs: int = RUNS) -> int:
    """How often something of this rate happens at most, but in one of a thousand tests."""
    return int(stats.binom.ppf(0.999, runs, rate))


def differences(truth: Truth, n: int, images: int, seed: int, runs: int = RUNS) -> Counter[str]:
    """Verdicts of magnitude pruning against variational dropout at 80 %."""
    simulation, verdicts = Simulation(truth, n, images, seed), Counter()
    for _ in range(runs):
        magnitude, variational = simulation.answers(truth.magnitude[0.8], truth.variational[0.8])
        verdicts[compared(paired_difference(magnitude == 0, variational == 0)).verdict] += 1
    return verdicts


@pytest.mark.parametrize(("n", "images"), [(8, 500), (24, 500), (24, 1000)])
def test_equal_methods_are_not_told_apart(n: int, images: int) -> None:
    verdicts = differences(Truth(), n, images, seed=n + images)
    assert verdicts["ahead"] + verdicts["behind"] <= allowed(0.05)


def test_equal_methods_are_called_equivalent_where_there_are_enough_images() -> None:
    verdicts = differences(Truth(), 60, 4000, seed=3, runs=50)
    assert verdicts["equivalent"] > 40 and verdicts["ahead"] + verdicts["behind"] <= allowed(0.05, 50)


@pytest.mark.parametrize(("n", "images"), [(8, 500), (24, 500), (24, 1000)])
def test_a_method_that_is_a_point_ahead_is_not_called_behind_or_equivalent(n: int, images: int) -> None:
    verdicts = differences(Truth(magnitude={0.8: 0.01}), n, images, seed=2 * n + images)
    assert verdicts["behind"] + verdicts["equivalent"] <= allowed(0.05)


def test_half_a_point_is_neither_ahead_nor_equivalent() -> None:
    verdicts = differences(Truth(magnitude={0.8: BAND}), 24, 1000, seed=5)
    assert verdicts["ahead"] + verdicts["behind"] <= allowed(0.025) and verdicts["equivalent"] <= allowed(
        0.05
    )


def test_what_is_large_is_found() -> None:
    assert differences(Truth(magnitude={0.8: 0.03}), 24, 1000, seed=7)["ahead"] > 0.9 * RUNS
    assert differences(Truth(variational={0.8: 0.01}), 40, 4000, seed=7, runs=50)["behind"] > 40
    assert differences(Truth(magnitude={0.8: -0.08}), 10, 500, seed=9)["behind"] > 0.9 * RUNS


def test_a_collapse_is_seen_and_what_does_not_collapse_is_not_blamed() -> None:
    """Networks with one answer lose all; those that lose 4 points lose no more than 5, whatever the images say."""
    simulation, failed = Simulation(Truth(scatter=0.0), 40, 500, 11), Counter()
    for _ in range(RUNS):
        twins, control = simulation.answers(-0.04, 0.0)
        failed["lose 4"] += share_below((twins == 0).astype(np.int8) - (control == 0), -0.05).low > 0.1
        collapsed = np.where(np.arange(40)[:, None] < 30, 1, twins)
        failed["collapsed"] += share_below((collapsed == 0).astype(np.int8) - (control == 0), -0.05).low > 0.1
    assert failed["lose 4"] <= allowed(0.05) and failed["collapsed"] == RUNS


def test_a_correlation_of_a_half_is_not_called_high() -> None:
    """r over halves of the images lies below the truth for the luck of the images, never systematically above."""
    truth, high, low = Truth(original=0.75, spread=0.1, correlation=0.5), 0, 0
    simulation = Simulation(truth, 32, 500, 13)
    for _ in range(RUNS):
        (twins,) = simulation.answers(0.0)
        interval = split_half(simulation.originals == 0, twins == 0, splits=20)
        high, low = high + (interval.low >= 0.7), low + (interval.high < 0.7)
    assert high <= allowed(0.025) and low > 0.15 * RUNS


def right(truth: Truth, statement: int, series: str, level: float) -> str | None:
    """The verdict that is right for the median of infinitely many models on infinitely many images; None: not known."""
    magnitude = -1.0 if level >= truth.collapse_from else truth.magnitude[level]
    gain = magnitude if series.startswith("MP") else truth.variational[level]
    if statement == 1 and truth.correlation is None:
        return "holds" if gain - truth.control > -0.03 else "does not hold"
    if statement == 2:
        difference = magnitude - truth.variational[level]
        ahead = difference > BAND if level <= 0.8 else difference < -BAND
        return "holds" if ahead else "does not hold"
    if statement == 4:
        if gain == -1.0 or truth.spread == 0:
            return "undecided"
        r = truth.correlation or (1 + (truth.scatter / truth.spread) ** 2) ** -0.5
        return "holds" if r >= 0.7 else "does not hold"
    return None


TRUTHS = {
    "equal": (Truth(), 24, 600),
    "one ahead by a point": (Truth(magnitude={0.8: 0.01}), 24, 1000),
    "one ahead by four points": (Truth(magnitude={0.8: 0.04}, scatter=0.003), 40, 1000),
    "collapse at 85 %": (Truth(magnitude=HARMLESS, variational=HARMLESS, collapse_from=0.85), 24, 500),
    "correlation 0.5": (Truth(original=0.75, spread=0.1, correlation=0.5), 48, 500),
    "correlation 0.98": (Truth(original=0.75, spread=0.1, correlation=0.98), 48, 500),
    "originals do not differ": (Truth(spread=0.0, scatter=0.0), 24, 500),
    "few models": (Truth(), 8, 500),
}
# What is found in more than three of four tables: statement, series, level, verdict.
FOUND = {
    "one ahead by four points": [(2, "MP global", 0.8, "holds")],
    "collapse at 85 %": [(1, "MP global", 0.9, "does not hold"), (2, "MP global", 0.9, "holds")],
    "correlation 0.98": [(4, "MP global", 0.8, "holds"), (4, "VD", 0.8, "holds")],
    "originals do not differ": [(4, "MP global", 0.8, "undecided")],
}


@pytest.mark.parametrize("name", TRUTHS)
def test_no_verdict_of_a_whole_table_is_wrong_but_by_the_stated_chance(name: str) -> None:
    truth, n, images = TRUTHS[name]
    simulation, wrong, seen = Simulation(truth, n, images, seed=17), 0, Counter()
    for _ in range(TABLES):
        table = check_claims(simulation.study())
        rows = list(table[table["primary"] & (table["n"] > 0)].itertuples())
        seen.update((row.statement, row.series, row.level, row.verdict) for row in rows)
        known = [(row.verdict, right(truth, row.statement, row.series, row.level)) for row in rows]
        wrong += any(verdict not in ("undecided", truly) for verdict, truly in known if truly is not None)
    assert wrong <= allowed(0.05, TABLES)
    for cell in FOUND.get(name, []):
        assert seen[cell] > 0.75 * TABLES, (cell, seen)
