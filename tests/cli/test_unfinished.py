"""After a kill, the same settings resume and other settings make a series of their own; no epoch is lost."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cli.command import beside, succeed, zoosparse
from zoosparse_ext.study.populations import ratios_of
from zoosparse_ext.zoo import Zoo

COMMANDS: dict[str, tuple[object, ...]] = {
    "magnitude-global": ("prune", "--ratios", "0.5", "--epochs", 3),
    "variational": ("vardrop", "--epochs", 3, "--keep", "1"),
    "control": ("control", "--epochs", 3, "--keep", "1"),
}


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    zoo = tmp_path_factory.mktemp("originals") / "zoo"
    succeed("train", "--out", zoo, "--models", 2, "--epochs", 1, "--limit", 40)
    return zoo


def copied(source: Path, target: Path) -> Path:
    Zoo.open(source).save(target)
    return target


def killed(zoo: Path, words: tuple[object, ...], *more: object, place: str) -> Path:
    """A command that is killed once it has kept an epoch; the folder of its epochs."""
    epochs = zoo.with_name(f"{zoo.name}.resume") / place / place / "0-rows-0-2.safetensors"
    with beside(words[0], zoo, *words[1:], *more, send=signal.SIGKILL, after=epochs) as process:
        process.communicate()
    assert epochs.exists()
    return epochs.parent


@pytest.mark.parametrize("name", COMMANDS)
def test_other_settings_are_named_by_their_difference(originals: Path, tmp_path: Path, name: str) -> None:
    zoo, words = copied(originals, tmp_path / "zoo"), COMMANDS[name]
    epochs = killed(zoo, words, place=name)
    made = succeed(words[0], zoo, *words[1:], "--lr", "0.5", "--json").json()["population"]
    assert made == f"{name}-lr_0.5" and epochs.exists()
    assert succeed(words[0], zoo, *words[1:], "--json").json()["population"] == name
    assert not epochs.exists() and not tmp_path.joinpath("zoo.resume").exists()
    whole = copied(originals, tmp_path / "whole")
    succeed(words[0], whole, *words[1:])
    ours, theirs = Zoo.open(zoo), Zoo.open(whole)
    assert torch.equal(ours.population(name).weights, theirs.population(name).weights)
    kept = [there for there in theirs.populations if "@" in there]
    assert kept == ([] if name == "magnitude-global" else [f"{name}@1"])
    for earlier in kept:
        assert torch.equal(ours.population(earlier).weights, theirs.population(earlier).weights)


def test_both_go_on_if_both_were_killed(originals: Path, tmp_path: Path) -> None:
    zoo, words = copied(originals, tmp_path / "zoo"), COMMANDS["magnitude-global"]
    other: tuple[Any, ...] = ("--lr", "0.5")
    first = killed(zoo, words, place="magnitude-global")
    second = killed(zoo, words, *other, place="magnitude-global-lr_0.5")
    succeed("prune", zoo, *words[1:], *other)
    assert first.exists() and not second.exists()
    succeed("prune", zoo, *words[1:])
    assert list(Zoo.open(zoo).populations) == ["original", "magnitude-global-lr_0.5", "magnitude-global"]


def test_other_ratios_of_the_series_are_added(originals: Path, tmp_path: Path) -> None:
    zoo, words = copied(originals, tmp_path / "zoo"), COMMANDS["magnitude-global"]
    epochs = killed(zoo, words, place="magnitude-global")
    succeed("prune", zoo, "--ratios", "0.8", "--epochs", 3)
    assert epochs.exists() and ratios_of(Zoo.open(zoo), "magnitude-global") == [0.8]
    succeed("prune", zoo, *words[1:])
    assert not epochs.exists() and ratios_of(Zoo.open(zoo), "magnitude-global") == [0.8, 0.5]


def test_bad_input_leaves_nothing(originals: Path, tmp_path: Path) -> None:
    zoo = copied(originals, tmp_path / "zoo")
    for words in COMMANDS.values():
        assert zoosparse(words[0], zoo, "--batch-size", 0).code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["zoo"]
