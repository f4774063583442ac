"""The eight questions in order: answer, figures, tables, definitions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from zoosparse_ext.analysis import StudyData
from zoosparse_ext.analysis.series import is_variational
from zoosparse_ext.report import columns, prose
from zoosparse_ext.report.answers import ANSWERS
from zoosparse_ext.report.figures import behaviour, performance, weights
from zoosparse_ext.report.figures.performance import Tables
from zoosparse_ext.report.figures.style import Picture
from zoosparse_ext.report.format import percent, plural
from zoosparse_ext.report.tables import MAX_ROWS, SERIES_ROWS, HtmlTable, html_table

Figures = Sequence[Picture | None]


@dataclass(frozen=True)
class Section:
    """One question of the page."""

    anchor: str
    title: str
    question: str
    answer: str
    figures: Sequence[Picture]
    tables: Sequence[HtmlTable]
    definitions: str


def sections(data: StudyData, tables: Tables) -> list[Section]:
    """All eight; a figure or a table without data is left out."""
    values = {
        "chance": "unknown" if math.isnan(data.chance) else percent(data.chance),
        "images": "the test images" if data.labels is None else plural(len(data.labels), "test image"),
        "pairs": plural(len(tables["agreement_of_originals"]), "pair"),
    }
    shown = _tables(tables)
    made = []
    for anchor, title in prose.TITLES.items():
        drawn = _figures(anchor, data, tables) if shown[anchor][0].total else ()
        made.append(
            Section(
                anchor,
                title,
                prose.QUESTIONS[anchor],
                ANSWERS[anchor](tables),
                [picture for picture in drawn if picture is not None],
                [table for table in shown[anchor] if table.total],
                prose.definitions(anchor, **values),
            )
        )
    return made


def _figures(anchor: str, data: StudyData, tables: Tables) -> Figures:
    """The figures of one section, in the order of the page."""
    if anchor == "performance":
        return performance.change_against_sparsity(tables), performance.losers_against_sparsity(tables)
    if anchor == "methods":
        return performance.difference_against_sparsity(data, tables), performance.matched_differences(data)
    if anchor == "robustness":
        return performance.spread_against_sparsity(tables), performance.change_spread(tables)
    if anchor == "layers":
        return *behaviour.layers_of_pruning(tables), *behaviour.layers_of_variational(tables)
    if anchor == "agreement":
        return behaviour.agreement_against_sparsity(tables), behaviour.kappa_against_sparsity(tables)
    if anchor == "correlation":
        return behaviour.original_against_twin(data), behaviour.correlation_against_sparsity(tables)
    drawings = {
        "trajectories": (
            behaviour.variational_by_epoch,
            behaviour.tuning_by_epoch,
            behaviour.agreement_by_epoch,
            behaviour.population_by_epoch,
        ),
        "weights": (
            weights.overlap_of_methods,
            weights.overlap_of_ratios,
            weights.overlap_of_models,
            weights.size_of_survivors,
            weights.surviving_weights,
        ),
    }
    return [draw(tables) for draw in drawings[anchor]]


# One row per series and level.
_BY_SERIES = {"performance", "methods_measured", "robustness", "collapse", "agreement",
              "correlation"}  # fmt: skip


def _pruned(series: pd.Series) -> pd.Series:
    return ~series.map(is_variational).astype(bool)


def _tables(tables: Tables) -> dict[str, list[HtmlTable]]:
    def show(name: str, caption: str, shown: columns.Columns, frame: pd.DataFrame | None = None) -> HtmlTable:
        rows = SERIES_ROWS if name in _BY_SERIES else MAX_ROWS
        return html_table(name, caption, tables[name] if frame is None else frame, shown, rows)

    agreement = tables["agreement"].dropna(subset=["agreement"])
    # VD first: it has one trajectory, magnitude pruning one per ratio.
    epochs = tables["trajectories"].sort_values("series", key=_pruned, kind="stable")
    return {
        "performance": [show("performance", "One row per method and sparsity", columns.PERFORMANCE)],
        "methods": [
            show("methods_measured", "At equal sparsity, where it was measured", columns.METHODS),
        ],
        "robustness": [
            show("robustness", "Spread of accuracy over models", columns.ROBUSTNESS),
            show("collapse", "Twins with layers, outputs or answers missing", columns.COLLAPSE),
        ],
        "layers": [
            show(
                "layers",
                "Medians over models; small numbers: quartiles, 95 % interval of the last column",
                columns.LAYERS,
            )
        ],
        "agreement": [
            show("agreement", "Medians over models; small numbers: quartiles", columns.AGREEMENT, agreement)
        ],
        "correlation": [
            show("correlation", "Accuracy of twins with accuracy of originals", columns.CORRELATION)
        ],
        "trajectories": [
            show("trajectories", "Medians per epoch; small numbers: quartiles", columns.TRAJECTORIES, epochs)
        ],
        "weights": [
            show(
                "mask_overlaps", "Overlap of kept weights: medians and quartiles of pairs", columns.OVERLAPS
            ),
            show(
                "weight_statistics", "Surviving weights per layer, of at most 100 models", columns.SURVIVORS
            ),
        ],
    }
