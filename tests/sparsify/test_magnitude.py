"""Magnitude pruning of populations: exact counts, masks held in fine-tuning, and every bad argument."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import prune

import zoosparse_ext as zs
from tests.population import tiny
from zoosparse_ext.errors import InputError, StoreError
from zoosparse_ext.sparsify import magnitude
from zoosparse_ext.sparsify.schedules import Cubic, Iterative, OneShot, sparsity_schedule
from zoosparse_ext.sparsify.series import Series
from zoosparse_ext.zoo import tables

PRUNABLE = 123  # of 138; layers of 27, 24, 48 and 24
LAYERS = (27, 24, 48, 24)
FINE_TUNING: dict[str, Any] = {"batch_size": 5, "optimizer": zs.Adam(lr=3e-3)}


def held(twins: zs.Population) -> Tensor:
    """The mask, after a check that it is held: pruned weights are exactly +0.0 and every statement is true."""
    assert twins.masks is not None and twins.history is not None
    pruned = twins.weights[~twins.masks]
    assert torch.equal(pruned, torch.zeros_like(pruned)) and not torch.signbit(pruned).any()
    last = twins.history[twins.history.epoch == twins.history.epoch.max()]
    assert last.sparsity.tolist() == twins.sparsity().tolist()
    return twins.masks


def removed(twins: zs.Population) -> Tensor:
    """How many weights of each prunable layer the mask removes: [N, S]."""
    masks = held(twins)
    return torch.stack([(~masks[:, s.slice]).sum(1) for s in twins.architecture.prunable_segments], 1)


@settings(max_examples=40)
@given(
    sparsity=st.floats(0, 1, exclude_max=True),
    scope=st.sampled_from(["global", "layer"]),
    draw=st.integers(0, 5),
    coarse=st.booleans(),
)
def test_exact_counts(sparsity: float, scope: str, draw: int, coarse: bool) -> None:
    """As `round(amount × size)` of torch.nn.utils.prune, ties or not; and nothing but prunable weights goes."""
    population = zs.Population.from_modules(tiny.make(tiny.chain, 2, draw))
    if coarse:
        population.weights = (population.weights * 4).round()  # many ties and zeros
    before = population.weights.clone()
    twins = zs.magnitude_prune(population, sparsity, scope)
    counts, masks = removed(twins), held(twins)
    if scope == "layer":
        assert counts.tolist() == [[round(sparsity * size) for size in LAYERS]] * 2
    else:
        assert counts.sum(1).tolist() == [round(sparsity * PRUNABLE)] * 2
    assert torch.equal(twins.weights[masks], before[masks]) and torch.equal(population.weights, before)
    kept = torch.where(masks, twins.weights.abs(), torch.inf)[:, population.architecture.prunable_columns]
    gone = torch.where(masks, 0.0, before.abs())
    assert scope == "layer" or (gone.amax(1) <= kept.amin(1)).all()


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("biases", [False, True])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_masks_are_those_of_torch(scope: str, biases: bool, sparsity: float) -> None:
    modules = tiny.make(tiny.chain)
    twins = zs.magnitude_prune(zs.Population.from_modules(modules), sparsity, scope, biases=biases)
    for row, module in enumerate(modules):
        layers = [child for child in module if hasattr(child, "weight")]
        tensors = [(child, name) for child in layers for name in ("weight", *(["bias"] if biases else []))]
        if scope == "global":
            prune.global_unstructured(tensors, pruning_method=prune.L1Unstructured, amount=sparsity)
        else:
            for child, name in tensors:
                prune.l1_unstructured(child, name, amount=sparsity)
        for child, name in tensors:
            prune.remove(child, name)
        expected = twins.architecture.flatten(module.state_dict())
        assert torch.equal(twins.weights[row], expected)


def test_several_ratios_make_a_twin_each() -> None:
    population = tiny.population()
    twins = zs.magnitude_prune(population, [0.2, 0.5])
    assert len(twins) == 6
    assert twins.models["target"].tolist() == [0.2] * 3 + [0.5] * 3
    assert twins.models["source_id"].tolist() == population.ids * 2
    assert twins.ids[0] == "0000/magnitude-global-0.2" and twins.ids[5] == "0002/magnitude-global-0.5"
    assert torch.equal(twins.weights[3:], zs.magnitude_prune(population, 0.5).weights)
    assert (held(twins)[:3] >= held(twins)[3:]).all()


def test_a_ratio_per_model() -> None:
    twins = zs.magnitude_prune(tiny.population(), torch.tensor([0.0, 0.25, 0.9]))
    assert removed(twins).sum(1).tolist() == [0, 31, 111]
    assert twins.models["target"].tolist() == pytest.approx([0.0, 0.25, 0.9])


@pytest.mark.parametrize("biases", [False, True])
def test_a_ratio_per_model_and_layer(biases: bool) -> None:
    """As when a variational twin is matched layer by layer; a bias goes with the weights of its layer."""
    ratios = torch.tensor([[0.0, 0.5, 0.25, 0.1], [0.9, 0.0, 0.0, 0.5], [0.1] * 4])
    matched = ["a/variational", "b/variational", "c/variational"]
    twins = zs.magnitude_prune(tiny.population(), ratios, "layer", biases=biases, matched=matched)
    assert removed(twins).tolist() == [[0, 12, 12, 2], [24, 0, 0, 12], [3, 2, 5, 2]]
    # sizes of the biases: 3, 2, 6, 4
    bias_counts = [0 + 1 + 2 + 0, 3 + 0 + 0 + 2, 0 + 0 + 1 + 0] if biases else [0, 0, 0]
    assert ((~held(twins)).sum(1) - removed(twins).sum(1)).tolist() == bias_counts
    assert twins.models["target"].tolist() == pytest.approx([26 / 123, 36 / 123, 12 / 123])
    assert twins.models["matched"].tolist() == matched
    assert twins.ids[0] == f"0000/magnitude-layer{'-biases' * biases}-matched"


def test_table_of_twins() -> None:
    population = tiny.population()
    history = zs.magnitude_prune(population, 0.5).history
    assert history is not None
    assert list(history.columns) == [
        *("twin_id", "source_id", "method", "scope", "target", "matched", "series", "epoch", "sparsity"),
        *(f"sparsity_layer.{layer}" for layer in "0368"),
        *("loss", "accuracy", "agreement", "kappa", "agreement_on_errors"),
        *("empty_layers", "dead_outputs", "one_answer"),
    ]
    assert (
        set(history.epoch) == {0}
        and set(history.method) == {"magnitude"}
        and set(history.scope) == {"global"}
    )
    assert history.accuracy.isna().all() and history.agreement.isna().all()


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("build", [tiny.chain, tiny.batch_normed], ids=["chain", "no chain"])
def test_fine_tuning_holds_the_mask(build: Any, scope: str, data: zs.Dataset) -> None:
    population = tiny.population(build)
    before = population.weights.clone()
    pruned = zs.magnitude_prune(population, [0.3, 0.8], scope)
    twins = zs.magnitude_prune(population, [0.3, 0.8], scope, data=data, epochs=2, **FINE_TUNING)
    assert torch.equal(population.weights, before)
    assert torch.equal(held(twins), held(pruned))
    assert not torch.equal(twins.weights, pruned.weights)
    history = twins.history
    assert history is not None and history.epoch.tolist() == [0] * 6 + [1] * 6 + [2] * 6
    assert torch.equal(twins.predictions, zs.evaluate(twins, data).predictions)
    source = zs.evaluate(population, data).predictions
    agreement = (source.repeat(2, 1) == twins.predictions).double().mean(1)
    assert history[history.epoch == 2].agreement.tolist() == agreement.tolist()
    assert history[history.epoch == 0].accuracy.tolist() == zs.evaluate(pruned, data).accuracy.tolist()


@pytest.mark.parametrize(
    "schedule", ["one-shot", "iterative", "cubic", Iterative(2), Cubic(ramp=1.0)], ids=str
)
def test_schedules_reach_the_sparsity_with_nested_masks(
    schedule: Any, data: zs.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks: list[Tensor] = []
    prune_in_place = magnitude.prune_

    def noting(twins: zs.Population, *arguments: Any) -> None:
        prune_in_place(twins, *arguments)
        assert twins.masks is not None
        masks.append(twins.masks)

    monkeypatch.setattr(magnitude, "prune_", noting)
    options = {"data": data, "epochs": 4, "schedule": schedule, **FINE_TUNING}
    population = tiny.population()
    twins = zs.magnitude_prune(population, 0.7, **options)
    assert removed(twins).sum(1).tolist() == [86] * 3
    assert len(masks) == len(sparsity_schedule(schedule).phases(4)) and torch.equal(masks[-1], held(twins))
    for earlier, later in pairwise(masks):
        assert (earlier | ~later).all()
    history = twins.history
    assert history is not None
    assert (history.groupby("twin_id").sparsity.diff().dropna() >= 0).all()
    again = zs.magnitude_prune(population, 0.7, **options)
    assert torch.equal(again.weights, twins.weights)


@pytest.mark.parametrize(
    "schedule", [OneShot(), Iterative(), Iterative(7), Cubic(), Cubic(1.0), Cubic(0.1)], ids=str
)
@pytest.mark.parametrize("epochs", [0, 1, 2, 5, 15])
def test_phases(schedule: Any, epochs: int) -> None:
    phases = schedule.phases(epochs)
    assert sum(phase.epochs for phase in phases) == epochs
    assert phases[-1].fraction == 1.0
    fractions = [phase.fraction for phase in phases]
    assert fractions == sorted(fractions) and all(phase.epochs >= min(1, epochs) for phase in phases)


@pytest.mark.parametrize("build", [lambda: Iterative(0), lambda: Cubic(0.0), lambda: Cubic(1.5)])
def test_schedules_that_cannot_be(build: Any) -> None:
    with pytest.raises(InputError):
        build()


ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "one": ({"sparsity": 1.0}, r"must be in \[0, 1\), got 1.0"),
    "negative": ({"sparsity": [0.5, -0.1]}, r"got -0.1"),
    "nan": ({"sparsity": float("nan")}, "got nan"),
    "none": ({"sparsity": []}, "no sparsity was given"),
    "per model": ({"sparsity": torch.tensor([0.1, 0.2])}, r"has shape \[2\], scope 'global' expects \[3\]"),
    "per layer": (
        {"sparsity": torch.zeros(3, 5), "scope": "layer"},
        r"has shape \[3, 5\], scope 'layer' expects \[3\] or \[3, 4\]",
    ),
    "per layer, global": ({"sparsity": torch.zeros(3, 4)}, r"scope 'global' expects \[3\]"),
    "scope": ({"scope": "filter"}, "scope must be one of .*; got .filter."),
    "schedule": (
        {"schedule": "linear"},
        "schedule must be one of one-shot, iterative, cubic, lottery; got 'linear'",
    ),
    "no data": ({"epochs": 2}, "2 epochs of fine-tuning need data"),
    "matched": ({"matched": ["a"]}, "matched names 1 twins for 3 models"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    options, message = ERRORS[name]
    with pytest.raises(InputError, match=message):
        zs.magnitude_prune(tiny.population(), **options)


def test_nan_weights() -> None:
    population = tiny.population()
    population.weights[1, 40] = torch.nan
    with pytest.raises(InputError, match=r"row 1 \(model '0001'\), layer '3.weight'; 1 of 3.*--allow-nan"):
        zs.magnitude_prune(population, 0.9)
    twins = zs.magnitude_prune(population, 0.9, allow_nan=True)
    assert twins.weights[1, 40].isnan() and (~held(twins)[1]).sum() == 111


def test_nothing_to_prune() -> None:
    population = zs.Population.from_modules([nn.Sequential(nn.Flatten(), nn.LayerNorm(4))])
    with pytest.raises(InputError, match="'Sequential' has nothing that is prunable"):
        zs.magnitude_prune(population)


def test_twins_of_twins(data: zs.Dataset) -> None:
    """Pruning further keeps what is pruned, and its rows name the twin they came from."""
    once = zs.magnitude_prune(tiny.population(), 0.5)
    twice = zs.magnitude_prune(once, 0.7)
    assert (held(once) >= held(twice)).all()
    assert twice.models["source_id"].tolist() == once.ids


def test_an_interrupted_sweep_goes_on_to_the_same_bits(data: zs.Dataset, tmp_path: Any) -> None:
    options = {"data": data, "epochs": 3, "schedule": "iterative", **FINE_TUNING}
    expected = zs.magnitude_prune(tiny.population(), [0.4, 0.8], **options)

    def interrupt(progress: zs.Progress) -> None:
        if progress.epoch == 2:
            raise KeyboardInterrupt

    file = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        zs.magnitude_prune(tiny.population(), [0.4, 0.8], checkpoint=file, progress=interrupt, **options)
    again = zs.magnitude_prune(tiny.population(), [0.4, 0.8], checkpoint=file, **options)
    assert torch.equal(again.weights, expected.weights) and torch.equal(held(again), held(expected))


def test_matched_to_an_earlier_epoch(data: zs.Dataset) -> None:
    """The epoch is in the table and in the name; without one, the column is missing."""
    population = tiny.population()
    named = [f"{id}/variational" for id in population.ids]
    shares = torch.tensor([0.2, 0.4, 0.6], dtype=torch.float64)
    twins = zs.magnitude_prune(population, shares, data=data, epochs=1, matched=named, matched_epoch=5)
    assert twins.ids == [f"{id}/magnitude-global-epoch_5-matched" for id in population.ids]
    assert set(twins.models["series"]) == {"magnitude-matched-global-epoch_5"}
    assert Series.parse("magnitude-matched-global-epoch_5").options == ("epoch 5",)
    history = twins.history
    assert history is not None and history["matched_epoch"].tolist() == [5.0] * 6
    assert history["matched_epoch"].dtype == np.float64 and history.matched.tolist() == named * 2
    last = zs.magnitude_prune(population, shares, data=data, epochs=1, matched=named)
    assert "matched_epoch" not in last.history and torch.equal(last.weights, twins.weights)
    further = zs.magnitude_prune(twins, 0.9)
    assert "matched_epoch" not in further.history and "matched_epoch" not in further.models
    both = pd.concat([history, last.history], ignore_index=True)
    assert both["matched_epoch"].isna().sum() == 6
    assert tables.checked("twins", both)["matched_epoch"].dtype == np.float64
    with pytest.raises(StoreError, match=r"'matched_epoch' of table 'twins' is .*, expected numbers"):
        tables.checked("twins", both.assign(matched_epoch="5"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"matched_epoch": 5}, "matched_epoch is 5, of no twins"),
        ({"matched": ["a", "b", "c"], "matched_epoch": -1}, "matched_epoch must be 0 or more, got -1"),
        ({"matched": ["a", "b", "c"], "matched_epoch": 5.0}, "matched_epoch: got float 5.0"),
        ({"matched": ["a", "b", "c"], "matched_epoch": True}, "matched_epoch: got bool"),
        ({"matched": ["a", "b", "c"], "matched_epoch": "5"}, "matched_epoch: got str '5'"),
    ],
)
def test_bad_matched_epochs(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        zs.magnitude_prune(tiny.population(), 0.5, **options)


def test_twins_at_several_ratios_have_the_optimizer_of_their_model(data: zs.Dataset) -> None:
    lr, decay, beta = torch.tensor([1e-2, 1e-3, 3e-3]), [0.0, 1e-2, 1e-3], [0.9, 0.5, 0.8]
    optimizer = zs.Adam(lr=lr, weight_decay=decay, betas=(beta, 0.99))
    options = {"data": data, "epochs": 2, "batch_size": 5}
    twins = zs.magnitude_prune(tiny.population(), [0.3, 0.6], optimizer=optimizer, **options)
    for row, ratio in enumerate((0.3, 0.6)):
        alone = zs.magnitude_prune(tiny.population(), ratio, optimizer=optimizer, **options)
        assert torch.equal(twins.weights[3 * row : 3 * row + 3], alone.weights)
    long = zs.Adam(lr=lr.repeat(2), weight_decay=decay * 2, betas=(beta * 2, 0.99))
    spelled = zs.magnitude_prune(tiny.population(), [0.3, 0.6], optimizer=long, **options)
    assert torch.equal(twins.weights, spelled.weights)
    assert optimizer.at_rows(1, 3).table(2).tolist() == optimizer.table(3)[1:].tolist()
    with pytest.raises(InputError, match="lr has 2 values for 6 models; give 1 or 6"):
        zs.magnitude_prune(tiny.population(), [0.3, 0.6], optimizer=zs.Adam(lr=[1e-2, 1e-3]), **options)
