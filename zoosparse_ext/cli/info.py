"""`zoosparse info`: which implementation of every operator runs here, and why."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
import typer

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
            for key, value in described.items():
                out.print(f"{key}: {value}")
        return
    operators = pd.DataFrame(
        [vars(row) if hasattr(row, "__dict__") else row._asdict() for row in ops.implementations()]
    )
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
