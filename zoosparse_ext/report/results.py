"""A study and what its analysis found: tables by name, each made when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pandas as pd

from zoosparse_ext.analysis import StudyData

Analysis = Callable[[StudyData], pd.DataFrame]
NO_TWINS = "This zoo has no twins yet."


class Results(Mapping[str, pd.DataFrame]):
    """The tables of a study, and the study itself for figures that show single models.

    >>> models = pd.DataFrame({"model_id": ["a"], "accuracy": [0.9]})
    >>> results = Results(StudyData(models, pd.DataFrame()), {"models": lambda data: data.models})
    >>> list(results), len(results["models"])
    (['models'], 1)

    Args:
        data: the study.
        analyses: for each name the function that makes its table.
        provenance: of the zoo: settings of the study, and of every series of twins.
        known: tables that need not be made.
    """

    def __init__(
        self,
        data: StudyData,
        analyses: Mapping[str, Analysis],
        provenance: Mapping[str, Any] | None = None,
        known: Mapping[str, pd.DataFrame] | None = None,
    ) -> None:
        self.data = data
        self.provenance = dict(provenance or {})
        self._analyses = dict(analyses)
        self._made = {name: table for name, table in (known or {}).items() if name in self._analyses}

    def __getitem__(self, name: str) -> pd.DataFrame:
        if name not in self._made:
            self._made[name] = self._analyses[name](self.data)
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._analyses

    def __iter__(self) -> Iterator[str]:
        return iter(self._analyses)

    def __len__(self) -> int:
        return len(self._analyses)
