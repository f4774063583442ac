"""From a zoo to its claims table and its report."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from zoosparse_ext.analysis import StudyData
from zoosparse_ext.analysis.claims import check_claims
from zoosparse_ext.report import write_report
from zoosparse_ext.zoo import Zoo


def claims(zoo: Zoo) -> pd.DataFrame:
    """The paper's claims as checks on this zoo: claim, number measured, holds or not, interval."""
    return check_claims(StudyData.from_zoo(zoo))


def write(zoo: Zoo, folder: Path, title: str) -> Path:
    """Write `report.html` with its figures and tables; returns the page."""
    return write_report(StudyData.from_zoo(zoo), folder, title=title, provenance=zoo.provenance)
