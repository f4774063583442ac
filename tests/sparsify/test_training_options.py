"""Fine-tuning, variational dropout and controls hand every option of the training on."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import zoosparse_ext as zs
from tests.population import tiny
from zoosparse_ext.ops import train as native_engine

OPTIONS: list[dict[str, Any]] = [
    {"loss": "mse"},
    {"augment": zs.Augment(crop=1, flip=True)},
    {"lr_schedule": "cosine"},
    {"batch_size": 4},
    {"order": "shared"},
    {"seed": 9},
    {"optimizer": zs.SGD(lr=0.1, momentum=0.9)},
]
METHODS = {
    "magnitude": lambda population, data, **options: zs.magnitude_prune(
        population, 0.5, data=data, **options
    ),
    "variational": zs.variational_dropout,
    "control": zs.continue_training,
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: next(iter(option)))
def test_every_option_arrives_and_the_engines_agree(
    method: str, option: dict[str, Any], data: zs.Dataset
) -> None:
    def twins(engine: str = "reference", **options: Any) -> torch.Tensor:
        return METHODS[method](tiny.population(n=2), data, epochs=2, engine=engine, **options).weights

    result = twins(**option)
    assert not torch.equal(result, twins())
    if native_engine.available():
        torch.testing.assert_close(twins("native", **option), result, rtol=1e-4, atol=2e-5)
