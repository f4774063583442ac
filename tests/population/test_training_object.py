"""One frozen object holds the options of a training; keywords are its shorthand."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any

import pytest
import torch

import zoosparse_ext as zs
from tests.population import tiny
from zoosparse_ext.errors import InputError
from zoosparse_ext.population.training import EXECUTION, TRAINING, Training

FUNCTIONS = (zs.train, zs.magnitude_prune, zs.variational_dropout, zs.continue_training)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_signatures_name_every_option(function: Any) -> None:
    shown = inspect.signature(function).parameters
    assert {"training", *TRAINING, *EXECUTION} <= shown.keys() and "options" not in shown


def test_an_object_and_its_keywords_train_the_same(data: zs.Dataset) -> None:
    def trained(*training: Training, **options: Any) -> torch.Tensor:
        population = tiny.population()
        zs.train(population, data, *training, **options)
        return population.weights

    options: dict[str, Any] = {"epochs": 2, "optimizer": zs.SGD(lr=0.1), "seed": 3, "batch_size": 4}
    by_keywords = trained(**options)
    assert torch.equal(trained(zs.Training(**options)), by_keywords)
    assert torch.equal(
        trained(zs.Training(epochs=5, optimizer=zs.SGD(lr=0.1)), epochs=2, seed=3, batch_size=4), by_keywords
    )


@pytest.mark.parametrize("function", FUNCTIONS[1:], ids=lambda function: function.__name__)
def test_methods_take_the_object(function: Any, data: zs.Dataset) -> None:
    training = zs.Training(epochs=1, optimizer=zs.Adam(lr=1e-2), order="shared")
    by_object = function(tiny.population(), data=data, training=training)
    by_keywords = function(tiny.population(), data=data, epochs=1, optimizer=zs.Adam(lr=1e-2), order="shared")
    assert torch.equal(by_object.weights, by_keywords.weights)


def test_only_what_differs_is_shown() -> None:
    assert repr(zs.Training(epochs=3, loss="mse")) == "Training(epochs=3, loss='mse')"
    assert zs.Training(epochs=3).but(epochs=4, seed=1) == zs.Training(epochs=4, seed=1)


def test_every_option_has_a_text() -> None:
    texts = zs.Training(epochs=3).texts()
    flat = {"optimizer": "lr", "augment": "crop"}
    assert all(flat.get(item.name, item.name) in texts for item in fields(Training))


def test_a_key_holds_every_option_that_is_not_usual() -> None:
    usual = zs.Training(epochs=3)
    for changes in (
        {"epochs": 4},
        {"batch_size": 3},
        {"optimizer": zs.SGD()},
        {"lr_schedule": "cosine"},
        {"loss": "mse"},
        {"augment": zs.Augment(1)},
        {"order": "shared"},
        {"seed": 1},
    ):
        assert usual.but(**changes).key(("test",)) != usual.key(("test",))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, InputError, "train: epochs are missing"),
        (
            {"epoch": 3},
            TypeError,
            r"train\(\) got an unexpected keyword argument 'epoch'; did you mean 'epochs'",
        ),
        ({"epochs": 1, "batch_size": 0}, InputError, "batch_size must be 1 or more, got 0"),
        ({"epochs": 1.5}, InputError, "epochs: got float 1.5, expected a whole number, 0 or more"),
        ({"epochs": 1, "drop_last": 1}, InputError, "drop_last: got int 1, expected True or False"),
        ({"epochs": 1, "augment": 3}, InputError, "augment: got int 3, expected zs.Augment"),
        ({"training": {"epochs": 3}}, InputError, r"training: got dict, expected zs.Training"),
        ({"epochs": 1, "engine": "fast"}, InputError, "engine must be"),
    ],
)
def test_errors(options: dict[str, Any], error: type[Exception], message: str, data: zs.Dataset) -> None:
    with pytest.raises(error, match=message):
        zs.train(tiny.population(), data, **options)


def test_an_unknown_change() -> None:
    with pytest.raises(TypeError, match="did you mean 'optimizer'"):
        zs.Training(epochs=1).but(optimiser=zs.SGD())
