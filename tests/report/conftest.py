from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "analysis"))  # the synthetic zoo lives there

from synthetic_zoo import synthetic_zoo

from zoosparse_ext.analysis import StudyData
from zoosparse_ext.report import write_report


@pytest.fixture(scope="session")
def study() -> StudyData:
    return StudyData.from_zoo(synthetic_zoo(12))


@pytest.fixture(scope="session")
def provenance() -> dict[str, object]:
    return {"torch": "2.13.0", "settings": {"command": "zoosparse demo <b>--seed 1</b>", "seeds": [1, 2]}}


@pytest.fixture(scope="session")
def page(study: StudyData, provenance: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with a title that would do harm if it were not escaped."""
    folder = tmp_path_factory.mktemp("report")
    return write_report(study, folder, title="Twins <script>alert(1)</script> $x^2$", provenance=provenance)
