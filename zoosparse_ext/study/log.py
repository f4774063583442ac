"""The log of a study: JSON lines, one event each, for whoever watches from outside or asks afterwards."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from zoosparse_ext.errors import StoreError
from zoosparse_ext.population.hooks import Progress
from zoosparse_ext.study.run import StageBar
from zoosparse_ext.study.runner import StageProgress
from zoosparse_ext.study.work import OnProgress
from zoosparse_ext.zoo.plain import plain
from zoosparse_ext.zoo.provenance import provenance

_study = logging.getLogger("zoosparse_ext.study")


class RunLog:
    """Appends to a file, which is made with the first epoch, warning or finished stage; a run that goes on adds to it.

    Events: ``run`` (versions and machine, once per run), ``epoch`` (stage, chunk, epoch, epochs, networks of the chunk,
    their accuracy in training, seconds since the stage began), ``warning`` (stage, message: a chunk
    that failed, a worker that died), ``finished`` (stage, seconds) and ``stopped`` (stage, reason). All have ``time``.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._begun = False

    def stages(self, bar: StageBar) -> StageBar:
        """The same progress bars, with every epoch and stage written down."""

        @contextmanager
        def logged(stage: str) -> Iterator[OnProgress]:
            started = time.monotonic()

            def seconds() -> float:
                return round(time.monotonic() - started, 3)

            try:
                with bar(stage) as show, self._warnings(stage):

                    def progress(state: Progress) -> None:
                        show(state)
                        if state.models == state.population:
                            self.write("epoch", stage=stage, **_epoch(state), seconds=seconds())

                    yield progress
            except BaseException as error:
                if self._begun:  # else it was bad input, which leaves nothing behind
                    self.write("stopped", stage=stage, reason=f"{type(error).__name__}: {error}".rstrip(": "))
                raise
            self.write("finished", stage=stage, seconds=seconds())

        return logged

    @contextmanager
    def _warnings(self, stage: str) -> Iterator[None]:
        """Write down what a study warns of meanwhile."""
        handler = _Handler(partial(self.write, "warning", stage=stage))
        _study.addHandler(handler)
        try:
            yield
        finally:
            _study.removeHandler(handler)

    def write(self, event: str, **values: Any) -> None:
        """Append one event.

        Raises:
            StoreError: the file cannot be written.
        """
        events = [{"event": event, **values}]
        if not self._begun:
            events.insert(0, {"event": "run", **provenance()})
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        lines = [json.dumps(plain({"time": now, **item}), allow_nan=False) + "\n" for item in events]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a", encoding="utf-8") as file:
                file.write("".join(lines))
        except OSError as error:
            raise StoreError(f"cannot write the log {self.path}: {error.strerror or error}") from error
        self._begun = True


class _Handler(logging.Handler):
    """Hands on the messages of warnings."""

    def __init__(self, write: Callable[..., None]) -> None:
        super().__init__(logging.WARNING)
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        self._write(message=record.getMessage())


def _epoch(state: Progress) -> dict[str, Any]:
    """An epoch of a chunk in plain values."""
    return {
        "chunk": state.chunk if isinstance(state, StageProgress) else None,
        "epoch": state.epoch,
        "epochs": state.epochs,
        "networks": state.population,
        "accuracy": state.accuracy,
    }
