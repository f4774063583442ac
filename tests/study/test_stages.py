"""Stages from Python: networks of several architectures, every score, patterns, twins that are added later."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import zoosparse_ext as zs
from tests.study.test_run import Stages
from zoosparse_ext.errors import InputError, StoreError
from zoosparse_ext.population.augment import Augment
from zoosparse_ext.sparsify.series import Series
from zoosparse_ext.study.config import make_config
from zoosparse_ext.study.grid import model_groups
from zoosparse_ext.study.naming import learned_series, magnitude_series
from zoosparse_ext.study.populations import ratios_of
from zoosparse_ext.study.run import run_study
from zoosparse_ext.study.stages import (
    add_magnitude_twins,
    add_matched_twins,
    add_variational_twins,
    train_zoo,
)
from zoosparse_ext.study.unfinished import begun
from zoosparse_ext.zoo import Zoo


@pytest.fixture(scope="module")
def data() -> zs.Dataset:
    return zs.load_dataset("digits").limit(40)


@pytest.fixture(scope="module")
def zoo(data: zs.Dataset) -> Zoo:
    """Two models of each of two architectures, trained with another loss and augmentation than the usual ones."""
    config = make_config({"zoo": {"seeds": 2, "vary": {"activation": ["relu", "tanh"]}}})
    task: dict[str, Any] = {"loss": "mse", "augment": Augment(crop=1)}
    return train_zoo(data, model_groups(config.zoo, data), epochs=1, **task)


def test_a_zoo_notes_what_its_models_learned(zoo: Zoo, data: zs.Dataset, tmp_path: Path) -> None:
    assert zoo.provenance["task"] == {"loss": "mse", "crop": 1, "flip": False}
    zoo.save(tmp_path / "zoo")
    stored = Zoo.open(tmp_path / "zoo")
    inherits = add_variational_twins(stored, data, epochs=1).populations["variational"]
    given = zs.variational_dropout(
        zoo.populations["original"][1], data, epochs=1, loss="mse", augment=Augment(crop=1)
    )
    assert torch.equal(inherits[1].weights, given.weights)
    plain = add_variational_twins(stored, data, epochs=1, loss="cross_entropy", augment=None)
    expected = zs.variational_dropout(zoo.populations["original"][1], data, epochs=1)
    assert torch.equal(plain.populations["variational"][1].weights, expected.weights)


def test_twins_of_several_architectures_are_added_to(zoo: Zoo, data: zs.Dataset, tmp_path: Path) -> None:
    first = add_magnitude_twins(zoo, data, [0.5], epochs=1)
    first.save(tmp_path / "zoo")
    both = add_magnitude_twins(Zoo.open(tmp_path / "zoo"), data, [0.5, 0.8], epochs=1)
    once = add_magnitude_twins(zoo, data, [0.5, 0.8], epochs=1)
    for name in ("original", "magnitude-global"):
        for ours, theirs in zip(both.populations[name], once.populations[name], strict=True):
            assert ours.ids == theirs.ids
            assert torch.equal(ours.weights, theirs.weights)
            assert torch.equal(ours.predictions, theirs.predictions)
    keys = ["twin_id", "epoch"]
    ours, theirs = (z.twins.sort_values(keys).reset_index(drop=True) for z in (both, once))
    assert ours.equals(theirs[ours.columns])
    assert ratios_of(both, "magnitude-global") == [0.5, 0.8] and ratios_of(both, "wanda-output") == []
    both.save(tmp_path / "zoo", overwrite=True)
    with pytest.raises(InputError, match=r"'magnitude-global' at 0.5, 0.8 already; replace=True"):
        add_magnitude_twins(both, data, [0.8, 0.5], epochs=1)
    again = add_magnitude_twins(both, data, [0.8], epochs=1, replace=True)
    assert ratios_of(again, "magnitude-global") == [0.5, 0.8] and len(again.twins) == len(both.twins)


def test_twins_that_cannot_be_added_are_refused_before_any_training(zoo: Zoo, data: zs.Dataset) -> None:
    """What stays in the population is of other images or networks; made anew as a whole, it may be."""

    def trained(progress: object) -> None:
        raise AssertionError("trained")

    images = len(data.test)
    first = add_magnitude_twins(zoo, data, [0.5], epochs=1)
    fewer = replace(data, test=replace(data.test, images=data.test.images[:-1], labels=data.test.labels[:-1]))
    told = (
        f"'magnitude-global' have predictions on {images} images, new ones would have them on {images - 1}: "
    )
    way_out = "ratios 0.5, 0.8 with replace=True"
    for replacing in (False, True):
        with pytest.raises(InputError, match=f"{told}.*{way_out}"):
            add_magnitude_twins(first, fewer, [0.8], epochs=1, replace=replacing, progress=trained)
    bare = [group[:] for group in first.populations["magnitude-global"]]
    for group in bare:
        group.predictions = None
    with pytest.raises(InputError, match=f"have no predictions, new ones would have them on {images}:"):
        add_magnitude_twins(
            first.with_population("magnitude-global", bare), data, [0.8], epochs=1, progress=trained
        )
    one = first.with_population("original", first.populations["original"][:1])
    with pytest.raises(InputError, match=f"has networks .*, .*, and twins of .* cannot be added.*{way_out}"):
        add_magnitude_twins(one, data, [0.8], epochs=1, progress=trained)
    anew = add_magnitude_twins(one, fewer, [0.5, 0.8], epochs=1, replace=True)
    (twins,) = anew.populations["magnitude-global"]
    assert twins.predictions is not None and tuple(twins.predictions.shape) == (4, images - 1)
    assert set(anew.twins.twin_id) == set(twins.ids)


def test_an_unfinished_stage_is_left_for_whoever_began_it(zoo: Zoo, data: zs.Dataset, tmp_path: Path) -> None:
    """Other settings make a series named by the difference, other ratios of the series are kept beside it."""
    go_on, other = Stages(), zs.Adam(lr=0.1)

    def prune(zoo: Zoo, ratios: list[float], stage: Stages = go_on, **options: Any) -> Zoo:
        with stage.bar("prune") as progress:
            return add_magnitude_twins(
                zoo, data, ratios, epochs=2, checkpoint=tmp_path, progress=progress, **options
            )

    for ratios, options in (([0.5], {}), ([0.8], {}), ([0.5], {"optimizer": other})):
        with pytest.raises(StoreError, match="the disk is full"):
            prune(zoo, ratios, Stages("prune"), **options)
    first, beside, named = sorted(tmp_path.iterdir())
    assert (first.name, named.name) == ("magnitude-global", "magnitude-global-lr_0.1")
    assert (
        beside.name.startswith("magnitude-global-") and begun(tmp_path)[beside.name]["ratios"] == "ratios 0.8"
    )
    both = prune(prune(zoo, [0.5], optimizer=other), [0.8])
    assert ratios_of(both, "magnitude-global-lr_0.1") == [0.5] and ratios_of(both, "magnitude-global") == [
        0.8
    ]
    whole = prune(both, [0.5])
    assert ratios_of(whole, "magnitude-global") == [0.8, 0.5]
    plain = add_magnitude_twins(zoo, data, [0.8, 0.5], epochs=2)
    for ours, theirs in zip(*(z.populations["magnitude-global"] for z in (whole, plain)), strict=True):
        assert torch.equal(ours.weights, theirs.weights)


def test_an_unfinished_stage_of_other_data_is_refused_and_told(
    zoo: Zoo, data: zs.Dataset, tmp_path: Path
) -> None:
    def prune(images: zs.Dataset, stage: Stages, **options: Any) -> Zoo:
        with stage.bar("prune") as progress:
            return add_magnitude_twins(
                zoo, images, [0.5], epochs=2, checkpoint=tmp_path, progress=progress, **options
            )

    with pytest.raises(StoreError, match="the disk is full"):
        prune(data, Stages("prune"))
    less = zs.load_dataset("digits").limit(30)
    told = r"that run began with data digits \w+; this one has data digits \w+$"
    with pytest.raises(InputError, match=f"unfinished run with other settings.*; {told}"):
        prune(less, Stages())
    (folder,) = tmp_path.iterdir()
    (folder / "settings.json").write_text("{")
    with pytest.raises(InputError, match=r"or delete the file to start anew$"):
        prune(data, Stages(), optimizer=zs.Adam(lr=0.1))
    for file in folder.glob("*.safetensors"):
        file.unlink()
    assert ratios_of(prune(data, Stages(), optimizer=zs.Adam(lr=0.1)), "magnitude-global") == [0.5]


def test_bad_input_leaves_no_trace_of_a_stage(zoo: Zoo, data: zs.Dataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="batch_size"):
        add_magnitude_twins(zoo, data, [0.5], epochs=1, batch_size=0, checkpoint=tmp_path / "epochs")
    assert not any(tmp_path.iterdir())


def test_every_score_and_pattern_is_a_population_of_its_own(
    zoo: Zoo, data: zs.Dataset, tmp_path: Path
) -> None:
    """Adding one a second time doubles nothing; it is refused."""
    calls: dict[str, dict[str, Any]] = {
        "magnitude-global": {"ratios": [0.5]},
        "wanda-output": {"ratios": [0.5], "scope": "output", "score": "wanda"},
        "random-global": {"ratios": [0.5], "score": "random"},
        "random-global-seed_3": {"ratios": [0.5], "score": "random", "seed": 3},
        "gradient-layer": {"ratios": [0.5], "score": "gradient", "scope": "layer"},
        "magnitude-2:4": {"ratios": "2:4"},
        "magnitude-global-cubic": {"ratios": [0.5], "schedule": "cubic"},
        "magnitude-global-lr_0.1": {"ratios": [0.5], "optimizer": zs.Adam(lr=0.1)},
        "magnitude-global-weight_decay_0.1": {"ratios": [0.5], "optimizer": zs.Adam(weight_decay=0.1)},
        "magnitude-global-adamw": {"ratios": [0.5], "optimizer": zs.AdamW(lr=1e-3)},
        "magnitude-global-shared_order": {"ratios": [0.5], "order": "shared"},
    }
    for call in calls.values():
        zoo = add_magnitude_twins(zoo, data, epochs=1, **call)
    assert list(zoo.populations) == ["original", *calls]
    assert sorted(zoo.twins.series.unique()) == sorted(calls)
    assert zoo.twins.groupby(["twin_id", "epoch"]).size().eq(1).all()
    assert zoo.twins.groupby("series").twin_id.nunique().eq(4).all()
    for call in calls.values():
        with pytest.raises(InputError, match="finished twins"):
            add_magnitude_twins(zoo, data, epochs=1, **call)
    zoo.save(tmp_path / "zoo")
    assert set(Zoo.open(tmp_path / "zoo").provenance["twins"]) == set(calls)


def test_twins_are_matched_to_the_twin_of_their_model(zoo: Zoo, data: zs.Dataset) -> None:
    """Whatever the order of the rows; a model without a twin, or with two, is refused by name."""
    whole = add_variational_twins(zoo, data, epochs=2, optimizer=zs.Adam(lr=0.05))
    groups = whole.populations["variational"]
    turned = whole.with_population("variational", [group[[1, 0]] for group in groups])
    for scope in ("global", "layer"):
        matched = add_matched_twins(turned, data, scope).populations[f"magnitude-matched-{scope}"]
        for twins, source in zip(matched, groups, strict=True):
            assert twins.models["matched"].tolist() == source.ids
            assert torch.equal(twins.sparsity(by_layer=scope == "layer"), source.sparsity(scope == "layer"))
    lacking = whole.with_population("variational", [groups[0], groups[1][:1]])
    with pytest.raises(
        InputError, match=r"1 models have no twin in 'variational' to be matched, the first is '.*-0002"
    ):
        add_matched_twins(lacking, data)
    double = whole.with_population("variational", [groups[0], groups[1][[0, 1, 1]]])
    with pytest.raises(InputError, match="has several twins in 'variational'"):
        add_matched_twins(double, data)
    with pytest.raises(InputError, match="matched twins need twins 'variational-mine' first"):
        add_matched_twins(whole, data, to="variational-mine")


def test_names_in_the_zoo_of_a_study(tmp_path: Path) -> None:
    """What its config says is usual; what a command does otherwise is named."""
    values = {
        "data": {"limit": 40},
        "zoo": {"seeds": 2, "epochs": 0},
        "magnitude": {
            "ratios": [0.5],
            "epochs": 1,
            "schedule": "cubic",
            "optimizer": {"lr": 0.01},
            "scopes": ["global"],
            "matched_scopes": [],
            "control": False,
        },
        "variational": {
            "epochs": 1,
            "preset": "molchanov",
            "threshold": 2.0,
            "optimizer": {"lr": 3e-4},
            "control": False,
        },
    }
    stages = Stages()
    config = make_config(values)
    zoo = run_study(config, tmp_path / "zoo", tmp_path / "resume", stages.bar)
    assert list(zoo.populations) == ["original", "magnitude-global", "variational"]
    assert set(zoo.twins.series) == {"magnitude-global", "variational"}
    usual: dict[str, Any] = {"epochs": 1, "optimizer": zs.Adam(lr=0.01), "schedule": "cubic"}
    assert magnitude_series(zoo, **usual)[0] == Series("magnitude", "global")
    assert magnitude_series(zoo, "layer", **usual)[0].key == "magnitude-layer"
    assert magnitude_series(zoo, **{**usual, "schedule": "one-shot"})[0].key == "magnitude-global-one_shot"
    assert magnitude_series(zoo, **{**usual, "epochs": 15})[0].key == "magnitude-global-15_epochs"
    matched = {name: value for name, value in usual.items() if name != "schedule"}  # which are pruned at once
    assert magnitude_series(zoo, matched_to="variational", **matched)[0].key == "magnitude-matched-global"
    cubic = magnitude_series(zoo, matched_to="variational", **usual)[0]
    assert cubic.key == "magnitude-matched-global-cubic"
    options: dict[str, Any] = {
        "epochs": 1,
        "optimizer": zs.Adam(lr=3e-4),
        "preset": "molchanov",
        "threshold": 2.0,
    }
    assert learned_series(zoo, **options)[0].key == "variational"
    assert learned_series(zoo, **{**options, "preset": "modelzoos"})[0].key == "variational-modelzoos"
    data = zs.load_dataset("digits").limit(40)
    further = add_magnitude_twins(zoo, data, [0.8], **usual)  # of the same series as the study's
    further.save(tmp_path / "zoo")
    ran = len(stages.titles)
    again = run_study(config, tmp_path / "zoo", tmp_path / "resume", stages.bar)
    assert len(stages.titles) == ran and ratios_of(again, "magnitude-global") == [0.5, 0.8]


def test_a_study_adds_the_ratios_that_a_command_left_out(tmp_path: Path) -> None:
    """Twins that are there already stay as they are."""
    values: dict[str, Any] = {"data": {"limit": 40}, "zoo": {"seeds": 2, "epochs": 1}, "variational": False}
    values["magnitude"] = {"ratios": [0.5, 0.8], "epochs": 1, "optimizer": {"lr": 0.01}, "scopes": ["global"]}
    values["magnitude"]["control"] = False
    config, stages = make_config(values), Stages("prune")
    data = zs.load_dataset("digits").limit(40)
    begun = train_zoo(
        data,
        model_groups(config.zoo, data),
        epochs=1,
        settings=config.model_dump(mode="json"),
        **config.zoo.task(),
    )
    begun = add_magnitude_twins(begun, data, [0.8], epochs=1, optimizer=zs.Adam(lr=0.01))
    begun.save(tmp_path / "zoo")
    zoo = run_study(config, tmp_path / "zoo", tmp_path / "resume", stages.bar)
    assert stages.titles == ["prune (global)"]
    assert ratios_of(zoo, "magnitude-global") == [0.8, 0.5]
    assert torch.equal(
        zoo.population("magnitude-global").weights[:2], begun.population("magnitude-global").weights
    )
