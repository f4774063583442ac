from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "analysis"))  # the synthetic zoo lives there

from synthetic_zoo import many_series_zoo, synthetic_zoo

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


@pytest.fixture(scope="session")
def many() -> StudyData:
    """Eleven series: scores, scopes, a pattern, a schedule, options, two variational dropouts."""
    return StudyData.from_zoo(many_series_zoo(6, images=60, ratios=(0.8, 0.9)))


@pytest.fixture(scope="session")
def many_page(many: StudyData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(many, tmp_path_factory.mktemp("many"), title="Many series")
