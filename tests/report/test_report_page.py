from __future__ import annotations

import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from matplotlib.figure import Figure

from zoosparse_ext.analysis import StudyData
from zoosparse_ext.errors import InputError, StoreError
from zoosparse_ext.report import page as page_module
from zoosparse_ext.report import write_report
from zoosparse_ext.report.figures.legends import legend_above
from zoosparse_ext.report.opening import opening
from zoosparse_ext.report.questions import QUESTIONS, analyzed, weights
from zoosparse_ext.report.questions.performance import accuracy_against_sparsity

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Checker(HTMLParser):
    """Counts ids and checks that elements close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if "id" in values:
            self.ids.append(values["id"])
        if tag == "a":
            self.links.append(values["href"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.ids += [value for name, value in attributes if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="session")
def html(page) -> str:
    return page.read_text(encoding="utf-8")


def test_html_is_well_formed_and_links_lead_somewhere(page, html):
    checker = Checker()
    checker.feed(html)
    assert checker.open == []
    assert len(checker.ids) == len(set(checker.ids))
    for link in checker.links:
        if link.startswith("#"):
            assert link[1:] in checker.ids
        elif not link.startswith("https://arxiv.org/"):
            assert (page.parent / link).is_file(), link


def test_page_is_self_contained_and_escaped(html):
    assert "<script>alert" not in html and "&lt;script&gt;alert(1)" in html
    assert "&lt;b&gt;--seed 1&lt;/b&gt;" in html
    assert not re.search(
        r'(src|href)="(?!#|figures/|tables/|data:|https://arxiv\.org/)[^"]*"', html.replace("xlink:", "")
    )
    assert "url(http" not in html and "@import" not in html
    assert len(html) < 2_000_000


def test_page_answers_in_order(html):
    positions = [html.index(question.question) for question in QUESTIONS]
    assert positions == sorted(positions)
    assert html.index('class="headline"') < html.index("<svg") < html.index('class="matrix"') < positions[0]
    assert "zeros / 436 prunable weights" in html and "12 models" in html and "400 test images" in html
    assert "nan" not in re.sub(
        r"<style>.*?</style>|<script>.*?</script>|data-sort=\"nan\"", "", html, flags=re.DOTALL
    ).lower().replace("dominan", "")


def test_files_lie_beside_the_page(page, study):
    for name in analyzed(study):
        csv = pd.read_csv(page.parent / "tables" / f"{name}.csv")
        parquet = pd.read_parquet(page.parent / "tables" / f"{name}.parquet")
        assert list(csv.columns) == list(parquet.columns) and len(csv) == len(parquet)
    figures = sorted(path.name for path in (page.parent / "figures").iterdir())
    assert "accuracy.svg" in figures and "accuracy.png" in figures and len(figures) > 36
    assert not list(page.parent.rglob("*.tmp"))


def test_same_study_same_figure(study):
    first, second = (accuracy_against_sparsity(analyzed(study)) for _ in range(2))
    assert first.svg == second.svg and first.file == second.file and first.png == second.png


def test_odd_layer_names_are_text(tmp_path):
    models = pd.DataFrame({"model_id": ["a", "b"], "accuracy": [0.9, 0.8]})
    twins = pd.DataFrame(
        {"twin_id": ["a1", "b1"], "source_id": ["a", "b"], "method": "magnitude", "scope": "global",
         "target": 0.5, "epoch": 0, "sparsity": 0.5, "accuracy": 0.8, "sparsity_layer.<i>$x$</i>": [0.4, 0.6]}
    )  # fmt: skip
    html = write_report(StudyData(models, twins), tmp_path).read_text(encoding="utf-8")
    assert "<i>" not in html and "&lt;i&gt;$x$&lt;/i&gt;" in html


def test_bad_folders(study, tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        write_report(study, file)
    assert file.read_text() == "mine"

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(page_module.Path, "replace", full)
    empty = StudyData(pd.DataFrame({"model_id": ["a"], "accuracy": [0.9]}), pd.DataFrame())
    with pytest.raises(StoreError, match="No space left on device"):
        write_report(empty, tmp_path / "full")
    assert not [path for path in (tmp_path / "full").rglob("*") if path.is_file()]


def test_settings_are_under_the_keys_of_the_file(study, tmp_path):
    settings = {"zoo": {"seeds": 4, "flip": False, "activation": None}, "magnitude": {"ratios": [0.5, 0.8]}}
    page = write_report(study, tmp_path, provenance={"torch": "2.13.0", "settings": settings})
    html = page.read_text(encoding="utf-8")
    above, below = html[html.index("<footer>") :].split("All settings")
    assert re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", above) == [("torch", "2.13.0")]
    assert re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", below) == [
        ("zoo.seeds", "4"),
        ("zoo.flip", "false"),
        ("zoo.activation", "default"),
        ("magnitude.ratios", "0.5, 0.8"),
    ]


def test_the_first_screen_explains_its_words(html):
    first = html[: html.index('class="matrix"')]
    assert "loses at most one point" in first and "95 % intervals" in first.replace("\xa0", " ")
    assert "MP: magnitude pruning; VD: variational dropout" in first


def test_a_peak_at_zero_does_not_flatten_the_histograms():
    bins = pd.DataFrame({"density": [1.0, 2.0, 3.0, 900.0, 2.0, 1.0, 0.0]})
    assert weights._height([bins, bins / 2]) == pytest.approx(1.25 * 2.0)
    assert weights._height([pd.DataFrame({"density": [5.0]})]) == 1.0  # nothing beside the peak


@pytest.mark.parametrize(
    ("change", "words"), [(0.126, "for a gain of 12.6 points"), (-0.031, "at a cost of 3.1 points")]
)
def test_the_other_method_is_said_to_gain_or_to_cost(change, words):
    models = pd.DataFrame({"model_id": ["a"], "accuracy": [0.8]})
    twins = pd.DataFrame(
        {
            "twin_id": ["m", "v"], "source_id": "a", "method": ["magnitude", "variational"],
            "scope": ["global", None], "target": [0.9, None], "epoch": 1, "sparsity": [0.9, 0.6],
            "accuracy": [0.8, 0.8 + change],
        }
    )  # fmt: skip
    sentences = opening(analyzed(StudyData(models, twins)), QUESTIONS).sentences
    assert f"Variational dropout ends at 60 % sparsity, {words} of accuracy." in sentences


def test_a_legend_of_dots_covers_none() -> None:
    figure = Figure()
    axes = figure.subplots()
    for label in ("one", "two"):
        axes.plot([0, 1], [0, 1], "o", label=label)
    legend_above(axes)
    figure.draw_without_rendering()
    legend = axes.get_legend().get_window_extent()
    assert legend.y0 >= axes.get_window_extent().y1 and legend.y1 <= figure.bbox.y1
