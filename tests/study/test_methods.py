"""Every method is a section of studies and an option of `zoosparse sparsify`, without a word about it elsewhere."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from tests.cli.command import succeed, zoosparse
from tests.study.test_run import Stages
from zoosparse_ext.analysis.series import series_labels
from zoosparse_ext.cli import sparsify
from zoosparse_ext.options import options_of
from zoosparse_ext.sparsify.methods import METHODS, Method, Ranking
from zoosparse_ext.study.config import StudyConfig, make_config
from zoosparse_ext.study.method_config import SECTIONS
from zoosparse_ext.study.run import run_study
from zoosparse_ext.zoo import Zoo

RANKINGS = {name: cls for name, cls in METHODS.items() if issubclass(cls, Ranking)}


@pytest.mark.parametrize(("name", "cls"), METHODS.items(), ids=list(METHODS))
def test_options_are_keys_and_flags_with_their_defaults(name: str, cls: type[Method]) -> None:
    schema = StudyConfig.model_json_schema()
    keys = schema["$defs"][SECTIONS[name].__name__]["properties"]
    flags = inspect.signature(sparsify.sparsify).parameters
    for item in options_of(cls):
        assert keys[item.name]["default"] == item.default and keys[item.name]["description"]
        assert flags[item.name].default is None  # the default is in the help


def test_a_study_of_every_ranking_method(tmp_path: Path) -> None:
    section = {"ratios": [0.5], "scopes": ["global"], "epochs": 1, "control": False}
    sections = dict.fromkeys(RANKINGS, section)
    values = {"data": {"limit": 40}, "zoo": {"seeds": 2, "epochs": 1}, "variational": False, **sections}
    values["magnitude"] = {**section, "matched_scopes": []}
    zoo = run_study(make_config(values), tmp_path / "zoo", tmp_path / "epochs", Stages().bar)
    assert {f"{name}-global" for name in RANKINGS} <= {*zoo.populations}
    labels = {f"{cls.label} global" for cls in RANKINGS.values()}
    assert labels <= {*series_labels(zoo.twins)}


def test_a_floor_is_a_key_of_every_ranking_method(tmp_path: Path) -> None:
    section = {"ratios": [0.5], "scopes": ["erk"], "epochs": 0, "control": False, "min_kept": 2}
    sections = {
        "magnitude": {**section, "matched_scopes": [], "variants": [{"min_kept": 0}]},
        "lamp": section,
    }
    values = {"data": {"limit": 40}, "zoo": {"seeds": 2, "epochs": 1}, "variational": False, **sections}
    zoo = run_study(make_config(values), tmp_path / "zoo", tmp_path / "epochs", Stages().bar)
    floored = {f"{name}-erk" for name in sections}  # what the section says is usual
    assert {*floored, "magnitude-erk-min_kept_0"} <= {*zoo.populations}
    for name in floored:
        twins = zoo.population(name)
        masks = twins.masks
        assert masks is not None
        for segment in twins.architecture.prunable_segments:
            assert int(masks[:, segment.slice].unflatten(1, segment.shape).flatten(2).sum(2).min()) >= 2


def test_options_name_the_series(tmp_path: Path) -> None:
    words = ("--models", 2, "--limit", 40, "--epochs", 1)
    succeed("train", "--out", tmp_path / "zoo", *words)
    more = ("--ratios", "0.5", "--epochs", 0)
    succeed("sparsify", tmp_path / "zoo", "--method", "synflow", *more)
    succeed("sparsify", tmp_path / "zoo", "--method", "synflow", *more, "--rounds", 3)
    succeed("sparsify", tmp_path / "zoo", "--method", "random", *more, "--scope", "layer", "--seed", 4)
    names = {"synflow-global", "synflow-global-rounds_3", "random-layer-seed_4"}
    assert names == {*Zoo.open(tmp_path / "zoo").populations} - {"original"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--method", "sinflow"), "unknown method 'sinflow'; did you mean 'synflow'?"),
        (("--method", "random", "--rounds", 3), "--rounds is not an option of the method 'random'"),
        (("--method", "synflow", "--rounds", 0), "rounds must be 1 or more, got 0"),
        (("--method", "synflow", "--keep", "1"), "--keep is not an option of the method 'synflow'"),
        (("--method", "l0", "--scope", "layer"), "--scope is not an option of the method 'l0'"),
        (("--method", "l0", "--ratios", "0.5"), "--ratios is not an option of the method 'l0'"),
        (("--method", "log_alpha", "--ratios", "1.5"), "1.5"),
    ],
)
def test_mistakes_are_named(words: tuple[object, ...], message: str, tmp_path: Path) -> None:
    succeed("train", "--out", tmp_path / "zoo", "--models", 1, "--limit", 40, "--epochs", 0)
    result = zoosparse("sparsify", tmp_path / "zoo", *words)
    assert result.code == 2 and message in result.message


def test_the_seed_of_a_study_is_usual_and_another_is_named_once(tmp_path: Path) -> None:
    section = {"ratios": [0.5], "scopes": ["global"], "epochs": 0, "variants": [{"seed": 5}]}
    values = {"seed": 3, "data": {"limit": 40}, "zoo": {"seeds": 2, "epochs": 0}, "random": section}
    config = make_config({**values, "magnitude": False, "variational": False})
    zoo = run_study(config, tmp_path / "zoo", tmp_path / "epochs", Stages().bar)
    assert {*zoo.populations} == {
        *("original", "control", "control-seed_5"),
        *("random-global", "random-global-seed_5"),
    }
