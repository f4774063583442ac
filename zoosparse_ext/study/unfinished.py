"""What an unfinished stage was begun with, in words beside its checkpoints, so that no other goes on with it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from zoosparse_ext.errors import InputError
from zoosparse_ext.words import Texts, digest

FILE = "settings.json"


def begun(folder: Path | None, *, of_commands: bool = False) -> dict[str, Texts]:
    """The settings of stages whose epochs are kept, by the name of their folder.

    Args:
        folder: that holds the folders of the stages; None where there is none.
        of_commands: the folder of a zoo, in which every command has a folder for its stages.
    """
    if folder is None:
        return {}
    found = {}
    for file in sorted(folder.glob(f"{'*/' * of_commands}*/{FILE}")):
        settings = _read(file)
        if settings is not None and _has_epochs(file.parent):
            found[file.parent.name] = settings
    return found


def place(name: str, settings: Texts, begun: Mapping[str, Texts]) -> str:
    """Where the epochs of a stage lie: under its name, or beside those of an unfinished one with other settings.

    >>> place("magnitude-global", {"ratios": "ratios 0.5"}, {})
    'magnitude-global'
    >>> place("magnitude-global", {"ratios": "ratios 0.5"}, {"magnitude-global": {"ratios": "ratios 0.8"}})
    'magnitude-global-bd47bf'
    """
    beside = f"{name}-{digest(sorted(settings.items()))}"
    if beside in begun:
        return beside
    there = begun.get(name)
    if there is None or all(there.get(key, text) == text for key, text in settings.items()):
        return name
    return beside


@contextmanager
def noted(folder: Path | None, settings: Texts) -> Iterator[None]:
    """Run a stage whose settings are noted beside its epochs, and named if it refuses epochs that had others.

    Args:
        folder: of the checkpoints of the stage; None where there are none.
        settings: of the stage, in words.

    Raises:
        InputError: what the stage raised; if epochs are kept that had other settings, with the difference.
    """
    if folder is None:
        yield
        return
    new = [path for path in (folder, folder.parent) if not path.exists()]
    if not _has_epochs(folder):
        _note(folder, settings)
    try:
        yield
    except InputError as error:
        if told := _difference(folder, settings):
            raise InputError(f"{error}; {told}") from error
        raise
    finally:
        if not _has_epochs(folder):
            _forget(folder / FILE, new)


def _note(folder: Path, settings: Texts) -> None:
    with suppress(OSError):  # without it a refusal says less, no more
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).write_text(json.dumps(settings), encoding="utf-8")


def _forget(file: Path, folders: list[Path]) -> None:
    """Leave nothing of a stage that came to no epoch; folders that hold something, such as logs, stay."""
    with suppress(OSError):
        file.unlink(missing_ok=True)
        for folder in folders:
            folder.rmdir()


def _has_epochs(folder: Path) -> bool:
    return any(folder.glob("*.safetensors"))


def _read(file: Path) -> Texts | None:
    """The settings in a file; None where there is none, or none that was written to its end."""
    try:
        there = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return there if isinstance(there, dict) else None


def _difference(folder: Path, settings: Texts) -> str | None:
    """What the kept epochs were begun with and what is asked for, where that differs; None if nothing is known."""
    there = _read(folder / FILE)
    if there is None or not _has_epochs(folder):
        return None
    names = [name for name in {**there, **settings} if there.get(name) != settings.get(name)]
    began, asked = (
        ", ".join(str(texts[name]) for name in names if name in texts) for texts in (there, settings)
    )
    return f"that run began with {began}; this one has {asked}" if names else None
