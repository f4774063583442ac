"""The command `zoosparse`, outside of the package: that takes a second to load, in which Ctrl-C is no traceback."""

from __future__ import annotations

import gc
import os
import signal
import sys


def main() -> None:
    """Load the command line and run it."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # else it is ignored, or somebody else's
        signal.signal(signal.SIGINT, _quit)
    gc.disable()  # what is loaded stays: nobody need search these 300,000 objects for garbage, now or later
    from zoosparse_ext.cli import main as run

    gc.freeze()
    gc.enable()
    signal.signal(signal.SIGINT, before)
    run()


def _quit(*_: object) -> None:
    """End at once: nothing was begun, and an exception could get lost in a half-loaded library."""
    print("\nInterrupted.", file=sys.stderr, flush=True)
    os._exit(130)
