"""The commands, gathered, and the way errors leave the program."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from zoosparse_ext.cli import bench, formats, info, push, results, sparsify, study, train
from zoosparse_ext.cli.console import fail
from zoosparse_ext.errors import ZoosparseError
from zoosparse_ext.version import package_version

_OUT_OF_MEMORY = (
    "DefaultCPUAllocator",
    "out of memory",
)  # in what PyTorch raises, as a RuntimeError, on CPU and CUDA

app = typer.Typer(
    name="zoosparse",
    help="Train populations of neural networks, give every model sparse twins, and study them as a population.",
    epilog="Start with: zoosparse demo",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(package_version())
        raise typer.Exit


@app.callback()
def options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say which engine runs, and why.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(message)s")


app.command("demo")(study.demo)
app.command("train")(train.train)
app.command("import")(formats.import_)
app.command("export")(formats.export)
app.command("push")(push.push)
app.command("sparsify")(sparsify.sparsify)
app.command("prune")(sparsify.prune)
app.command("vardrop")(sparsify.vardrop)
app.command("control")(sparsify.control)
app.command("evaluate")(results.evaluate)
app.command("analyze")(results.analyze)
app.command("report")(results.report)
app.command("study")(study.study)
app.command("bench")(bench.bench)
app.command("info")(info.info)


def main() -> None:
    """Run a command; every error the package raises on purpose ends with exit code 2 and its message."""
    try:
        app()
    except ZoosparseError as error:
        fail(str(error))
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(sign in str(error) for sign in _OUT_OF_MEMORY):
            raise
        fail(
            "there is not enough memory; finished stages and epochs are kept. "
            "Train fewer models at a time, or prune at fewer ratios (`zoosparse study --dry-run` counts bytes)"
        )
