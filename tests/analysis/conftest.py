from __future__ import annotations

import pandas as pd
import pytest

from tests.analysis.synthetic_zoo import Zoo, synthetic_zoo
from zoosparse_ext.analysis import StudyData


@pytest.fixture(scope="session")
def zoo() -> Zoo:
    return synthetic_zoo()


@pytest.fixture(scope="session")
def data(zoo: Zoo) -> StudyData:
    return StudyData.from_zoo(zoo)


@pytest.fixture(scope="session")
def small() -> StudyData:
    """Fewer models and ratios, for tests that run every table."""
    return StudyData.from_zoo(synthetic_zoo(6, images=100, ratios=(0.5, 0.8), fine_tuning=1))


@pytest.fixture
def magnitude_study():
    """A study of magnitude twins at one ratio: two lists of accuracies, before and after."""

    def make(before: list[float], after: list[float], **columns: object) -> StudyData:
        names = [f"m{i}" for i in range(len(before))]
        models = pd.DataFrame({"model_id": names, "accuracy": before})
        twins = {"twin_id": [f"{name}-mp" for name in names], "source_id": names, "method": "magnitude"}
        twins |= {"scope": "global", "target": 0.5, "epoch": 0, "sparsity": 0.5, "accuracy": after}
        return StudyData(models, pd.DataFrame(twins | columns))

    return make
