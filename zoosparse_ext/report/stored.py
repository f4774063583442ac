"""Tables of an earlier report, used again while neither the zoo nor the analysis has changed.

Tables of a thousand models take most of a minute; drawing them takes seconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import pandas as pd

from zoosparse_ext.report.files import replace

MADE_FROM = "made-from.txt"  # beside the tables: what they were computed from, and by which code
_CODE = ("analysis", "sparsify")  # folders of the package whose code decides what the tables say
_LIBRARIES = ("numpy", "pandas", "scipy")


def source_of(content: bytes) -> str:
    """What tables are made from: the content of a study, and the code of the analysis.

    Args:
        content: decides all data of the study, such as the manifest of a zoo, which has the checksum of every file.
    """
    return f"{hashlib.sha256(content).hexdigest()} {_code()}"


@cache
def _code() -> str:
    digest = hashlib.sha256(" ".join(map(version, _LIBRARIES)).encode())
    for folder in _CODE:
        for file in sorted(files("zoosparse_ext").joinpath(folder).iterdir(), key=lambda file: file.name):
            if file.name.endswith(".py"):
                digest.update(file.read_bytes())
    return digest.hexdigest()


def stored_tables(folder: Path, source: str | None) -> dict[str, pd.DataFrame]:
    """Tables that were written into a folder from this source; none where they were made from another."""
    note = folder / MADE_FROM
    if source is None or not note.is_file() or note.read_text(encoding="utf-8") != source:
        return {}
    return {path.stem: pd.read_parquet(path) for path in sorted(folder.glob("*.parquet"))}


def store_tables(folder: Path, tables: Mapping[str, pd.DataFrame], source: str | None = None) -> None:
    """Every table as CSV and Parquet, whole; last of all what they were made from, if it is told."""
    (folder / MADE_FROM).unlink(missing_ok=True)  # an interruption leaves tables of two sources
    for name, table in tables.items():
        replace(folder / f"{name}.csv", table.to_csv(index=False).encode())
        replace(folder / f"{name}.parquet", table.to_parquet(index=False))
    if source is not None:
        replace(folder / MADE_FROM, source.encode())
