"""Bad input: exit code 2, a message that names the thing, and nothing written or lost."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.cli.command import Result, listing, succeed, zoosparse
from tests.zoo.failing_disk import Disk
from zoosparse_ext.cli import sparsify
from zoosparse_ext.zoo import Zoo

QUICK = ("--models", 2, "--limit", 40, "--epochs", 1)


def refused(folder: Path, *words: object) -> Result:
    """A command that must end with exit code 2 and leave everything below `folder` as it was."""
    before = listing(folder)
    result = zoosparse(*words)
    assert result.code == 2, result.err
    assert listing(folder) == before
    return result


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--ratios", "1"], "[0, 1), got 1.0"),
        (["--ratios", "0.5,-0.1"], "[0, 1), got -0.1"),
        (["--ratios", "nan"], "[0, 1), got nan"),
        (["--ratios", "0.5:1.5:0.5"], "[0, 1), got 1.0"),
        (["--ratios", ","], "ratios ',' name no ratio: write 0.5,0.8,0.9 or 0.1:0.9:0.1"),
        (["--ratios", ""], "ratios '' name no ratio: write 0.5,0.8,0.9 or 0.1:0.9:0.1"),
        (["--ratios", "0.9:0.1:0.1"], "no step of 0.1 leads from 0.9 to 0.1; write"),
        (["--ratios", "0.1:0.9:-0.1"], "no step of -0.1 leads from 0.1 to 0.9; write"),
        (["--ratios", "0.1:0.9:1e-9"], "are more than 1,000: ask for fewer"),
        (["--ratios", "0.1:0.9:5e-324"], "write 0.5,0.8,0.9"),
        (["--ratios", ",".join(str(i / 1001) for i in range(1001))], "are more than 1,000: ask for fewer"),
        (["--ratios", "0.1:inf:0.1"], "write 0.5,0.8,0.9"),
        (["--ratios", "0.5", "--matched"], "--matched that they become as sparse as others; leave out one"),
        (["--ratios", "half"], "ratios 'half': write 0.5,0.8,0.9 or 0.1:0.9:0.1"),
        (["--ratios", "0.5,0.8,0.50"], "0.5 stands there more than once"),
        (["--ratios", "0.5", "--to", "variational"], "add --matched, or leave it out"),
        (["--ratios", "0.1:0.9:0"], "write 0.5,0.8,0.9 or 0.1:0.9:0.1"),
        (["--scope", "globe"], "'globe'"),
        (["--scope", "globe", "--matched"], "'globe'"),
        (["--schedule", "cubical"], "'cubical'"),
        (["--optimizer", "adamm"], "unknown optimizer 'adamm'; known: sgd, adam"),
        (["--lr", "-1"], "lr"),
        (["--epochs", "-1"], "epochs must be 0 or more, got -1"),
        (["--batch-size", "0"], "batch_size must be 1 or more, got 0"),
        (["--data", "digitz"], "unknown data set 'digitz'; known: digits, idx:DIR"),
        (["--data", "idx:/nowhere"], "/nowhere"),
    ],
)
def test_prune(zoo: Path, words: list[str], message: str) -> None:
    assert message in refused(zoo.parent, "prune", zoo, *words).message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--preset", "molchanow"], "'molchanow'"),
        (["--threshold", "nan"], "threshold: input should be a finite number, got nan"),
        (["--epochs", "-1"], "epochs must be 0 or more, got -1"),
        (["--optimizer", "adamm"], "unknown optimizer 'adamm'"),
    ],
)
def test_vardrop(zoo: Path, words: list[str], message: str) -> None:
    assert message in refused(zoo.parent, "vardrop", zoo, *words).message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--arch", "cnn-x"], "zoo.architecture: unknown 'cnn-x'; did you mean 'cnn-"),
        (["--arch", "cnn-l"], "cnn-l"),  # wants images of 32×32
        (["--activation", "relo"], "zoo.activation: unknown 'relo'; did you mean 'relu'?"),
        (["--init", "kaiming"], "zoo.init: unknown 'kaiming'; did you mean 'kaiming_"),
        (["--optimizer", "adamm"], "zoo.optimizer.name: unknown 'adamm'; did you mean 'adam"),
        (["--dropout", "1"], "zoo.dropout must be "),
        (["--dropout", "-0.1"], "zoo.dropout must be "),
        (["--models", "0"], "zoo.seeds must be "),
        (["--epochs", "-1"], "zoo.epochs must be "),
        (["--batch-size", "0"], "zoo.batch_size must be "),
        (["--lr", "-1"], "zoo.optimizer.lr must be "),
        (["--lr", "nan"], "zoo.optimizer.lr: "),
        (["--momentum", "1"], "zoo.optimizer.momentum must be "),
        (["--order", "any"], "zoo.order: "),
        (["--seed", "-1"], "seed must be "),
        (["--limit", "0"], "limit"),
        (["--data", "digitz"], "unknown data set 'digitz'"),
        (["--data", "npz:nowhere.npz"], "nowhere.npz"),
        (["--data", "idx:nowhere"], "nowhere"),
    ],
)
def test_train(tmp_path: Path, words: list[str], message: str) -> None:
    result = refused(tmp_path, "train", "--out", tmp_path / "zoos" / "zoo", *words)
    assert message in result.message
    assert result.out == ""


def images(count: int = 12, side: int = 28, **changes: Any) -> dict[str, np.ndarray]:
    """Arrays of a good npz file of three classes, with changes."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side), dtype=np.uint8)
    labels = np.arange(count) % 3
    return {"x_train": pixels, "y_train": labels, "x_test": pixels, "y_test": labels, **changes}


