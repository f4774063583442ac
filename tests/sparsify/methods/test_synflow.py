"""Synaptic flow against plain modules, one model at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import zoosparse_ext as zs
from tests.population import tiny
from zoosparse_ext.errors import InputError
from zoosparse_ext.sparsify.methods import chosen_method
from zoosparse_ext.sparsify.methods.synflow import Synflow


class Normed(nn.Module):
    """No chain: batch norm, a skip connection and ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3)
        self.conv, self.head = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(3, tiny.CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        hidden = F.relu(self.norm(self.stem(images)))
        return self.head((hidden + F.relu(self.conv(hidden))).mean((2, 3)))


def relu_chain() -> nn.Module:
    return tiny.chain(nn.ReLU)


def one_layer() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, tiny.CLASSES))


RELU_NETWORKS = pytest.mark.parametrize("build", [relu_chain, Normed, one_layer])


def flow(module: nn.Module, masks: dict[str, Tensor]) -> dict[str, Tensor]:
    """As the authors: absolute values of the whole state, evaluation mode, an input of ones, |θ · ∂R/∂θ|."""
    module = copy.deepcopy(module).double().eval()
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.abs_()
        for name, parameter in module.named_parameters():
            parameter.mul_(masks.get(name, torch.ones(1)))
    module(torch.ones(1, *tiny.SHAPE, dtype=torch.float64)).sum().backward()
    return {name: (p.grad * p).abs().detach() for name, p in module.named_parameters()}  # type: ignore[operator]


def pruned(module: nn.Module, sparsity: float, rounds: int = 100) -> dict[str, Tensor]:
    """Masks after all rounds, by name."""
    names = [name for name, p in module.named_parameters() if p.dim() > 1]
    masks = {name: torch.ones_like(module.get_parameter(name)) for name in names}
    total = sum(mask.numel() for mask in masks.values())
    for number in range(1, rounds + 1):
        scores = flow(module, masks)
        left = (1 - round(sparsity * total) / total) ** (number / rounds)
        count = round(total * (1 - left))
        flat = torch.cat([scores[name].flatten() for name in names])
        alive = torch.cat([mask.flatten() for mask in masks.values()]) > 0
        flat = torch.where(alive, flat + 1e-300, 0.0)
        kept = torch.ones(total)
        kept[flat.argsort(stable=True)[:count]] = 0.0
        parts = kept.split([mask.numel() for mask in masks.values()])
        masks = {name: part.view_as(masks[name]) for name, part in zip(names, parts, strict=True)}
    return masks


@RELU_NETWORKS
def test_scores_are_those_of_the_modules(build: Callable[[], nn.Module], data: zs.Dataset) -> None:
    population = tiny.population(build, n=3)
    scores = population.architecture.unflatten(Synflow().score(population, data.train, seed=0))
    for row, module in enumerate(population.to_modules()):
        expected = flow(module, {})
        largest = max(float(tensor.max()) for tensor in expected.values())
        for name, tensor in expected.items():
            torch.testing.assert_close(scores[name][row], tensor / largest, rtol=1e-9, atol=1e-300)


@RELU_NETWORKS
@pytest.mark.parametrize("sparsity", [0.5, 0.9])
def test_masks_after_all_rounds(build: Callable[[], nn.Module], sparsity: float, data: zs.Dataset) -> None:
    population = tiny.population(build, n=2)
    twins = zs.magnitude_prune(population, sparsity, data=data, score="synflow")
    assert twins.masks is not None
    kept = population.architecture.unflatten(twins.masks)
    for row, module in enumerate(population.to_modules()):
        for name, mask in pruned(module, sparsity).items():
            assert torch.equal(kept[name][row], mask > 0), name


@pytest.mark.parametrize("activation", [nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.LeakyReLU])
def test_activations_let_the_flow_pass(activation: type[nn.Module], data: zs.Dataset) -> None:
    """Networks that differ in activations alone have the same scores; tanh would stop large numbers."""
    population = tiny.population(lambda: tiny.chain(activation), n=2)
    population.weights *= 100
    expected = tiny.population(relu_chain, n=2)
    expected.weights *= 100
    assert torch.equal(expected.weights, population.weights)
    scores = Synflow().score(population, data.train, seed=0)
    torch.testing.assert_close(scores, Synflow().score(expected, data.train, seed=0))
    assert bool((scores.amax(1) == 1).all()) and bool((scores > 0).all())


class Functional(nn.Module):
    """Activations as functions and methods, in place and not."""

    def __init__(self, saturating: bool) -> None:
        super().__init__()
        self.first, self.second, self.saturating = nn.Linear(64, 5), nn.Linear(5, tiny.CLASSES), saturating

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.first(images.flatten(1))
        if self.saturating:
            hidden = torch.tanh(hidden).sigmoid().mul(1.0).tanh_()
            return F.log_softmax(self.second(F.hardtanh(F.gelu(hidden))), dim=1)
        return self.second(hidden)


def test_functions_let_the_flow_pass(data: zs.Dataset) -> None:
    torch.manual_seed(0)
    modules = [Functional(True), Functional(False)]
    modules[1].load_state_dict(modules[0].state_dict())
    populations = [zs.Population.from_modules([module.eval()]) for module in modules]
    first, second = (Synflow().score(population, data.train, seed=0) for population in populations)
    torch.testing.assert_close(first, second)
    assert bool((first > 0).all())


def test_layers_that_stop_the_flow_are_refused(data: zs.Dataset) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.head = nn.GRU(8, 5, batch_first=True), nn.Linear(5, tiny.CLASSES)

        def forward(self, images: Tensor) -> Tensor:
            return self.head(self.cell(images.flatten(1, 2))[0][:, -1])

    population = zs.Population.from_modules([Recurrent().eval()], example=data.train.normalized()[:2])
    with pytest.raises(InputError, match="'Recurrent' uses gru"):
        Synflow().score(population, data.train, seed=0)


