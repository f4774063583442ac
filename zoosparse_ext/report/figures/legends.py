"""Legends that never cover what they explain: inside the axes while they are short, else in lines above them."""

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

_INSIDE = 6  # entries that leave room for the lines
_SIZE = 8.5  # points, of letters in a legend of several lines
_BESIDE, _GAP = 2.8, 2.0  # widths of a letter that an entry takes beside its text, and between two entries

_LETTER = 0.62  # width of most letters


def legend(axes: Axes, *, room: int = _INSIDE, **kwargs: Any) -> None:
    """A legend inside the axes, or above them where it has more than `room` entries; none without entries."""
    handles, _ = axes.get_legend_handles_labels()
    if len(handles) > room:
        legend_above(axes)
    elif handles:
        axes.legend(**kwargs)


def legend_above(axes: Axes) -> None:
    """A legend above the axes, where it cannot cover a dot: in one line, or in as many as the figure is made taller."""
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        return
    figure = axes.figure
    assert isinstance(figure, Figure)
    width = 72 * (1 - axes.get_position().x0) * figure.get_figwidth()  # to the edge of the figure
    if columns_within(width, labels, size=9) == len(labels):
        figure.subplots_adjust(top=0.91)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(handles), borderaxespad=0.2)
        return
    labels = [textwrap.fill(label, int((width / _SIZE - _BESIDE) / _LETTER)) for label in labels]
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
        fontsize=_SIZE,
    )


def columns_within(width: float, labels: Sequence[str], size: float = _SIZE) -> int:
    """The most columns in which a legend of these labels fits into so many points; at least one."""
    widths = [size * (_width(label) + _BESIDE + _GAP) for label in labels]
    for columns in range(len(labels), 1, -1):
        parts = np.array_split(widths, columns)  # as matplotlib fills them
        if sum(part.max() for part in parts) <= width + size * _GAP:  # none after the last
            return columns
    return 1


def legend_height(lines: int) -> float:
    """Inches that a legend of so many lines takes."""
    return (1.61 * lines + 1.0) * _SIZE / 72


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
