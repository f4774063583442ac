"""A report of many series: each has a name, a colour and a place in legends, and collapse is told."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from zoosparse_ext.analysis import StudyData
from zoosparse_ext.analysis.tables import all_tables
from zoosparse_ext.analysis.twins import series_of
from zoosparse_ext.report import write_report
from zoosparse_ext.report.answers import ANSWERS
from zoosparse_ext.report.collapse import emptied, emptied_in_full
from zoosparse_ext.report.figures.legends import columns_within, legend, legend_above
from zoosparse_ext.report.figures.palette import FURTHER, KNOWN, VARIABLES, colours_of, css_colour
from zoosparse_ext.report.headline import _series_of, claims_in_short, comparison, count_verdicts, headline
from zoosparse_ext.report.models import models_of
from zoosparse_ext.report.names import method_name
from zoosparse_ext.report.prose import reading


@pytest.fixture(scope="module")
def tables(many: StudyData) -> dict[str, pd.DataFrame]:
    return all_tables(many)


def test_every_series_has_a_colour_of_its_own(many: StudyData) -> None:
    colours = colours_of(series_of(many))
    assert len(set(colours.values())) == len(colours) == 11
    assert {name: colours[name] for name in ("MP global", "MP per layer", "VD")} == {
        name: KNOWN[name] for name in ("MP global", "MP per layer", "VD")
    }
    both = colours_of(["MP", "MP global"])  # which have one colour where only one of them is there
    assert both["MP global"] == KNOWN["MP global"] != both["MP"]
    crowd = colours_of([f"random global, lr 0.{number:03d}" for number in range(40)])
    assert len(set(crowd.values())) == 40 and css_colour(list(crowd.values())[-1]).startswith("#")


def test_the_page_knows_every_colour_in_both_themes() -> None:
    style = (Path(write_report.__code__.co_filename).parent / "assets" / "style.css").read_text(
        encoding="utf-8"
    )
    for colour, variable in VARIABLES.items():
        assert re.search(rf"{variable}: light-dark\({colour}, #[0-9a-f]{{6}}\);", style), (variable, colour)
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


def test_every_section_names_every_series(many: StudyData, tables: dict[str, pd.DataFrame]) -> None:
    words = [method_name(name) for name in series_of(many)]
    assert len(set(words)) == len(words)
    for anchor in ("performance", "layers"):
        answer = ANSWERS[anchor](tables)
        assert all(name.lower() in answer.lower() for name in words), anchor
    for anchor in ("agreement", "correlation"):
        assert all(name in ANSWERS[anchor](tables) for name in series_of(many)), anchor
    said = f"{headline(tables)} {' '.join(comparison(tables))}".lower()
    assert all(name.lower() in said for name in words)
    assert "variational dropout (molchanov) goes from" in ANSWERS["trajectories"](tables)
    for anchor in ("methods", "weights"):  # where magnitude pruning is compared with variational dropout
        answer = ANSWERS[anchor](tables)
        assert (
            "global magnitude pruning" in answer.lower() and "random" not in answer and "cubic" not in answer
        )


def test_the_tables_of_the_page_are_not_cut_before_the_last_series(many: StudyData, many_page: Path) -> None:
    html = many_page.read_text(encoding="utf-8")
    section = html[html.index('<section id="performance">') : html.index('<section id="methods">')]
    assert "rows; all of them" not in section
    assert all(f'<td data-sort="{name}">{name}</td>' in section for name in series_of(many))


def test_the_paper_s_claims_are_judged_on_its_own_methods(tables: dict[str, pd.DataFrame]) -> None:
    claims = tables["claims"].copy()
    assert set(claims.loc[claims["stands"], "subject"].map(_series_of)) == {
        "MP global", "MP per layer", "MP per output", "VD",
    }  # fmt: skip
    claims.loc[~claims["stands"], "verdict"] = "does not hold"
    claims.loc[claims["stands"], "verdict"] = "holds"
    lines = claims_in_short(claims)
    assert {line.verdict for line in lines} == {"holds"}
    stand = int(claims["stands"].sum())
    assert count_verdicts(claims).startswith(f"{stand} of {stand} checks hold, 0 do not")
    robust = lines[0].numbers
    assert robust.index("(VD)") < robust.index("; beside them") < robust.index("(random global)")
    others_alone = claims_in_short(claims[~claims["stands"]])
    assert {line.verdict for line in others_alone} == {"does not hold"} and "beside" not in others_alone[
        0
    ].numbers


def test_what_stands_for_the_methods_is_said(tables: dict[str, pd.DataFrame]) -> None:
    assert "MP global, MP per layer, MP per output and VD stand for them" in reading(tables)
    usual = {"collapse": tables["collapse"].query("series in ['MP global', 'MP per layer', 'VD']")}
    assert "stand for them" not in reading(usual) and "Collapsed" not in reading(usual)


@pytest.mark.parametrize(
    ("subject", "series"),
    [
        ("MP global, 80 %", "MP global"),
        ("MP global, cubic, 79.6 %", "MP global, cubic"),
        ("MP global, cubic", "MP global, cubic"),
        ("VD", "VD"),
        ("MP global − VD", "MP global"),
        ("MP global, cubic − VD", "MP global, cubic"),
        ("MP global − VD molchanov", "MP global − VD molchanov"),
    ],
)
def test_the_series_of_a_claim(subject: str, series: str) -> None:
    assert _series_of(subject) == series


def test_what_is_empty_is_told(tables: dict[str, pd.DataFrame]) -> None:
    told = "2 of 126 twins have an empty layer (module_list.3 in 2), 2 answer one class for all test images."
    assert emptied(tables) == comparison(tables)[-1] == told
    assert ANSWERS["robustness"](tables).count(told) == 1
    assert "have outputs without incoming weights" in emptied_in_full(tables)
    assert "Collapsed: a layer without weights" in reading(tables)


def test_the_first_screen_and_the_section_tell_it(many_page: Path) -> None:
    html = many_page.read_text(encoding="utf-8")
    told = "2 of 126 twins have an empty layer"
    first, robust = html.index(told), html.index('<section id="robustness">')
    assert first < html.index('class="short-claims"') and robust < html.rindex(told) < html.index(
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
    tables = all_tables(collapsing(**empty))
    assert "; 0.5 without the 1 of 4 that collapsed)." in headline(tables)
    assert comparison(tables) == ["1 of 4 twins has an empty layer (fc in 1)."]
    every = all_tables(collapsing(one_answer=1.0))
    assert "every twin collapsed" in headline(every)
    assert comparison(every) == ["4 of 4 twins answer one class for all test images."]


def test_nothing_empty_is_said_in_the_section_alone() -> None:
    tables = all_tables(collapsing(one_answer=0.0, dead_outputs=[0, 0, 1, 0], empty_layers=0))
    assert comparison(tables) == [] and emptied(tables) == ""
    assert emptied_in_full(tables) == (
        "None of 4 twins has an empty layer or only one answer. 1 of 4 has outputs without incoming weights."
    )
    older = emptied_in_full(all_tables(collapsing()))
    assert older == (
        "None of 4 twins has an empty layer. In 4 twins outputs without incoming weights were not counted. "
        "In 4 twins networks with one answer were not counted."
    )


def test_matched_medians_of_the_headline_with_and_without() -> None:
    data = collapsing(**{"sparsity_layer.fc": [0.5, 0.5, 0.5, 1.0]})
    vd = data.twins.assign(
        twin_id=data.twins["twin_id"] + "-vd", method="variational", scope=None, target=np.nan,
        accuracy=[0.88, 0.88, 0.88, 0.9], **{"sparsity_layer.fc": 0.9}, empty_layers=0,
    )  # fmt: skip
    matched = data.twins.assign(twin_id=data.twins["twin_id"] + "-m", matched=vd["twin_id"])
    study = StudyData(data.models, pd.concat([data.twins, vd, matched], ignore_index=True))
    (sentence,) = [text for text in comparison(all_tables(study)) if text.startswith("With every model")]
    assert "+1.5 points without the 1 of 4 that collapsed" in sentence


@pytest.mark.parametrize("entries", [2, 7, 12, 25])
@pytest.mark.parametrize("name", ["MP global", "MP per layer, cubic, 50 epochs, lr 0.001", "x" * 150])
def test_legends_never_leave_the_figure(entries: int, name: str) -> None:
    figure = Figure(figsize=(5.4, 3.5))
    figure.subplots_adjust(left=0.135, right=0.97, bottom=0.145, top=0.97)
    axes = figure.subplots()
    before = axes.get_window_extent().height
    for number in range(entries):
        axes.plot([0, 1], [0, number], label=f"{name} {number}")
    (legend_above if name == "MP global" else legend)(axes)
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
    assert columns_within(170, ["a"] * 5 + ["a rather long name"]) == 2
