"""The verb for every method says what the functions of the methods say."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import zoosparse_ext as zs
from tests.population import tiny
from zoosparse_ext.errors import InputError
from zoosparse_ext.options import options_of
from zoosparse_ext.population.training import EXECUTION, TRAINING
from zoosparse_ext.sparsify.methods import METHODS, LearnedMethod
from zoosparse_ext.sparsify.methods.random import Random
from zoosparse_ext.sparsify.pruning import Pruning


def same(first: zs.Population, second: zs.Population) -> bool:
    return torch.equal(first.weights, second.weights) and first.ids == second.ids


def test_it_is_the_functions_of_the_methods(data: zs.Dataset) -> None:
    population, training = tiny.population(), zs.Training(epochs=1, seed=3)
    options: dict[str, Any] = {"data": data, "training": training}
    by_magnitude = zs.magnitude_prune(population, [0.5, 0.7], "layer", min_kept=1, **options)
    assert same(
        zs.sparsify(population, "magnitude", [0.5, 0.7], "layer", min_kept=1, **options), by_magnitude
    )
    dropped = zs.variational_dropout(population, kl_scale=3.0, **options)
    assert same(zs.sparsify(population, "variational", kl_scale=3.0, **options), dropped)
    scored = zs.magnitude_prune(population, 0.8, score=Random())
    assert same(zs.sparsify(population, Random()), scored)


@pytest.mark.parametrize("name", METHODS)
def test_every_method(name: str, data: zs.Dataset) -> None:
    asks = not issubclass(METHODS[name], LearnedMethod) or METHODS[name].asks_sparsity  # type: ignore[attr-defined]
    twins = zs.sparsify(tiny.population(), name, 0.5 if asks else None, data=data, epochs=1)
    assert twins.models["method"].tolist() == [name] * 3
    assert twins.history is not None and twins.masks is not None
    assert bool((twins.weights[~twins.masks] == 0).all())
    if asks:
        assert twins.sparsity().tolist() == pytest.approx([0.5] * 3, abs=0.01)


def test_options_of_methods_are_not_those_of_training() -> None:
    for cls in METHODS.values():
        own = {item.name for item in options_of(cls)}
        assert not own & {*TRAINING, *EXECUTION, *(item.name for item in options_of(Pruning))}


@pytest.mark.parametrize(
    ("words", "options", "message"),
    [
        (("magnitud",), {}, "unknown method 'magnitud'; did you mean 'magnitude'"),
        ((3,), {}, "method: got 3"),
        (("variational",), {}, "'variational' learns what to keep; pass data="),
        (("variational", None, "layer"), {"data": True}, "takes no scope"),
        (("log_alpha", "2:4"), {"data": True}, "takes no pattern"),
        (("log_alpha",), {"data": True}, "pass sparsity="),
        (("variational", 0.5), {"data": True}, "finds the sparsity by itself"),
        (("snip", 0.5), {}, "snip looks at training images; pass data="),
    ],
)
def test_errors(words: tuple[Any, ...], options: dict[str, Any], message: str, data: zs.Dataset) -> None:
    given = {"data": data} if options.get("data") else {}
    with pytest.raises(InputError, match=message):
        zs.sparsify(tiny.population(), *words, **given)


def test_the_verb_does_not_hide_its_package() -> None:
    import zoosparse_ext.sparsify.methods as registry

    assert zs.sparsify.methods is registry  # type: ignore[attr-defined]
    assert callable(zs.sparsify)


def test_an_option_of_another_method() -> None:
    with pytest.raises(TypeError, match="rounds"):
        zs.sparsify(tiny.population(), "random", rounds=3)
