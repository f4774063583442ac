"""A study in Python: five lines from a population to its report."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import zoosparse_ext as zs
from tests.cli.command import succeed
from tests.population import tiny
from zoosparse_ext.study.config import make_config, recipe

DATA = zs.load_dataset("digits").limit(40)
PRUNED = {"ratios": [0.5], "scopes": ["global"], "epochs": 1, "matched_scopes": [], "control": False}
TWINS: dict[str, Any] = {"magnitude": PRUNED, "variational": {"epochs": 1, "control": False}}
STUDY: dict[str, Any] = {"title": "Mine", "data": {"limit": 40}, "zoo": {"seeds": 2, "epochs": 2}, **TWINS}


def population() -> zs.Population:
    made = zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(1, 3))
    zs.train(made, DATA, epochs=2, optimizer=zs.Adam(lr=1e-3), loss="mse")
    return made


def test_five_lines(tmp_path: Path) -> None:
    zoo = zs.Zoo.create(tmp_path / "zoo", population(), DATA)
    zoo = zs.run_study(TWINS, zoo)
    found = zs.analyze(zoo)
    page = zs.write_report(zoo, tmp_path / "report")
    assert list(zoo.populations) == ["original", "magnitude-global", "variational"]
    assert repr(zs.Zoo.open(tmp_path / "zoo")) == repr(zoo)
    assert not (tmp_path / "zoo.resume").exists()
    assert page == tmp_path / "report" / "report.html" and "Sparse twins of zoo" in page.read_text()
    record = json.loads((tmp_path / "report" / "report.json").read_text())
    assert found.record() == record
    assert found.answers == {question["id"]: question["answer"] for question in record["questions"]}
    assert found.summary == record["answer"] and found.title == record["title"]
    assert {path.stem for path in (tmp_path / "report" / "tables").glob("*.parquet")} == set(found.tables)
    assert len(found.claims) == len(record["claims"]) == len(found.readable_claims)
    assert found.data.n_models == 2 and "2 models" in repr(found)


def test_twins_inherit_from_their_zoo_and_are_those_of_the_command(tmp_path: Path) -> None:
    zs.Zoo.create(tmp_path / "one", population(), DATA)
    zs.Zoo.create(tmp_path / "two", population(), DATA)
    zoo = zs.run_study({**TWINS, "variational": False}, zs.Zoo.open(tmp_path / "one"))
    succeed("prune", tmp_path / "two", "--ratios", "0.5", "--epochs", "1")
    ours, theirs = (one.population("magnitude-global") for one in (zoo, zs.Zoo.open(tmp_path / "two")))
    assert torch.equal(ours.weights, theirs.weights) and ours.ids == theirs.ids


class TestStudies:
    def test_forms_of_a_study(self, tmp_path: Path) -> None:
        (tmp_path / "mine.toml").write_text(
            'title = "Mine"\nvariational = false\nmagnitude = false\n[data]\nlimit = 40\n[zoo]\nseeds = 2\nepochs = 1\n'
        )
        keys = {"title": "Mine", "variational": False, "magnitude": False, "data": {"limit": 40},
                "zoo": {"seeds": 2, "epochs": 1}}  # fmt: skip
        forms = [keys, make_config(keys), tmp_path / "mine.toml", str(tmp_path / "mine.toml")]
        zoos = [zs.run_study(study, tmp_path / str(number)) for number, study in enumerate(forms)]
        for zoo in zoos[1:]:
            assert torch.equal(zoo.population().weights, zoos[0].population().weights)
            assert zoo.provenance["settings"] == zoos[0].provenance["settings"]
        assert zs.analyze(zoos[0]).title == "Mine" and zs.analyze(zoos[0]).summary

    def test_a_recipe_by_name_is_that_of_the_command(self) -> None:
        from zoosparse_ext.study.studies import _config

        assert _config("demo") == recipe("demo")

    def test_an_interrupted_study_resumes_to_the_same_bits(self, tmp_path: Path) -> None:
        whole = zs.run_study(STUDY, tmp_path / "whole")

        def stop(state: zs.Progress) -> None:
            if state.stage.startswith("variational"):  # type: ignore[attr-defined]
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            zs.run_study(STUDY, tmp_path / "cut", progress=stop)
        assert list(zs.Zoo.open(tmp_path / "cut" / "zoo").populations) == ["original", "magnitude-global"]
        assert any((tmp_path / "cut" / "zoo.resume").rglob("*.safetensors"))
        again = zs.run_study({"variational": STUDY["variational"]}, tmp_path / "cut")  # the rest is as begun
        assert not (tmp_path / "cut" / "zoo.resume").exists()
        for name in whole.populations:
            assert torch.equal(again.population(name).weights, whole.population(name).weights)
        pd.testing.assert_frame_equal(again.twins, whole.twins)

    def test_twins_of_a_zoo_resume_as_well_and_are_made_once(self, tmp_path: Path) -> None:
        def stop(state: zs.Progress) -> None:
            raise RuntimeError("stop")

        zoo = zs.Zoo.create(tmp_path / "zoo", population(), DATA)
        with pytest.raises(zs.ZoosparseError):  # a part that raises is tried again, then reported
            zs.run_study(TWINS, zoo, progress=stop)
        stages: list[str] = []
        zoo = zs.run_study(
            TWINS, zs.Zoo.open(tmp_path / "zoo"), progress=lambda state: stages.append(state.stage)
        )  # type: ignore[attr-defined]
        assert "magnitude-global" in zoo.populations and "variational" in zoo.populations
        stages.clear()
        more = zs.run_study(
            {**TWINS, "random": {**PRUNED}}, zoo, progress=lambda state: stages.append(state.stage)
        )  # type: ignore[attr-defined]
        assert set(stages) == {"prune (global)"} and "random-global" in more.populations

    def test_progress_counts_every_stage_to_its_end(self, tmp_path: Path) -> None:
        seen: list[zs.Progress] = []
        zs.run_study(STUDY, tmp_path, progress=seen.append)
        last = {state.stage: (state.done, state.total) for state in seen}  # type: ignore[attr-defined]
        assert last == {"train": (4, 4), "prune (global)": (2, 2), "variational dropout": (2, 2)}
        assert all(isinstance(state, zs.Progress) for state in seen)

    def test_the_command_finds_nothing_left_to_do(self, tmp_path: Path) -> None:
        zoo = zs.run_study({**STUDY, "variational": False}, tmp_path / "study")
        (tmp_path / "mine.toml").write_text("variational = false\n")
        before = (tmp_path / "study" / "zoo" / "manifest.json").read_bytes()
        succeed("study", tmp_path / "mine.toml", "--out", tmp_path / "study")
        assert (tmp_path / "study" / "zoo" / "manifest.json").read_bytes() == before
        assert (tmp_path / "study" / "report.html").exists() and len(zoo.models) == 2

    def test_tensors_of_ones_own_are_given_again(self, tmp_path: Path) -> None:
        own = zs.Dataset.from_tensors(torch.rand(40, 1, 28, 28), torch.arange(40) % 4)
        made = zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(2))
        zoo = zs.Zoo.create(tmp_path / "zoo", made, own)
        with pytest.raises(zs.InputError) as error:
            zs.run_study(TWINS, zoo)
        assert "data=" in str(error.value)
        with pytest.raises(zs.InputError):
            zs.run_study(TWINS, zoo, data=DATA)  # others
        assert "magnitude-global" in zs.run_study({**TWINS, "variational": False}, zoo, data=own).populations


@pytest.mark.parametrize("build", [tiny.batch_normed, tiny.Residual], ids=["batch norm", "residual"])
def test_modules_of_ones_own(build: Any, tmp_path: Path) -> None:
    data = zs.Dataset.from_tensors(torch.rand(36, *tiny.SHAPE), torch.arange(36) % tiny.CLASSES)
    made = tiny.population(build)
    zs.train(made, data, epochs=1)
    zoo = zs.run_study(TWINS, zs.Zoo.create(tmp_path / "zoo", made, data), data=data)
    assert list(zoo.populations) == ["original", "magnitude-global", "variational"]
    opened = zs.Zoo.open(tmp_path / "zoo")
    opened.population().with_module(build())
    more = zs.run_study({**TWINS, "random": {**PRUNED}}, opened, data=data)
    assert len(more.population("random-global")) == 3
    assert zs.analyze(more).answers["performance"]


class TestRefused:
    @pytest.mark.parametrize(
        "study",
        [
            {"zoo": {"epoch": 3}},
            {"zoo": {"seeds": 0}},
            {"unknown": {}},
            "no-such-recipe",
            "missing.toml",
            Path("missing.toml"),
            3,
            None,
        ],
        ids=str,
    )
    def test_studies_that_are_none(self, study: Any, tmp_path: Path) -> None:
        with pytest.raises(zs.InputError):
            zs.run_study(study, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_places(self, tmp_path: Path) -> None:
        zoo = zs.Zoo.create(tmp_path / "zoo", population(), DATA)
        with pytest.raises(zs.InputError) as error:
            zs.run_study(STUDY, tmp_path / "zoo")  # a zoo, not the folder of a study
        assert "Zoo.open" in str(error.value)
        with pytest.raises(zs.InputError):
            zs.run_study(STUDY, 3)  # type: ignore[arg-type]
        for study in (STUDY, {**TWINS, "zoo": {}}, {**TWINS, "data": {}}, "demo"):
            with pytest.raises(zs.InputError):
                zs.run_study(study, zoo)
        in_memory = zs.Zoo({"original": [population()]}, population().models)
        with pytest.raises(zs.StoreError):
            zs.run_study(TWINS, in_memory, data=DATA)

    def test_other_arguments(self, tmp_path: Path) -> None:
        for options in ({"data": DATA}, {"preset": "fuller"}, {"progress": 3}, {"device": "warp"}):
            with pytest.raises(zs.InputError):
                zs.run_study(STUDY, tmp_path / "out", **options)

    def test_another_study_in_the_folder(self, tmp_path: Path) -> None:
        short = {
            "data": {"limit": 40},
            "zoo": {"seeds": 1, "epochs": 0},
            "magnitude": False,
            "variational": False,
        }
        zs.run_study(short, tmp_path)
        with pytest.raises(zs.InputError) as error:
            zs.run_study({**short, "zoo": {"seeds": 2}}, tmp_path)
        assert "zoo.seeds" in str(error.value)

    def test_reports_of_nothing(self, tmp_path: Path) -> None:
        for function in (zs.analyze, lambda zoo: zs.write_report(zoo, tmp_path / "out")):
            with pytest.raises(zs.StoreError):
                function(tmp_path / "missing")
            with pytest.raises(zs.InputError):
                function(3)
            with pytest.raises(zs.InputError):  # no accuracy
                function(zs.Zoo({"original": [population()]}, population().models))
        (tmp_path / "file").write_text("mine")
        zoo = zs.Zoo.create(tmp_path / "zoo", population(), DATA)
        with pytest.raises(zs.InputError):
            zs.write_report(zoo, tmp_path / "file")


def test_a_report_of_a_folder_uses_its_tables_again_and_takes_a_title(tmp_path: Path) -> None:
    zs.Zoo.create(tmp_path / "zoo", population(), DATA)
    page = zs.write_report(tmp_path / "zoo", tmp_path / "report", title="Of my own")
    assert "Of my own" in page.read_text()
    assert (tmp_path / "report" / "tables" / "made-from.txt").exists()


_WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
import zoosparse_ext as zs
loaded = {studies!r} & {{name.partition(".")[0] for name in sys.modules}}
assert not loaded, loaded
for call in (lambda: zs.run_study({{}}, "out"), lambda: zs.analyze("zoo"), lambda: zs.write_report("zoo", "out")):
    try:
        call()
    except zs.ExtraError as error:
        assert isinstance(error, ImportError) and "\\n" not in str(error)
        print(error)
print(zs.concat([zs.Population.initialise(zs.architecture("cnn-s"), seeds=[1])]))
"""


def test_without_the_extras_the_rest_works_and_a_line_says_what_to_install(tmp_path: Path) -> None:
    studies = {"pydantic", "matplotlib", "scipy", "jinja2", "rich", "typer"}
    code = _WITHOUT.format(missing=studies, studies=studies)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 4 and all('pip install "zoosparse-ext[study]"' in line for line in lines[:3])
    assert [line.split()[0] for line in lines[:3]] == ["zs.run_study", "zs.analyze", "zs.write_report"]


def test_importing_the_package_loads_nothing_of_studies() -> None:
    code = (
        "import sys, zoosparse_ext; names = {name.partition('.')[0] for name in sys.modules};"
        "print(sorted(names & {'pydantic', 'matplotlib', 'scipy', 'jinja2', 'sklearn', 'rich', 'typer'}))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr
