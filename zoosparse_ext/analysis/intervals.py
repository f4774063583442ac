"""How far a number about a population can be trusted: intervals and p-values over models and test images.

A zoo is a sample of models, and its accuracies are measured on a sample of images that all models share. Every number
here is about the median model, or a share of the models, and its interval covers both samples.

**20 models or more**: models are drawn together with the images (crossed: Owen, The Pigeonhole Bootstrap, Annals of
Applied Statistics 2007). That varies what belongs to one model on one image three times, where the data hold it once.
With r, c, e the variances of the mean that lie in models, images and their interaction, replicates vary by r + c + e,
r and c each holding e, and the estimate by r + c − e (Cameron, Gelbach & Miller, Robust Inference with Multiway
Clustering, 2011). Deviations of replicates from the estimate are multiplied by the root of
max(r + c − e, r, c) / (r + c + e).

**6 to 19 models**: order statistics. Of n models as many lie below the median as heads in n throws of a coin; this is
exact for whatever distribution of models, and needs 6 of them for 95 %. Images are an independent second error: with a
and b the distances from the estimate to the limits of one level from models and from resampled images alone, the
limit for both is at √(a² + b²), which is exact where both errors are normal.

**Shares** of models have exact binomial limits (Clopper & Pearson, 1934), widened by images in the same way. By chance
of the images a model near the threshold counts on either side, which raises small shares and lowers large ones; so b
is the larger one of both sides. Measured losses also scatter more than true ones: where all models lose 4 points, a
quarter may be measured to lose 5. The same share is therefore taken of losses drawn towards their median by the root
of (r − e) / r, so that they scatter as the true ones do (Louis, Estimating a Population of Parameter Values Using
Bayes and Empirical Bayes Methods, 1984), and the limits are the wider ones of both.

**Fewer than 6 models** decide nothing: limits are NaN. Without predictions models alone are resampled, and `resampled`
says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from zoosparse_ext.analysis.groups import Array
from zoosparse_ext.analysis.limits import Binomial, Drawn, Limits, Ordered, Shares, Widest
from zoosparse_ext.analysis.resampling import Replicates, drawn_medians, image_means
from zoosparse_ext.errors import InputError

MIN_MODELS = 6  # 2 · 2⁻⁶ is below 5 %
DRAWN_FROM = 20  # models; fewer have order statistics
MODELS, MODELS_AND_IMAGES = "models", "models and images"
_ROUNDING = 1e-9  # 0.90 − 0.89 is 0.010000000000000009: exactly one point is not more than one


@dataclass(frozen=True)
class Estimate:
    """A number about a population, with intervals over models and images.

    >>> estimate = median(np.array([0.01, 0.02, 0.03, 0.03, 0.04, 0.05, 0.06]))
    >>> estimate.value, estimate.low, estimate.high, estimate.n, estimate.resampled
    (0.03, 0.01, 0.06, 7, 'models')
    >>> round(estimate.p, 3)  # all seven on one side of zero: 2 · 2⁻⁷
    0.016

    Args:
        value: the estimate on the data itself.
        low, high: 95 % interval; NaN for fewer than 6 models.
        low90, high90: 90 % interval, that of tests of equivalence at 5 %.
        p: two-sided, of the value 0.
        n: models behind it.
        images: test images that were resampled; 0 where only models were.
        resampled: "models and images", or "models".
    """

    value: float
    low: float
    high: float
    low90: float
    high90: float
    p: float
    n: int
    images: int
    resampled: str
    limits: Limits | None = field(default=None, repr=False, compare=False)

    def p_above(self, bound: float) -> float:
        """One-sided p-value of "at most `bound`": the smallest alpha whose lower limit lies above the bound."""
        limits = self.limits
        return np.nan if limits is None else _smallest(lambda alpha: limits.low(alpha) > bound)

    def p_below(self, bound: float) -> float:
        """One-sided p-value of "at least `bound`"."""
        limits = self.limits
        return np.nan if limits is None else _smallest(lambda alpha: limits.high(alpha) < bound)

    def p_within(self, band: float) -> float:
        """p-value of "not within ± band", the larger one of two one-sided tests.

        >>> estimate = median(np.array([-0.001, 0.001] * 10))
        >>> [estimate.p_within(band) < 0.05 for band in (0.005, 0.0005)]
        [True, False]

        Source: Schuirmann, A Comparison of the Two One-Sided Tests Procedure, 1987.
        """
        return float(np.maximum(self.p_above(-band), self.p_below(band)))


def paired_difference(first_correct: Array, second_correct: Array) -> Estimate:
    """Median over models of the difference in accuracy, first − second, measured on the same images.

    >>> first = np.arange(1000) % 10 > np.zeros((8, 1))  # right on 90 % of 1,000 images
    >>> second = np.arange(1000) % 10 > np.ones((8, 1))
    >>> difference = paired_difference(first, second)
    >>> round(difference.value, 6), 0 < difference.low < 0.1 < difference.high, difference.images
    (0.1, True, 1000)

    Args:
        first_correct: [n, M] bool, a row for each model.
        second_correct: [n, M] bool, of the same models and images.

    Returns:
        NaN without models or images.

    Raises:
        InputError: shapes differ, or are not [n, M].
    """
    first, second = np.asarray(first_correct), np.asarray(second_correct)
    if first.ndim != 2 or first.shape != second.shape:
        raise InputError(
            f"paired_difference: correctness of shape {first.shape} and {second.shape}, expected [n, M] twice; "
            "paired_difference_of_accuracies takes one number per model"
        )
    return median(np.subtract(first, second, dtype=np.int8))


def paired_difference_of_accuracies(first: Array, second: Array) -> Estimate:
    """The same where only accuracies are known, [n] each; models alone are resampled.

    >>> paired_difference_of_accuracies(np.linspace(0.8, 0.9, 9), np.linspace(0.7, 0.8, 9)).resampled
    'models'

    Models with NaN on either side are left out.
    """
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if first.ndim != 1 or first.shape != second.shape:
        raise InputError(
            f"paired_difference_of_accuracies: accuracies of shape {first.shape} and {second.shape}, "
            "expected [n] twice"
        )
    return median(first - second)


def median(quantity: Array, replicates: Array | None = None, *, images: int = 0) -> Estimate:
    """Median over models.

    Args:
        quantity: [n, M], one number per model and image, of which every model's mean over images counts (equal
            predictions: the median agreement); or [n], one number per model.
        replicates: [n, R], the quantity of every model on resampled images, where it is no mean of images: computed
            from `resampled` of :func:`~zoosparse_ext.analysis.resampling.image_means`.
        images: how many images there are, with `replicates`.

    Returns:
        the median with its interval. Models whose quantity is NaN are left out of it and of `n`.
    """
    quantity = np.asarray(quantity)
    means = image_means(quantity) if quantity.ndim == 2 else _means(quantity, replicates, images)
    known = ~np.isnan(means.values)
    if not known.all():
        means = means._replace(
            values=means.values[known], resampled=means.resampled[known], groups=means.groups[known]
        )
    if len(means.values) == 0:
        return _estimate(np.nan, None, 0, means.images)
    value = float(np.median(means.values))
    limits: Limits | None = _median_limits(value, means) if len(means.values) >= MIN_MODELS else None
    if limits is not None and quantity.dtype == bool:
        limits = Shares(limits)
    return _estimate(value, limits, len(means.values), means.images)


def share(members: Array, replicates: Array | None = None, *, images: int = 0) -> Estimate:
    """Share of the models for which something is so.

    >>> estimate = share(np.zeros(40, dtype=bool))
    >>> estimate.value, estimate.low, round(estimate.high, 3)
    (0.0, 0.0, 0.088)

    Args:
        members: [n] bool.
        replicates: [n, R] bool, the same on resampled images; models alone are resampled without.
        images: how many images there are, with `replicates`.
    """
    members = np.asarray(members, dtype=bool)
    n, count = len(members), int(members.sum())
    if n == 0:
        return _estimate(np.nan, None, 0, images)
    limits: Limits | None = None
    if n >= MIN_MODELS:
        limits = Binomial(count, n, None if replicates is None else np.sort(replicates.mean(axis=0)))
    return _estimate(count / n, limits, n, images)


def share_below(quantity: Array, bound: float) -> Estimate:
    """Share of the models whose quantity lies strictly below a bound: of those that lose more than 5 points, −0.05.

    >>> share_below(np.array([-0.06, -0.05, -0.01, 0.02, 0.0, np.nan]), -0.05).value  # NaN counts as below
    0.3333333333333333

    Args:
        quantity: [n, M] or [n], as of :func:`median`: the difference in correctness of twin and control.
        bound: at which a model does not count.
    """
    return shares_below(quantity, (bound,))[0]


def shares_below(quantity: Array, bounds: Sequence[float]) -> list[Estimate]:
    """:func:`share_below` for several bounds, which resamples images once."""
    quantity = np.asarray(quantity)
    if quantity.ndim == 1:
        return [share(~(quantity >= bound - _ROUNDING)) for bound in bounds]
    means = image_means(quantity)
    measured = [_share_of(means.values, means.resampled, bound, means.images) for bound in bounds]
    if measured[0].limits is None or means.images == 0:
        return measured
    rows, _, interaction = _variances(means.groups)
    scatter = np.sqrt(max(0.0, rows - interaction) / rows) if rows > 0 else 1.0
    values, resampled = (
        around + (of - around) * scatter
        for of, around in (
            (means.values, np.median(means.values)),
            (means.resampled, np.median(means.resampled, axis=0)),
        )
    )
    true = [_share_of(values, resampled, bound, means.images) for bound in bounds]
    return [_widest(*both) for both in zip(measured, true, strict=True)]


def _widest(measured: Estimate, true: Estimate) -> Estimate:
    assert measured.limits is not None and true.limits is not None  # as many models
    return _estimate(measured.value, Widest(measured.limits, true.limits), measured.n, measured.images)


def _share_of(values: Array, resampled: Array, bound: float, images: int) -> Estimate:
    below = [~(of >= bound - _ROUNDING) for of in (values, resampled)]
    return share(*below, images=images)


def _means(values: Array, replicates: Array | None, images: int) -> Replicates:
    resampled = np.empty((len(values), 0), np.float32) if replicates is None else replicates
    return Replicates(values.astype(float), resampled, np.empty((len(values), 0)), images)


def _estimate(value: float, limits: Limits | None, n: int, images: int) -> Estimate:
    resampled = MODELS_AND_IMAGES if images else MODELS
    if limits is None:
        return Estimate(value, np.nan, np.nan, np.nan, np.nan, np.nan, n, images, resampled)
    low, high, low90, high90 = (of(alpha) for alpha in (0.025, 0.05) for of in (limits.low, limits.high))
    found = Estimate(value, low, high, low90, high90, np.nan, n, images, resampled, limits)
    return replace(found, p=min(1.0, 2 * min(found.p_above(0.0), found.p_below(0.0))))


def _median_limits(value: float, means: Replicates) -> Limits:
    n = len(means.values)
    with_images = means.resampled.shape[1] > 0
    if n < DRAWN_FROM:
        around = np.sort(np.median(means.resampled, axis=0)) - value if with_images else None
        return Ordered(value, np.sort(means.values), around)
    drawn = np.sort(drawn_medians(means.resampled if with_images else means.values))
    return Drawn(value + (drawn - value) * _shrinkage(means.groups))


def _shrinkage(groups: Array) -> float:
    """By what deviations of crossed replicates are multiplied, for means [n, G]; see the top of this file."""
    r, c, e = _variances(groups)
    return 1.0 if r + c + e == 0 else float(np.sqrt(max(r + c - e, r, c) / (r + c + e)))


def _variances(groups: Array) -> tuple[float, float, float]:
    """Variances of the mean of [n, G] by models, by images, and by their interaction, which both hold as well."""
    n, g = groups.shape
    if n < 2 or g < 2:
        return 0.0, 0.0, 0.0
    rows, columns = groups.mean(axis=1), groups.mean(axis=0)
    interaction = groups - rows[:, None] - columns + rows.mean()
    e = (interaction**2).sum() / ((n - 1) * (g - 1)) / (n * g)
    return float(rows.var(ddof=1) / n), float(columns.var(ddof=1) / g), float(e)


def _smallest(excludes: Callable[[float], bool]) -> float:
    """The smallest alpha up to 1/2 at which limits exclude a bound, within 0.1 %; 1 where none does."""
    if not excludes(0.5):
        return 1.0
    low, high = np.log(1e-15), np.log(0.5)
    if excludes(1e-15):
        return 1e-15
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (low, middle) if excludes(float(np.exp(middle))) else (middle, high)
    return float(np.exp(high))
