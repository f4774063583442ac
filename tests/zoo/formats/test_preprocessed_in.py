"""Preprocessed `.pt` data sets of modelzoos.cc, written as their own code writes them, read without that code."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PosixPath
from typing import Any

import pytest
import torch
from torch import Tensor

import zoosparse_ext as zs
from tests.zoo.formats import ray_trees as trees
from zoosparse_ext.zoo.formats.checkpoint import CheckpointReader

EPOCHS = (1, 2)


class ModelDatasetBase:
    """Stands for the published class, which is not there when the file is read."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


@contextmanager
def published_class() -> Iterator[type]:
    """The class under its published name, for as long as files are written."""
    package, module = types.ModuleType("checkpoints_to_datasets"), types.ModuleType("dataset_base")
    cls = type(
        "ModelDatasetBase", (ModelDatasetBase,), {"__module__": "checkpoints_to_datasets.dataset_base"}
    )
    module.ModelDatasetBase = cls  # type: ignore[attr-defined]
    known = {"checkpoints_to_datasets": package, "checkpoints_to_datasets.dataset_base": module}
    sys.modules.update(known)
    try:
        yield cls
    finally:  # these alone: PyTorch cannot load twice what it loads meanwhile
        for name in known:
            sys.modules.pop(name, None)


@pytest.fixture
def published() -> Iterator[type]:
    with published_class() as cls:
        yield cls


def data_set(cls: type, split: str, models: range, *, vectors: bool = False, **changes: Any) -> Any:
    """One split, with two epochs of each model."""
    states = [trees.state_of(trees.cnn_small(seed=10 * m + e)) for m in models for e in EPOCHS]
    paths = [PosixPath(f"/scratch/zoo/{trees.trial_name(m)}") for m in models for _ in EPOCHS]
    n = len(states)
    stacked = torch.stack([torch.cat([t.flatten() for t in state.values()]) for state in states])
    attributes = {
        "root": [PosixPath("/scratch/zoo")],
        "path_list": paths[:: len(EPOCHS)],
        "layer_lst": [(0, "conv2d"), (3, "conv2d"), (6, "conv2d"), (9, "fc"), (11, "fc")],
        "epoch_lst": list(EPOCHS),
        "mode": "vector" if vectors else "checkpoint",
        "task": "reconstruction",
        "use_bias": True,
        "weight_threshold": float("inf"),
        "property_keys": {"result_keys": ["test_acc"], "config_keys": ["model::nlin"]},
        "train_val_test": split,
        "ds_split": [0.7, 0.15, 0.15],
        "data_in": stacked if vectors else states,
        "data_out": [],
        "labels_in": [f"{path}#_#" for path in paths],
        "labels_out": [],
        "paths": paths,
        "epochs": list(EPOCHS) * len(models),
        "properties": {
            "test_acc": [0.1 * i for i in range(n)],
            "train_acc": [0.2 * i for i in range(n)],
            "training_iteration": list(EPOCHS) * len(models),
            "ggap": [0.1] * n,
            "model::nlin": ["tanh"] * n,
            "optim::lr": [3e-4] * n,
        },
    }
    return cls(**{**attributes, **changes})


def write(path: Path, cls: type, **changes: Any) -> dict[str, Any]:
    sets = {
        "trainset": data_set(cls, "train", range(3), **changes),
        "valset": data_set(cls, "val", range(3, 4), **changes),
        "testset": data_set(cls, "test", range(4, 5), **changes),
    }
    torch.save(sets, path)
    return sets


def rows(sets: Mapping[str, Any], epoch: int) -> Tensor:
    """Weights of all models at an epoch, [N, P]."""
    states = [
        s for data in sets.values() for s, e in zip(data.data_in, data.epochs, strict=True) if e == epoch
    ]
    return torch.stack([torch.cat([t.flatten() for t in state.values()]) for state in states])


def test_all_splits_and_epochs_come_with_their_properties(tmp_path: Path, published: type) -> None:
    sets = write(tmp_path / "dataset_mnist_seed.pt", published)
    sys.modules.pop("checkpoints_to_datasets.dataset_base")
    zoo = zs.import_zoo(tmp_path, epochs="all")
    assert zoo.provenance["import"]["format"] == "preprocessed" and not zoo.provenance["import"]["skipped"]
    assert torch.equal(zoo.population().weights, rows(sets, 2))
    assert torch.equal(zoo.population("original@1").weights, rows(sets, 1))
    models = zoo.models
    assert models["model_id"].tolist() == [trees.trial_name(m) for m in range(5)]
    assert models["published_split"].tolist() == ["train"] * 3 + ["val", "test"]
    assert models["activation"].unique().tolist() == ["tanh"] and models["lr"].unique().tolist() == [3e-4]
    assert models["accuracy"].tolist() == pytest.approx([0.1, 0.3, 0.5, 0.1, 0.1])
    assert "train_acc" not in models and "ggap" in models
    assert zoo.history["test_accuracy"].tolist()[:4] == pytest.approx([0.0, 0.1, 0.2, 0.3])
    images = torch.rand(2, 1, 28, 28)
    expected = trees.run_through(trees.cnn_small(seed=2), images)
    torch.testing.assert_close(zoo.population()(images)[0], expected)


