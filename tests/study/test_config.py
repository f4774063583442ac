"""The file of a study: every recipe is valid, and every mistake is named with the way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import succeed
from zoosparse_ext.cli import study
from zoosparse_ext.errors import InputError
from zoosparse_ext.population.augment import Augment
from zoosparse_ext.population.networks import NETWORKS
from zoosparse_ext.population.training import Training
from zoosparse_ext.study.config import (
    StudyConfig,
    apply_preset,
    make_config,
    read_config,
    recipe,
    recipe_text,
    recipes,
)

# Of the seed zoos: activation, initialisation, learning rate, weight decay.
PUBLISHED = {
    "mnist-seed": ("tanh", "uniform", 3e-4, 0),
    "fmnist-seed": ("tanh", "uniform", 3e-4, 0),
    "svhn-seed": ("tanh", "uniform", 3e-3, 0),
    "usps-seed": ("tanh", "uniform", 3e-4, 1e-3),
    "cifar10-s-seed": ("gelu", "kaiming_uniform", 1e-4, 1e-2),
    "cifar10-l-seed": ("gelu", "kaiming_uniform", 1e-4, 1e-2),
    "stl10-s-seed": ("tanh", "kaiming_uniform", 1e-4, 1e-3),
    "stl10-l-seed": ("tanh", "kaiming_uniform", 1e-4, 1e-3),
    "eurosat-seed": ("gelu", "kaiming_uniform", 1e-4, 1e-2),
}
RESNETS = ["cifar10-resnet18-seed", "cifar100-resnet18-seed", "tiny-imagenet-resnet18-seed"]


@pytest.mark.parametrize("name", recipes())
def test_every_recipe_is_valid(name: str, tmp_path: Path) -> None:
    config = recipe(name)
    assert config.zoo.architecture in NETWORKS
    assert config.magnitude and config.variational
    file = tmp_path / "mine.toml"
    file.write_text(succeed("study", "--init", name).out, encoding="utf-8")
    assert read_config(file) == config
    if name != "demo":
        assert "# Source: " in recipe_text(name)
        assert (config.zoo.epochs, config.zoo.batch_size) == (50, 256 if name in RESNETS else 10)


@pytest.mark.parametrize("name", PUBLISHED)
def test_seed_zoos_are_as_published(name: str) -> None:
    zoo = recipe(name).zoo
    assert (zoo.activation, zoo.init, zoo.optimizer.lr, zoo.optimizer.weight_decay) == PUBLISHED[name]
    assert (zoo.seeds, zoo.optimizer.name, zoo.vary) == (1000, "adam", {})


@pytest.mark.parametrize("name", RESNETS)
def test_residual_networks_are_as_published(name: str) -> None:
    config = recipe(name)
    zoo, optimizer = config.zoo, config.zoo.optimizer
    assert (zoo.architecture, zoo.lr_schedule, zoo.seeds, zoo.vary) == ("resnet18", "onecycle", 1000, {})
    assert zoo.task() == {"loss": "cross_entropy", "augment": Augment(crop=4, flip=True)}
    published = ("sgd", 0.05, 0.9, 5e-4)
    assert (optimizer.name, optimizer.lr, optimizer.momentum, optimizer.weight_decay) == published
    for twins in (config.magnitude, config.variational):
        assert twins and (twins.optimizer, twins.batch_size, twins.lr_schedule) == ("source", 256, "onecycle")


def test_every_published_zoo_has_a_recipe() -> None:
    zoos = ["mnist", "fmnist", "usps", "cifar10-s", "cifar10-l", "stl10-s", "stl10-l"]
    grids = [f"{zoo}-hyp-10-{seeds}" for zoo in zoos for seeds in ("fix", "rand")]
    assert set(recipes()) == {*PUBLISHED, *RESNETS, *grids, "svhn-hyp", "demo"}


def test_the_svhn_grid_is_as_published() -> None:
    zoo = recipe("svhn-hyp").zoo
    assert (zoo.optimizer.name, zoo.optimizer.momentum) == ("sgd", 0.9)
    vary = {"lr": [1e-2, 1e-3, 1e-4], "weight_decay": [0, 1e-3, 1e-1], "dropout": [0, 0.3, 0.5]}
    assert zoo.vary == vary


@pytest.mark.parametrize("name", [name for name in recipes() if "hyp-10" in name])
def test_hyperparameter_zoos_are_as_published(name: str) -> None:
    zoo = recipe(name).zoo
    small = name.startswith(("mnist", "fmnist"))
    assert zoo.vary["weight_decay"] == ([1e-3, 1e-4] if small else [1e-2, 1e-3])
    assert (zoo.vary["optimizer"], zoo.optimizer.momentum) == (["adam", "sgd"], 0.9)
    assert (zoo.vary["lr"], zoo.vary["dropout"]) == ([1e-3, 1e-4], [0, 0.5])
    assert (len(zoo.vary["activation"]), len(zoo.vary["init"]), zoo.seeds) == (6, 6, 10)
    assert zoo.seeds_of_points == ("distinct" if name.endswith("rand") else "shared")


def test_the_list_names_every_recipe() -> None:
    assert succeed("study", "--list").out.split() == recipes()


def test_the_schema_describes_every_key() -> None:
    schema = succeed("study", "--schema").json()
    assert set(schema["properties"]) == set(StudyConfig.model_fields)
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"zo": {}}, "zo is no key of a study; did you mean zoo?"),
        ({"zoo": {"epoch": 4}}, "zoo.epoch is no key of a study; did you mean zoo.epochs?"),
        ({"zoo": {"optimizer": {"rate": 1}}}, "zoo.optimizer.rate is no key of a study; known: name, lr"),
        (
            {"magnitude": {"ratio": [0.5]}},
            "magnitude.ratio is no key of a study; did you mean magnitude.ratios?",
        ),
        ({"variational": {"lr": 1}}, "variational.lr is no key of a study"),
        ({"magnitude": {"ratios": [0.5, 1.0]}}, "magnitude.ratios: sparsity must be in [0, 1), got 1.0"),
        ({"magnitude": {"ratios": []}}, "magnitude.ratios: "),
        (
            {"magnitude": {"scopes": ["globe"]}},
            "magnitude.scopes.0: unknown 'globe'; did you mean 'global'?",
        ),
        ({"magnitude": True}, "magnitude: expected a section, got True"),
        ({"zoo": 3}, "zoo: expected a section, got 3"),
        ({"zoo": {"seeds": 0}}, "zoo.seeds must be 1 or more, got 0"),
        ({"zoo": {"seeds": "many"}}, "zoo.seeds: "),
        ({"zoo": {"dropout": 1.0}}, "zoo.dropout must be less than 1.0, got 1.0"),
        ({"zoo": {"architecture": "cnn"}}, "zoo.architecture: unknown 'cnn'; did you mean 'cnn-"),
        ({"zoo": {"vary": {"colour": ["red"]}}}, "zoo.vary: unknown 'colour'; known: activation, init"),
        ({"zoo": {"vary": {"lr": []}}}, "zoo.vary: lr has no values"),
        ({"zoo": {"vary": {"lr": ["fast"]}}}, "zoo.vary: lr 'fast' is no number in [0, inf)"),
        ({"zoo": {"vary": {"dropout": [0.5, 1.0]}}}, "zoo.vary: dropout 1.0 is no number in [0, 1)"),
        ({"zoo": {"vary": {"activation": ["relo"]}}}, "zoo.vary: unknown 'relo'; did you mean 'relu'?"),
        ({"variational": {"optimizer": {"lr": float("nan")}}}, "variational.optimizer.lr: "),
        (
            {"variational": {"preset": "molchanow"}},
            "variational.preset: unknown 'molchanow'; did you mean 'molchanov'?",
        ),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
        (
            {"variational": {"kl_scale": -1}},
            "variational.kl_scale must be 0.0 or more",
        ),
        ({"variational": {"optimizer": "sorce"}}, "optimizer: expected a section or 'source', got 'sorce'"),
        (
            {"variational": {"optimizer": {"name": "source", "rate": 1}}},
            "variational.optimizer.rate is no key of a study; known: name, lr, lr_factor, weight_decay",
        ),
        (
            {"magnitude": {"optimizer_state": "old"}},
            "magnitude.optimizer_state: unknown 'old'; known: new, source",
        ),
        (
            {"magnitude": {"matched_epochs": [0]}},
            "magnitude.matched_epochs: epochs are counted from 1, got 0",
        ),
        (
            {"magnitude": {"scopes": ["layer", "layer"]}},
            "magnitude.scopes: layer stands there more than once",
        ),
        (
            {"magnitude": {"variants": [{"seed": 1}, {"sead": 1}]}},
            "magnitude: variant 1: sead is no key of a study; did you mean seed?",
        ),
        ({"magnitude": {"variants": [{"ratios": [2]}]}}, "variant 0: ratios: sparsity must be in [0, 1)"),
        (
            {"magnitude": {"variants": [{"optimizer": {"lr": -1}}]}},
            "variant 0: optimizer.lr must be",
        ),
        (
            {"magnitude": {"variants": [{}]}},
            "magnitude: variant 0 is empty; name what it changes: {seed = 1}",
        ),
        ({"magnitude": {"variants": [{"variants": []}]}}, "variant 0 has variants; write them beside it"),
    ],
)
def test_a_mistake_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        make_config(values)
    assert str(caught.value).startswith("study: ")
    assert message in str(caught.value)
    assert "False" not in str(caught.value)  # which a section may be, but was not meant to be


def test_several_mistakes_are_all_named() -> None:
    with pytest.raises(InputError) as caught:
        make_config({"seed": -1, "zoo": {"seed": 4, "epochs": -1}})
    assert all(key in str(caught.value) for key in ("study: ", "seed must", "zoo.seed is", "zoo.epochs must"))


def test_what_all_models_share_reaches_the_training() -> None:
    zoo = make_config({"zoo": {"lr_schedule": "onecycle", "loss": "mse", "crop": 4, "flip": True}}).zoo
    options = {
        name: value for name, value in zoo.options(seed=3).items() if value != getattr(Training, name, None)
    }
    assert options == {
        "epochs": 20,
        "lr_schedule": "onecycle",
        "loss": "mse",
        "augment": Augment(4, flip=True),
        "seed": 3,
    }
    assert make_config({}).zoo.options(seed=0)["augment"] is None
    with pytest.raises(InputError, match="did you mean 'cosine'"):
        make_config({"zoo": {"lr_schedule": "cosin"}})


def test_methods_have_the_same_budget_by_default() -> None:
    config = make_config({})
    assert config.magnitude and config.variational
    assert config.magnitude.ratios == [*(i / 10 for i in range(1, 8)), 0.75, 0.8, 0.85, 0.9]
    assert config.magnitude.scopes == config.magnitude.matched_scopes == ["global", "layer"]
    assert config.magnitude.matched_epochs == [5, 10, 15, 20, 25] and config.magnitude.schedule == "one-shot"
    for section in config.twins:
        assert (section.epochs, section.optimizer, section.control) == (25, "source", True)


@pytest.mark.parametrize("name", recipes())
def test_recipes_compare_fairly(name: str) -> None:
    config = recipe(name)
    assert config.magnitude and config.variational
    for key in ("epochs", "batch_size", "optimizer", "lr_schedule", "control"):
        assert getattr(config.magnitude, key) == getattr(config.variational, key)


def test_a_variant_changes_some_keys_of_its_section() -> None:
    config = make_config({"magnitude": {"epochs": 3, "variants": [{"schedule": "cubic"}, {"seed": 1}]}})
    assert config.magnitude
    base, cubic, seed = config.magnitude.each()
    assert (base.schedule, cubic.schedule, seed.schedule) == ("one-shot", "cubic", "one-shot")
    assert (base.seed, cubic.seed, seed.seed) == (None, None, 1)
    assert {section.epochs for section in (base, cubic, seed)} == {3}
    assert base.matched_scopes and not cubic.matched_scopes
    assert not any(section.variants for section in (base, cubic, seed))


def test_variants_and_optimizers_can_be_set() -> None:
    config = recipe("demo", overrides('magnitude.variants=[{seed=1}, {schedule="cubic"}]'))
    assert config.magnitude and config.magnitude.variants == [{"seed": 1}, {"schedule": "cubic"}]
    for base, change, expected in [
        ({}, "lr=1e-3", {"name": "source", "lr": 1e-3}),
        ({"optimizer": "source"}, "weight_decay=0.1", {"name": "source", "weight_decay": 0.1}),
        (
            {"optimizer": {"name": "source", "lr": 0.1}},
            "lr_factor=2",
            {"name": "source", "lr": 0.1, "lr_factor": 2},
        ),
        ({"optimizer": {"name": "sgd"}}, "lr=1e-3", {"name": "sgd", "lr": 1e-3}),
        ({}, "name=sgd", {"name": "sgd"}),
    ]:
        values = {"variational": dict(base)}
        ours = make_config(values, overrides(f"variational.optimizer.{change}"))
        assert ours == make_config({"variational": {"optimizer": expected}})
        assert values == {"variational": base}
    named = make_config(
        {"variational": {"optimizer": {"lr": 0.1}}}, overrides("variational.optimizer=source")
    )
    assert named == make_config({})
    with pytest.raises(InputError, match=r"zoo\.optimizer\.name: unknown 'source'"):
        make_config({}, overrides("zoo.optimizer.name=source"))


def overrides(*changes: str) -> dict[str, Any]:
    return study._overrides(list(changes))


def test_the_full_preset_adds_variants() -> None:
    config = apply_preset(make_config({"seed": 3, "variational": {"variants": [{"kl_scale": 4}]}}), "full")
    assert config.magnitude and config.variational
    faster = {"optimizer": {"name": "source", "lr_factor": 10.0}}
    assert config.magnitude.variants == [{"schedule": "cubic"}, faster, {"seed": 4}]
    assert config.variational.variants == [{"kl_scale": 4}, faster, {"seed": 4}]
    assert apply_preset(config, "full") == config
    own = apply_preset(make_config({"magnitude": False, "variational": {"optimizer": {"lr": 3e-4}}}), "full")
    assert own.magnitude is False and own.variational
    assert (
        own.variational.each()[1].optimizer == make_config({"zoo": {"optimizer": {"lr": 3e-3}}}).zoo.optimizer
    )
    with pytest.raises(InputError, match="unknown preset 'fool' of a study; known: full"):
        apply_preset(config, "fool")


def test_overrides_reach_every_depth() -> None:
    config = recipe(
        "mnist-seed", {"seed": 3, "zoo.optimizer.lr": 0.5, "magnitude": False, "data.spec": "digits"}
    )
    assert (config.seed, config.zoo.optimizer.lr, config.magnitude, config.data.spec) == (
        3,
        0.5,
        False,
        "digits",
    )
    assert config.zoo.optimizer.weight_decay == 0  # beside what was set
    assert recipe("mnist-seed").seed == 0


@pytest.mark.parametrize("content", [b"zoo = [", b"\xff\xfe", b"seed = 1\nseed = 2"])
def test_a_file_that_is_no_toml(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "study.toml"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"study\.toml: not TOML"):
        read_config(file)