def test_a_good_npz_file_is_trained_on(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", **images())
    words = ("--data", f"npz:{tmp_path / 'data.npz'}", "--models", 1, "--epochs", 1)
    succeed("train", "--out", tmp_path / "zoo", *words)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (images(y_train=np.full(12, -1)), "label -1; classes are counted from 0"),
        (images(y_train=np.arange(11)), "labels must be integers [12], one per image"),
        (images(0), "there are no images"),
        (images(side=8), "8"),
        (
            images(x_train=np.zeros((12, 3, 28, 28), np.uint8)),
            "images of test are [1, 28, 28], those of train [3, 28, 28]",
        ),
        (images(y_test=np.full(12, 300)), "test: label 300 is outside the classes of train (0 … 2)"),
        (images(x_train=np.full((12, 28, 28), np.nan, np.float32)), "NaN or infinity"),
        ({"x_train": np.zeros((12, 28, 28), np.uint8)}, "y_train"),
    ],
    ids=["negative label", "too few labels", "empty", "size", "channels", "label outside", "NaN", "array"],
)
def test_images_that_do_not_fit(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    file = tmp_path / "data.npz"
    np.savez(file, **arrays)
    result = refused(tmp_path, "train", "--out", tmp_path / "zoo", "--data", f"npz:{file}", "--models", 1)
    assert message in result.message


def test_a_corrupt_npz_file(tmp_path: Path) -> None:
    file = tmp_path / "data.npz"
    np.savez(file, **images())
    file.write_bytes(file.read_bytes()[:-200])
    result = refused(tmp_path, "train", "--out", tmp_path / "zoo", "--data", f"npz:{file}")
    assert str(file) in result.message


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-images-idx3-ubyte.gz"])
def test_a_corrupt_idx_file(tmp_path: Path, name: str) -> None:
    whole = bytes([0, 0, 8, 3, 0, 0, 0, 12, 0, 0, 0, 28, 0, 0, 0, 28]) + bytes(12 * 28 * 28)
    content = gzip.compress(whole) if name.endswith("gz") else whole
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).write_bytes(content[:-20])
    result = refused(tmp_path, "train", "--out", tmp_path / "zoo", "--data", f"idx:{tmp_path / 'data'}")
    assert str(tmp_path / "data") in result.message


def test_other_images_than_the_zoo_was_trained_on(zoo: Path) -> None:
    np.savez(zoo.parent / "data.npz", **images())
    for words in (["prune", zoo], ["vardrop", zoo], ["evaluate", zoo]):
        result = refused(zoo.parent, *words, "--data", f"npz:{zoo.parent / 'data.npz'}")
        assert "are not those the zoo was trained on" in result.message


def test_a_weight_that_is_nan(zoo: Path) -> None:
    stored = Zoo.open(zoo)
    stored.population().weights[1, 5] = torch.nan
    stored.with_population("original", [stored.population()]).save(zoo)
    for command in ("prune", "vardrop"):
        message = refused(zoo.parent, command, zoo, "--epochs", 0).message
        assert "NaN" in message and "cnn-s-tanh-0002" in message and "module_list.0.weight" in message
    words = ("--ratios", "0.7", "--epochs", 1, "--allow-nan")
    succeed("prune", zoo, *words, "--replace")
    assert (
        Zoo.open(zoo).population("magnitude-global").weights[-2, 5].isnan()
    )  # of the last three, the second


def test_a_folder_that_holds_another_zoo(zoo: Path, tmp_path: Path) -> None:
    assert f"{zoo} already holds a zoo" in refused(zoo.parent, "train", "--out", zoo, *QUICK).message
    succeed("export", zoo, "--format", "npz", "--out", tmp_path / "npz")
    assert str(zoo) in refused(zoo.parent, "import", tmp_path / "npz", "--out", zoo).message
    assert str(zoo) in refused(zoo.parent, "export", zoo, "--format", "npz", "--out", zoo).message


