"""What a question of the report is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from zoosparse_ext.report.figures.series import series_in
from zoosparse_ext.report.figures.style import Picture
from zoosparse_ext.report.results import Analysis, Results
from zoosparse_ext.report.tables import MAX_ROWS, Column, HtmlTable, html_table

Words = Callable[[Results], str]
Figure = Callable[[Results], "Picture | Iterable[Picture] | None"]  # None: there is nothing to draw


@dataclass(frozen=True)
class Table:
    """A table of a question: always a file beside the page, and in the page where it has columns."""

    name: str  # of its files, and under which `Results` has it
    analysis: Analysis
    caption: str = ""  # says what a row is
    columns: Sequence[Column] = ()
    rows: int = MAX_ROWS  # shown in the page
    arranged: Callable[[Results], pd.DataFrame] | None = None  # what the page shows of it, and in which order

    def shown(self, results: Results) -> HtmlTable:
        """The table as the page shows it."""
        frame = self.arranged(results) if self.arranged else results[self.name]
        return html_table(self.name, self.caption, frame, self.columns, self.rows)


@dataclass(frozen=True)
class Section:
    """A question, answered for one study."""

    id: str
    title: str
    question: str
    answer: str
    figures: Sequence[Picture]
    tables: Sequence[HtmlTable]
    definitions: str


@dataclass(frozen=True)
class Question:
    """One question of the report: what is asked, computed, shown and answered.

    A question without anything in the first of its shown tables has its answer, which then says so, and no figures.
    """

    id: str  # anchor of its section, and its name in the menu of the page
    title: str
    question: str
    answer: Words
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    definitions: str | Words = ""  # what the numbers mean
    opening: Callable[[Results], list[str]] | None = None  # its sentences on the first screen
    key_figure: Figure | None = None  # its figure on the first screen

    def answered(self, results: Results) -> Section:
        """The question with its answer, figures and tables; what has no data is left out."""
        tables = [table.shown(results) for table in self.tables if table.columns]
        drawn = [] if tables and not tables[0].total else self.figures
        definitions = self.definitions if isinstance(self.definitions, str) else self.definitions(results)
        return Section(
            self.id,
            self.title,
            self.question,
            self.answer(results),
            [picture for figure in drawn for picture in pictures(figure(results))],
            [table for table in tables if table.total],
            " ".join(definitions.split()),
        )


def pictures(drawn: Picture | Iterable[Picture] | None) -> list[Picture]:
    """What a figure returned, as a list."""
    if drawn is None:
        return []
    return [drawn] if isinstance(drawn, Picture) else list(drawn)


def at_levels(table: pd.DataFrame, levels: Sequence[float]) -> pd.DataFrame:
    """Of every series the rows at some asked sparsities, or else nearest to 80 %; series that were not asked whole."""
    parts = []
    for name in series_in(table):
        rows = table[table["series"] == name]
        if rows["level"].notna().all():
            asked = rows["level"].round(3).isin(levels)
            rows = rows[asked] if asked.any() else rows.iloc[[closest(rows["level"], 0.8)]]
        parts.append(rows)
    return pd.concat(parts) if parts else table


def closest(levels: pd.Series, to: float) -> int:
    """Position of the level nearest to a ratio; of series without levels the first."""
    return int((levels - to).abs().fillna(0).to_numpy().argmin())
