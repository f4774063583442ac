"""`zoosparse import` and `zoosparse export`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from zoosparse_ext.cli import options as o
from zoosparse_ext.cli.console import INTERRUPTED, err, print_json, say
from zoosparse_ext.errors import InputError
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.networks import NETWORKS, architecture
from zoosparse_ext.zoo import Zoo
from zoosparse_ext.zoo.epochs import base_epochs
from zoosparse_ext.zoo.formats import EXPORTERS, FORMATS, export_zoo, import_zoo

_SHOWN = 10  # skipped models on the terminal; all of them are in the zoo's provenance


def import_(
    sources: Annotated[
        list[Path],
        typer.Argument(help="Folder or file; several if they belong together.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the new zoo.", show_default=False)],
    format: Annotated[str, typer.Option(help=f"auto, {', '.join(FORMATS)}.")] = "auto",
    epochs: Annotated[str, typer.Option(help="last, all, or numbers: 0,10,50.")] = "last",
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first model that cannot be read.")
    ] = False,
    activation: Annotated[str | None, typer.Option(help="Where the source does not say it.")] = None,
    arch: Annotated[
        str | None, typer.Option(help=f"Where tensors do not tell it: {', '.join(NETWORKS)}.")
    ] = None,
    threshold: Annotated[
        float, typer.Option(help="Variational twins: weights with log α from here on are dropped.")
    ] = 3.0,
    allow_nan: o.AllowNan = False,
    trust_pickle: Annotated[
        bool,
        typer.Option("--trust-pickle", help="Run pickles. Only for files from people you trust."),
    ] = False,
    workers: Annotated[int | None, typer.Option(help="Processes; default: one per core.")] = None,
    as_json: o.Json = False,
) -> None:
    """Make a zoo of what other tools wrote: Ray trees of modelzoos.cc, matrices, folders of checkpoints.

    Broken models are left out and listed. Ctrl-C keeps what was read; the same command goes on from there.

    [bold]Examples[/]

    zoosparse import mnist-zoo/ mnist-twins/ --out my-zoo

    zoosparse import mnist-zoo/ --epochs all --out my-zoo
    """
    with _bar("import") as progress:
        zoo = import_zoo(
            sources,
            format,
            out=out,
            epochs=_parse_epochs(epochs),
            strict=strict,
            allow_nan=allow_nan,
            trust_pickle=trust_pickle,
            activation=activation,
            architecture=_architecture(arch, activation),
            threshold=threshold,
            workers=workers,
            progress=progress,
        )
    skipped = zoo.provenance["import"]["skipped"]
    sizes = zoo.info()["populations"]  # reads no weights
    if as_json:
        print_json({"zoo": str(out), "populations": sizes, "skipped": skipped})
        return
    for model in skipped[:_SHOWN]:
        say(f"[bold]left out[/] {escape(model['name'])}: {escape(model['reason'])}")
    if len(skipped) > _SHOWN:
        say(f"… {len(skipped)} in all; all of them: zoosparse info {escape(str(out))}")
    counts = ", ".join(
        f"{sizes[names[0]]} × {names[0]}" + _earlier(len(names) - 1) for names in base_epochs(zoo).values()
    )
    shown = escape(str(out))
    say(f"[bold]{shown}[/]: {counts}.\nNext: zoosparse {_next(zoo, shown)}")


def export(
    zoo_path: o.ZooPath,
    out: Annotated[Path, typer.Option(help="New folder.", show_default=False)],
    format: Annotated[str, typer.Option(help=", ".join(EXPORTERS))] = "modelzoos",
    with_data: Annotated[
        bool,
        typer.Option("--with-data", help="modelzoos: write dataset.pt, what the models were trained on."),
    ] = False,
    data: o.DataSpec = None,
    license: o.License = "unknown",
    as_json: o.Json = False,
) -> None:
    """Write a zoo for other tools. `zoosparse import` reads it back to the same bits.

    [bold]Examples[/]

    zoosparse export my-zoo --format modelzoos --out tree/

    zoosparse export my-zoo --format huggingface --license mit --out repo/
    """
    zoo = Zoo.open(zoo_path)
    trained_on = o.data_of(zoo, data) if with_data or data else None
    export_zoo(zoo, out, format, data=trained_on, license=license)
    files = [path for path in out.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    if as_json:
        print_json({"out": str(out), "format": format, "files": len(files), "bytes": size})
    else:
        say(f"[bold]{escape(str(out))}[/]: {len(files):,} files, {size / 2**20:,.1f} MiB, format {format}")


@contextmanager
def _bar(title: str) -> Iterator[Callable[[int, int], None]]:
    columns: tuple[Any, ...] = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("models"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    try:
        with Bars(*columns, console=err) as bars:
            task = bars.add_task(title, total=None)
            yield lambda done, total: bars.update(task, completed=done, total=total)
    except KeyboardInterrupt:
        say("\nInterrupted. What was read is kept; run the same command again to go on.")
        raise typer.Exit(INTERRUPTED) from None


def _next(zoo: Zoo, path: str) -> str:
    """What works on an imported zoo: few sources say what their models were trained on, and twins alone are pruned."""
    if "original" not in zoo.populations:
        return f"info {path}"
    return f"prune {path}" + ("" if zoo.dataset else " --data …, what its models were trained on")


def _earlier(epochs: int) -> str:
    return f" (and {epochs} earlier epoch{'s' * (epochs > 1)})" if epochs else ""


def _parse_epochs(text: str) -> str | list[int]:
    if text in ("last", "all"):
        return text
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--epochs {text!r}: write last, all, or numbers: 0,10,50") from None


def _architecture(name: str | None, activation: str | None) -> Architecture | None:
    return None if name is None else architecture(name, activation=activation)
