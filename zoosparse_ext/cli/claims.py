"""The claims of the paper on a terminal."""

from __future__ import annotations

import pandas as pd
from rich.markup import escape
from rich.table import Table

from zoosparse_ext.cli.console import out

_COLOURS = {"holds": "green", "does not hold": "red", "undecided": "yellow"}


def print_claims(claims: pd.DataFrame) -> None:
    """One row per claim and kind of twin: the number measured here with its 95 % interval, and the verdict."""
    table = Table(title="Claims of “Sparsified Model Zoo Twins”, measured on this zoo", title_justify="left")
    for name, justify in (("claim", "left"), ("twins", "left"), ("measured", "left"), ("verdict", "left")):
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    previous = ""
    for row in claims.to_dict("records"):
        if row["claim"] != previous:
            table.add_section()
        claim = "" if row["claim"] == previous else escape(row["claim"])
        previous = row["claim"]
        low, value, high = (_number(row[name], row["unit"]) for name in ("low", "value", "high"))
        unit = " points" if row["unit"] == "points" else ""
        measured = (
            f"{escape(row['measure'])}: [bold]{value}{unit}[/] ({low} … {high}), {escape(row['criterion'])}"
        )
        colour = _COLOURS.get(row["verdict"], "white")
        table.add_row(claim, escape(row["subject"]), measured, f"[{colour}]{row['verdict']}[/]")
    out.print(table)


def _number(value: object, unit: str) -> str:
    """Points and shares as percent, the rest as it is; a dash where nothing could be measured."""
    number = float(value)  # type: ignore[arg-type]
    if number != number:
        return "–"
    if abs(number) == float("inf"):
        return "∞" if number > 0 else "−∞"
    if unit == "points":
        return f"{100 * number:+.1f}"
    if unit == "share":
        return f"{number:.0%}"
    return f"{number:.2f}"
