"""The models of a study: every point of the grid, in groups that share a matrix."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from zoosparse_ext.data import Dataset
from zoosparse_ext.study.config import ZooConfig, recipe
from zoosparse_ext.study.grid import model_groups


@pytest.fixture
def data() -> Dataset:
    labels = torch.arange(60) % 10
    return Dataset.from_tensors(torch.randint(0, 255, (60, 1, 28, 28), dtype=torch.uint8), labels)


def all_models(config: ZooConfig, data: Dataset) -> pd.DataFrame:
    return pd.concat([group.models for group in model_groups(config, data)], ignore_index=True)


def test_a_seed_zoo_is_one_group(data: Dataset) -> None:
    (group,) = model_groups(ZooConfig(seeds=3, first_seed=5), data)
    assert list(group.models.model_id) == ["cnn-s-tanh-0005", "cnn-s-tanh-0006", "cnn-s-tanh-0007"]
    assert list(group.models.seed) == [5, 6, 7]
    assert group.architecture.n_parameters == 2464


def test_every_point_of_a_published_grid_is_there_once(data: Dataset) -> None:
    models = all_models(recipe("mnist-hyp-10-rand").zoo, data)
    points = ["activation", "init", "optimizer", "lr", "weight_decay", "dropout"]
    assert len(models) == 6 * 6 * 2 * 2 * 2 * 2 * 10
    assert set(models.groupby(points).size()) == {10}
    assert models.model_id.is_unique
    assert models.seed.is_unique


def test_shared_seeds_are_those_of_every_point(data: Dataset) -> None:
    models = all_models(ZooConfig(seeds=2, vary={"lr": [0.1, 0.2, 0.3]}), data)
    assert list(models.seed) == [1, 2] * 3
    assert models.model_id.is_unique


def test_a_group_shares_architecture_and_optimizer(data: Dataset) -> None:
    config = ZooConfig(seeds=1, vary={"optimizer": ["adam", "sgd"], "dropout": [0.0, 0.5], "lr": [0.1, 0.2]})
    groups = model_groups(config, data)
    assert [(group.optimizer.kind, len(group.models)) for group in groups] == [
        ("adam", 2),
        ("adam", 2),
        ("sgd", 2),
        ("sgd", 2),
    ]
    assert [set(group.models.dropout) for group in groups] == [{0.0}, {0.5}, {0.0}, {0.5}]
    assert [group.models.lr.tolist() for group in groups] == [[0.1, 0.2]] * 4


def test_the_network_fits_the_images() -> None:
    images = torch.randint(0, 255, (60, 3, 32, 32), dtype=torch.uint8)
    (group,) = model_groups(
        ZooConfig(architecture="cnn-l", seeds=1), Dataset.from_tensors(images, torch.arange(60) % 10)
    )
    assert group.architecture.n_parameters == 10853
    wide = Dataset.from_tensors(torch.rand(60, 5, 7), torch.arange(60) % 10)
    (group,) = model_groups(ZooConfig(architecture="mlp", seeds=1), wide)
    assert group.architecture.input_shape == (1, 5, 7)
