"""`zoosparse …` in this process, or beside it where it is to be interrupted."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from zoosparse_ext.cli import main

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Result:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """What a person reads on stderr, on one line."""
        return " ".join(self.err.split())

    def json(self) -> Any:
        """Stdout as JSON; NaN and Infinity, which are none, are errors."""

        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} is not JSON")

        return json.loads(self.out, parse_constant=refuse)


def zoosparse(*words: object) -> Result:
    """Run a command to its end."""
    out, err = io.StringIO(), io.StringIO()
    arguments = ["zoosparse", *map(str, words)]
    code: object = 0
    with mock.patch.object(sys, "argv", arguments), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code
    return Result(code if isinstance(code, int) else 0, out.getvalue(), err.getvalue())


def succeed(*words: object) -> Result:
    """Run a command that must succeed."""
    result = zoosparse(*words)
    assert result.code == 0, result.err
    return result


# Sends itself a signal when it has written a file of epochs: nobody who watches is quick enough for sure.
_PROGRAM = """
import os
import signal
from zoosparse_ext.cli import main
from zoosparse_ext.population.checkpoint import Checkpoint

save = Checkpoint.save

def save_and_signal(self, *arguments):
    save(self, *arguments)
    if str(self.path) == os.environ["TEST_EPOCHS"]:
        os.kill(os.getpid(), int(os.environ["TEST_SIGNAL"]))

Checkpoint.save = save_and_signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells have it ignored in the background
main()
"""


@contextmanager
def beside(
    *words: object, send: signal.Signals | None = None, after: Path | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A command in a process of its own, which does not outlive the block.

    Args:
        send: a signal that it gets once it has written the file of epochs `after`.
    """
    sending = {} if send is None else {"TEST_EPOCHS": str(after), "TEST_SIGNAL": str(int(send))}
    program = _PROGRAM if sending else "from zoosparse_ext.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", program, *map(str, words)],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1", **sending},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def listing(folder: Path) -> dict[str, bytes]:
    """Every file below a folder and its content; folders with no content."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
    }
