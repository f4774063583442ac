"""One-sided confidence limits of a median or a share, at any level, as derived in `intervals.py`."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from scipy import special

from zoosparse_ext.analysis.groups import Array


class Limits(Protocol):
    """One-sided confidence limits: the truth lies below `low(alpha)`, or above `high(alpha)`, with chance alpha."""

    def low(self, alpha: float) -> float: ...

    def high(self, alpha: float) -> float: ...


class Drawn:
    """Limits from sorted replicates [R]: percentiles."""

    def __init__(self, replicates: Array) -> None:
        self._sorted = replicates

    def low(self, alpha: float) -> float:
        place = int(alpha * (len(self._sorted) + 1) + 1e-9) - 1
        return float(self._sorted[place]) if place >= 0 else -np.inf

    def high(self, alpha: float) -> float:
        place = int(alpha * (len(self._sorted) + 1) + 1e-9)
        return float(self._sorted[-place]) if place >= 1 else np.inf


class Ordered:
    """Limits of a median from sorted values [n], widened by deviations of it on resampled images, sorted [R]."""

    def __init__(self, value: float, values: Array, around: Array | None) -> None:
        self._value, self._values = value, values
        self._images = None if around is None else Drawn(around)

    def low(self, alpha: float) -> float:
        place = self._place(alpha)
        if place < 0:
            return -np.inf
        if self._images is None:
            return float(self._values[place])
        images = max(0.0, -self._images.low(alpha))
        return self._value - float(np.hypot(self._value - self._values[place], images))

    def high(self, alpha: float) -> float:
        place = self._place(alpha)
        if place < 0:
            return np.inf
        if self._images is None:
            return float(self._values[-1 - place])
        images = max(0.0, self._images.high(alpha))
        return self._value + float(np.hypot(self._values[-1 - place] - self._value, images))

    def _place(self, alpha: float) -> int:
        """The last k with P(at most k of n values lie below the median) ≤ alpha; −1 where there is none."""
        n = len(self._values)
        heads = special.bdtr(np.arange(n // 2 + 1), n, 0.5)
        return int(np.searchsorted(heads, alpha * (1 + 1e-12), side="right")) - 1


class Shares:
    """Limits of what lies between 0 and 1."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def low(self, alpha: float) -> float:
        return max(0.0, self._limits.low(alpha))

    def high(self, alpha: float) -> float:
        return min(1.0, self._limits.high(alpha))


class Widest:
    """The outer ones of two limits."""

    def __init__(self, *limits: Limits) -> None:
        self._limits = limits

    def low(self, alpha: float) -> float:
        return min(limits.low(alpha) for limits in self._limits)

    def high(self, alpha: float) -> float:
        return max(limits.high(alpha) for limits in self._limits)


class Binomial:
    """Limits of a share, count of n, widened by shares on resampled images, sorted [R]."""

    def __init__(self, count: int, n: int, shares: Array | None) -> None:
        self._count, self._n = count, n
        self._images = None if shares is None else Drawn(shares - count / n)

    def low(self, alpha: float) -> float:
        if self._count == 0:
            return 0.0
        models = special.betaincinv(self._count, self._n - self._count + 1, alpha)
        return max(0.0, self._share - float(np.hypot(self._share - models, self._by_images(alpha))))

    def high(self, alpha: float) -> float:
        if self._count == self._n:
            return 1.0
        models = special.betaincinv(self._count + 1, self._n - self._count, 1 - alpha)
        return min(1.0, self._share + float(np.hypot(models - self._share, self._by_images(alpha))))

    @property
    def _share(self) -> float:
        return self._count / self._n

    def _by_images(self, alpha: float) -> float:
        return 0.0 if self._images is None else max(0.0, -self._images.low(alpha), self._images.high(alpha))
