"""What all commands share: the console, progress bars, and how errors and interruptions end a command."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
import typer
from pandas.api import types
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, ProgressColumn, Task, TextColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from zoosparse_ext.population.hooks import Progress
from zoosparse_ext.study.resume import kept_epochs_of
from zoosparse_ext.zoo.plain import plain

out = Console(highlight=False)  # results
err = Console(stderr=True, highlight=False)  # progress and messages, so that stdout stays clean for scripts

INTERRUPTED = 130
_REFRESHES = 4  # of a bar, each second: every one takes a core from training for 1 to 2 ms


@contextmanager
def training_bar(title: str) -> Iterator[Callable[[Progress], None]]:
    """A bar over models × epochs, with the time left and the current accuracy."""
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=10),
        TextColumn("{task.fields[state]}"),
        _Clock(),
    )
    with Bars(*columns, console=err, refresh_per_second=_REFRESHES) as bars:
        task = bars.add_task(title, total=None, state="starting")

        def update(progress: Progress) -> None:
            networks = f"{progress.population} network" + "s" * (progress.population > 1)
            bars.update(
                task,
                total=progress.total,
                completed=progress.done,
                state=f"{networks} × epoch {progress.epoch}/{progress.epochs}, accuracy {percent(progress.accuracy)}",
            )

        yield update
        if (total := bars.tasks[task].total) is None:
            bars.update(task, total=1, completed=1, state="nothing to train")
        else:  # chunks that an earlier run finished say nothing
            bars.update(task, completed=total)


class _Clock(ProgressColumn):
    """Time left while something runs; the time it took when it is done."""

    def render(self, task: Task) -> Text:
        if task.finished:
            return Text(f"in {duration(task.finished_time or 0.0)}", style="progress.elapsed")
        left = task.time_remaining
        return Text("" if left is None else f"{duration(left)} left", style="progress.remaining")


def duration(seconds: float) -> str:
    """Hours where there are any, minutes, seconds.

    >>> duration(75), duration(3675)
    ('1:15', '1:01:15')
    """
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


@contextmanager
def resumable(zoo: Path, work: str) -> Iterator[Path]:
    """A folder beside the zoo for the checkpoints of one piece of work: removed when that is saved, else kept.

    Raises:
        StoreError: somebody else is at work on this zoo.
        typer.Exit: Ctrl-C, after saying how to go on.
    """
    with kept_epochs_of(zoo, work) as checkpoints:
        try:
            yield checkpoints
        except KeyboardInterrupt:
            if checkpoints.exists():
                message = f"Finished epochs are kept in {checkpoints}; run the same command again to go on."
            else:
                message = "Nothing lies half done; run the same command again to go on."
            say(f"\nInterrupted. {escape(message)}")
            raise typer.Exit(INTERRUPTED) from None


def print_table(frame: pd.DataFrame, title: str, shares: Collection[str] = ()) -> None:
    """A data frame as a table: numbers to the right, the columns named in `shares` as percent."""
    # Without upright lines a plan of six columns fits a terminal of 80.
    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in frame.columns:
        table.add_column(
            escape(str(name)), justify="right" if types.is_numeric_dtype(frame[name]) else "left"
        )
    for row in frame.itertuples(index=False):
        cells = zip(frame.columns, row, strict=True)
        table.add_row(*(percent(value) if name in shares else _cell(value) for name, value in cells))
    out.print(table)


def percent(share: float) -> str:
    """A share as percent; a dash where there is none.

    >>> percent(0.8125), percent(float("nan"))
    ('81.2 %', '–')
    """
    return "–" if math.isnan(share) else f"{100 * share:.1f} %"


def size(count: int) -> str:
    """Bytes in the largest unit that leaves at least one.

    >>> size(900), size(3 * 2**20)
    ('900 B', '3.0 MiB')
    """
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    power = min((max(count, 1).bit_length() - 1) // 10, len(units) - 1)
    return f"{count} B" if power == 0 else f"{count / 1024**power:,.1f} {units[power]}"


def print_json(value: Any) -> None:
    """Strict JSON on stdout: NaN becomes null."""
    print(json.dumps(plain(value), indent=2, allow_nan=False))


def say(message: str) -> None:
    """A line for the person at the terminal; paths in it stay whole, to be copied."""
    err.print(message, soft_wrap=True)


def fail(message: str) -> NoReturn:
    """End with exit code 2 and a message."""
    say(f"[bold red]error:[/] {escape(message)}")
    raise SystemExit(2)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.4g}"
    return "–" if value is None else escape(str(value))
