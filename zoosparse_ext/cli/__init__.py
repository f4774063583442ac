"""The command line: `zoosparse …`. One command, one function call."""

from __future__ import annotations

from zoosparse_ext.cli.app import app, main

__all__ = ["app", "main"]
