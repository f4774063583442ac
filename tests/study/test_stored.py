"""A study that is run again: what it names must be as it was, what it does not name is as it was."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from tests.study.test_run import KINDS, Stages, config, run
from zoosparse_ext.errors import InputError
from zoosparse_ext.study.config import make_config
from zoosparse_ext.study.stored import is_of_study, settled, stored_config
from zoosparse_ext.zoo import Zoo

# As a study of version 0.1 noted it.
OF_0_1: dict[str, Any] = {
    "title": "An old study",
    "seed": 0,
    "data": {"spec": "digits", "limit": 40, "mean": None, "std": None},
    "zoo": {
        "architecture": "cnn-s",
        "activation": None,
        "init": "kaiming_uniform",
        "dropout": 0.0,
        "seeds": 2,
        "first_seed": 1,
        "seeds_of_points": "shared",
        "epochs": 2,
        "batch_size": 10,
        "order": "per-model",
        "optimizer": {"name": "adam", "lr": 0.001, "weight_decay": 0.0, "momentum": 0.0},
        "lr_schedule": "constant",
        "loss": "cross_entropy",
        "crop": 0,
        "flip": False,
        "vary": {},
    },
    "magnitude": {
        "ratios": [0.5],
        "scopes": ["global"],
        "matched_scopes": ["global", "layer"],
        "epochs": 2,
        "batch_size": 10,
        "schedule": "one-shot",
        "optimizer": {"name": "adam", "lr": 0.001, "weight_decay": 0.0, "momentum": 0.0},
        "lr_schedule": "constant",
    },
    "variational": {
        "epochs": 2,
        "batch_size": 10,
        "preset": "modelzoos",
        "threshold": 3.0,
        "optimizer": {"name": "adam", "lr": 0.0003, "weight_decay": 0.0, "momentum": 0.0},
        "lr_schedule": "constant",
    },
}
MADE = [
    "original",
    "magnitude-global",
    "variational",
    "magnitude-matched-global",
    "magnitude-matched-layer",
]


def test_settings_of_0_1_mean_what_they_did() -> None:
    read = stored_config(OF_0_1)
    assert read.magnitude and read.variational
    for section in read.twins:
        assert (section.control, section.variants, section.seed) == (False, [], None)
        assert (section.optimizer_state, section.recalibrate) == ("new", True)
        assert not isinstance(section.optimizer, str) and section.optimizer.name == "adam"
    assert read.magnitude.matched_epochs == [] and read.variational.kl_scale == 1.0
    assert read.magnitude.epochs == 2
    assert is_of_study(OF_0_1) and not is_of_study({"command": "zoosparse train", "zoo": {}, "seed": 0})


def test_what_is_not_named_is_as_it_was() -> None:
    asked = make_config({"title": "New", "magnitude": {"epochs": 2}, "zoo": {"optimizer": {"lr": 0.001}}})
    merged = settled(asked, OF_0_1, "here")
    expected = copy.deepcopy(OF_0_1) | {"title": "New"}
    assert merged == stored_config(expected)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"magnitude": {"epochs": 25}}, "magnitude.epochs is 2 there, 25 was asked for"),
        ({"magnitude": {"optimizer": "source"}}, 'magnitude.optimizer is {name = "adam", lr = 0.001'),
        (
            {"variational": {"optimizer": {"lr": 0.1}}},
            "variational.optimizer.lr is 0.0003 there, 0.1 was asked",
        ),
        (
            {"variational": {"variants": [{"kl_scale": 4}]}},
            "variants is [] there, [{kl_scale = 4}] was asked for",
        ),
        ({"magnitude": {"control": True}}, "magnitude.control is false there, true was asked for"),
        ({"data": {"limit": None}}, "data.limit is 40 there, not set was asked for"),
        ({"data": {"spec": "idx:x"}}, "data.spec is digits there, idx:x was asked for"),
        ({"variational": False}, "was asked for"),
    ],
)
def test_what_is_named_and_different_is_refused(values: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError) as caught:
        settled(make_config(values), OF_0_1, "here")
    assert "here holds the zoo of a study with other settings" in str(caught.value) and told in str(
        caught.value
    )
    assert "--restart" in str(caught.value) and "--set" in str(caught.value)


def test_settings_that_cannot_be_read_are_told() -> None:
    with pytest.raises(
        InputError, match=r"cannot be read: magnitude.epochs: input should be a valid integer"
    ):
        stored_config({**OF_0_1, "magnitude": {"epochs": "many"}})


def test_a_study_of_0_1_goes_on_as_it_was_begun(tmp_path: Path) -> None:
    """Whether its zoo has twins, or only the models; its file need not say what it said by default."""
    before = Stages()
    made = run(stored_config(OF_0_1), tmp_path / "whole", before)
    assert list(made.populations) == MADE
    made.provenance = {**made.provenance, "settings": OF_0_1}
    assert {"optimizer_state", "recalibrate", "kl"} <= made.provenance["twins"]["variational"].keys()
    for texts in made.provenance["twins"].values():  # notes of earlier versions lack these
        for name in ("optimizer_state", "recalibrate", "kl"):
            texts.pop(name, None)
    made.save(tmp_path / "whole" / "zoo")
    again = Stages()
    named = make_config({"data": {"spec": "digits", "limit": 40}, "zoo": {"seeds": 2}})
    assert list(run(named, tmp_path / "whole", again).populations) == MADE and again.titles == []

    only = Zoo(
        {"original": made.populations["original"]},
        *(made.models, made.history, None, made.labels, made.dataset),
        {key: value for key, value in made.provenance.items() if key != "twins"},
    )
    only.save(tmp_path / "only" / "zoo")
    assert list(run(named, tmp_path / "only", again).populations) == MADE
    assert len(again.titles) == 4


def test_the_zoo_of_another_command_is_no_study(tmp_path: Path) -> None:
    zoo = run(config(**{"zoo.epochs": 0, "magnitude": False, "variational": False}), tmp_path, Stages())
    zoo.provenance = {**zoo.provenance, "settings": {"command": "zoosparse train", "seed": 0}}
    zoo.save(tmp_path / "zoo")
    with pytest.raises(InputError, match="holds a zoo that no study made"):
        run(config(), tmp_path, Stages())


def test_the_order_of_populations_stays(tmp_path: Path) -> None:
    zoo = run(config(), tmp_path, Stages())
    assert list(zoo.populations) == KINDS
    assert all(
        zoo.populations.is_unread(name) for name in zoo.populations
    )  # nothing was sorted and saved anew
