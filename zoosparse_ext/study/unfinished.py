"""What an unfinished stage was begun with, in words, beside its checkpoints: for when they are refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from zoosparse_ext.errors import InputError
from zoosparse_ext.population.hooks import Progress
from zoosparse_ext.sparsify.settings import Texts
from zoosparse_ext.study.work import OnProgress

FILE = "settings.json"


@contextmanager
def noted(folder: Path | None, settings: Texts, progress: OnProgress | None) -> Iterator[OnProgress | None]:
    """Run a stage: its settings are noted once there are epochs to go on with, and named if those are of others.

    Args:
        folder: of the checkpoints of the stage; None where there are none.
        settings: of the stage, in words.
        progress: to be told of it.

    Yields:
        What is to be told instead.

    Raises:
        InputError: what the stage raised; if epochs are kept that had other settings, with the difference.
    """
    if folder is None:
        yield progress
        return
    waits = True

    def show(state: Progress) -> None:
        nonlocal waits
        if waits and _has_epochs(folder):
            waits = False
            with suppress(OSError):  # without it a refusal says less, no more
                (folder / FILE).write_text(json.dumps(settings), encoding="utf-8")
        if progress is not None:
            progress(state)

    try:
        yield show
    except InputError as error:
        if told := _difference(folder, settings):
            raise InputError(f"{error}; {told}") from error
        raise


def _has_epochs(folder: Path) -> bool:
    return any(folder.glob("*.safetensors"))


def _difference(folder: Path, settings: Texts) -> str | None:
    """What the kept epochs were begun with and what is asked for, where that differs; None if nothing is known."""
    try:
        there = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none, or not written to its end
        return None
    if not isinstance(there, dict) or not _has_epochs(folder):
        return None
    names = [name for name in {**there, **settings} if there.get(name) != settings.get(name)]
    began, asked = (
        ", ".join(str(texts[name]) for name in names if name in texts) for texts in (there, settings)
    )
    return f"that run began with {began}; this one has {asked}" if names else None
