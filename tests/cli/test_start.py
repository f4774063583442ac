"""How the command `zoosparse` begins: the package is loaded without a search for garbage in it."""

from __future__ import annotations

import subprocess
import sys

from tests.cli.command import REPOSITORY

PROGRAM = """
import gc
from zoosparse_command import main

try:
    main()
finally:
    print(gc.isenabled(), gc.get_freeze_count() > 100_000)
"""


def test_what_is_loaded_is_not_searched_for_garbage() -> None:
    words = [sys.executable, "-c", PROGRAM, "study", "--list"]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert "mnist-seed" in done.stdout
    assert done.stdout.endswith("True True\n")  # what a command makes is searched as ever
