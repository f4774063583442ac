"""`zoosparse info`: which implementation of every operator runs here, and why."""

from __future__ import annotations

import platform
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import torch
import typer
from rich.markup import escape

from zoosparse_ext import ops
from zoosparse_ext.cli.console import out, print_json, print_table
from zoosparse_ext.errors import InputError
from zoosparse_ext.ops import infer_costs
from zoosparse_ext.ops.infer_costs import InferCosts
from zoosparse_ext.population.tuning import measure_infer_costs
from zoosparse_ext.version import package_version
from zoosparse_ext.zoo import Zoo


def info(
    zoo_path: Annotated[
        Path | None, typer.Argument(metavar="ZOO", help="Describe this zoo instead.", show_default=False)
    ] = None,
    tune: Annotated[
        bool, typer.Option("--tune", help="Measure when leaving out zeros pays on this machine, and keep it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Describe the installation (operators, devices, instruction set), or a zoo.

    [bold]Examples[/]

    zoosparse info

    zoosparse info my-zoo --json

    zoosparse info --tune
    """
    if zoo_path is not None:
        if tune:
            raise InputError("--tune measures this machine and takes no zoo; leave one of them out")
        described = Zoo.open(zoo_path).info()
        if as_json:
            print_json(described)
        else:
            _print_nested(described)
        return
    if tune:
        infer_costs.save(measure_infer_costs())
    measured = infer_costs.saved()
    operators = pd.DataFrame(ops.implementations())
    versions = {
        "zoosparse_ext": package_version(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    if as_json:
        print_json({**versions, "infer_costs": asdict(measured or InferCosts()), "operators": operators})
        return
    out.print(", ".join(f"{name} {value}" for name, value in versions.items()))
    print_table(operators, "Operators")
    costs, origin = (measured, "measured here") if measured else (InferCosts(), "built in; measure: --tune")
    out.print(
        f"A weight in a sparse list costs {costs.on_planes:.2f} times one in a dense convolution, "
        f"{costs.on_one_position:.2f} times one in a dense linear layer ({origin})."
    )


def _print_nested(values: dict[str, Any], indent: str = "") -> None:
    """One line per value, dictionaries indented below their name, those of a list on a line each."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            out.print(f"{indent}[bold]{escape(key)}[/]")
            _print_nested(value, indent + "  ")
        elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            out.print(f"{indent}[bold]{escape(key)}[/]")
            for item in value:
                text = ", ".join(f"{name} {entry}" for name, entry in item.items())
                out.print(f"{indent}  {escape(text)}", soft_wrap=True)
        else:
            shown = value if isinstance(value, list) else ["–" if value is None else value]
            text = ", ".join(map(str, shown))
            out.print(f"{indent}{escape(key)}: {escape(text)}", soft_wrap=True)
