"""A population computes what its modules compute, or is refused: over all kinds of modules that people have."""

from __future__ import annotations

import contextlib
import logging
import warnings
from functools import cache

import pytest
import torch
from torch import Tensor, nn

import zoosparse_ext as zs
from tests.population.kinds import FAST, KINDS, REFUSED, Kind
from tests.population.kinds.ways_out import WAYS_OUT, WayOut
from zoosparse_ext.errors import InputError
from zoosparse_ext.ops import infer


def over(kinds: list[Kind]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("kind", kinds, ids=[kind.name for kind in kinds])


computed = over([kind for kind in KINDS if kind.expected != REFUSED])


def population_of(kind: Kind, **options: object) -> zs.Population:
    torch.manual_seed(7)
    example = kind.example(2)
    given, more = kind.given(kind.models())
    return zs.Population.from_modules(given, example=example, **more, **options)


@cache
def kept_population_of(kind: Kind) -> zs.Population:
    """The same for all tests that only look at it."""
    return population_of(kind)


def input_of(kind: Kind) -> Tensor:
    torch.manual_seed(8)
    return kind.example(3)


def own_scores(module: nn.Module, x: Tensor) -> Tensor:
    """What the module computes in evaluation mode, in its own type of float; its modes stay as they were.

    Modules that draw random numbers even then draw those that a population draws for each of its models.
    """
    modes = [(child, child.training) for child in module.modules()]
    with contextlib.suppress(NotImplementedError):  # of exported programs, which have one mode
        module.eval()
    dtype = next(module.parameters()).dtype
    own = x.clone().to(dtype) if x.is_floating_point() else x.clone()
    try:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return module(own).float().flatten(1)
    finally:
        for child, mode in modes:
            child.training = mode


def assert_scores(came: Tensor, expected: Tensor, kind: Kind) -> None:
    torch.testing.assert_close(
        came.float(), expected, rtol=kind.tolerance, atol=kind.tolerance, equal_nan=not kind.finite
    )


@computed
def test_scores_are_those_of_the_modules(kind: Kind) -> None:
    population, models, x = kept_population_of(kind), kind.models(), input_of(kind)
    with torch.no_grad():
        expected = torch.stack([own_scores(model, x) for model in models])
        assert_scores(population(x.clone()), expected, kind)
        assert_scores(population.scores(population.weights[1:2], x.clone()), expected[1:2], kind)
    if kind.expected == FAST:
        assert population.architecture.program is not None, population.architecture.reason
        assert population.compile().why_not_native(x) == infer.why_unavailable("cpu")


@computed
def test_scores_without_an_example(kind: Kind) -> None:
    """The population finds an input of its own, or says that nothing was compared; it refuses nothing for that."""
    given, options = kind.given(kind.models())
    population = zs.Population.from_modules(given, **options)
    assert torch.equal(population.weights.nan_to_num(), kept_population_of(kind).weights.nan_to_num())
    models, x = kind.models(), input_of(kind)
    with torch.no_grad():
        expected = torch.stack([own_scores(model, x) for model in models])
        assert_scores(population(x), expected, kind)


@over([kind for kind in KINDS if kind.expected == REFUSED])
def test_a_refusal_names_the_thing(kind: Kind) -> None:
    with pytest.raises(InputError) as caught:
        population_of(kind)
    missing = [name for name in kind.names if name not in str(caught.value)]
    assert not missing, f"not named: {missing}; the message: {caught.value}"


@pytest.mark.parametrize(
    ("name", "way_out"),
    [
        pytest.param(name, way, id=f"{name}: {place}")
        for name, ways in WAYS_OUT.items()
        for place, way in enumerate(ways)
    ],
)
def test_the_way_out_of_a_refusal(name: str, way_out: WayOut) -> None:
    kind = next(kind for kind in KINDS if kind.name == name)
    assert kind.expected == REFUSED
    models = [way_out(model) or model for model in kind.models()]
    x = input_of(kind)
    population = zs.Population.from_modules(models, example=x)
    with torch.no_grad():
        assert_scores(population(x.clone()), torch.stack([own_scores(model, x) for model in models]), kind)


@over(KINDS)
def test_the_modules_given_stay_as_they_are(kind: Kind) -> None:
    models = kind.models()
    before = [signature(model) for model in models]
    example = kind.example(2)
    given, options = kind.given(models)
    drawn = torch.random.get_rng_state()
    with contextlib.suppress(InputError):
        zs.Population.from_modules(given, example=example, **options)
    assert torch.equal(torch.random.get_rng_state(), drawn), "draws from the caller's random numbers"
    for was, model in zip(before, models, strict=True):
        now = signature(model)
        assert now.keys() == was.keys()
        for key, value in was.items():
            if isinstance(value, Tensor):
                assert torch.equal(value.nan_to_num(), now[key].nan_to_num()), key
            else:
                assert value == now[key], key


def signature(model: nn.Module) -> dict[str, object]:
    """Tensors, modes, flags and hooks of every part of a module."""
    seen: dict[str, object] = {}
    for prefix, child in model.named_modules():
        seen[f"{prefix}.training"] = child.training
        for hooks in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"):
            seen[f"{prefix}.{hooks}"] = len(getattr(child, hooks))
        for name, tensor in [*child._parameters.items(), *child._buffers.items()]:
            if tensor is None or isinstance(tensor, nn.parameter.UninitializedTensorMixin):
                continue
            seen[f"{prefix}.{name}.requires_grad"] = tensor.requires_grad
            seen[f"{prefix}.{name}.is_leaf"] = tensor.is_leaf
            if not tensor.is_meta and not tensor.is_sparse:
                seen[f"{prefix}.{name}"] = tensor.detach().clone()
    return seen


def plain_class(module: nn.Module) -> type:
    """Its class; of graphs of torch.fx, each of which has one of its own, the class of all."""
    return torch.fx.GraphModule if isinstance(module, torch.fx.GraphModule) else type(module)


@computed
def test_modules_come_back(kind: Kind) -> None:
    population, models, x = kept_population_of(kind), kind.models(), input_of(kind)
    returned = population.to_modules()
    for model, back in zip(models, returned, strict=True):
        assert plain_class(back) is plain_class(kind.inner(model))
        counts = {name: n for name, n in back.state_dict().items() if name.endswith("num_batches_tracked")}
        assert all(torch.equal(n, model.state_dict()[name]) for name, n in counts.items())
        with torch.no_grad():
            assert_scores(own_scores(back, x), own_scores(model, x), kind)
    again = zs.Population.from_modules(returned, example=x)
    torch.testing.assert_close(again.weights, population.weights, rtol=0, atol=0, equal_nan=True)


@over([kind for kind in KINDS if kind.expected != REFUSED and kind.finite])
def test_twins_come_back(kind: Kind) -> None:
    population, x = kept_population_of(kind), input_of(kind)
    if kind.chosen:
        with pytest.raises(InputError, match="prunable="):
            zs.magnitude_prune(population, 0.5)
        population = population_of(kind, prunable=kind.chosen)
    twins = zs.magnitude_prune(population, 0.5)
    size = population.architecture.n_prunable
    assert twins.sparsity().tolist() == [round(0.5 * size) / size] * len(population)
    with torch.no_grad():
        expected = torch.stack([own_scores(module, x) for module in twins.to_modules()])
        assert_scores(twins(x.clone()), expected, kind)
        assert not torch.equal(twins(x.clone()), population(x.clone()))


@computed
def test_columns_say_what_is_pruned_masked_and_trained(kind: Kind) -> None:
    population = kept_population_of(kind)
    columns = {segment.name: segment for segment in population.layers()}
    if kind.prunable is not None:
        assert {name for name, segment in columns.items() if segment.prunable} == kind.prunable
    if kind.untrained is not None:
        assert {name for name, segment in columns.items() if not segment.trainable} == kind.untrained
    masks = population.masks
    if not kind.masked:
        assert masks is None or bool(masks.all())
        return
    assert masks is not None
    assert ((population.weights == 0) | masks).all()
    assert 0.1 < float(population.sparsity().min()) < 0.5


@over([kind for kind in KINDS if kind.expected != REFUSED and kind.finite and not kind.masked])
def test_gradients_are_those_of_the_modules_or_raise(kind: Kind) -> None:
    population, models, x = kept_population_of(kind), kind.models(), input_of(kind)
    weights = population.weights.clone().requires_grad_()
    try:
        (gradient,) = torch.autograd.grad(population.scores(weights, x.clone()).square().sum(), weights)
    except (InputError, RuntimeError):
        return  # it says that it cannot
    for row, model in zip(gradient, models, strict=True):
        trained = {name: p for name, p in kind.inner(model).named_parameters() if p.requires_grad}
        try:
            loss = own_scores(model, x).square().sum()
            gradients = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
        except RuntimeError:
            continue  # nothing in it can be trained
        own_gradients = dict(zip(trained, gradients, strict=True))
        for segment in population.layers():
            own = own_gradients.get(segment.name)
            if own is not None:
                bound = 20 * kind.tolerance * max(float(own.abs().max()), 1.0)
                came = row[segment.slice].view(segment.shape)
                torch.testing.assert_close(came, own.float(), rtol=0, atol=bound)


@over([kind for kind in KINDS if kind.told])
def test_what_is_changed_on_the_way_is_told(kind: Kind, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        population_of(kind)
    assert kind.told in " ".join([caplog.text, *(str(warning.message) for warning in caught)])
