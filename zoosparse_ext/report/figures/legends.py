"""Legends that never cover what they explain: in lines above the axes."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from zoosparse_ext.report.figures.style import SIZE

_BESIDE, _GAP = 2.8, 2.0  # widths of a letter that an entry takes beside its text, and between two entries

_LETTER = 0.62  # width of most letters


def legend_above(axes: Axes, of: Axes | None = None) -> None:
    """A legend above the axes, where it cannot cover a dot: in one line, or in as many as the figure is made taller.

    Args:
        of: the axes whose lines it explains; by default the same.
    """
    handles, labels = (of or axes).get_legend_handles_labels()
    if not handles:
        return
    figure = axes.figure
    assert isinstance(figure, Figure)
    width = 72 * (1 - axes.get_position().x0) * figure.get_figwidth()  # to the edge of the figure
    width -= 2 * SIZE  # the padding of the legend
    if columns_within(width, labels, size=SIZE) == len(labels):
        figure.subplots_adjust(top=0.91)
        place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}
        axes.legend(handles, labels, ncols=len(handles), **place)
        return
    labels = [textwrap.fill(label, int((width / SIZE - _BESIDE) / _LETTER)) for label in labels]
    columns = columns_within(width, labels)
    lines = math.ceil(len(labels) / columns) + sum(label.count("\n") for label in labels)
    _make_taller(figure, legend_height(lines))
    axes.legend(
        handles,
        labels,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=columns,
        borderaxespad=0.2,
        fontsize=SIZE,
    )


def columns_within(width: float, labels: Sequence[str], size: float = SIZE) -> int:
    """The most columns in which a legend of these labels fits into so many points; at least one."""
    widths = [size * (_width(label) + _BESIDE + _GAP) for label in labels]
    for columns in range(len(labels), 1, -1):
        parts = np.array_split(widths, columns)  # as matplotlib fills them
        if sum(part.max() for part in parts) <= width + size * _GAP:  # none after the last
            return columns
    return 1


def legend_height(lines: int) -> float:
    """Inches that a legend of so many lines takes."""
    return (1.61 * lines + 1.0) * SIZE / 72


@lru_cache(maxsize=1024)
def _width(label: str) -> float:
    """Of the widest line, in units of the size of the letters."""
    font = FontProperties(family=["sans-serif"], size=10)
    widths = (text_to_path.get_text_width_height_descent(line, font, False)[0] for line in label.split("\n"))
    return max(widths) / 10


def _make_taller(figure: Figure, inches: float) -> None:
    """More room at the top; the axes keep their size."""
    height, margins = figure.get_figheight(), figure.subplotpars
    taller = height + inches
    figure.set_figheight(taller)
    figure.subplots_adjust(top=margins.top * height / taller, bottom=margins.bottom * height / taller)
