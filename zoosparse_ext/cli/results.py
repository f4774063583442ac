"""`zoosparse evaluate`, `analyze` and `report`: what came out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from zoosparse_ext.cli import options as o
from zoosparse_ext.cli.claims import print_claims
from zoosparse_ext.cli.console import print_json, say
from zoosparse_ext.cli.summary import print_evaluation
from zoosparse_ext.study import reporting
from zoosparse_ext.study.stages import evaluate_zoo
from zoosparse_ext.zoo import Zoo


def evaluate(
    zoo_path: o.ZooPath, data: o.DataSpec = None, device: o.Device = None, as_json: o.Json = False
) -> None:
    """Evaluate every model and every twin on the test images.

    The table has the medians at every ratio, --json every model and twin, with its loss.

    [bold]Examples[/]

    zoosparse evaluate my-zoo --json > accuracy.json

    zoosparse evaluate my-zoo --device cuda
    """
    zoo = Zoo.open(zoo_path)
    rows = evaluate_zoo(zoo, o.data_of(zoo, data), device)
    if as_json:
        print_json(rows)
        return
    print_evaluation(rows, str(zoo_path))


def analyze(
    zoo_path: o.ZooPath,
    out: Annotated[Path | None, typer.Option(help="Folder for all tables, as CSV and Parquet.")] = None,
    as_json: o.Json = False,
) -> None:
    """Check the claims of the paper on this zoo, and write the tables of the analysis.

    [bold]Example[/]

    zoosparse analyze my-zoo --out my-tables
    """
    zoo = Zoo.open(zoo_path)
    claims = reporting.claims(zoo) if out is None else reporting.tables(zoo, out)
    print_claims(claims, as_json)


def report(
    zoo_path: o.ZooPath,
    out: Annotated[Path | None, typer.Option(help="Folder for report.html; default: <zoo>-report.")] = None,
    title: Annotated[str | None, typer.Option(help="Title of the page; default: that of the study.")] = None,
    serve: Annotated[
        bool,
        typer.Option("--serve", help="Serve it to this machine, anew after every stage of a running study."),
    ] = False,
    port: Annotated[int, typer.Option(help="Port of --serve; 0 takes a free one.")] = 8000,
) -> None:
    """Write the report: one HTML page, with figures and tables as files beside it.

    [bold]Examples[/]

    zoosparse report my-zoo --out my-report

    zoosparse report my-study/zoo --serve
    """
    folder = out or zoo_path.with_name(zoo_path.name + "-report")
    manifest = reporting.manifest_of(zoo_path)
    zoo = Zoo.open(zoo_path)
    title = title or zoo.provenance.get("settings", {}).get("title") or f"Sparse twins of {zoo_path.name}"
    if serve:
        for url in reporting.serve(zoo_path, folder, title, port):
            say(f"{time.strftime('%H:%M:%S')} report at [bold]{url}[/], until Ctrl-C")
        return
    page, _ = reporting.write(zoo, folder, title, manifest)
    say(f"Report: [bold]{escape(str(page))}[/]")
