"""From a zoo to its claims table and its report."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from zoosparse_ext.analysis import StudyData
from zoosparse_ext.analysis.claims import check_claims
from zoosparse_ext.analysis.tables import all_tables
from zoosparse_ext.report import write_report, write_tables
from zoosparse_ext.zoo import Zoo


def claims(zoo: Zoo) -> pd.DataFrame:
    """The paper's claims as checks on this zoo: claim, number measured, holds or not, interval."""
    return check_claims(StudyData.from_zoo(zoo))


def tables(zoo: Zoo, folder: Path) -> pd.DataFrame:
    """Write all tables of the analysis as CSV and Parquet; returns the claims, which are one of them."""
    named = all_tables(StudyData.from_zoo(zoo))
    write_tables(folder, named)
    return named["claims"]


def write(zoo: Zoo, folder: Path, title: str) -> Path:
    """Write `report.html` with its figures and tables; returns the page."""
    return write_report(StudyData.from_zoo(zoo), folder, title=title, provenance=zoo.provenance)
