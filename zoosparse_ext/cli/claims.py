"""The claims of the paper on a terminal."""

from __future__ import annotations

import pandas as pd
from rich.markup import escape
from rich.table import Table

from zoosparse_ext.cli.console import out, print_json

_COLORS = {"holds": "green", "does not hold": "red", "undecided": "yellow"}


def print_claims(claims: pd.DataFrame, as_json: bool = False) -> None:
    """Claim by claim, one line per kind of twin and sparsity: the verdict, the number with its 95 % interval, and why.

    Lines are the primary checks, chosen beforehand; those that explore are counted. JSON has all of them, with both
    numbers as numbers and, in `measured` and `interval`, as text.
    """
    from zoosparse_ext.report import readable_claims  # matplotlib takes a second to load

    readable = readable_claims(claims)
    if as_json:
        print_json(claims.assign(measured=readable["measured"], interval=readable["interval"]))
        return
    out.print("\nClaims of “Sparsified Model Zoo Twins”, measured on this zoo", style="italic")
    primary = claims["primary"].to_numpy(dtype=bool)
    for claim, rows in readable[primary].groupby("claim", sort=False):
        first = rows.iloc[0]
        out.print(f"\n[bold]{escape(str(claim))}[/]  {escape(first['measure'])}: {escape(first['criterion'])}",
                  highlight=False)  # fmt: skip
        table = Table.grid(padding=(0, 2, 0, 0))
        for width in (5, 15, 20, None):  # sparsity, verdict, twins, measured
            table.add_column(width=width)
        for row in rows.to_dict("records"):
            color = _COLORS.get(row["verdict"], "white")
            table.add_row(
                row["at"], f"[{color}]{row['verdict']}[/]", escape(row["series"]), escape(row["told"])
            )
        out.print(table)
    if (~primary).any():
        out.print(
            f"\n{(~primary).sum()} further checks explore; --json and the report have them.", highlight=False
        )
    out.print()
