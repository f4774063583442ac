"""Populations: modules in and out, rows, scores, errors that say where models differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import zoosparse_ext as zs
from tests.population import tiny
from zoosparse_ext.errors import InputError
from zoosparse_ext.population.initialise import INITIALISATIONS
from zoosparse_ext.population.population import require_numbers

BUILDS: dict[str, Callable[[], nn.Module]] = {
    "chain": tiny.chain,
    "dropout": lambda: tiny.chain(dropout=0.5),
    "residual": tiny.Residual,
    "batch norm": tiny.batch_normed,
    "residual dropout": lambda: tiny.Residual(dropout=0.5),
}
every_build = pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)


@every_build
def test_modules_make_a_round_trip_to_the_bit(build: Callable[[], nn.Module]) -> None:
    modules = tiny.make(build)
    again = zs.Population.from_modules(modules).to_modules()
    for module, copy in zip(modules, again, strict=True):
        assert not copy.training
        assert module.state_dict().keys() == copy.state_dict().keys()
        for name, tensor in module.state_dict().items():
            assert torch.equal(tensor, copy.state_dict()[name]), name


@every_build
@pytest.mark.parametrize("batch", [1, 5])
def test_scores_are_those_of_each_module(build: Callable[[], nn.Module], batch: int) -> None:
    modules = tiny.make(build)
    images = torch.randn(batch, *tiny.SHAPE)
    population = zs.Population.from_modules(modules)
    expected = torch.stack([module(images) for module in modules]).detach()
    torch.testing.assert_close(population(images), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(population[:1](images), expected[:1], rtol=1e-5, atol=1e-6)
    assert not population(images).requires_grad


def test_state_dicts_and_their_module() -> None:
    modules = tiny.make(tiny.chain)
    states = [module.state_dict() for module in modules]
    with pytest.raises(InputError, match="pass module="):
        zs.Population.from_modules(states)
    population = zs.Population.from_modules(states, module=modules[0], name="tiny", input_shape=tiny.SHAPE)
    assert torch.equal(population.weights, zs.Population.from_modules(modules).weights)
    assert repr(population) == "Population(3 × tiny, P = 138 (123 prunable))"


def test_models_are_copied() -> None:
    modules = tiny.make(tiny.chain)
    population = zs.Population.from_modules(modules)
    population.weights.zero_()
    assert all(bool(p.any()) for p in modules[0].parameters())
    copies = population.to_modules()
    copies[0].get_parameter("0.weight").data.fill_(1.0)
    assert not population.weights.any() and not copies[1].get_parameter("0.weight").any()


def wider() -> nn.Module:
    module = tiny.chain()
    module[3] = nn.Conv2d(3, 5, 2)
    return module


def padded() -> nn.Module:
    module = tiny.chain()
    module[1] = nn.MaxPool2d(2, stride=1)
    return module


def longer() -> nn.Module:
    return nn.Sequential(*tiny.chain(), nn.Tanh())


def dilated() -> nn.Module:
    module = tiny.chain()
    module[3] = nn.Conv2d(3, 2, 2, dilation=2)
    return module


def randomly() -> nn.Module:
    module = tiny.chain()
    module[2] = nn.RReLU()
    return module


class Joined(nn.Module):
    """Two layers, and a sum of one of their results with the last."""

    def __init__(self, chosen: int) -> None:
        super().__init__()
        self.chosen, self.flat = chosen, nn.Flatten()
        self.first, self.second, self.third = (nn.Linear(size, 4) for size in (64, 4, 4))

    def forward(self, images: Tensor) -> Tensor:
        hidden = [self.first(self.flat(images))]
        hidden.append(self.second(hidden[0]))
        return hidden[1 - self.chosen] * 2 + hidden[self.chosen] + self.third(hidden[1])


DIFFERENCES: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module], str]] = {
    "shape": (tiny.chain, wider, r"'3.weight' \[5, 3, 2, 2\] where model 0 has '3.weight' \[2, 3, 2, 2\]"),
    "more tensors": (
        tiny.chain,
        lambda: nn.Sequential(*tiny.chain(), nn.Linear(4, 4)),
        "it has 10 tensors where model 0 has 8",
    ),
    "activation": (tiny.chain, lambda: tiny.chain(nn.ReLU), "'relu'.* where model 0 computes .*'tanh'"),
    "stride": (tiny.chain, padded, r"stride=\(1, 1\).* where model 0 computes .*stride=\(2, 2\)"),
    "more operations": (tiny.chain, longer, "'tanh'.* where model 0 computes nothing more"),
    "fewer operations": (longer, tiny.chain, "nothing more where model 0 computes .*'tanh'"),
    "dilation": (tiny.chain, dilated, r"dilation.* is 2 .*dilation=\(2, 2\).* where model 0 computes"),
    "no program": (tiny.chain, randomly, "it does not trace to a program .*RReLU.*, model 0 does"),
    "other inputs of one operation": (
        lambda: Joined(0),
        lambda: Joined(1),
        "its operation 3, multiply with a number, takes the result of linear 'first' where .* of linear 'second'",
    ),
    "no chain, other modules": (
        tiny.Residual,
        lambda: tiny.Residual(dropout=0.2),
        r"drop is Dropout\(p=0.2.* where model 0 has Identity",
    ),
}


@pytest.mark.parametrize("difference", DIFFERENCES)
def test_models_that_differ(difference: str) -> None:
    first, second, message = DIFFERENCES[difference]
    with pytest.raises(InputError, match=f"(?s)model 1 differs from model 0: .*{message}"):
        zs.Population.from_modules([first(), second()])


def tied() -> nn.Module:
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Linear(64, 64))
    module[2].weight = module[1].weight
    return module


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (list, "no models were given"),
        (lambda: [nn.ReLU()], "ReLU has no parameters"),
        (tiny.chain, r"takes a list of modules; write from_modules\(\[module\]\) for one"),
        (lambda: [tied()], "shares one parameter as"),
        (lambda: [tiny.chain(), {}], "model 1 differs from model 0: state dict lacks '0.weight'"),
        (
            lambda: [tiny.chain(), tiny.chain().state_dict() | {"odd": torch.ones(1)}],
            "model 1 differs from model 0: state dict holds 'odd'",
        ),
        (
            lambda: [tiny.chain(), tiny.chain().state_dict() | {"0.bias": torch.ones(7)}],
            r"model 1 .* '0.bias' has shape \[7\], architecture 'Sequential' expects \[3\]",
        ),
    ],
)
def test_models_that_make_no_population(models: Callable[[], list[Any]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        zs.Population.from_modules(models())


def test_buffers_that_are_not_saved_are_no_columns() -> None:
    def build() -> nn.Module:
        module = tiny.Residual()
        module.register_buffer("scratch", torch.zeros(5), persistent=False)
        return module

    assert zs.Population.from_modules([build()]).layers() == tiny.population(tiny.Residual).layers()


@every_build
@pytest.mark.parametrize(
    ("shape", "message"), [((1, 9, 8), "images are 1×9×8, .* expects 1×8×8"), ((3, 8, 8), "images are 3×8×8")]
)
def test_images_of_another_size(build: Callable[[], nn.Module], shape: tuple[int, ...], message: str) -> None:
    population = zs.Population.from_modules(tiny.make(build), input_shape=tiny.SHAPE)
    with pytest.raises(InputError, match=message):
        population(torch.zeros(2, *shape))


def test_pixels_as_they_are_stored() -> None:
    pixels = torch.zeros(2, *tiny.SHAPE, dtype=torch.uint8)
    with pytest.raises(
        InputError, match=r"images are torch.uint8, networks take normalized ones: split.norm"
    ):
        tiny.population()(pixels)


def test_images_of_an_unknown_size_are_checked_against_the_layers() -> None:
    population = tiny.population()
    with pytest.raises(InputError, match="'6' expects 8 features, got 18"):
        population(torch.zeros(2, 1, 10, 10))
    with pytest.raises(InputError, match="too small"):
        population(torch.zeros(2, 1, 2, 2))
    with pytest.raises(InputError, match=r"images must be \[B, C, H, W\], got shape \[8, 8\]"):
        population(torch.zeros(8, 8))


ROWS: dict[str, Any] = {
    "slice": slice(1, 4, 2),
    "list": [3, 1],
    "negative": [-1],
    "bools": [True, False, False, True],
    "number": 2,
    "tensor": torch.tensor([2, 2]),
    "array": np.array([False, True, True, False]),
    "empty": [],
}


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_rows(rows: Any) -> None:
    table = pd.DataFrame({"model_id": list("abcd"), "seed": [7, 8, 9, 10]})
    whole = zs.magnitude_prune(zs.Population.from_modules(tiny.make(tiny.chain, 4), table=table), 0.5)
    whole.predictions = torch.arange(8, dtype=torch.uint8).view(4, 2)
    some = whole[rows]
    positions = np.atleast_1d(np.arange(4)[slice(0) if isinstance(rows, list) and not rows else rows])
    assert list(some.models["source_id"]) == ["abcd"[p] for p in positions]
    assert some.seeds.tolist() == [7 + p for p in positions]
    for name in ("weights", "packed_masks", "predictions"):
        assert torch.equal(getattr(some, name), getattr(whole, name)[positions]), name


def test_a_slice_is_a_view_and_a_clone_is_not() -> None:
    whole = tiny.population()
    whole[1:].weights[0] = 5.0
    assert (whole.weights[1] == 5.0).all()
    copy = zs.magnitude_prune(whole, 0.5).clone()
    copy.weights.zero_()
    copy.models["seed"] = 99
    assert whole.weights.any() and whole.seeds.tolist() == [0, 1, 2]


def test_sparsity_by_hand() -> None:
    population = tiny.population()
    population.weights[:] = 1.0
    segments = {segment.name: segment.slice for segment in population.layers()}
    population.weights[0, segments["0.weight"]] = 0.0  # 27 of 27
    population.weights[1, segments["6.weight"].start] = -0.0  # 1 of 48
    population.weights[2, segments["0.bias"]] = 0.0  # does not count
    assert population.architecture.n_prunable == 27 + 24 + 48 + 24
    assert population.sparsity().tolist() == [27 / 123, 1 / 123, 0.0]
    assert population.sparsity(by_layer=True).tolist() == [[1, 0, 0, 0], [0, 0, 1 / 48, 0], [0, 0, 0, 0]]


def test_nan_is_refused_by_row_and_layer() -> None:
    population = tiny.population()
    require_numbers(population)
    population.weights[1, -1] = torch.nan
    population.weights[2, 0] = torch.nan
    with pytest.raises(
        InputError, match=r"row 1 \(model '0001'\), layer '8.bias'; 2 of 3 models; pass allow_nan"
    ):
        require_numbers(population)


def test_a_shape_given_as_the_name_is_told() -> None:
    with pytest.raises(InputError, match=r"name: got tuple, expected text; images .* are input_shape"):
        zs.Architecture.from_module(tiny.chain(), tiny.SHAPE)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"module: got str 'cnn', expected an nn.Module"):
        zs.Architecture.from_module("cnn")  # type: ignore[arg-type]


@pytest.mark.parametrize("init", INITIALISATIONS)
def test_a_fresh_model_depends_on_its_seed_alone(init: str) -> None:
    architecture = zs.Architecture.from_module(tiny.chain(), "tiny")
    population = zs.Population.initialise(architecture, [4, 2**33, 6], init)
    alone = zs.Population.initialise(architecture, [2**33], init)
    assert torch.equal(population.weights[1], alone.weights[0])
    weight = torch.empty(3, 1, 3, 3)
    INITIALISATIONS[init](weight, generator=torch.Generator().manual_seed(2**33))
    assert torch.equal(alone.weights[0, :27], weight.flatten())
    assert (alone.weights[0, 27:30] == 0.01).all()
    assert population.ids == ["tiny-0004", f"tiny-{2**33}", "tiny-0006"]


def test_initialisations_may_differ_by_model() -> None:
    architecture = zs.Architecture.from_module(tiny.batch_normed(), "tiny")
    population = zs.Population.initialise(architecture, range(2), ["uniform", "normal"])
    assert list(population.models["init"]) == ["uniform", "normal"]
    columns = {segment.name: segment.slice for segment in population.layers()}
    assert (population.weights[0, columns["stem.weight"]] >= 0).all()
    assert (population.weights[:, columns["norm.weight"]] == 1).all()
    assert (population.weights[:, columns["norm.running_mean"]] == 0).all()
    with pytest.raises(InputError, match="unknown initialisation 'zeros'"):
        zs.Population.initialise(architecture, range(2), "zeros")
    with pytest.raises(InputError, match="no seeds were given"):
        zs.Population.initialise(architecture, [])
    with pytest.raises(InputError, match="init names 1 initialisations for 2 seeds"):
        zs.Population.initialise(architecture, range(2), ["normal"])
    with pytest.raises(
        InputError, match=r"seeds: got int 16, expected one per model, such as range\(1, 17\)"
    ):
        zs.Population.initialise(architecture, 16)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="architecture: got str 'cnn-s', expected an Architecture"):
        zs.Population.initialise("cnn-s", range(2))  # type: ignore[arg-type]


def test_a_population_that_does_not_fit_together() -> None:
    population = tiny.population()
    architecture = population.architecture
    with pytest.raises(InputError, match=r"shape \[3, 5\], architecture 'Sequential' expects \[N, 138\]"):
        zs.Population(torch.zeros(3, 5), architecture)
    with pytest.raises(InputError, match=r"weights are torch.float16, populations take float32"):
        zs.Population(population.weights.half(), architecture)
    with pytest.raises(InputError, match=r"weights: got ndarray, expected a tensor \[N, 138\]"):
        zs.Population(population.weights.numpy(), architecture)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="table has 2 rows for 3 models"):
        zs.Population(population.weights, architecture, pd.DataFrame({"seed": [0, 1]}))
    with pytest.raises(InputError, match="predictions has 2 rows for a population of 3"):
        zs.Population(population.weights, architecture, predictions=torch.zeros(2, 9))


def test_dropout_rates_of_the_table() -> None:
    population = tiny.population(lambda: tiny.chain(dropout=0.5))
    assert population.dropout is None
    population.models["dropout"] = [0.0, 0.25, 0.5]
    assert population.dropout is not None and population.dropout.tolist() == [0.0, 0.25, 0.5]
    population.models["dropout"] = [0.0, 1.0, 0.5]
    with pytest.raises(InputError, match=r"model '0001' is 1\.0; rates lie in"):
        _ = population.dropout


def test_an_architecture_from_disk_asks_for_its_module() -> None:
    """Of a network that is no program, as those with batch norm were in version 0.1."""
    source = tiny.population(tiny.batch_normed)
    stored = source.architecture.to_dict() | {"program": None, "reason": "add"}
    architecture = zs.Architecture.from_dict(stored)
    assert architecture == source.architecture
    population = zs.Population(source.weights, architecture)
    images = torch.randn(2, *tiny.SHAPE)
    with pytest.raises(InputError, match="give the module again"):
        population(images)
    with pytest.raises(InputError, match=r"the module has 'stem\.weight'"):
        population.with_module(tiny.Residual())
    assert torch.equal(population.with_module(tiny.batch_normed())(images), source(images))
    program = population.architecture.program
    assert program is not None and not program.has_streams and architecture.reason == "add"


def test_a_graph_from_disk_needs_no_module() -> None:
    source = tiny.population(tiny.batch_normed)
    architecture = zs.Architecture.from_dict(source.architecture.to_dict())
    assert architecture == source.architecture
    images = torch.randn(2, *tiny.SHAPE)
    population = zs.Population(source.weights, architecture)
    assert torch.equal(population(images), source(images))
    scores = torch.stack([module(images) for module in population.to_modules()])
    torch.testing.assert_close(scores, source(images))


def test_predictions_stay_on_the_cpu() -> None:
    models = zs.magnitude_prune(tiny.population(), 0.5)
    models.predictions = torch.zeros(3, 7, dtype=torch.uint8)
    moved = models.clone().to("meta")
    assert moved.weights.is_meta and moved.packed_masks is not None and moved.packed_masks.is_meta
    assert moved.predictions is not None and moved.predictions.device.type == "cpu"
