"""`zoosparse push`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import pandas as pd
import typer
from rich.markup import escape

from zoosparse_ext.cli import options as o
from zoosparse_ext.cli.console import print_json, print_table, say
from zoosparse_ext.zoo import Zoo
from zoosparse_ext.zoo.formats import push_zoo


def push(
    zoo_path: o.ZooPath,
    repository: Annotated[
        str, typer.Argument(help="owner/name on the Hugging Face Hub.", show_default=False)
    ],
    license: o.License = "unknown",
    private: Annotated[
        bool | None, typer.Option("--private/--public", help="Of a new repository.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go, send nothing.")] = False,
    as_json: o.Json = False,
) -> None:
    """Send a zoo to the Hugging Face Hub: a data set with a card, in one commit.

    Needs `pip install "zoosparse-ext\\[hub]"`, and a token from `hf auth login` or HF_TOKEN.

    [bold]Examples[/]

    zoosparse push my-zoo me/my-zoo --dry-run

    zoosparse push my-zoo me/my-zoo --license cc-by-4.0 --private
    """
    pushed = push_zoo(Zoo.open(zoo_path), repository, license=license, private=private, dry_run=dry_run)
    if as_json:
        print_json({**asdict(pushed), "bytes": pushed.bytes})
        return
    size = f"{len(pushed.files):,} files, {pushed.bytes / 2**20:,.1f} MiB"
    if pushed.url is None:
        frame = pd.DataFrame({"file": list(pushed.files), "bytes": list(pushed.files.values())})
        print_table(frame, f"would go to {repository}: {size}")
    else:
        say(f"[bold]{escape(pushed.url)}[/]: {size}")
