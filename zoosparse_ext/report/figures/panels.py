"""Two panels where one scale cannot show both: what lies together, and a collapse far from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from zoosparse_ext.report.figures.style import HEIGHT, QUIET, WIDTH, canvas

_STRETCHED = 3.0  # times the range of what lies together
_WORTH = 0.1  # ten points: what spans less needs no close-up
_SMALLEST = 0.01  # of that range: one point of accuracy
_AIR = 0.08  # of the range, above and below


def close_up(values: Iterable[float]) -> tuple[float, float] | None:
    """Limits of what lies together; None where one scale shows everything.

    >>> close_up([0.90, 0.91, 0.92, 0.93, 0.10])
    (0.8976, 0.9324)
    >>> close_up([0.90, 0.80, 0.60, 0.40, 0.10]) is None
    True

    Values far off are those beyond 1.5 times the distance of the quartiles (Tukey, Exploratory Data Analysis, 1977).
    They get a panel of their own where they stretch the scale to three times what the others need.
    """
    known = np.asarray(list(values), dtype=float)
    known = known[np.isfinite(known)]
    if len(known) < 4 or np.ptp(known) < _WORTH:
        return None
    first, third = np.quantile(known, [0.25, 0.75])
    reach = max(1.5 * (third - first), _SMALLEST)
    near = known[(known >= first - reach) & (known <= third + reach)]
    width = max(float(np.ptp(near)), _SMALLEST)
    if np.ptp(known) < _STRETCHED * width:
        return None
    return round(float(near.min()) - _AIR * width, 6), round(float(near.max()) + _AIR * width, 6)


@contextmanager
def panels(values: Iterable[float], height: float = HEIGHT) -> Iterator[tuple[Figure, list[Axes]]]:
    """One panel, or a close-up above a panel of everything; draw the same in each.

    Args:
        values: all that will be drawn, on the scale of the y axis.
        height: inches of a figure of one panel.

    Yields:
        the figure, and its axes: the last one has the x axis.
    """
    limits = close_up(values)
    if limits is None:
        with canvas(WIDTH, height) as (figure, axes):
            yield figure, [axes]
        return
    ratios = {"height_ratios": (3, 2)}
    with canvas(WIDTH, height + 0.9, (2, 1), sharex=True, gridspec_kw=ratios) as (figure, (upper, lower)):
        upper.set_ylim(*limits)
        for axes, text in ((upper, "close-up"), (lower, "everything")):
            axes.text(0.02, 0.05, text, transform=axes.transAxes, fontstyle="italic", color=QUIET)
        yield figure, [upper, lower]
