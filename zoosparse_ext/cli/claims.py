"""The claims of the paper on a terminal."""

from __future__ import annotations

import pandas as pd
from rich.markup import escape
from rich.table import Table

from zoosparse_ext.cli.console import out, print_json

_COLOURS = {"holds": "green", "does not hold": "red", "undecided": "yellow"}


def print_claims(claims: pd.DataFrame, as_json: bool = False) -> None:
    """Claim by claim, one line per kind of twin: verdict, and the number measured here with its 95 % interval.

    JSON has both as numbers and, in `measured` and `interval`, as text: it lacks the infinities of a crossover that
    lies outside of the data.
    """
    from zoosparse_ext.report import readable_claims  # matplotlib takes a second to load

    readable = readable_claims(claims)
    if as_json:
        print_json(claims.assign(measured=readable["measured"], interval=readable["interval"]))
        return
    out.print("\nClaims of “Sparsified Model Zoo Twins”, measured on this zoo", style="italic")
    for claim, rows in readable.groupby("claim", sort=False):
        out.print(f"\n[bold]{escape(str(claim))}[/]", highlight=False)
        table = Table.grid(padding=(0, 2, 0, 0))
        for width in (15, 20, None):  # verdict, twins, measured
            table.add_column(width=width)
        for row in rows.to_dict("records"):
            colour = _COLOURS.get(row["verdict"], "white")
            number = f"[bold]{row['measured']}[/] ({row['interval']})"
            measured = f"{escape(row['measure'])}: {number}, {escape(row['criterion'])}"
            table.add_row(f"  [{colour}]{row['verdict']}[/]", escape(row["twins"]), measured)
        out.print(table)
    out.print()
