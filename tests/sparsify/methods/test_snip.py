"""SNIP against plain modules, one model at a time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import zoosparse_ext as zs
from tests.population import tiny
from zoosparse_ext.errors import InputError
from zoosparse_ext.sparsify.methods import chosen_method
from zoosparse_ext.sparsify.methods.gradient import Gradient
from zoosparse_ext.sparsify.methods.snip import Snip, _drawn


def one_layer() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, tiny.CLASSES))


NETWORKS = pytest.mark.parametrize(
    "build", [tiny.chain, tiny.Residual, tiny.batch_normed, one_layer], ids=["chain", "residual", "norm", "one"]
)  # fmt: skip


def floats(data: zs.Dataset) -> zs.Dataset:
    pixels = data.train.images.float() / 255
    return zs.Dataset.from_tensors(pixels, data.train.labels, test=(pixels, data.train.labels))


@NETWORKS
@pytest.mark.parametrize("prepare", [lambda data: data, floats], ids=["uint8", "float"])
def test_scores_are_those_of_the_modules(
    build: Callable[[], nn.Module], prepare: Callable[[zs.Dataset], zs.Dataset], data: zs.Dataset
) -> None:
    split = prepare(data).train
    population = tiny.population(build, n=3)
    scores = population.architecture.unflatten(Snip(images=9).score(population, split, seed=4))
    order = _drawn(population.seeds, 4, len(split), 9)
    for row, module in enumerate(population.to_modules()):
        F.cross_entropy(module(split.normalized(order[row])), split.labels[order[row]]).backward()
        for name, parameter in module.named_parameters():
            expected = (parameter * parameter.grad).abs().detach()
            torch.testing.assert_close(scores[name][row], expected, rtol=1e-3, atol=1e-5)


@NETWORKS
def test_a_row_depends_on_its_model_alone(build: Callable[[], nn.Module], data: zs.Dataset) -> None:
    population = tiny.population(build, n=5)
    together = Snip(images=7).score(population, data.train, seed=1)
    for rows in ([2], [4, 0], [1, 2, 3]):
        assert torch.equal(Snip(images=7).score(population[rows], data.train, seed=1), together[rows])


def test_every_model_has_its_own_images() -> None:
    seeds = torch.arange(40)
    order = _drawn(seeds, 0, 100, 30)
    assert order.shape == (40, 30) and all(len(row.unique()) == 30 for row in order)
    assert int(order.min()) == 0 and int(order.max()) == 99
    assert len({tuple(row.tolist()) for row in order}) == 40
    assert torch.equal(order[[7]], _drawn(seeds[[7]], 0, 100, 30))
    assert not torch.equal(order, _drawn(seeds, 1, 100, 30))
    assert torch.equal(_drawn(seeds, 0, 100, 100), torch.arange(100).expand(40, -1))


def test_all_images_give_the_scores_of_the_gradient(data: zs.Dataset) -> None:
    population = tiny.population(n=3)
    scores = Snip(images=1000).score(population, data.train, seed=0)
    expected = Gradient().score(population, data.train, seed=0)
    torch.testing.assert_close(scores, expected, rtol=1e-3, atol=1e-5)


def test_masks_stay_and_zeros_score_zero(data: zs.Dataset) -> None:
    population = zs.magnitude_prune(tiny.population(n=3), 0.5)
    population.weights[:, 0] = 0.0
    scores = Snip().score(population, data.train, seed=0)
    masks = population.masks
    assert masks is not None and not scores[~masks].any() and not scores[:, 0].any()
    twins = zs.magnitude_prune(population, 0.75, data=data, score="snip")
    assert twins.masks is not None and not twins.masks[~masks].any()
    total = population.architecture.n_prunable
    assert twins.sparsity().tolist() == [round(0.75 * total) / total] * 3


@pytest.mark.parametrize("scope", ["global", "layer", "output"])
def test_biases(scope: str, data: zs.Dataset) -> None:
    population = tiny.population(n=2)
    twins = zs.magnitude_prune(population, 0.5, scope, data=data, score="snip", biases=True)
    assert twins.masks is not None
    if scope == "global":
        assert (~twins.masks).sum(1).tolist() == [69, 69]
    names = [segment.name for segment in population.layers() if not segment.prunable]
    kept = population.architecture.unflatten(twins.masks)
    assert any(not bool(kept[name].all()) for name in names)


def test_nan(data: zs.Dataset) -> None:
    population = tiny.population(n=2)
    population.weights[1, 3] = torch.nan
    with pytest.raises(InputError, match="weights are NaN: row 1"):
        zs.magnitude_prune(population, 0.5, data=data, score="snip")
    with pytest.raises(InputError, match=f"snip: scores of model '{population.ids[1]}'"):
        zs.magnitude_prune(population, 0.5, data=data, score="snip", allow_nan=True)


def test_the_series_and_the_options(data: zs.Dataset) -> None:
    twins = zs.magnitude_prune(tiny.population(n=1), 0.5, data=data, score="snip")
    assert set(twins.models["method"]) == {"snip"} and twins.ids[0].endswith("/snip-global-0.5")
    assert chosen_method("snip", images=64).key == "snip images 64"
    with pytest.raises(InputError, match="snip: images must be 1 or more, got 0"):
        chosen_method("snip", images=0)
    with pytest.raises(InputError, match="snip looks at training images"):
        zs.magnitude_prune(tiny.population(n=1), 0.5, score="snip")


def test_weights_that_matter_stay(data: zs.Dataset) -> None:
    """A pixel that is always black has no gradient: its weights go first, however large."""
    pixels = data.train.images.clone()
    pixels[:, :, 0] = 0
    dark = zs.Dataset.from_tensors(pixels, data.train.labels, mean=[0.0], std=[1.0])
    population = tiny.population(one_layer, n=2)
    population.weights[:, :8] = 10.0
    masks: Tensor | None = zs.magnitude_prune(population, 32 / 256, data=dark, score="snip").masks
    assert masks is not None
    gone = ~population.architecture.unflatten(masks)["1.weight"]
    assert bool(gone[:, :, :8].all()) and int(gone.sum()) == 2 * 32
