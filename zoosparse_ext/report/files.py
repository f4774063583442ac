"""The files beside the page: figures and tables, each written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from zoosparse_ext.report.figures.style import Picture


def write_figures(folder: Path, pictures: list[Picture]) -> None:
    """Every figure as SVG and PNG."""
    for picture in pictures:
        replace(folder / f"{picture.name}.svg", picture.file)
        replace(folder / f"{picture.name}.png", picture.png)


def write_tables(folder: Path, tables: Mapping[str, pd.DataFrame]) -> None:
    """Every table as CSV and Parquet, whole."""
    for name, table in tables.items():
        replace(folder / f"{name}.csv", table.to_csv(index=False).encode())
        replace(folder / f"{name}.parquet", table.to_parquet(index=False))


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
