"""From a zoo to its claims table and its report.

What analyses and draws is imported when it is used: scipy and matplotlib take seconds to load.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from zoosparse_ext.zoo import Zoo


def claims(zoo: Zoo) -> pd.DataFrame:
    """The paper's claims as checks on this zoo: claim, number measured, holds or not, interval."""
    from zoosparse_ext.analysis import StudyData, check_claims

    return check_claims(StudyData.from_zoo(zoo))


def tables(zoo: Zoo, folder: Path) -> pd.DataFrame:
    """Write all tables of the analysis as CSV and Parquet; returns the claims, which are one of them."""
    from zoosparse_ext.analysis import StudyData
    from zoosparse_ext.analysis.tables import all_tables
    from zoosparse_ext.report import write_tables

    named = all_tables(StudyData.from_zoo(zoo))
    write_tables(folder, named)
    return named["claims"]


def write(zoo: Zoo, folder: Path, title: str) -> Path:
    """Write `report.html` with its figures and tables; returns the page."""
    from zoosparse_ext.analysis import StudyData
    from zoosparse_ext.report import write_report

    return write_report(StudyData.from_zoo(zoo), folder, title=title, provenance=zoo.provenance)
