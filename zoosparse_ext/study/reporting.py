"""From a zoo to its claims table and its report.

What analyses and draws is imported when it is used: scipy and matplotlib take seconds to load.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path

import pandas as pd

from zoosparse_ext.errors import StoreError
from zoosparse_ext.population.hooks import Progress
from zoosparse_ext.study.run import StageBar
from zoosparse_ext.study.work import OnProgress
from zoosparse_ext.zoo import Zoo
from zoosparse_ext.zoo.folder import MANIFEST


def loaded_meanwhile(bar: StageBar) -> StageBar:
    """The same progress bars; from the first epoch on, while an engine runs, the report's libraries are loaded.

    If that fails, they are loaded when they are needed, and it is told then.
    """

    def load() -> None:
        with suppress(Exception):
            import_module("zoosparse_ext.report")

    loading = threading.Thread(target=load)

    @contextmanager
    def shown(stage: str) -> Iterator[OnProgress]:
        with bar(stage) as show:

            def progress(state: Progress) -> None:
                show(state)
                if loading.ident is None:
                    with suppress(RuntimeError):  # no room for a thread
                        loading.start()

            yield progress

    return shown


def claims(zoo: Zoo) -> pd.DataFrame:
    """The paper's claims as checks on this zoo: claim, number measured, holds or not, interval; nothing is written."""
    from zoosparse_ext.analysis import StudyData, check_claims

    return check_claims(StudyData.from_zoo(zoo))


def tables(zoo: Zoo, folder: Path) -> pd.DataFrame:
    """Write all tables of the analysis as CSV and Parquet; returns the claims, which are one of them."""
    from zoosparse_ext.analysis import StudyData
    from zoosparse_ext.report import analyzed, store_tables

    results = analyzed(StudyData.from_zoo(zoo))
    store_tables(folder, results)
    return results["claims"]


def write(zoo: Zoo, folder: Path, title: str, manifest: bytes | None = None) -> tuple[Path, pd.DataFrame]:
    """Write `report.html` with its figures and tables; returns the page and the claims, which are one of the tables.

    Args:
        manifest: of the zoo on disk, read before it was opened. Tables that the folder has from a report of the same
            zoo are used again.
    """
    from zoosparse_ext.analysis import StudyData
    from zoosparse_ext.report import source_of, write_report

    source = source_of(manifest) if manifest else None
    page = write_report(
        StudyData.from_zoo(zoo), folder, title=title, provenance=zoo.provenance, source=source
    )
    return page, pd.read_parquet(page.parent / "tables" / "claims.parquet")


def manifest_of(path: Path) -> bytes:
    """The manifest of a zoo on disk, which has the checksum of its every file; empty where there is none."""
    return (path / MANIFEST).read_bytes() if (path / MANIFEST).exists() else b""


def serve(path: Path, folder: Path, title: str, port: int, *, every: float = 1.0) -> Iterator[str]:
    """Write the report of a zoo and serve it on this machine; again whenever a stage of its study is saved.

    Ends when the generator is closed, or by Ctrl-C.

    Args:
        path: of the zoo, which may be written to by a study at the same time.
        every: seconds between two looks at the zoo.

    Yields:
        Where the report is, every time that it was written.

    Raises:
        StoreError: there is no zoo yet; the report cannot be written.
        InputError: the port is taken.
    """
    from zoosparse_ext.report.serve import ReportServer

    seen = manifest_of(path)
    write(Zoo.open(path), folder, title, seen)
    with ReportServer(folder, port) as server:
        yield server.url
        while True:
            time.sleep(every)
            manifest = manifest_of(path) or seen
            if manifest == seen:
                continue
            try:
                write(Zoo.open(path), folder, title, manifest)
            except StoreError:  # the next stage was saved while this one was read: look again
                continue
            seen = manifest
            server.renew()
            yield server.url
