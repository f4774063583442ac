"""A file system that fails at a chosen step of a save: power lost, or the disk full."""

from __future__ import annotations

import builtins
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

from zoosparse_ext.zoo import folder


class PowerLoss(BaseException):
    """Nothing happens after it, not even tidying up."""


class Disk:
    """Counts what a save asks of the file system and fails from step `at` on.

    With `full`, only what needs space fails, with ENOSPC; else everything does, with :class:`PowerLoss`. A write that
    fails has written half.
    """

    def __init__(self, at: int, full: bool = False) -> None:
        self.at, self.full, self.steps = at, full, 0

    @property
    def failed(self) -> bool:
        return self.steps > self.at

    def step(self, needs_space: bool = False) -> None:
        if self.full and not needs_space:
            return
        self.steps += 1
        if not self.failed:
            return
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise PowerLoss

    def attach(self, patch: pytest.MonkeyPatch) -> None:
        """Put this disk under every write of the store."""

        def counted(function: Callable[..., Any], needs_space: bool = False) -> Callable[..., Any]:
            def call(*args: Any, **options: Any) -> Any:
                self.step(needs_space)
                return function(*args, **options)

            return call

        def opened(path: Path, mode: str = "r") -> Any:
            if "w" not in mode:
                return builtins.open(path, mode)
            self.step(needs_space=True)
            return _File(builtins.open(path, mode), self)

        patch.setattr(folder, "open", opened, raising=False)
        patch.setattr(
            folder.os, "fsync", counted(lambda handle: None, needs_space=True)
        )  # quick, and not the point
        patch.setattr(folder.os, "replace", counted(os.replace))
        patch.setattr(Path, "mkdir", counted(Path.mkdir, needs_space=True))
        patch.setattr(Path, "unlink", counted(Path.unlink))
        patch.setattr(Path, "rmdir", counted(Path.rmdir))


class _File:
    def __init__(self, file: IO[Any], disk: Disk) -> None:
        self._file, self._disk = file, disk

    def write(self, content: bytes) -> None:
        try:
            self._disk.step(needs_space=True)
        except BaseException:
            self._file.write(content[: len(content) // 2])
            raise
        self._file.write(content)

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *reason: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
