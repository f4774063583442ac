"""Dots that stand for models: the page finds the model behind each of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

MAX_DOTS = 1000  # models drawn one by one
_CROWD = 200  # more dots than that are drawn smaller, so that they do not hide each other
_GROUP = "models-"
_USE = re.compile(r'<use xlink:href="(#[^"]+)" x="([^"]+)" y="([^"]+)" style="([^"]*)"/>')


def sampled(frame: pd.DataFrame) -> pd.DataFrame:
    """At most MAX_DOTS rows, always the same ones."""
    return frame if len(frame) <= MAX_DOTS else frame.sample(MAX_DOTS, random_state=0)


def dots(
    axes: Axes, models: Iterable[object], x: pd.Series, y: pd.Series, *, ms: float, mew: float, **style: Any
) -> None:
    """One dot a model; rows without a place in the axes are left out, since no dot would be drawn for them."""
    placed = (x.notna() & y.notna()).to_numpy()
    if not axes.get_autoscaley_on():  # a close-up: what lies outside is in the other panel
        placed = placed & y.between(*axes.get_ylim()).to_numpy()
    if not placed.any():  # nothing that a name could be written beside; the legend keeps its entry
        axes.plot([], [], "o", ms=ms, mew=mew, **style)
        return
    shrink = min(1.0, (_CROWD / max(1, placed.sum())) ** 0.25)
    (line,) = axes.plot(x[placed], y[placed], "o", ms=shrink * ms, mew=shrink * mew, **style)
    line.set_gid(f"{_GROUP}{len(axes.figure.findobj(_is_marked))}")
    line.model_ids = [str(m) for m, keep in zip(models, placed, strict=True) if keep]  # type: ignore[attr-defined]


def name_dots(svg: str, figure: Figure) -> str:
    """Write the model of every dot into the drawing, and a dot's style once for all of its kind.

    `<use x="1" y="2" style="fill: red"/>` becomes `<use x="1" y="2" data-model="a"/>` in a group of that
    style: a drawing of 1,000 models is a third as long.
    """
    for line in figure.findobj(_is_marked):
        start = svg.index("<g clip-path", svg.index(f'<g id="{line.get_gid()}">'))
        end = svg.index("</g>", start)
        drawn = _USE.findall(svg, start, end)
        models: list[str] = line.model_ids  # type: ignore[attr-defined]
        if not drawn or len(drawn) != len(models):
            continue
        uses = [
            f'<use xlink:href="{mark}" x="{float(x):.2f}" y="{float(y):.2f}" data-model="{escape(model)}"/>'
            for (mark, x, y, _), model in zip(drawn, models, strict=True)
        ]
        clip = svg[start : svg.index(">", start)]
        svg = "\n".join([f'{svg[:start]}{clip} class="dots" style="{drawn[0][3]}">', *uses, svg[end:]])
    return svg


def _is_marked(artist: Any) -> bool:
    return hasattr(artist, "model_ids")
