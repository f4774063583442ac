"""`zs.Zoo.create`: a zoo on disk out of populations in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import zoosparse_ext as zs
from tests.population import tiny

DATA = zs.load_dataset("digits").limit(40)


def trained(activation: str = "tanh", **options: Any) -> zs.Population:
    population = zs.Population.initialise(zs.architecture("cnn-s", activation=activation), seeds=range(3))
    zs.train(population, DATA, epochs=2, **{"optimizer": zs.SGD(lr=[0.1, 0.2, 0.3], momentum=0.9), **options})
    return population


def test_everything_that_is_known_is_there(tmp_path: Path) -> None:
    population = trained(loss="mse", keep=(0, 1), keep_optimizer_state=True)
    before = population.models.copy()
    zoo = zs.Zoo.create(tmp_path / "zoo", population, DATA, provenance={"note": "mine"})
    assert zoo.folder == (tmp_path / "zoo").resolve() and len(zs.Zoo.open(zoo.folder).models) == 3
    stored = zoo.population()
    assert torch.equal(stored.weights, population.weights)
    assert torch.equal(stored.predictions, zs.evaluate(population, DATA).predictions)
    assert stored.optimizer_state is not None
    assert torch.equal(zoo.population("original@1").weights, population.kept[1].weights)
    assert list(zoo.populations) == ["original", "original@0", "original@1"]
    assert zoo.models["lr"].tolist() == [0.1, 0.2, 0.3]
    same = zoo.models[["optimizer", "momentum", "weight_decay", "batch_size", "epochs"]].drop_duplicates()
    assert same.to_numpy().tolist() == [["sgd", 0.9, 0.0, 10, 2]]
    np.testing.assert_array_equal(zoo.models["accuracy"], zs.evaluate(population, DATA).accuracy)
    np.testing.assert_array_equal(zoo.models["loss"], zs.evaluate(population, DATA).loss)
    pd.testing.assert_frame_equal(zoo.history, population.history, check_dtype=False)
    assert zoo.labels is not None and torch.equal(zoo.labels, DATA.test.labels)
    assert zoo.dataset == DATA.describe()
    assert zoo.provenance["task"] == {"loss": "mse", "crop": 0, "flip": False}
    assert zoo.provenance["training"]["optimizer"]["lr"] == [0.1, 0.2, 0.3]
    assert zoo.provenance["note"] == "mine" and "torch" in zoo.provenance
    pd.testing.assert_frame_equal(population.models, before)  # the population stays as it is


def test_models_that_were_trained_elsewhere_are_evaluated(tmp_path: Path) -> None:
    data = zs.Dataset.from_tensors(torch.rand(36, *tiny.SHAPE), torch.arange(36) % tiny.CLASSES)
    population = tiny.population()
    zoo = zs.Zoo.create(tmp_path, population, data)  # an empty folder is free
    assert torch.equal(zoo.population().predictions, zs.evaluate(population, data).predictions)
    assert len(zoo.history) == 0 and "task" not in zoo.provenance and "optimizer" not in zoo.models
    assert population.predictions is None and "accuracy" not in population.models


def test_several_architectures_and_their_twins(tmp_path: Path) -> None:
    groups = [trained("tanh"), trained("relu")]
    pruned = [zs.magnitude_prune(group, [0.5, 0.9], data=DATA, epochs=1) for group in groups]
    dropped = [zs.variational_dropout(group, DATA, epochs=2, keep=(1,)) for group in groups]
    zoo = zs.Zoo.create(tmp_path / "zoo", [*groups, *pruned, *dropped], DATA)
    assert list(zoo.populations) == ["original", "magnitude-global", "variational", "variational@1"]
    assert [len(group) for group in zoo.populations["magnitude-global"]] == [6, 6]
    assert torch.equal(zoo.populations["variational"][1].log_sigma2, dropped[1].log_sigma2)
    assert set(zoo.twins["source_id"]) == set(zoo.models["model_id"])
    assert zoo.twins.groupby("method")["twin_id"].nunique().to_dict() == {"magnitude": 12, "variational": 6}
    assert len(zoo.provenance["training"]) == 2


def test_populations_trained_for_different_tasks_leave_the_task_open(tmp_path: Path) -> None:
    zoo = zs.Zoo.create(tmp_path / "zoo", [trained("tanh"), trained("relu", loss="mse")], DATA)
    assert "task" not in zoo.provenance


def test_the_history_that_is_given_counts(tmp_path: Path) -> None:
    population = trained()
    assert population.history is not None
    first = population.history[population.history.epoch < 2]
    zoo = zs.Zoo.create(tmp_path / "zoo", population, DATA, history=first)
    assert zoo.history["epoch"].max() == 1


def test_batch_norm_and_modules_that_are_no_chain(tmp_path: Path) -> None:
    data = zs.Dataset.from_tensors(torch.rand(36, *tiny.SHAPE), torch.arange(36) % tiny.CLASSES)
    population = tiny.population(tiny.batch_normed)
    zs.train(population, data, epochs=1)
    zoo = zs.Zoo.create(tmp_path / "zoo", population, data)
    again = zoo.population().with_module(tiny.batch_normed())
    assert torch.equal(zs.evaluate(again, data).predictions, again.predictions)
    assert again.counts is not None and torch.equal(again.counts, population.counts)


class TestRefused:
    def test_a_folder_that_is_there(self, tmp_path: Path) -> None:
        population = trained()
        zs.Zoo.create(tmp_path / "zoo", population, DATA)
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "notes.txt").write_text("mine")
        (tmp_path / "file").write_text("mine")
        for name in ("zoo", "other", "file"):
            with pytest.raises(zs.StoreError):
                zs.Zoo.create(tmp_path / name, population, DATA)
        assert (tmp_path / "other" / "notes.txt").read_text() == "mine"

    @pytest.mark.parametrize(
        "change",
        [
            lambda p: p.models.update(pd.DataFrame({"accuracy": [2.0, 2.0, 2.0]})),
            lambda p: p.history.update(pd.DataFrame({"model_id": ["unknown"]})),
        ],
        ids=["accuracy of other data", "history of others"],
    )
    def test_tables_that_do_not_fit(self, change: Callable[[zs.Population], None], tmp_path: Path) -> None:
        population = trained()
        population.models["accuracy"] = zs.evaluate(population, DATA).accuracy.numpy()
        change(population)
        with pytest.raises(zs.InputError):
            zs.Zoo.create(tmp_path / "zoo", population, DATA)
        assert not (tmp_path / "zoo").exists()

    def test_populations_that_do_not_fit(self, tmp_path: Path) -> None:
        population = trained()
        twins = zs.magnitude_prune(population, 0.5, data=DATA)
        no_history = zs.magnitude_prune(population, 0.5, data=DATA)
        no_history.history = None
        of_others = zs.magnitude_prune(trained("relu"), 0.5, data=DATA)
        for given in (
            [],
            "zoo",
            [twins],
            [population, no_history],
            [population, of_others],
            population.weights,
        ):
            with pytest.raises(zs.InputError):
                zs.Zoo.create(tmp_path / "zoo", given, DATA)  # type: ignore[arg-type]
        with pytest.raises(zs.StoreError):  # one id in two populations
            zs.Zoo.create(tmp_path / "zoo", [population, population.clone()], DATA)
        assert not (tmp_path / "zoo").exists()

    def test_data_that_do_not_fit(self, tmp_path: Path) -> None:
        population = trained()
        small = zs.Dataset.from_tensors(torch.rand(36, 1, 5, 5), torch.arange(36) % 4)
        for data in (small, DATA.test, "digits", None):
            with pytest.raises(zs.InputError):
                zs.Zoo.create(tmp_path / "zoo", population, data)  # type: ignore[arg-type]

    def test_a_module_that_is_not_at_hand(self, tmp_path: Path) -> None:
        class Own(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.head = nn.Linear(64, tiny.CLASSES)

            def forward(self, images: torch.Tensor) -> torch.Tensor:
                return self.head(images.flatten(1)).cumsum(1)

        data = zs.Dataset.from_tensors(torch.rand(36, *tiny.SHAPE), torch.arange(36) % tiny.CLASSES)
        population = zs.Population.from_modules([Own()], input_shape=tiny.SHAPE)
        path = zs.save_population(population, tmp_path / "file")
        with pytest.raises(zs.InputError) as error:
            zs.Zoo.create(tmp_path / "zoo", zs.open_population(path), data)
        assert "with_module" in str(error.value)
