"""What all commands share: the console, progress bars, and how errors and interruptions end a command."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
import typer
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from zoosparse_ext.population.train import Progress
from zoosparse_ext.zoo.plain import plain

out = Console(highlight=False)  # results
err = Console(stderr=True, highlight=False)  # progress and messages, so that stdout stays clean for scripts

INTERRUPTED = 130


@contextmanager
def training_bar(title: str) -> Iterator[Callable[[Progress], None]]:
    """A bar over models × epochs, with the time left and the current accuracy."""
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
        TextColumn("×"),
        TextColumn("{task.fields[models]} models"),
        TextColumn("accuracy {task.fields[accuracy]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=err) as bars:
        task = bars.add_task(title, total=None, epoch=0, epochs="?", models="?", accuracy="–")

        def update(progress: Progress) -> None:
            bars.update(
                task,
                total=progress.epochs * progress.population,
                completed=(progress.epoch - 1) * progress.population + progress.models,
                epoch=progress.epoch,
                epochs=progress.epochs,
                models=progress.population,
                accuracy=f"{progress.accuracy:.1%}",
            )

        yield update


@contextmanager
def resumable(zoo: Path) -> Iterator[Path]:
    """A folder beside the zoo for checkpoints: removed when the work is saved, kept when it is interrupted."""
    folder = resume_folder(zoo)
    try:
        yield folder
    except KeyboardInterrupt:
        if folder.exists():
            err.print(
                f"\nInterrupted. Finished epochs are kept in {folder}; run the same command again to go on."
            )
        else:
            err.print("\nInterrupted before the first epoch was done; nothing was written.")
        raise typer.Exit(INTERRUPTED) from None
    shutil.rmtree(folder, ignore_errors=True)


def resume_folder(zoo: Path) -> Path:
    """Where unfinished work on a zoo is kept: `<zoo>.resume`."""
    return zoo.with_name(zoo.name + ".resume")


def print_table(frame: pd.DataFrame, title: str) -> None:
    """A data frame as a table."""
    table = Table(title=title, title_justify="left")
    for name in frame.columns:
        table.add_column(str(name), justify="left" if frame[name].dtype == object else "right")
    for row in frame.itertuples(index=False):
        table.add_row(*(_cell(value) for value in row))
    out.print(table)


def print_json(value: Any) -> None:
    """Strict JSON on stdout: NaN becomes null."""
    print(json.dumps(plain(value), indent=2, allow_nan=False))


def fail(message: str) -> NoReturn:
    """End with exit code 2 and a message."""
    err.print(f"[bold red]error:[/] {_escape(message)}", soft_wrap=True)
    raise SystemExit(2)


def _escape(text: str) -> str:
    return text.replace("[", r"\[")


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "–" if value != value else f"{value:.4g}"
    return "–" if value is None else _escape(str(value))
