"""Erdős–Rényi kernel budgets against a plain implementation, one model at a time."""

from __future__ import annotations

from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import zoosparse_ext as zs
from tests.population import tiny
from tests.sparsify.scopes.test_registry import recurrent
from zoosparse_ext.errors import InputError
from zoosparse_ext.sparsify.scopes import chosen_scope
from zoosparse_ext.sparsify.scopes.erk import _targets


def by_definition(shapes: list[tuple[int, ...]], kept: int) -> list[float]:
    """How many weights of each layer stay; layers become dense one at a time, as in the code of the paper."""
    sizes, raw = [prod(shape) for shape in shapes], [sum(shape) / prod(shape) for shape in shapes]
    dense: set[int] = set()
    while True:
        others = [place for place in range(len(shapes)) if place not in dense]
        left = kept - sum(sizes[place] for place in dense)
        if not others:
            return [float(size) for size in sizes]
        factor = left / sum(raw[place] * sizes[place] for place in others)
        highest = max(others, key=lambda place: raw[place])
        if factor * raw[highest] <= 1:
            return [sizes[p] if p in dense else factor * raw[p] * sizes[p] for p in range(len(shapes))]
        dense.add(highest)


SHAPES = st.lists(st.lists(st.integers(1, 9), min_size=2, max_size=4).map(tuple), min_size=1, max_size=6)


@settings(deadline=None)
@given(SHAPES, st.lists(st.floats(0, 1), min_size=1, max_size=4))
def test_the_definition(shapes: list[tuple[int, ...]], shares: list[float]) -> None:
    sizes = [prod(shape) for shape in shapes]
    kept = [round(share * sum(sizes)) for share in shares]
    raw = [sum(shape) / prod(shape) for shape in shapes]
    targets = _targets(sizes, raw, torch.tensor(kept, dtype=torch.float64))
    for row, number in enumerate(kept):
        assert targets[row].tolist() == pytest.approx(by_definition(shapes, number), rel=1e-9, abs=1e-9)
        alone = _targets(sizes, raw, torch.tensor([number], dtype=torch.float64))
        assert torch.equal(alone[0], targets[row])


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("build", [tiny.chain, tiny.Residual, tiny.batch_normed])
def test_counts_are_exact_and_next_to_the_targets(build: type[nn.Module], sparsity: float) -> None:
    population = tiny.population(build, n=2)
    twins = zs.magnitude_prune(population, sparsity, "erk")
    segments = population.architecture.prunable_segments
    total = population.architecture.n_prunable
    k = round(sparsity * total)
    assert twins.masks is not None
    kept = torch.stack([twins.masks[:, s.slice].sum(1) for s in segments], dim=1)
    assert kept.sum(1).tolist() == [total - k] * 2
    expected = torch.tensor(by_definition([s.shape for s in segments], total - k))
    assert bool(((kept - expected).abs() < 1).all())
    assert set(twins.models["scope"]) == {"erk"} and twins.ids[0].endswith(f"/magnitude-erk-{sparsity:g}")


def test_within_a_layer_the_smallest_go() -> None:
    population = tiny.population(n=2)
    twins = zs.magnitude_prune(population, 0.6, "erk")
    assert twins.masks is not None
    for segment in population.architecture.prunable_segments:
        for row in range(2):
            weights, kept = population.weights[row, segment.slice].abs(), twins.masks[row, segment.slice]
            if not bool(kept.all()):
                assert weights[~kept].max() <= weights[kept].min()


def test_a_ratio_for_each_model_and_one_layer_alone() -> None:
    population = tiny.population(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, tiny.CLASSES)), n=2)
    twins = zs.magnitude_prune(population, torch.tensor([0.25, 0.75]), "erk")
    assert twins.sparsity().tolist() == [0.25, 0.75]
    with pytest.raises(InputError, match=r"sparsity has shape \[2, 1\], scope 'erk' expects \[2\]"):
        zs.magnitude_prune(population, torch.tensor([[0.25], [0.75]]), "erk")


def test_transposed_and_recurrent_layers() -> None:
    def up() -> nn.Module:
        return nn.Sequential(nn.ConvTranspose2d(1, 2, 3), nn.Flatten(), nn.Linear(200, tiny.CLASSES))

    for population in (tiny.population(up, n=2, input_shape=tiny.SHAPE), recurrent()):
        twins = zs.magnitude_prune(population, 0.7, "erk")
        total = population.architecture.n_prunable
        assert twins.sparsity().tolist() == [round(0.7 * total) / total] * 2


def test_biases_have_the_density_of_their_layer() -> None:
    population = tiny.population(n=2)
    twins = zs.magnitude_prune(population, 0.6, "erk", biases=True)
    assert twins.masks is not None
    assert (~twins.masks).sum(1).tolist() == [round(0.6 * 138)] * 2
    shares = {
        s.name: float(twins.masks[0, s.slice].double().mean()) for s in population.layers()
    }  # fmt: skip
    for name, share in shares.items():
        if name.endswith("bias"):
            size = next(s.size for s in population.layers() if s.name == name)
            assert abs(share - shares[name.replace("bias", "weight")]) < 1.5 / size


def test_masks_stay() -> None:
    population = tiny.population(n=2)
    halfway = zs.magnitude_prune(population, 0.3, "erk")
    twins = zs.magnitude_prune(halfway, 0.6, "erk")
    at_once = zs.magnitude_prune(population, 0.6, "erk")
    assert twins.masks is not None and at_once.masks is not None and torch.equal(twins.masks, at_once.masks)
    with pytest.raises(InputError, match=r"has a sparsity of 0\.9"):
        zs.magnitude_prune(zs.magnitude_prune(population, 0.9, "layer"), 0.9, "erk")


def test_schedules(data: zs.Dataset) -> None:
    twins = zs.magnitude_prune(tiny.population(n=2), 0.7, "erk", data=data, schedule="cubic", epochs=3)
    expected = zs.magnitude_prune(tiny.population(n=2), 0.7, "erk")
    assert torch.equal(twins.sparsity(by_layer=True), expected.sparsity(by_layer=True))


def test_it_has_a_label() -> None:
    assert chosen_scope("erk").label == "ERK"
