"""The claims of the paper on a terminal."""

from __future__ import annotations

import pandas as pd
from rich.markup import escape
from rich.table import Table

from zoosparse_ext.cli.console import out

_COLOURS = {"holds": "green", "does not hold": "red", "undecided": "yellow"}


def print_claims(claims: pd.DataFrame) -> None:
    """One row per claim and kind of twin: the number measured here with its 95 % interval, and the verdict."""
    from zoosparse_ext.report import readable_claims  # matplotlib takes a second to load

    table = Table(title="Claims of “Sparsified Model Zoo Twins”, measured on this zoo", title_justify="left")
    for name, justify in (("claim", "left"), ("twins", "left"), ("measured", "left"), ("verdict", "left")):
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    previous = ""
    for row in readable_claims(claims).to_dict("records"):
        if row["claim"] != previous:
            table.add_section()
        claim = "" if row["claim"] == previous else escape(row["claim"])
        previous = row["claim"]
        number = f"[bold]{row['measured']}[/] ({row['interval']})"
        measured = f"{escape(row['measure'])}: {number}, {escape(row['criterion'])}"
        colour = _COLOURS.get(row["verdict"], "white")
        table.add_row(claim, escape(row["twins"]), measured, f"[{colour}]{row['verdict']}[/]")
    out.print(table)
