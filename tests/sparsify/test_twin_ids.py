"""Ids of twins: unique, whatever was asked for, and as they were where four digits tell ratios apart."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import zoosparse_ext as zs
from tests.population import tiny
from zoosparse_ext.errors import InputError
from zoosparse_ext.sparsify.schedules import Cubic, Iterative
from zoosparse_ext.sparsify.series import Series


def endings(sparsity: Any, scope: str = "global", **options: Any) -> list[str]:
    population = tiny.population()
    ids = zs.magnitude_prune(population, sparsity, scope, **options).ids
    assert len(set(ids)) == len(ids)
    return list(dict.fromkeys(id.partition("/")[2] for id in ids))


def test_ratios_that_agree_to_four_digits() -> None:
    assert endings([0.8, 0.80001, 0.12345, 0.12346]) == [
        "magnitude-global-0.8",
        "magnitude-global-0.80001",
        "magnitude-global-0.12345",
        "magnitude-global-0.12346",
    ]
    assert endings([1 / 3, 0.3333]) == ["magnitude-global-0.3333333333333333", "magnitude-global-0.3333"]


def test_usual_ratios_are_called_as_ever() -> None:
    ratios = [0.1, 0.2, 0.3, 0.75, 0.8, 0.85, 0.975, 0.0]
    assert endings(ratios) == [f"magnitude-global-{ratio:g}" for ratio in ratios]
    assert endings(torch.tensor([0.0, 0.25, 0.9])) == [f"magnitude-global-{r}" for r in ("0", "0.25", "0.9")]
    assert endings("2:4") == ["magnitude-2:4-0.4878"]


@pytest.mark.parametrize("of", [torch.tensor, np.float32, lambda ratio: np.array([ratio], np.float32)])
def test_a_number_of_single_precision_is_called_as_several_are(of: Callable[[float], Any]) -> None:
    assert endings(of(0.3)) == endings(torch.tensor([0.3] * 3)) == ["magnitude-global-0.3"]


def test_a_negative_zero_is_zero() -> None:
    for sparsity in (-0.0, [-0.0], torch.tensor([-0.0] * 3), torch.tensor(-0.0)):
        assert endings(sparsity) == ["magnitude-global-0"]
        assert math.copysign(1, zs.magnitude_prune(tiny.population(), sparsity).models["target"][0]) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": None}, "sparsity must be a number, .* got None"),
        ({"sparsity": ["half"]}, r"sparsity must be a number, .* got \['half'\]"),
        ({"sparsity": [[0.1, 0.2], [0.3]]}, "sparsity must be a number"),
        ({"sparsity": [[0.1, 0.2], [0.3, 0.4]]}, "sparsity must be a number"),
        ({"sparsity": {0.1}}, "sparsity must be a number"),
        ({"sparsity": []}, "at least one ratio"),
        ({"schedule": None}, "a sparsity schedule is one of one-shot, iterative, cubic, .* got None"),
        ({"schedule": 3}, "a sparsity schedule is one of one-shot, iterative, cubic, .* got 3"),
        ({"schedule": Cubic}, "a sparsity schedule is one of one-shot, .* got <class"),
        ({"series": ""}, "series must be a Series or its key, .* got ''"),
        ({"series": "-"}, "series must be a Series or its key, .* got '-'"),
        ({"series": 3}, "series must be a Series or its key, .* got 3"),
        ({"sparsity": [0.1, 0.2], "matched": list("abcdef")}, r"has 2 ratios .*; give a tensor \[3\]"),
        ({"sparsity": [0.1, 0.2], "matched": list("abc")}, r"has 2 ratios .*; give a tensor \[3\]"),
    ],
    ids=str,
)
def test_what_gives_no_name_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        zs.magnitude_prune(tiny.population(), **options)


def test_no_models_are_refused() -> None:
    with pytest.raises(InputError, match="the population has no models"):
        zs.magnitude_prune(tiny.population()[:0], 0.5)


@pytest.mark.parametrize(
    ("sparsity", "named"),
    [([0.5, 0.5], "0.5"), ([0.8, 0.1, 0.8, 0.1, 0.2], "0.8, 0.1"), ([1 / 3, 1 / 3], "0.3333333333333333")],
)
def test_equal_ratios_are_refused(sparsity: list[float], named: str) -> None:
    with pytest.raises(InputError, match=f"sparsity {named} was given more than once"):
        zs.magnitude_prune(tiny.population(), sparsity)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({}, "magnitude-global"),
        ({"scope": "layer", "schedule": "cubic"}, "magnitude-layer-cubic"),
        ({"schedule": Cubic()}, "magnitude-global-cubic"),
        ({"schedule": Cubic(0.5)}, "magnitude-global-cubic_0.5"),
        ({"schedule": Iterative(5), "biases": True}, "magnitude-global-iterative_5-biases"),
        ({"score": "wanda", "scope": "output"}, "wanda-output"),
        ({"score": "random", "seed": 3}, "random-global-seed_3"),
        ({"seed": 3}, "magnitude-global"),
        ({"sparsity": "2:4"}, "magnitude-2:4"),
        ({"sparsity": torch.full((3, 4), 0.5), "scope": "layer"}, "magnitude-layer-own_ratios"),
        ({"series": "magnitude-global-lr_0.1"}, "magnitude-global-lr_0.1"),
        ({"series": Series("magnitude", "global", options=("lr 0.1",))}, "magnitude-global-lr_0.1"),
    ],
    ids=str,
)
def test_every_selection_is_a_series_of_its_own(options: dict[str, Any], key: str, data: zs.Dataset) -> None:
    twins = zs.magnitude_prune(tiny.population(), **{"sparsity": 0.5, "data": data, **options})
    assert twins.history is not None
    assert set(twins.models["series"]) == set(twins.history["series"]) == {key}
    assert all(f"/{key}-" in id for id in twins.ids)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({}, "variational"),
        ({"preset": "molchanov"}, "variational-molchanov"),
        ({"threshold": 2.5}, "variational-threshold_2.5"),
        ({"threshold": -1.0}, "variational-threshold_minus_1"),
        ({"series": "variational-50_epochs"}, "variational-50_epochs"),
    ],
    ids=str,
)
def test_series_of_variational_dropout(options: dict[str, Any], key: str, data: zs.Dataset) -> None:
    twins = zs.variational_dropout(tiny.population(), data, epochs=1, **options)
    assert twins.ids == [f"{source}/{key}" for source in twins.models["source_id"]]
    assert twins.history is not None and set(twins.history["series"]) == {key}


def test_an_unfinished_run_of_an_earlier_version_is_called_as_now(data: zs.Dataset, tmp_path: Any) -> None:
    """Its rows named no series."""
    from zoosparse_ext.sparsify import twins as rows

    file = tmp_path / "run"
    options: dict[str, Any] = {"data": data, "epochs": 2, "schedule": "cubic", "checkpoint": file}

    def interrupt(progress: zs.Progress) -> None:
        if progress.epoch == 2:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as earlier:
        named = rows._identity
        earlier.setattr(
            rows, "_identity", lambda twins: named(twins).drop(columns="series").assign(twin_id="old")
        )
        with pytest.raises(KeyboardInterrupt):
            zs.magnitude_prune(tiny.population(), [0.4, 0.8], progress=interrupt, **options)
    again = zs.magnitude_prune(tiny.population(), [0.4, 0.8], **options)
    assert again.history is not None
    assert again.history.twin_id.tolist() == again.ids * 3
    assert set(again.history.series) == {"magnitude-global-cubic"}
    assert again.history.epoch.tolist() == [0] * 6 + [1] * 6 + [2] * 6
