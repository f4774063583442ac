"""Twins of twins: what is pruned stays pruned, and a sparsity below what is there is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import zoosparse_ext as zs
from tests.population import tiny
from zoosparse_ext.errors import InputError
from zoosparse_ext.sparsify.methods import METHODS, Ranking
from zoosparse_ext.sparsify.variational import Preset

FINE_TUNING: dict[str, Any] = {"epochs": 2, "batch_size": 5, "optimizer": zs.Adam(lr=3e-3)}


def gone(twins: zs.Population) -> torch.Tensor:
    """What is pruned, after a check that it is zero."""
    assert twins.masks is not None
    assert bool((twins.weights[~twins.masks] == 0).all())
    return ~twins.masks


@pytest.mark.parametrize("score", [name for name, cls in METHODS.items() if issubclass(cls, Ranking)])
@pytest.mark.parametrize("scope", ["global", "layer", "output"])
@pytest.mark.parametrize("schedule", ["one-shot", "iterative", "cubic"])
def test_pruning_further_keeps_what_is_pruned(
    score: str, scope: str, schedule: str, data: zs.Dataset
) -> None:
    once = zs.magnitude_prune(tiny.population(), 0.5, scope)
    options = {"data": data, "score": score, "schedule": schedule, **FINE_TUNING}
    twice = zs.magnitude_prune(once, [0.6, 0.8], scope, **options)
    assert bool((gone(twice) >= gone(once).repeat(2, 1)).all())
    assert twice.sparsity().tolist() == pytest.approx([0.6] * 3 + [0.8] * 3, abs=0.04)
    history = twice.history
    assert history is not None and history.sparsity.min() >= once.sparsity().min()
    assert (history.groupby("twin_id").sparsity.diff().dropna() >= 0).all()


def test_a_schedule_starts_at_what_is_there(data: zs.Dataset) -> None:
    """A third of the way from 41 of 123 to 98, and so on; not 33 of 123, which is less than what is there."""
    once = zs.magnitude_prune(tiny.population(), 41 / 123)
    twice = zs.magnitude_prune(once, 98 / 123, data=data, schedule="iterative", epochs=3)
    assert twice.history is not None
    counts = (twice.history[twice.history.twin_id == twice.ids[0]].sparsity * 123).round().tolist()
    assert counts == [60, 60, 79, 98]  # after the pruning before epoch 1, and after each epoch


def test_zeros_that_no_mask_pruned_go_after_those_that_are() -> None:
    """A zero in a lower column must not take the place of a pruned weight."""
    once = zs.magnitude_prune(tiny.population(n=1), 0.5)
    assert once.masks is not None
    alive = once.masks[0] & once.architecture.prunable_columns.new_zeros(138).bool().index_fill_(
        0, once.architecture.prunable_columns, True
    )
    first = int(alive.nonzero()[0])
    once.weights[0, first] = 0.0
    twice = zs.magnitude_prune(once, 0.5)
    assert torch.equal(gone(twice), gone(once))
    further = zs.magnitude_prune(once, 63 / 123)
    assert bool(gone(further)[0, first]) and int(gone(further).sum()) == 63


def test_pruned_biases_stay_pruned() -> None:
    once = zs.magnitude_prune(tiny.population(), 0.6, biases=True)
    twice = zs.magnitude_prune(once, 0.8)
    assert bool((gone(twice) >= gone(once)).all())


def test_the_sparsity_that_is_there_can_be_asked_for_again(data: zs.Dataset) -> None:
    once = zs.magnitude_prune(tiny.population(), 0.8, "layer")
    for again in (
        zs.magnitude_prune(once, 0.8, "layer", data=data, **FINE_TUNING),
        zs.magnitude_prune(once, once.sparsity(by_layer=True), "layer"),
        zs.magnitude_prune(once, once.sparsity()),
    ):
        assert torch.equal(gone(again), gone(once))
    twos = zs.magnitude_prune(tiny.population(), "2:4")
    assert torch.equal(gone(zs.magnitude_prune(twos, "2:4", data=data, score="random")), gone(twos))
    assert bool((gone(zs.magnitude_prune(twos, "1:4")) >= gone(twos)).all())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"sparsity": 0.3},
            r"'0000/magnitude-global-0.8' has a sparsity of 0.7967 already, more than the 0.3008 asked",
        ),
        ({"sparsity": [0.9, 0.0]}, r"'0000/.*' has a sparsity of 0.7967 already, more than the 0 asked for"),
        (
            {"sparsity": torch.tensor([0.9, 0.8, 0.1])},
            r"'0002/magnitude-global-0.8' has .* more than the 0.09756 asked",
        ),
        ({"sparsity": 0.3, "score": "random"}, "more than the 0.3008 asked for; pruned weights stay pruned"),
        ({"sparsity": 0.3, "scope": "layer"}, r"in layer '\d' already, more than the 0"),
        ({"sparsity": 0.3, "scope": "output"}, r"in layer '\d', output \d already, more than the 0"),
        ({"sparsity": torch.full((3, 4), 0.1), "scope": "layer"}, r"in layer '\d' already, more than the 0"),
        (
            {"sparsity": "3:4"},
            r"'0000/.*': (2|3|4) of 4 weights of a group in layer '\d', output \d are pruned already, 3:4 prunes 1;",
        ),
        ({"sparsity": 0.3, "schedule": "iterative", "epochs": 3}, "has a sparsity of 0.7967 already"),
        ({"sparsity": torch.full((3,), 0.3), "matched": ["a", "b", "c"]}, "has a sparsity of 0.7967 already"),
    ],
    ids=str,
)
def test_less_than_what_is_there_is_refused(options: dict[str, Any], message: str, data: zs.Dataset) -> None:
    once = zs.magnitude_prune(tiny.population(), 0.8)
    with pytest.raises(InputError, match=message):
        zs.magnitude_prune(once, data=data, **options)


def test_a_refused_pattern_names_the_group_that_is_too_sparse() -> None:
    """Not the sparsity of the group as if it were that of its output, and a bias not as an output."""
    population = tiny.population()
    segment = population.architecture.prunable_segments[-1]
    masks = torch.ones_like(population.weights, dtype=torch.bool)
    inputs = segment.size // segment.shape[0]
    masks[1, segment.slice.start + inputs : segment.slice.start + inputs + 3] = False  # output 1, first group
    thin = zs.magnitude_prune(population, 0.0)
    thin.packed_masks = zs.ops.pack_mask(masks)
    where = f"in layer {segment.layer!r}, output 1 are pruned already, 2:4 prunes 2;"
    with pytest.raises(InputError, match=f"'0001/magnitude-global-0': 3 of 4 weights of a group {where}"):
        zs.magnitude_prune(thin, "2:4")
    masks[:] = True
    bias = next(s for s in population.architecture.segments if s.layer == segment.layer and not s.prunable)
    masks[:, bias.slice] = False
    thin.packed_masks = zs.ops.pack_mask(masks)
    for options in ({"sparsity": "2:4"}, {"sparsity": 0.5, "scope": "output"}):
        with pytest.raises(
            InputError, match=f"in the biases of layer {segment.layer!r} (are pruned )?already"
        ):
            zs.magnitude_prune(thin, **options, biases=True)


def test_dense_models_among_pruned_ones(data: zs.Dataset) -> None:
    """Each model is measured against its own mask."""
    mixed = zs.magnitude_prune(tiny.population(), torch.tensor([0.0, 0.2, 0.8]))
    with pytest.raises(InputError, match=r"'0002/magnitude-global-0.8' has a sparsity of 0.7967"):
        zs.magnitude_prune(mixed, 0.5)
    assert zs.magnitude_prune(mixed[:2], 0.5).sparsity().tolist() == [62 / 123] * 2


@pytest.mark.parametrize("engine", ["reference", "auto"])
def test_variational_dropout_keeps_the_masks_of_twins(engine: str, data: zs.Dataset) -> None:
    eager = Preset(-10.0, 8.0, 10.0, False, lambda epoch, epochs, images: 0.01)
    once = zs.magnitude_prune(tiny.population(), 0.5)
    options: dict[str, Any] = {"epochs": 3, "batch_size": 5, "optimizer": zs.Adam(lr=0.05), "engine": engine}
    twice = zs.variational_dropout(once, data, preset=eager, **options)
    assert bool((gone(twice) >= gone(once)).all())
    assert bool((twice.sparsity() >= once.sparsity()).all())
    thrice = zs.variational_dropout(twice, data, **options)
    assert bool((gone(thrice) >= gone(twice)).all())


def test_twins_of_a_net_that_is_no_chain_keep_their_masks(data: zs.Dataset) -> None:
    once = zs.magnitude_prune(tiny.population(tiny.batch_normed), 0.5)
    twice = zs.magnitude_prune(once, 0.7, data=data, score="random", **FINE_TUNING)
    assert bool((gone(twice) >= gone(once)).all())
