"""What an interval says about a question, and why: three answers, of which "undecided" is one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from zoosparse_ext.analysis.intervals import MIN_MODELS, Estimate
from zoosparse_ext.analysis.significance import LEVEL

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"
AHEAD, BEHIND, EQUIVALENT = "ahead", "behind", "equivalent"
_Z = 1.959963984540054  # 97.5 % quantile of the normal distribution
BAND = 0.005  # half a point of accuracy: less is no difference. It never widens with less data.


@dataclass(frozen=True)
class Decision:
    """A verdict, the p-value of the test that gives it or comes closest to it, and one clause that says why."""

    verdict: str
    why: str
    p: float = np.nan

    def among(self, p_adjusted: float, family: str) -> Decision:
        """The decision as one of many: undecided where chance gives as much among so many.

        >>> Decision("holds", "0.9 (0.8 to 1.0)", 0.03).among(0.3, "12 checks").why
        '0.9 (0.8 to 1.0), but p is 0.3, adjusted for 12 checks'
        """
        if self.verdict == UNDECIDED or p_adjusted < LEVEL:
            return self
        why = f"{self.why}, but p is {p_adjusted:.2g}, adjusted for {family}"
        return replace(self, verdict=UNDECIDED, why=why)


def undecided(why: str) -> Decision:
    return Decision(UNDECIDED, why)


def too_few(n: int) -> Decision | None:
    """What fewer than six models decide."""
    if n >= MIN_MODELS:
        return None
    return undecided("nothing is measured" if n == 0 else f"{_models(n)}, {MIN_MODELS} are needed")


def compared(estimate: Estimate) -> Decision:
    """Whether a difference in accuracy, first − second, puts the first ahead, behind, or neither.

    >>> from zoosparse_ext.analysis.intervals import median
    >>> compared(median(np.linspace(0.011, 0.013, 20))).verdict, compared(median(np.full(20, 0.001))).verdict
    ('ahead', 'equivalent')

    Returns:
        "ahead" or "behind" where the 95 % interval lies beyond ± 0.5 points, "equivalent" where the 90 % interval lies
        within; else "undecided".
    """
    if (few := too_few(estimate.n)) is not None:
        return few
    value, low, high = (100 * bound for bound in (estimate.value, estimate.low, estimate.high))
    tests = {
        AHEAD: min(1.0, 2 * estimate.p_above(BAND)),
        BEHIND: min(1.0, 2 * estimate.p_below(-BAND)),
        EQUIVALENT: estimate.p_within(BAND),
    }
    p = min(tests.values())
    if estimate.low > BAND:
        return Decision(AHEAD, f"ahead by {value:.1f} points ({low:.1f} to {high:.1f})", p)
    if estimate.high < -BAND:
        return Decision(BEHIND, f"behind by {-value:.1f} points ({-high:.1f} to {-low:.1f})", p)
    within = f"{signed(value)} points ({signed(low)} to {signed(high)})"
    if estimate.low90 > -BAND and estimate.high90 < BAND:
        return Decision(EQUIVALENT, f"within half a point: {within}", p)
    return Decision(UNDECIDED, f"the interval crosses half a point: {within}", p)


def met(
    interval: tuple[float, float, float, int],
    p: float,
    text: str,
    bound: float,
    words: str,
    *,
    below: bool = False,
) -> Decision:
    """Whether a number meets a criterion: holds where all of its interval does, fails where none of it does.

    >>> met((0.95, 0.92, 0.97, 20), 0.001, "95 % (92 to 97)", 0.9, "90 %")
    Decision(verdict='holds', why='95 % (92 to 97)', p=0.001)
    >>> met((0.95, 0.88, 0.97, 20), 0.2, "95 % (88 to 97)", 0.9, "90 %").why
    'the interval crosses 90 %: 95 % (88 to 97)'

    Args:
        interval: the number, its 95 % interval, and how many models are behind it.
        p: two-sided, of the bound.
        text: the number with its interval, for people.
        bound: the criterion: at least this.
        words: the same for people.
        below: the criterion is to lie below.
    """
    value, low, high, n = interval
    if (few := too_few(n)) is not None:
        return few
    if np.isnan(value):
        return undecided("it is not defined for these twins")
    if np.isnan(low) or np.isnan(high):
        return undecided("there is no interval")
    holds, fails = (high < bound, low > bound) if below else (low >= bound, high < bound)
    if holds or fails:
        return Decision(HOLDS if holds else FAILS, text, p)
    return Decision(UNDECIDED, f"the interval crosses {words}: {text}", p)


def p_of_bound(value: float, low: float, high: float, bound: float) -> float:
    """Two-sided p-value of a bound, from the half of a 95 % interval that faces it; NaN without an interval.

    It is below 0.05 exactly where the interval excludes the bound, and between the two as if both were normal.

    >>> round(p_of_bound(0.9, 0.8, 0.95, 0.8), 3), round(p_of_bound(0.9, 0.8, 0.95, 0.7), 5)
    (0.05, 9e-05)
    """
    half = value - low if bound < value else high - value
    if np.isnan(half) or np.isnan(value):
        return np.nan
    if half == 0:
        return 1.0 if bound == value else 0.0
    return float(2 * special.ndtr(-abs(value - bound) / (half / _Z)))


def signed(points: float) -> str:
    """ "+0.3", "−1.2": a difference in points."""
    text = f"{points:+.1f}".replace("-", "−")
    return "0.0" if text in ("+0.0", "−0.0") else text


def _models(n: int) -> str:
    return f"{n} model" + "s" * (n != 1)
