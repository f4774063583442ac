"""A floor per layer and output against a plain loop, one weight at a time."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import zoosparse_ext as zs
from tests.population import tiny
from tests.sparsify.scopes.test_registry import recurrent
from zoosparse_ext.errors import InputError
from zoosparse_ext.population.architecture import Segment
from zoosparse_ext.sparsify.floors import Floor
from zoosparse_ext.sparsify.scopes import SCOPES


def slowly(
    scores: list[float], group_of: list[int], kept: list[int], lots: list[int], counts: list[int]
) -> list[bool] | None:
    """One weight after the other goes, the smallest first, unless its group is at its floor; None if too few can."""
    left = [group_of.count(group) for group in range(len(kept))]
    mask = [True] * len(scores)
    for (start, end), count in zip(pairwise([0, *accumulate(lots)]), counts, strict=True):
        gone = 0
        for column in sorted(range(start, end), key=lambda column: (scores[column], column)):
            group = group_of[column]
            if gone < count and left[group] > kept[group]:
                mask[column], gone = False, gone + 1
                left[group] -= 1
        if gone < count:
            return None
    return mask


SHAPES = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 5)), min_size=1, max_size=4)


@settings(deadline=None, max_examples=300)
@given(
    SHAPES, st.integers(1, 4), st.lists(st.integers(0, 1), min_size=4, max_size=4), st.booleans(), st.data()
)
def test_a_plain_loop_gives_the_same(
    shapes: list[tuple[int, int]], least: int, axes: list[int], whole: bool, draw: st.DataObject
) -> None:
    """Layers and whole models, ordinary and transposed, with many ties, of two models at once."""
    segments, offset = [], 0
    for place, shape in enumerate(shapes):
        segments.append(Segment(f"{place}.weight", offset, shape, True, True, axes[place]))
        offset += segments[-1].size
    floor = Floor.of(segments, least)
    lots = [offset] if whole else [segment.size for segment in segments]
    value = st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.0, float("inf")])
    scores = [draw.draw(st.lists(value, min_size=offset, max_size=offset)) for _ in range(2)]
    counts = [[draw.draw(st.integers(0, size)) for size in lots] for _ in range(2)]
    group_of, numbers = [], iter(range(1000))
    for segment in segments:
        outputs = [next(numbers) for _ in range(segment.shape[segment.output_axis or 0])]
        group_of += [outputs[(c // segment.shape[1], c % segment.shape[1])[segment.output_axis or 0]]
                     for c in range(segment.size)]  # fmt: skip
    kept = [min(least, group_of.count(group)) for group in range(next(numbers))]
    expected = [slowly(row, group_of, kept, lots, count) for row, count in zip(scores, counts, strict=True)]
    found = floor.contradiction(lots, torch.tensor(counts))
    assert (found is not None) == (None in expected)
    assume(found is None)
    result = floor.mask(torch.tensor(scores), torch.tensor(counts), lots)
    assert result.tolist() == expected


def kept_by_output(twins: zs.Population) -> Tensor:
    """The smallest number of weights that an output of each layer keeps: int64 [N, S]."""
    masks = twins.masks
    assert masks is not None
    smallest = []
    for segment in twins.architecture.prunable_segments:
        assert segment.output_axis is not None
        mask = masks[:, segment.slice].unflatten(1, segment.shape).movedim(1 + segment.output_axis, 1)
        smallest.append(mask.flatten(2).sum(2).amin(1))
    return torch.stack(smallest, dim=1)


def up() -> nn.Module:
    return nn.Sequential(nn.ConvTranspose2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(200, tiny.CLASSES))


def upward() -> zs.Population:
    return tiny.population(up, n=2, input_shape=tiny.SHAPE)


@pytest.mark.parametrize(
    "make", [tiny.population, recurrent, upward], ids=["chain", "recurrent", "transposed"]
)
@pytest.mark.parametrize("scope", ["global", "layer", "erk"])
@pytest.mark.parametrize("least", [1, 2])
def test_every_output_keeps_its_floor_and_the_total_is_exact(
    make: Callable[[], zs.Population], scope: str, least: int
) -> None:
    population = make()
    plain = zs.magnitude_prune(population, 0.6, scope)
    twins = zs.magnitude_prune(population, 0.6, scope, min_kept=least)
    assert int(kept_by_output(twins).min()) >= least
    assert torch.equal(twins.sparsity(), plain.sparsity())
    if scope != "global":
        assert torch.equal(twins.sparsity(by_layer=True), plain.sparsity(by_layer=True))
    assert twins.ids[0].endswith(f"/magnitude-{scope}-min_kept_{least}-0.6")


def test_where_the_floor_is_met_anyway_nothing_changes() -> None:
    population = tiny.population(n=3)
    for scope in SCOPES:
        plain = zs.magnitude_prune(population, 0.1, scope).masks
        floored = zs.magnitude_prune(population, 0.1, scope, min_kept=1).masks
        assert plain is not None and floored is not None and torch.equal(plain, floored)
    assert zs.magnitude_prune(population, 0.1, min_kept=0).ids == zs.magnitude_prune(population, 0.1).ids


def test_a_layer_that_would_be_emptied_keeps_its_floor() -> None:
    population = tiny.population(n=2)
    small = population.architecture.prunable_segments[1]
    population.weights[:, small.slice] *= 1e-3
    assert bool((zs.magnitude_prune(population, 0.7).sparsity(by_layer=True)[:, 1] == 1).all())
    twins = zs.magnitude_prune(population, 0.7, min_kept=1)
    kept = twins.masks
    assert kept is not None and kept[:, small.slice].sum(1).tolist() == [2, 2]  # one for each of two outputs
    for row in range(2):
        weights = population.weights[row, small.slice].abs().view(2, -1)
        assert torch.equal(kept[row, small.slice].view(2, -1).int().argmax(1), weights.argmax(1))


def test_equal_weights_stay_from_the_highest_column_on() -> None:
    population = tiny.population(lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False)), n=1)
    population.weights.fill_(1.0)
    masks = zs.magnitude_prune(population, 0.75, min_kept=1).masks
    assert masks is not None and masks.tolist() == [[False] * 3 + [True] + [False] * 3 + [True]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": 0.9}, r"model '0000', min_kept = 1: 111 of 123 weights are to go, and it keeps 15"),
        ({"sparsity": 0.9, "scope": "layer"}, r"min_kept = 1 in layer '6': 43 of 48 .* keeps 6"),
        (
            {"sparsity": 0.9, "scope": "layer", "min_kept": 2},
            r"min_kept = 2 in layer '0': 24 of 27 .* keeps 6",
        ),
        ({"sparsity": 0.95, "scope": "output"}, r"in layer '0', output 0: 9 of 9 weights are to go"),
        (
            {"sparsity": "1:4", "min_kept": 3},
            r"in layer '6', output 0: 2 of 8 weights would stay, and it keeps 3",
        ),
        ({"min_kept": -1}, "min_kept must be 0 or more, got -1"),
        ({"min_kept": 1.5}, "min_kept: got float 1.5, expected a whole number"),
        ({"min_kept": True}, "min_kept: got bool True, expected a whole number"),
    ],
)
def test_contradictions_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        zs.magnitude_prune(tiny.population(), **{"min_kept": 1, **options})


@pytest.mark.parametrize("pattern", ["2:4", "1:3"])
def test_patterns_that_keep_enough_stay_as_they_are(pattern: str) -> None:
    population = tiny.population(n=2)
    plain, floored = (zs.magnitude_prune(population, pattern, min_kept=least).masks for least in (0, 1))
    assert plain is not None and floored is not None and torch.equal(plain, floored)


def test_one_model_of_several_is_named() -> None:
    ratios = torch.tensor([0.5, 0.95, 0.5])
    population = tiny.population(n=3)
    with pytest.raises(InputError, match=f"model '{population.ids[1]}', min_kept = 2"):
        zs.magnitude_prune(population, ratios, min_kept=2)


def test_masks_that_prune_more_already() -> None:
    population = tiny.population(n=2)
    dead = population.architecture.prunable_segments[0]
    population.weights[1, dead.offset : dead.offset + 9] = 1e-9
    twins = zs.magnitude_prune(population, 0.1)
    with pytest.raises(InputError) as raised:
        zs.magnitude_prune(twins, 0.6, min_kept=1)
    told = str(raised.value)
    assert f"model '{twins.ids[1]}'" in told and "output 0 of layer '0' has 0 weights left" in told
    floored = zs.magnitude_prune(zs.magnitude_prune(population, 0.5, min_kept=1), 0.6, min_kept=1)
    at_once = zs.magnitude_prune(population, 0.6, min_kept=1)
    assert (
        floored.masks is not None and at_once.masks is not None and torch.equal(floored.masks, at_once.masks)
    )


@pytest.mark.parametrize("score", ["snip", "synflow", "lamp", "random"])
@pytest.mark.parametrize("biases", [False, True], ids=["weights", "biases"])
def test_every_score(score: str, biases: bool, data: zs.Dataset) -> None:
    population = tiny.population(n=2)
    twins = zs.magnitude_prune(population, 0.8, data=data, score=score, min_kept=1, biases=biases)
    assert twins.masks is not None and int(kept_by_output(twins).min()) >= 1
    assert (~twins.masks).sum(1).tolist() == [round(0.8 * (138 if biases else 123))] * 2


def test_schedules_and_checkpoints(data: zs.Dataset, tmp_path: Path) -> None:
    population = tiny.population(n=2)
    options: dict[str, Any] = {
        "data": data,
        "epochs": 3,
        "schedule": "cubic",
        "checkpoint": tmp_path / "epochs",
    }
    twins = zs.magnitude_prune(population, 0.7, min_kept=1, **options)
    assert int(kept_by_output(twins).min()) >= 1
    total = population.architecture.n_prunable
    assert twins.sparsity().tolist() == [round(0.7 * total) / total] * 2


def test_a_checkpoint_of_another_floor_is_refused(data: zs.Dataset, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(progress: Any) -> None:
        raise Stop

    population, place = tiny.population(n=2), tmp_path / "epochs"
    with pytest.raises(Stop):
        zs.magnitude_prune(population, 0.5, data=data, epochs=3, min_kept=1, checkpoint=place, progress=stop)
    with pytest.raises(InputError):
        zs.magnitude_prune(population, 0.5, data=data, epochs=3, checkpoint=place)


def test_a_scope_that_cuts_outputs_apart_is_refused() -> None:
    floor = Floor.of([Segment("fc.weight", 0, (2, 3), True)], least=1)
    with pytest.raises(InputError, match="weights of several outputs, and not all of theirs"):
        floor.mask(torch.rand(1, 6), torch.tensor([[1, 1]]), [4, 2])


def test_dead_outputs_are_reported_all_the_same() -> None:
    population = tiny.population(n=1)
    first = population.architecture.prunable_segments[0]
    population.weights[:, first.offset : first.offset + 9] = 0.0
    twins = zs.magnitude_prune(population, 0.5, min_kept=1)
    assert twins.history is not None and twins.history["dead_outputs"].tolist() == [1]
