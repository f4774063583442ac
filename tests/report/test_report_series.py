"""A report of many series: each has a name, a color and a place in legends, and collapse is told."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from zoosparse_ext.analysis import StudyData
from zoosparse_ext.analysis.twins import series_of
from zoosparse_ext.report import write_report
from zoosparse_ext.report.claims import count_verdicts, matrix, standing
from zoosparse_ext.report.collapse import emptied, emptied_in_full
from zoosparse_ext.report.figures.legends import columns_within, legend_above
from zoosparse_ext.report.figures.palette import FURTHER, KNOWN, VARIABLES, colors_of, css_color
from zoosparse_ext.report.models import models_of
from zoosparse_ext.report.names import method_name
from zoosparse_ext.report.opening import opening, reading
from zoosparse_ext.report.questions import QUESTIONS, analyzed
from zoosparse_ext.report.results import Results


@pytest.fixture(scope="module")
def tables(many: StudyData) -> Results:
    return analyzed(many)


def answer(anchor: str, results: Results) -> str:
    (question,) = [question for question in QUESTIONS if question.id == anchor]
    return question.answer(results)


def headline(results: Results) -> str:
    return opening(results, QUESTIONS).headline


def comparison(results: Results) -> list[str]:
    return opening(results, QUESTIONS).sentences


def test_every_series_has_a_color_of_its_own(many: StudyData) -> None:
    colors = colors_of(series_of(many))
    assert len(set(colors.values())) == len(colors) == 11
    assert {name: colors[name] for name in ("MP global", "MP per layer", "VD")} == {
        name: KNOWN[name] for name in ("MP global", "MP per layer", "VD")
    }
    both = colors_of(["MP", "MP global"])  # which have one color where only one of them is there
    assert both["MP global"] == KNOWN["MP global"] != both["MP"]
    crowd = colors_of([f"random global, lr 0.{number:03d}" for number in range(40)])
    assert len(set(crowd.values())) == 40 and css_color(list(crowd.values())[-1]).startswith("#")


def test_the_page_knows_every_color_in_both_themes() -> None:
    style = (Path(write_report.__code__.co_filename).parent / "assets" / "style.css").read_text(
        encoding="utf-8"
    )
    for color, variable in VARIABLES.items():
        assert re.search(rf"{variable}: light-dark\({color}, #[0-9a-f]{{6}}\);", style), (variable, color)
    assert set(FURTHER) <= set(VARIABLES)


def test_models_of_the_page_have_every_series(many: StudyData, many_page: Path) -> None:
    shown = models_of(many)
    assert [series["name"] for series in shown["series"]] == series_of(many)
    steps = {series["name"]: [step["label"] for step in series["steps"]] for series in shown["series"]}
    assert steps["MP 2:4"] == ["50 %"] and steps["random global"] == ["80 %", "90 %"]
    assert steps["VD"][-1] == steps["VD molchanov"][-1] == "epoch 25"
    ends = {series["name"]: series["steps"][-1]["accuracy"] for series in shown["series"]}
    assert (np.array(ends["VD"]) - np.array(ends["VD molchanov"])).mean() > 0
    html = many_page.read_text(encoding="utf-8")
    text = re.search(r'id="models-data">(.*?)</script>', html, flags=re.DOTALL)
    assert text and json.loads(text[1].replace("\\u003c", "<")) == shown


def test_every_section_names_every_series(many: StudyData, tables: Results) -> None:
    words = [method_name(name) for name in series_of(many)]
    assert len(set(words)) == len(words)
    for anchor in ("performance", "layers"):
        said = answer(anchor, tables)
        assert all(name.lower() in said.lower() for name in words), anchor
    assert all(name in answer("agreement", tables) for name in series_of(many))
    said = f"{headline(tables)} {' '.join(comparison(tables))}".lower()
    assert all(name.lower() in said for name in words)
    assert "variational dropout (molchanov) goes from" in answer("trajectories", tables)
    said = answer("weights", tables)  # where magnitude pruning is compared with variational dropout
    assert "global magnitude pruning" in said.lower() and "random" not in said and "cubic" not in said


def test_the_tables_of_the_page_are_not_cut_before_the_last_series(many: StudyData, many_page: Path) -> None:
    html = many_page.read_text(encoding="utf-8")
    section = html[html.index('<section id="performance">') : html.index('<section id="methods">')]
    assert "rows; all of them" not in section
    assert all(f'<td data-sort="{name}">{name}</td>' in section for name in series_of(many))


def test_the_paper_s_claims_are_judged_on_its_own_methods(tables: Results) -> None:
    claims = tables["claims"]
    assert set(standing(claims)["series"]) == {"MP global", "MP per layer", "MP per output", "VD"}
    shown = [line for row in matrix(claims) for cell in row.cells if cell for line in cell.lines]
    assert shown and not any("random" in line.series or "cubic" in line.series for line in shown)
    counted = standing(claims[claims["primary"]])
    assert f"of {len(counted)} checks" in count_verdicts(claims)
    others = claims[~claims["stands"]]
    assert len(standing(others)) == len(others) > 0  # where none stands for its method, all are shown


def test_what_stands_for_the_methods_is_said(tables: Results) -> None:
    assert "MP global, MP per layer, MP per output and VD stand for them" in reading(tables)
    plain = tables["collapse"].query("series in ['MP global', 'MP per layer', 'VD']")
    usual = Results(tables.data, {"collapse": lambda data: plain})
    assert "stand for them" not in reading(usual) and "Collapsed" not in reading(usual)


def test_what_is_empty_is_told(tables: Results) -> None:
    told = "2 of 126 twins have an empty layer (conv2 3×1, 8→6 in 2), 2 answer one class for all test images."
    assert emptied(tables) == comparison(tables)[-1] == told
    assert answer("robustness", tables).count(told) == 1
    assert "have outputs without incoming weights" in emptied_in_full(tables)
    assert "Collapsed: a layer without weights" in reading(tables)


def test_the_first_screen_and_the_section_tell_it(many_page: Path) -> None:
    html = many_page.read_text(encoding="utf-8")
    told = "2 of 126 twins have an empty layer"
    first, robust = html.index(told), html.index('<section id="robustness">')
    assert first < html.index('class="matrix"') and robust < html.rindex(told) < html.index(
        '<section id="layers">'
    )


def collapsing(**columns: object) -> StudyData:
    names = list("abcd")
    models = pd.DataFrame({"model_id": names, "accuracy": 0.9})
    twins = {
        "twin_id": [f"{name}1" for name in names],
        "source_id": names,
        "method": "magnitude",
        "scope": "global",
    }
    twins |= {"target": 0.9, "epoch": 0, "sparsity": 0.9, "accuracy": [0.895, 0.896, 0.894, 0.1]}
    return StudyData(models, pd.DataFrame(twins | columns))


def test_medians_of_the_headline_with_and_without() -> None:
    empty = {"sparsity_layer.fc": [0.5, 0.5, 0.5, 1.0]}
    tables = analyzed(collapsing(**empty))
    assert "; 0.5 without the 1 of 4 that collapsed)." in headline(tables)
    assert comparison(tables) == ["1 of 4 twins has an empty layer (fc in 1)."]
    every = analyzed(collapsing(one_answer=1.0))
    assert "every twin collapsed" in headline(every)
    assert comparison(every) == ["4 of 4 twins answer one class for all test images."]


def test_nothing_empty_is_said_in_the_section_alone() -> None:
    tables = analyzed(collapsing(one_answer=0.0, dead_outputs=[0, 0, 1, 0], empty_layers=0))
    assert comparison(tables) == [] and emptied(tables) == ""
    assert emptied_in_full(tables) == (
        "None of 4 twins has an empty layer or only one answer. 1 of 4 has outputs without incoming weights."
    )
    older = emptied_in_full(analyzed(collapsing()))
    assert older == (
        "None of 4 twins has an empty layer. In 4 twins outputs without incoming weights were not counted. "
        "In 4 twins networks with one answer were not counted."
    )


def test_pairs_of_which_a_twin_collapsed_are_counted() -> None:
    data = collapsing(**{"sparsity_layer.fc": [0.5, 0.5, 0.5, 1.0]})
    vd = data.twins.assign(
        twin_id=data.twins["twin_id"] + "-vd", method="variational", scope=None, target=np.nan, epoch=0,
        accuracy=[0.88, 0.88, 0.88, 0.9], **{"sparsity_layer.fc": 0.9}, empty_layers=0,
    )  # fmt: skip
    matched = data.twins.assign(twin_id=data.twins["twin_id"] + "-m", matched=vd["twin_id"])
    study = StudyData(data.models, pd.concat([vd, matched], ignore_index=True))
    (question,) = [question for question in QUESTIONS if question.id == "methods"]
    table = question.tables[0].shown(analyzed(study))
    (row,) = table.rows
    cells = dict(zip([column.key for column in table.columns], row, strict=True))
    assert (cells["collapsed"].text, cells["collapsed"].note) == ("1", "+1.5 of the others")
    assert cells["verdict"].text == "undecided" and "4 models" in cells["verdict"].note


@pytest.mark.parametrize("entries", [2, 7, 12, 25])
@pytest.mark.parametrize("name", ["MP global", "MP per layer, cubic, 50 epochs, lr 0.001", "x" * 150])
def test_legends_never_leave_the_figure(entries: int, name: str) -> None:
    figure = Figure(figsize=(5.4, 3.5))
    figure.subplots_adjust(left=0.135, right=0.97, bottom=0.145, top=0.97)
    axes = figure.subplots()
    before = axes.get_window_extent().height
    for number in range(entries):
        axes.plot([0, 1], [0, number], label=f"{name} {number}")
    legend_above(axes)
    figure.draw_without_rendering()
    box = axes.get_legend().get_window_extent()
    assert box.y1 <= figure.bbox.y1 + 0.5
    if entries > 6:
        assert box.y0 >= axes.get_window_extent().y1 and axes.get_window_extent().height == pytest.approx(
            before
        )
        assert box.x1 <= figure.bbox.x1 + 0.5


def test_columns_of_a_legend() -> None:
    assert columns_within(400, ["a", "b", "c"]) == 3
    assert columns_within(10, ["a", "b", "c"]) == 1
    assert columns_within(210, ["a"] * 5 + ["a rather long name"]) == 2
