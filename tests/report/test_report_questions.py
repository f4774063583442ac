"""A question is one object in one list: the page, its files and its JSON derive from it."""

from __future__ import annotations

import ast
import dataclasses
import json
from pathlib import Path

import pandas as pd
import pytest

from zoosparse_ext.analysis import StudyData
from zoosparse_ext.report import QUESTIONS, Question, Table, questions, source_of, write_report
from zoosparse_ext.report.figures.style import Picture, canvas, finish
from zoosparse_ext.report.questions import analyzed
from zoosparse_ext.report.results import Results
from zoosparse_ext.report.tables import Column


def study() -> StudyData:
    models = pd.DataFrame({"model_id": ["a", "b"], "accuracy": [0.9, 0.8]})
    twins = {"twin_id": ["a1", "b1"], "source_id": ["a", "b"], "method": "magnitude", "scope": "global"}
    twins |= {"target": 0.5, "epoch": 0, "sparsity": 0.5, "accuracy": 0.7}
    return StudyData(models, pd.DataFrame(twins))


def names_of(data: StudyData) -> pd.DataFrame:
    return pd.DataFrame({"name": data.models["model_id"].str.upper()})


def drawing(results: Results) -> Picture:
    with canvas() as (figure, axes):
        axes.plot([0, 1], [0, len(results["names"])])
        return finish(figure, "names-drawn", "How many names there are.")


TOY = Question(
    id="names",
    title="Names of models",
    question="What are the models called?",
    answer=lambda results: f"They are {' and '.join(results['names']['name'])}.",
    tables=(
        Table("names", names_of, "One row per model", (Column("name", "name", "text"),)),
        Table("names_unseen", names_of),
    ),
    figures=(drawing,),
    definitions=lambda results: f"Names: of {results.data.n_models} models.",
    opening=lambda results: [f"There are {len(results['names'])} names."],
)


def test_a_new_question_is_on_the_page_on_disk_and_in_the_json(tmp_path: Path) -> None:
    page = write_report(study(), tmp_path, questions=(*QUESTIONS, TOY))
    html = page.read_text(encoding="utf-8")
    assert '<a href="#names">10 Names</a>' in html
    first, section = html[: html.index("<nav")], html[html.index('<section id="names">') :]
    assert "There are 2 names." in first
    for part in (TOY.title, TOY.question, "They are A and B.", "One row per model", "Names: of 2 models."):
        assert part in section, part
    assert section.count("<svg") == 1 and "names_unseen" not in section
    for table in ("names", "names_unseen"):
        assert pd.read_csv(tmp_path / "tables" / f"{table}.csv")["name"].tolist() == ["A", "B"]
        assert (tmp_path / "tables" / f"{table}.parquet").is_file()
    assert (tmp_path / "figures" / "names-drawn.png").is_file()
    record = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert record["questions"][-1] == {
        "id": "names",
        "title": TOY.title,
        "question": TOY.question,
        "answer": "They are A and B.",
        "figures": ["names-drawn"],
        "tables": ["names"],
    }
    assert record["answer"][-1] == "There are 2 names."


def test_a_table_is_made_once_and_only_when_it_is_asked_for() -> None:
    made = []

    def counted(data: StudyData) -> pd.DataFrame:
        made.append(data)
        return names_of(data)

    question = dataclasses.replace(TOY, tables=(Table("names", counted),))
    results = analyzed(study(), (question,))
    assert "names" in results and made == []
    assert results["names"] is results["names"] and len(made) == 1
    with pytest.raises(KeyError):
        results["others"]


def test_questions_have_names_of_their_own() -> None:
    assert len({question.id for question in QUESTIONS}) == len(QUESTIONS)
    names = [table.name for question in QUESTIONS for table in question.tables]
    assert len(names) == len(set(names))


def test_every_question_is_one_file() -> None:
    folder = Path(questions.__file__).parent
    files = {path.stem for path in folder.glob("*.py")} - {"__init__", "question"}
    assert files == {question.id for question in QUESTIONS}
    for name in files:  # which imports no other question
        tree = ast.parse((folder / f"{name}.py").read_text(encoding="utf-8"))
        imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not imported & {f"zoosparse_ext.report.questions.{other}" for other in files}, name


def test_stored_tables_are_used_again_for_the_same_zoo_and_no_other(tmp_path: Path) -> None:
    made = []

    def counted(data: StudyData) -> pd.DataFrame:
        made.append(data)
        return names_of(data)

    asked = (*QUESTIONS, dataclasses.replace(TOY, tables=(Table("names", counted), *TOY.tables[1:])))
    source = source_of(b"the manifest of a zoo")
    first = write_report(study(), tmp_path, questions=asked, source=source).read_bytes()
    assert len(made) == 1
    again = write_report(study(), tmp_path, questions=asked, source=source).read_bytes()
    assert len(made) == 1 and again == first
    write_report(study(), tmp_path, questions=asked, source=source_of(b"another"))
    assert len(made) == 2
    write_report(study(), tmp_path, questions=asked)  # from what, is not told: made, and not used again
    assert len(made) == 3 and not (tmp_path / "tables" / "made-from.txt").exists()
