"""The files of a report, each written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from zoosparse_ext.report.figures.style import Picture


def write_figures(folder: Path, pictures: list[Picture]) -> None:
    """Every figure as SVG and PNG."""
    for picture in pictures:
        replace(folder / f"{picture.name}.svg", picture.file)
        replace(folder / f"{picture.name}.png", picture.png)


def replace(path: Path, content: bytes) -> None:
    """Write beside the file, then take its place: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
