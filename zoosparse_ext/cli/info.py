"""`zoosparse info`: which implementation of every operator runs here, and why."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import torch
import typer
from rich.markup import escape

from zoosparse_ext import ops
from zoosparse_ext.cli.console import out, print_json, print_table
from zoosparse_ext.study.provenance import package_version
from zoosparse_ext.zoo import Zoo


def info(
    zoo_path: Annotated[
        Path | None, typer.Argument(help="Describe this zoo instead.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Describe the installation (operators, devices, instruction set), or a zoo.

    [bold]Examples[/]

      zoosparse info

      zoosparse info my-zoo --json
    """
    if zoo_path is not None:
        described = Zoo.open(zoo_path).info()
        if as_json:
            print_json(described)
        else:
            _print_nested(described)
        return
    operators = pd.DataFrame(ops.implementations())
    versions = {
        "zoosparse_ext": package_version(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    if as_json:
        print_json({**versions, "operators": operators})
        return
    out.print(", ".join(f"{name} {value}" for name, value in versions.items()))
    print_table(operators, "Operators")


def _print_nested(values: dict[str, Any], indent: str = "") -> None:
    """One line per value, dictionaries indented below their name."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            out.print(f"{indent}[bold]{escape(key)}[/]")
            _print_nested(value, indent + "  ")
        else:
            shown = value if isinstance(value, list) else ["–" if value is None else value]
            text = ", ".join(map(str, shown))
            out.print(f"{indent}{escape(key)}: {escape(text)}", soft_wrap=True)
