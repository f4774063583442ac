"""Colors: of the series of a study, and of what else is drawn side by side."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable

from matplotlib.colors import to_hex

from zoosparse_ext.analysis.series import series_order
from zoosparse_ext.sparsify.methods import METHODS

# Okabe & Ito's palette, safe for color-blind readers; the page gives lighter tones of it in dark mode.
SEQUENCE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")
KNOWN = {"MP per layer": "#009e73"} | {
    label: cls.color
    for cls in METHODS.values()
    if cls.color is not None
    for label in (cls.label, f"{cls.label} global")
}
# For further series: what is left of that palette, then dark tones after Paul Tol's "muted".
FURTHER = ("#cc79a7", "#e69f00", "#56b4e9", "#882255", "#8c8c1f", "#5e4fa2", "#7a4a1e", "#1f6f6f")
# Inside the page colors follow the reader's theme: the custom property of each, as in `style.css`.
VARIABLES = {color: f"--c{number}" for number, color in enumerate(dict.fromkeys([*SEQUENCE[:-1], *FURTHER]))}


def colors_of(series: Iterable[str]) -> dict[str, str]:
    """A color for each series of a study: always the same for the usual ones, one of its own for every other.

    >>> colors_of(["VD", "random global", "MP global", "MP 2:4"])
    {'MP global': '#0072b2', 'MP 2:4': '#cc79a7', 'random global': '#e69f00', 'VD': '#d55e00'}
    """
    names = sorted(set(series), key=series_order)
    colors: dict[str, str] = {}
    further = 0
    for name in names:
        known = KNOWN.get(name)
        if known is not None and known not in colors.values():
            colors[name] = known
        else:
            colors[name] = FURTHER[further] if further < len(FURTHER) else _hue(further - len(FURTHER))
            further += 1
    return colors


def _hue(number: int) -> str:
    """Ever other hues of middling lightness: steps by the golden ratio never meet."""
    return to_hex(colorsys.hls_to_rgb((0.05 + 0.618034 * number) % 1, 0.45, 0.55))


def css_color(color: str) -> str:
    """The color as the page writes it: a custom property where the theme knows it."""
    return f"var({VARIABLES[color]})" if color in VARIABLES else color
