"""Which series a figure draws, in which order and colors."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from zoosparse_ext.analysis.series import series_order
from zoosparse_ext.report.figures.palette import colors_of
from zoosparse_ext.report.results import Results

_SHIFT = 0.008  # of the whole axis


def series_in(table: pd.DataFrame) -> list[str]:
    """Series of a table in the order in which they are shown."""
    return sorted(table["series"].unique(), key=series_order)


def colors_in(results: Results) -> dict[str, str]:
    """The color of every series of a study."""
    names: set[str] = set()
    for name in ("performance", "collapse"):  # the second has those of matched twins as well
        names |= set(results[name]["series"]) if name in results else set()
    return colors_of(names)


def pairs_in(table: pd.DataFrame) -> list[tuple[str, str]]:
    """The magnitude series of a table, each with the VD series it is compared with, in order."""
    found = {*zip(table["series"], table["against"], strict=True)}
    return sorted(found, key=lambda pair: tuple(map(series_order, pair)))


def with_sparsity(table: pd.DataFrame, results: Results) -> pd.DataFrame:
    """A table of series and levels with the median sparsity beside the level."""
    sparsity = results["performance"][["series", "level", "sparsity"]]
    return table.merge(sparsity, on=["series", "level"], how="left")


def side_by_side(names: Sequence[str]) -> dict[str, float]:
    """A small shift along the sparsity axis for each series, so that intervals do not hide each other.

    >>> side_by_side(["MP global", "MP per layer", "VD"])
    {'MP global': -0.008, 'MP per layer': 0.0, 'VD': 0.008}
    """
    middle = (len(names) - 1) / 2
    return {name: round(_SHIFT * (number - middle), 6) for number, name in enumerate(names)}
