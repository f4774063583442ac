"""One look for all figures, and how a figure becomes a picture in the page and files beside it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from zoosparse_ext.report.figures.dots import name_dots
from zoosparse_ext.report.figures.palette import SEQUENCE, VARIABLES, css_color
from zoosparse_ext.report.format import MINUS

INK, QUIET, GRID, PAPER = "#1b1f24", "#646c76", "#d9dee4", "#fefefe"
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)))
# Inside the page these colors follow the reader's theme.
_THEME = {INK: "var(--ink)", QUIET: "var(--quiet)", GRID: "var(--grid)", PAPER: "var(--paper)"}
_THEME |= {color: css_color(color) for color in VARIABLES}
# Inches. A phone shows a figure 350 px wide: then letters of SIZE points have 11 px.
WIDTH, HEIGHT = 4.6, 3.0
SIZE = 10.5
_RC: Any = {
    "font.size": SIZE,
    "font.family": "sans-serif",
    "axes.titlesize": SIZE,
    "axes.labelsize": SIZE,
    "xtick.labelsize": SIZE,
    "ytick.labelsize": SIZE,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.prop_cycle": cycler(color=SEQUENCE),
    "axes.unicode_minus": True,
    "figure.facecolor": "none",
    # Fixed margins: fitting them to the labels takes half of the time of a figure.
    "figure.subplot.left": 0.165,
    "figure.subplot.right": 0.97,
    "figure.subplot.bottom": 0.165,
    "figure.subplot.top": 0.97,
    "figure.subplot.hspace": 0.1,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": SIZE,
    "lines.linewidth": 1.8,
    "lines.markersize": 4,
    "text.color": INK,
    "text.parse_math": False,  # a layer may be called anything
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "svg.fonttype": "none",
}


@dataclass(frozen=True)
class Picture:
    """A finished figure: `svg` for the page, `file` and `png` to stand alone."""

    name: str
    caption: str
    svg: str
    file: bytes
    png: bytes


@contextmanager
def canvas(
    width: float = WIDTH,
    height: float = HEIGHT,
    panels: tuple[int, int] = (1, 1),
    layout: Any = None,
    **kwargs: Any,
) -> Iterator[Any]:
    """A figure in the report's style and its axes (one, or an array of them)."""
    with mpl.rc_context(_RC):
        figure = Figure(figsize=(width, height), layout=layout)
        axes = figure.subplots(*panels, **kwargs)
        yield figure, axes


def finish(figure: Figure, name: str, caption: str) -> Picture:
    """Render a figure once, and adapt the drawing to the page."""
    drawing, pixels = io.BytesIO(), io.BytesIO()
    with mpl.rc_context({**_RC, "svg.hashsalt": name}):  # the salt keeps ids of two figures in a page apart
        figure.set_facecolor("white")
        if figure.get_layout_engine():
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # laid out once is enough for both files
        FigureCanvasSVG(figure).print_svg(drawing, metadata={"Date": None})
        figure.set_dpi(150)
        FigureCanvasAgg(figure).print_png(pixels, pil_kwargs={"compress_level": 1})
    file = drawing.getvalue()
    svg = _inline(name_dots(file.decode(), figure))
    return Picture(name, caption, svg, file, pixels.getvalue())


def _inline(svg: str) -> str:
    """The drawing as an element of the page: no prolog, no metadata, no background, the theme's colors."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="patch_1">.*?</g>\s*', "", svg, count=1, flags=re.DOTALL)  # the white background
    svg = re.sub(
        r'<svg [^>]*?viewBox="([^"]+)"[^>]*>',
        r'<svg viewBox="\1" aria-hidden="true">',
        svg,
        count=1,
        flags=re.DOTALL,
    )
    referred = set(re.findall(r'(?:url\(|href=")#([^)"]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda m: m.group() if m.group(1) in referred else "", svg)
    for color, variable in _THEME.items():
        svg = re.sub(re.escape(color), variable, svg, flags=re.IGNORECASE)
    svg = re.sub(r"font: ([\d.]+px|bold [\d.]+px|[\d.]+ [\d.]+px) [^;\"]*", r"font: \1 var(--sans)", svg)
    return re.sub(r"\n\s*", "\n", svg)


def percent_axis(axis: Any, ticks: int | None = None) -> None:
    """Show fractions as percent, at so many places at most."""
    if ticks is not None:
        axis.set_major_locator(MaxNLocator(ticks))
    axis.set_major_formatter(
        FuncFormatter(lambda x, _: f"{round(100 * x, 2) + 0:g}".replace("-", MINUS) + " %")
    )


def points_axis(axis: Any, signed: bool = True) -> None:
    """Show differences of fractions in points."""

    def show(value: float, _: object) -> str:
        rounded = round(100 * value, 6) + 0.0
        return f"{rounded:{'+' if signed and rounded else ''}g}".replace("-", MINUS)

    axis.set_major_formatter(FuncFormatter(show))


def sparsity_axis(axes: Axes, limits: tuple[float, float] = (0.0, 1.0)) -> None:
    axes.set_xlim(*limits)
    axes.set_xlabel("sparsity (zeros / prunable weights)")
    percent_axis(axes.xaxis)


def band(axes: Axes, x: Any, low: Any, high: Any, color: str, alpha: float = 0.2) -> None:
    """A translucent band without an edge."""
    axes.fill_between(
        np.asarray(x, float), np.asarray(low, float), np.asarray(high, float), color=color, alpha=alpha, lw=0
    )


def error_bars(
    axes: Axes,
    x: Any,
    rows: pd.DataFrame,
    columns: tuple[str, str, str],
    label: str,
    color: str,
    filled: bool = True,
) -> None:
    """Estimates with their intervals, joined by a line where there are several."""
    estimate, low, high = (rows[name].to_numpy(dtype=float) for name in columns)
    line = "-" if len(rows) > 1 else "none"
    axes.errorbar(
        x,
        estimate,
        np.maximum((estimate - low, high - estimate), 0),  # rounding
        color=color,
        marker="o",
        ls=line,
        capsize=2.5,
        label=label,
        mfc=color if filled else PAPER,
    )


def robust_limits(values: pd.Series | np.ndarray, padding: float = 0.08) -> tuple[float, float] | None:
    """Axis limits that hold all finite values; None without any."""
    values = np.asarray(values, dtype=float)
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return None
    low, high = float(values.min()), float(values.max())
    margin = max((high - low) * padding, 0.002)
    return low - margin, high + margin
