"""Twins are trained by the optimizer of their source: its kind, its values per model; or this is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import zoosparse_ext as zs
from tests.study.test_run import Stages, run
from zoosparse_ext.errors import InputError
from zoosparse_ext.population.optimizers import Optimizer
from zoosparse_ext.study.config import make_config
from zoosparse_ext.study.grid import model_groups
from zoosparse_ext.study.inheritance import SourceOptimizer
from zoosparse_ext.study.naming import magnitude_series
from zoosparse_ext.study.runner import LocalRunner
from zoosparse_ext.study.stages import (
    add_control_twins,
    add_magnitude_twins,
    add_matched_twins,
    add_variational_twins,
    train_zoo,
)
from zoosparse_ext.zoo import Zoo

GRID: dict[str, Any] = {
    "seeds": 1,
    "epochs": 1,
    "optimizer": {"momentum": 0.9},
    "vary": {"optimizer": ["adam", "sgd"], "lr": [0.01, 0.001], "weight_decay": [0.001, 0.0]},
}


@pytest.fixture(scope="module")
def data() -> zs.Dataset:
    return zs.load_dataset("digits").limit(40)


@pytest.fixture(scope="module")
def zoo(data: zs.Dataset) -> Zoo:
    return train_zoo(data, model_groups(make_config({"zoo": GRID}).zoo, data), epochs=1)


def of_model(row: pd.Series) -> Optimizer:
    if row["optimizer"] == "sgd":
        return zs.SGD(lr=row["lr"], weight_decay=row["weight_decay"], momentum=0.9)
    return zs.Adam(lr=row["lr"], weight_decay=row["weight_decay"])


def one_by_one(zoo: Zoo, data: zs.Dataset) -> dict[str, torch.Tensor]:
    """Weights of twins of every model, each made alone with its own optimizer."""
    weights = {}
    for group in zoo.populations["original"]:
        for row, id in enumerate(group.ids):
            optimizer = of_model(zoo.models.set_index("model_id").loc[id])
            twins = zs.magnitude_prune(group[[row]], [0.5, 0.8], data=data, epochs=2, optimizer=optimizer)
            weights |= dict(zip(twins.ids, twins.weights, strict=True))
    return weights


@pytest.mark.parametrize("chunk", [256, 1, 3])
def test_every_model_keeps_its_own_optimizer(zoo: Zoo, data: zs.Dataset, chunk: int) -> None:
    assert len(zoo.populations["original"]) == 2  # one matrix for each kind
    whole = add_magnitude_twins(
        zoo, data, [0.5, 0.8], epochs=2, optimizer=SourceOptimizer(), runner=LocalRunner(chunk)
    )
    expected = one_by_one(zoo, data)
    for twins in whole.populations["magnitude-global"]:
        for id, row in zip(twins.ids, twins.weights, strict=True):
            assert torch.equal(row, expected.pop(id))
    assert not expected


def test_one_matrix_may_have_several_kinds(zoo: Zoo, data: zs.Dataset) -> None:
    """As of an imported zoo: rows and history come in the order of the models."""
    adam, sgd = zoo.populations["original"]
    order = [4, 0, 5, 1, 2, 6, 3, 7]
    mixed = zs.Population(
        torch.cat([adam.weights, sgd.weights])[order],
        adam.architecture,
        pd.concat([adam.models, sgd.models], ignore_index=True).iloc[order].reset_index(drop=True),
    )
    imported = Zoo({"original": [mixed]}, zoo.models, labels=zoo.labels, dataset=zoo.dataset)
    source: dict[str, Any] = {"epochs": 2, "optimizer": SourceOptimizer()}
    whole = add_magnitude_twins(imported, data, [0.5, 0.8], runner=LocalRunner(3), **source)
    (twins,) = whole.populations["magnitude-global"]
    assert twins.models["source_id"].tolist() == mixed.ids * 2
    expected = one_by_one(zoo, data)
    for id, row in zip(twins.ids, twins.weights, strict=True):
        assert torch.equal(row, expected[id])
    table = whole.twins
    assert table["twin_id"].tolist() == twins.ids * 3  # epochs 0, 1, 2
    assert table["epoch"].tolist() == [epoch for epoch in range(3) for _ in twins.ids]
    last = table[table["epoch"] == 2]
    assert torch.equal(torch.tensor(last["sparsity"].tolist(), dtype=torch.float64), twins.sparsity())
    kept = add_variational_twins(whole, data, keep=(1,), **source)
    kept = add_control_twins(kept, data, keep=(1,), **source)
    matched = add_matched_twins(kept, data, epoch=1, **{**source, "epochs": 1})
    (earlier,), (pruned,) = (
        matched.populations[name] for name in ("variational@1", "magnitude-matched-global-epoch_1")
    )
    assert earlier.models["source_id"].tolist() == mixed.ids
    assert pruned.models["matched"].tolist() == earlier.ids
    assert torch.equal(pruned.sparsity(), earlier.sparsity())


def test_words_of_optimizers(zoo: Zoo) -> None:
    """Own values are called so; equal ones by their number, as if they had been given."""
    texts = SourceOptimizer().texts(zoo.models)
    assert (texts["optimizer"], texts["lr"], texts["weight_decay"]) == (
        *("own optimizer", "own lr", "own weight decay"),
    )
    assert SourceOptimizer(lr_factor=10).texts(zoo.models)["lr"] == "10 times own lr"
    assert SourceOptimizer(lr=0.5, weight_decay=0.0).texts(zoo.models)["lr"] == "lr 0.5"
    uniform = pd.DataFrame({"model_id": ["a", "b"], "optimizer": "adam", "lr": 3e-4, "weight_decay": 0.0})
    alike = Zoo({}, uniform.assign(architecture="x", seed=1))
    given = magnitude_series(alike, epochs=1, optimizer=zs.Adam(lr=3e-3))[1]
    assert magnitude_series(alike, epochs=1, optimizer=SourceOptimizer(lr_factor=10))[1] == given


def models(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"model_id": ["a", "b"], **columns})


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (
            models(optimizer=["adam", None], lr=0.1),
            "does not say the optimizer that model 'b' was trained with",
        ),
        (models(optimizer="adam", lr=[0.1, None]), "does not say the learning rate that model 'b'"),
        (models(lr=0.1), "does not say the optimizer that model 'a'"),
        (models(optimizer=["lamb", "adam"], lr=0.1), "model 'a' was trained by 'lamb', known are sgd, adam"),
        (models(optimizer="adam", lr=["fast", 0.1]), "model 'a' has lr fast, expected a number"),
        (models(optimizer="adam", lr=[0.1, -0.1]), "model 'b' has lr -0.1, expected a number, 0 or more"),
    ],
)
def test_models_that_do_not_say_are_named(table: pd.DataFrame, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        SourceOptimizer().of(table)
    assert "--optimizer" in str(caught.value)


def test_a_zoo_that_says_nothing_is_trained_by_adam(
    zoo: Zoo, data: zs.Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    silent = zoo.populations["original"][0][:2]
    silent.models = silent.models[["model_id", "seed", "architecture"]]
    imported = Zoo({"original": [silent]}, silent.models, labels=zoo.labels, dataset=zoo.dataset)
    twins = add_magnitude_twins(imported, data, [0.5], epochs=1, optimizer=SourceOptimizer())
    told = "does not say with which optimizer its models were trained: twins are trained by Adam at learning rate 0.001"
    assert caplog.text.count(told) == 1
    expected = add_magnitude_twins(imported, data, [0.5], epochs=1, optimizer=zs.Adam(lr=1e-3))
    assert caplog.text.count(told) == 1
    assert torch.equal(*(z.population("magnitude-global").weights for z in (twins, expected)))


def test_moments_of_the_source_go_on(tmp_path: Path) -> None:
    """A study that asks for them keeps them with its models, through the disk."""
    settings = make_config(
        {
            "data": {"limit": 40},
            "zoo": {"seeds": 2, "epochs": 2, "optimizer": {"lr": 0.01}},
            "magnitude": {"ratios": [0.5], "epochs": 1, "scopes": ["global"], "optimizer_state": "source"},
            "variational": False,
        }
    )
    made = run(settings, tmp_path, Stages())
    original = made.population()
    assert original.optimizer_state is not None
    data = zs.load_dataset("digits").limit(40)
    options: dict[str, Any] = {"data": data, "epochs": 1, "optimizer": zs.Adam(lr=0.01)}
    going_on = zs.magnitude_prune(original, [0.5], optimizer_state="source", **options)
    assert torch.equal(made.population("magnitude-global").weights, going_on.weights)
    assert not torch.equal(going_on.weights, zs.magnitude_prune(original, [0.5], **options).weights)
    assert list(made.populations) == ["original", "control", "magnitude-global"]
