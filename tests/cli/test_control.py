"""`zoosparse control`, earlier epochs, and the defaults that commands share with studies."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch

import zoosparse_ext as zs
from tests.cli.command import succeed, zoosparse
from zoosparse_ext.cli import sparsify
from zoosparse_ext.study.method_config import MagnitudeConfig, VariationalConfig
from zoosparse_ext.zoo import Zoo


def test_a_control_is_the_model_trained_on(zoo: Path) -> None:
    made = succeed("control", zoo, "--epochs", 2, "--json").json()
    assert (made["population"], made["twins"]) == ("control", 3)
    opened = Zoo.open(zoo)
    assert "control@5" not in opened.populations  # which is after the last
    data = zs.load_dataset("digits").limit(40)
    pruned = zs.magnitude_prune(opened.population(), 0.0, data=data, epochs=2, optimizer=zs.Adam(lr=1e-3))
    assert torch.equal(opened.population("control").weights, pruned.weights)
    rows = opened.twins[opened.twins["series"] == "control"]
    assert rows["method"].eq("control").all() and rows["target"].eq(0).all() and rows["sparsity"].eq(0).all()
    assert opened.population("control").ids == [f"{id}/control" for id in opened.population().ids]
    refused = zoosparse("control", zoo, "--epochs", 2)
    assert refused.code == 2 and "finished twins 'control' already" in refused.message
    other = succeed("control", zoo, "--epochs", 2, "--lr", "0.01", "--json").json()
    assert other["population"] == "control-lr_0.01"


def test_twins_are_matched_to_an_earlier_epoch(zoo: Path) -> None:
    succeed("vardrop", zoo, "--epochs", 3, "--kl-scale", 100, "--lr", "0.05", "--keep", "1,2,3,7")
    series = "variational-kl_100"
    assert [name for name in Zoo.open(zoo).populations if name.startswith(series)] == [
        series,
        *(f"{series}@{epoch}" for epoch in (1, 2)),
    ]
    matched = ("prune", zoo, "--matched", "--to", series)
    for epoch in (2, 3):  # the last one needs no name
        name = succeed(*matched, "--at-epoch", epoch, "--json").json()["population"]
        end = "" if epoch == 3 else "-epoch_2"
        assert name == f"magnitude-matched-global-to_VD_kl_100{end}"
        opened = Zoo.open(zoo)
        twins = opened.population(name)
        source = opened.population(series if epoch == 3 else f"{series}@2")
        assert torch.equal(twins.sparsity(), source.sparsity())
        rows = opened.twins[opened.twins["series"] == name]
        assert rows["epoch"].max() == (2 if epoch == 2 else MagnitudeConfig().epochs)
    refused = zoosparse(*matched, "--at-epoch", 5)
    assert refused.code == 2 and "as it was after epoch 5, only after 1, 2, 3" in refused.message
    assert "--keep 5 --replace" in refused.message
    assert "epochs are counted from 1" in zoosparse(*matched, "--at-epoch", 0).message
    earlier = zoosparse("prune", zoo, "--matched", "--to", f"{series}@2")
    assert earlier.code == 2 and f"--to {series} --at-epoch 2" in earlier.message
    assert "add --matched" in zoosparse("prune", zoo, "--at-epoch", 1).message


def test_replaced_twins_have_their_own_earlier_epochs(zoo: Path) -> None:
    words = ("vardrop", zoo, "--epochs", 3, "--replace")
    succeed(*words, "--keep", "1")
    succeed(*words, "--keep", "2")
    names = [name for name in Zoo.open(zoo).populations if name.startswith("variational")]
    assert "variational-3_epochs@2" in names and "variational-3_epochs@1" not in names


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("control", "--keep", "a"), "--keep 'a': write epochs, as in 5,10,15"),
        (("vardrop", "--keep", "0"), "--keep '0': epochs are counted from 1"),
        (("vardrop", "--kl-scale", "-1"), "kl_scale"),
        (("control", "--optimizer-state", "old"), "optimizer_state: unknown 'old'; known: new, source"),
        (("control", "--optimizer-state", "source"), "has no optimizer state"),
        (("control", "--lr", "nan"), "must be finite and not negative, got nan"),
        (("control", "--optimizer", "adamm"), "unknown optimizer 'adamm'"),
    ],
    ids=str,
)
def test_mistakes_are_named(zoo: Path, words: tuple[str, ...], told: str) -> None:
    refused = zoosparse(words[0], zoo, *words[1:])
    assert refused.code == 2 and told in refused.message


def test_commands_have_the_defaults_of_studies() -> None:
    magnitude, variational = MagnitudeConfig(), VariationalConfig()
    for command, section in (
        (sparsify.prune, magnitude),
        (sparsify.control, magnitude),
        (sparsify.vardrop, variational),
    ):
        parameters = inspect.signature(command).parameters
        shared = {name for name in type(section).model_fields if name in parameters}
        assert {"batch_size", "optimizer_state", "lr_schedule", "recalibrate"} <= shared
        for name in shared - {"optimizer", "seed", "epochs", "ratios"}:
            assert parameters[name].default == getattr(section, name)
        assert parameters["epochs"].default in (None, section.epochs)
        assert parameters["optimizer"].default is None  # that of the source


def test_twins_go_on_with_the_moments_of_their_models(tmp_path: Path) -> None:
    words = ("--models", 2, "--limit", 40, "--epochs", 2)
    succeed("train", "--out", tmp_path / "zoo", *words, "--keep-optimizer-state")
    made = succeed("control", tmp_path / "zoo", "--epochs", 1, "--optimizer-state", "source", "--json").json()
    assert made["population"] == "control"
    succeed("train", "--out", tmp_path / "longer", *words[:-1], 3)
    weights = Zoo.open(tmp_path / "zoo").population("control").weights
    assert torch.equal(weights, Zoo.open(tmp_path / "longer").population().weights)  # 2 + 1 epochs are 3
    other = succeed("control", tmp_path / "zoo", "--epochs", 1, "--json").json()
    assert other["population"] == "control-new_moments"
