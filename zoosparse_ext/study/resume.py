"""Where unfinished work on a zoo is kept, and the lock that keeps others from it meanwhile."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zoosparse_ext.zoo.folder import locked


def resume_folder(zoo: Path) -> Path:
    """Where unfinished work on a zoo is kept: `<zoo>.resume`.

    >>> resume_folder(Path("my-study/zoo")).name
    'zoo.resume'
    """
    return zoo.with_name(zoo.name + ".resume")


@contextmanager
def kept_epochs_of(zoo: Path, work: str) -> Iterator[Path]:
    """A folder beside the zoo for the checkpoints of one piece of work: removed when that ends, kept if it breaks off.

    Raises:
        StoreError: another process works on this zoo.
    """
    folder = resume_folder(zoo)
    with locked(folder, owner=zoo):
        yield folder / work
        shutil.rmtree(folder / work, ignore_errors=True)