def test_no_layer_is_emptied_before_its_time(data: zs.Dataset) -> None:
    """Where magnitude empties a layer, and so the network, a path stays open."""
    population = tiny.population(n=4)
    for segment in population.layers():
        if not segment.prunable:
            population.weights[:, segment.slice] = 0.0
    layers = [segment for segment in population.layers() if segment.prunable]
    population.weights[:, layers[1].slice] *= 1e-3
    total = population.architecture.n_prunable
    sparsity = (total - len(layers)) / total
    magnitude = zs.magnitude_prune(population, sparsity)
    assert bool((magnitude.sparsity(by_layer=True)[:, 1] == 1).all())
    twins = zs.magnitude_prune(population, sparsity, data=data, score="synflow")
    assert bool((twins.sparsity(by_layer=True) < 1).all())
    assert bool((Synflow().score(twins, data.train, seed=0).amax(1) == 1).all())
    assert twins.sparsity().tolist() == pytest.approx([sparsity] * 4)


@pytest.mark.parametrize("build", [tiny.chain, Normed])
def test_a_row_depends_on_its_model_alone(build: Callable[[], nn.Module], data: zs.Dataset) -> None:
    population = tiny.population(build, n=20)
    together = Synflow().score(population, data.train, seed=0)
    for rows in ([3], [19, 0], list(range(1, 18))):
        assert torch.equal(Synflow().score(population[rows], data.train, seed=7), together[rows])


def test_a_twin_depends_on_its_model_alone(data: zs.Dataset) -> None:
    population = tiny.population(n=20)
    twins = zs.magnitude_prune(population, [0.5, 0.9], data=data, score="synflow")
    alone = zs.magnitude_prune(population[[4]], 0.9, data=data, score="synflow")
    assert twins.masks is not None and alone.masks is not None
    assert torch.equal(alone.masks[0], twins.masks[24])


def test_deep_networks_do_not_overflow(data: zs.Dataset) -> None:
    """The flow is 32**60, some 1e90."""

    def deep() -> nn.Module:
        middle = [layer for _ in range(60) for layer in (nn.Linear(32, 32), nn.ReLU())]
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), *middle, nn.Linear(32, tiny.CLASSES))

    population = tiny.population(deep, n=1)
    population.weights.fill_(1.0)
    scores = Synflow().score(population, data.train, seed=0)
    assert bool(torch.isfinite(scores).all()) and bool((scores > 0).all())
    population.weights.fill_(1e10)
    with pytest.raises(InputError, match="synflow: scores of model"):
        Synflow().score(population, data.train, seed=0)


def test_the_image_has_a_shape(data: zs.Dataset) -> None:
    population = tiny.population(relu_chain, n=2)
    with pytest.raises(InputError, match="needs the shape of the images, which 'Sequential' does not state"):
        zs.magnitude_prune(population, 0.5, score="synflow")
    stated = tiny.population(relu_chain, n=2, input_shape=tiny.SHAPE)
    alone = zs.magnitude_prune(stated, 0.5, score="synflow").masks
    given = zs.magnitude_prune(population, 0.5, score="synflow", data=data).masks
    assert alone is not None and given is not None and torch.equal(alone, given)


def test_modules_that_cannot_compute_in_64_bits_are_refused(data: zs.Dataset) -> None:
    class Single(Normed):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images.float())

    with pytest.raises(
        InputError, match="synflow computes in float64, for an image of ones; 'Single' cannot"
    ):
        zs.magnitude_prune(tiny.population(Single, n=1), 0.5, data=data, score="synflow")


def test_masks_stay_and_a_dead_network_has_no_flow(data: zs.Dataset) -> None:
    population = zs.magnitude_prune(tiny.population(n=3), 0.5)
    masks = population.masks
    twins = zs.magnitude_prune(population, 0.75, data=data, score="synflow")
    assert masks is not None and twins.masks is not None and not twins.masks[~masks].any()
    total = population.architecture.n_prunable
    assert twins.sparsity().tolist() == [round(0.75 * total) / total] * 3
    population.weights[:, population.layers()[0].slice] = 0.0
    population.weights[:, population.layers()[1].slice] = 0.0
    assert bool(torch.isfinite(Synflow().score(population, data.train, seed=0)).all())
    population.weights.zero_()
    assert not Synflow().score(population, data.train, seed=0).any()


def test_biases(data: zs.Dataset) -> None:
    population = tiny.population(n=2)
    twins = zs.magnitude_prune(population, 0.5, data=data, score="synflow", biases=True)
    assert twins.masks is not None and (~twins.masks).sum(1).tolist() == [69, 69]


def test_nan(data: zs.Dataset) -> None:
    population = tiny.population(n=2)
    population.weights[1, 3] = torch.nan
    with pytest.raises(InputError, match="weights are NaN: row 1"):
        zs.magnitude_prune(population, 0.5, data=data, score="synflow")
    with pytest.raises(InputError, match=f"synflow: scores of model '{population.ids[1]}'"):
        zs.magnitude_prune(population, 0.5, data=data, score="synflow", allow_nan=True)


def test_the_series_and_the_options(data: zs.Dataset) -> None:
    twins = zs.magnitude_prune(tiny.population(n=1), 0.5, data=data, score="synflow")
    assert set(twins.models["method"]) == {"synflow"} and twins.ids[0].endswith("/synflow-global-0.5")
    assert chosen_method("synflow", rounds=10).key == "synflow rounds 10"
    with pytest.raises(InputError, match="synflow: rounds must be 1 or more, got 0"):
        chosen_method("synflow", rounds=0)