def test_a_folder_that_holds_something_else(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("precious")
    refused(tmp_path, "train", "--out", tmp_path / "notes", *QUICK)
    refused(tmp_path, "train", "--out", tmp_path / "notes" / "thesis.txt", *QUICK)


@pytest.mark.parametrize("command", ["prune", "vardrop", "evaluate", "analyze", "report", "info", "export"])
def test_a_folder_without_a_zoo(tmp_path: Path, command: str) -> None:
    words = ("--out", tmp_path / "out") if command == "export" else ()
    assert str(tmp_path / "zoo") in refused(tmp_path, command, tmp_path / "zoo", *words).message


def test_a_device_that_is_not_there(zoo: Path) -> None:
    assert "no such device" in refused(zoo.parent, "evaluate", zoo, "--device", "gpu").message
    for command in ("evaluate", "prune", "vardrop"):
        assert "CUDA devices" in refused(zoo.parent, command, zoo, "--device", "cuda:99").message


@pytest.mark.parametrize("command", [["train"], ["demo"], ["study", "demo"]])
def test_a_new_zoo_on_a_device_that_is_not_there(tmp_path: Path, command: list[str]) -> None:
    refusal = refused(tmp_path, *command, "--out", tmp_path / "new", "--device", "cuda:99")
    assert "CUDA devices" in refusal.message


def test_tuning_takes_no_zoo(zoo: Path) -> None:
    assert "--tune" in refused(zoo.parent, "info", zoo, "--tune").message


@pytest.mark.parametrize("damage", ["truncated", "altered", "missing"])
def test_a_damaged_shard(zoo: Path, damage: str) -> None:
    shard = max(zoo.glob("shards/rows-*"), key=lambda path: path.stat().st_size)
    content = shard.read_bytes()
    if damage == "truncated":
        shard.write_bytes(content[:-100])
    elif damage == "altered":
        shard.write_bytes(content[:-4] + bytes(4 * [255]))
    else:
        shard.unlink()
    assert shard.name in refused(zoo.parent, "evaluate", zoo).message


@pytest.mark.parametrize("table", ["models", "history", "twins"])
def test_a_missing_table(zoo: Path, table: str) -> None:
    (path,) = zoo.glob(f"tables/{table}-*")
    path.unlink()
    for words in (["info", zoo], ["analyze", zoo], ["prune", zoo]):
        assert path.name in refused(zoo.parent, *words).message


def test_a_manifest_of_a_newer_version(zoo: Path) -> None:
    manifest = json.loads((zoo / "manifest.json").read_text())
    (zoo / "manifest.json").write_text(json.dumps(manifest | {"version": 99}))
    message = refused(zoo.parent, "prune", zoo, "--epochs", 0).message
    assert "version 99" in message and "upgrade zoosparse-ext" in message


def test_no_variational_twins_to_match(tmp_path: Path) -> None:
    succeed("train", "--out", tmp_path / "zoo", *QUICK)
    assert "zoosparse vardrop" in refused(tmp_path, "prune", tmp_path / "zoo", "--matched").message


def test_a_full_disk(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("prune", zoo, "--scope", "layer", "--ratios", "0.5", "--epochs", 0)
    with monkeypatch.context() as patch:
        Disk(at=6, full=True).attach(patch)
        result = zoosparse(*words)
    assert result.code == 2
    assert "the disk is full" in result.message or "No space left" in result.message
    assert "magnitude-layer" not in Zoo.open(zoo).populations
    succeed(*words)
    assert "magnitude-layer" in Zoo.open(zoo).populations


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_no_memory_left(zoo: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*words: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(sparsify, "add_magnitude_twins", fail)
    assert "there is not enough memory" in refused(zoo.parent, "prune", zoo).message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "there is no recipe 'nowhere'"),
        (["mnist-sed"], "did you mean mnist-seed?"),
        (["nowhere.toml"], "nowhere.toml: cannot be read"),
        ([], "name a TOML file or a recipe"),
        (["demo", "--set", "zoo.seeds"], "write key=value"),
        (["demo", "--set", "zoo.seed=4"], "zoo.seed is no key of a study; did you mean zoo.seeds?"),
        (["demo", "--set", "title.text=4"], "title is not a section"),
        (["demo", "--set", "magnitude.ratios=[1.0]"], "[0, 1), got 1.0"),
        (["demo", "--set", "data.spec=idx:nowhere"], "nowhere"),
        (["--init", "mnist-sed"], "did you mean mnist-seed?"),
    ],
)
def test_study(tmp_path: Path, words: list[str], message: str) -> None:
    assert message in refused(tmp_path, "study", *words, "--out", tmp_path / "deep" / "study").message


def test_import_and_export(zoo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "nowhere" in refused(tmp_path, "import", tmp_path / "nowhere", "--out", out).message
    assert "'pickles'" in refused(tmp_path, "export", zoo, "--format", "pickles", "--out", out).message
    assert "'pickles'" in refused(tmp_path, "import", zoo, "--format", "pickles", "--out", out).message
    assert "--epochs 'first'" in refused(tmp_path, "import", zoo, "--epochs", "first", "--out", out).message