def test_the_file_itself_and_a_chosen_epoch(tmp_path: Path, published: type) -> None:
    sets = write(tmp_path / "any.pt", published)
    zoo = zs.import_zoo(tmp_path / "any.pt", epochs=[1], out=tmp_path / "zoo")
    assert torch.equal(zoo.population().weights, rows(sets, 1))


def test_the_only_file_may_have_the_name_of_what_models_are_trained_on(
    tmp_path: Path, published: type
) -> None:
    sets = write(tmp_path / "dataset.pt", published)
    assert torch.equal(zs.import_zoo(tmp_path).population().weights, rows(sets, 2))
    torch.save({"trainset": torch.zeros(3)}, tmp_path / "dataset.pt")
    with pytest.raises(zs.StoreError, match="has no known format"):
        zs.import_zoo(tmp_path)


def test_vectors_need_to_be_told_what_they_mean(tmp_path: Path, published: type) -> None:
    sets = write(tmp_path / "set.pt", published, vectors=True)
    with pytest.raises(zs.StoreError, match="architecture="):
        zs.import_zoo(tmp_path / "set.pt")
    zoo = zs.import_zoo(tmp_path / "set.pt", architecture=zs.architecture("cnn-s"))
    assert torch.equal(zoo.population().weights[:3], sets["trainset"].data_in[1::2])
    with pytest.raises(zs.StoreError, match=r"its weights are \[2464\]"):
        zs.import_zoo(tmp_path / "set.pt", architecture=zs.architecture("cnn-s", channels=3))


def test_a_model_that_is_listed_twice_is_left_out(tmp_path: Path, published: type) -> None:
    sets = {
        "trainset": data_set(published, "train", range(3)),
        "testset": data_set(published, "test", range(1)),
    }
    torch.save(sets, tmp_path / "set.pt")
    zoo = zs.import_zoo(tmp_path)
    assert len(zoo.population()) == 2
    assert "its epoch 1 more than once" in zoo.provenance["import"]["skipped"][0]["reason"]


def test_a_model_with_nan_is_left_out(tmp_path: Path, published: type) -> None:
    sets = {"trainset": data_set(published, "train", range(3))}
    sets["trainset"].data_in[3]["module_list.0.bias"][0] = float("nan")
    torch.save(sets, tmp_path / "set.pt")
    zoo = zs.import_zoo(tmp_path)
    assert len(zoo.population()) == 2
    assert "NaN" in zoo.provenance["import"]["skipped"][0]["reason"]


@pytest.mark.parametrize(
    "changes", [{"epochs": [1]}, {"paths": None}, {"epochs": ["1"] * 6}, {"data_in": 3}, {"data_in": []}]
)
def test_lists_that_do_not_fit_are_refused(tmp_path: Path, published: type, changes: dict[str, Any]) -> None:
    torch.save({"trainset": data_set(published, "train", range(3), **changes)}, tmp_path / "set.pt")
    with pytest.raises(zs.StoreError, match=r"needs lists of one length, has data_in|lists epoch|no model"):
        zs.import_zoo(tmp_path, format="preprocessed")


class Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


def test_a_payload_does_not_run(tmp_path: Path, published: type) -> None:
    marker = tmp_path / "ran"
    sets = {"trainset": data_set(published, "train", range(2), extra=Payload(marker))}
    torch.save(sets, tmp_path / "set.pt")
    assert len(zs.import_zoo(tmp_path / "set.pt").population()) == 2
    assert not marker.exists()


def test_properties_may_be_missing(tmp_path: Path, published: type) -> None:
    torch.save({"trainset": data_set(published, "train", range(2), properties=None)}, tmp_path / "set.pt")
    with pytest.raises(zs.StoreError, match="activation"):
        zs.import_zoo(tmp_path)
    assert len(zs.import_zoo(tmp_path, activation="tanh").population()) == 2


def test_archives_of_many_records_are_read(tmp_path: Path) -> None:
    state = {f"{i}": torch.full((1,), float(i)) for i in range(66_000)}  # beyond 16 bits: zip64
    torch.save(state, tmp_path / "many.pt")
    read = CheckpointReader(tmp_path).read(tmp_path / "many.pt")
    assert len(read) == 66_000 and float(read["65999"]) == 65_999
