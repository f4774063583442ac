"""Programs that are graphs, against `nn.Module`s: scores, every gradient, running statistics."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import zoosparse_ext as zs
from tests.population import graphs, tiny
from zoosparse_ext.ops import infer
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.forward import StepNoise, forward
from zoosparse_ext.population.operations.dropout import Dropout
from zoosparse_ext.population.program import Program
from zoosparse_ext.population.program_module import ProgramModule

TOLERANCE = {torch.float64: (1e-9, 1e-10), torch.float32: (2e-4, 2e-4)}
NO_DROPOUT = StepNoise(torch.zeros(1, dtype=torch.int64), 0, 0, torch.zeros(1))

LAYERS = (
    [(name, layer, (2, 7, 6)) for name, layer in graphs.IMAGES.items()]
    + [(name, layer, (2, 11)) for name, layer in graphs.SIGNALS.items()]
    + [(name, layer, (6,)) for name, layer in graphs.FEATURES.items()]
    + [(f"activation {n}", lambda c, make=make: make(), (6,)) for n, make in enumerate(graphs.ACTIVATIONS)]
    + [(f"activation {n}, images", lambda c, make=make: make(), (2, 5, 5)) for n, make in enumerate(graphs.ACTIVATIONS)]
)  # fmt: skip


class Case:
    """N models of one module, as rows and one by one."""

    def __init__(
        self, module: nn.Module, shape: tuple[int, ...], n: int, dtype: torch.dtype, each: bool
    ) -> None:
        self.architecture = Architecture.from_module(module, input_shape=shape)
        assert self.architecture.program is not None, self.architecture.reason
        names = [segment.name for segment in self.architecture.segments]
        self.modules, rows = [], []
        for _ in range(n):
            own = graphs.stirred(copy.deepcopy(module)).to(dtype)
            tensors = dict(own.named_parameters()) | dict(own.named_buffers())
            rows.append(torch.cat([tensors[name].detach().flatten() for name in names]))
            self.modules.append(own)
        self.rows = torch.stack(rows)
        self.counts = torch.tensor(
            [[int(m.get_buffer(name)) for name in self.architecture.counters] for m in self.modules]
        )
        self.each, self.tolerance = each, TOLERANCE[dtype]
        self.inputs = torch.randn(*((n,) if each else ()), 4, *shape, dtype=dtype)

    def compare(self, training: bool) -> None:
        rows, counts = self.rows.clone().requires_grad_(), self.counts.clone()
        noise = NO_DROPOUT if training else None
        assert self.architecture.program is not None
        flat = self.architecture.program.is_chain and self.inputs.dim() == 2 + self.each
        inputs = self.inputs[..., None, None] if flat else self.inputs
        scores = forward(self.architecture, rows, inputs, each=self.each, counts=counts, noise=noise)
        direction = torch.randn_like(scores)
        (gradient,) = torch.autograd.grad((scores * direction).sum(), rows)
        for number, module in enumerate(self.modules):
            own = self.inputs[number] if self.each else self.inputs
            theirs = module.train(training)(own)
            self._close(scores[number], theirs)
            parameters = dict(module.named_parameters())
            expected = torch.autograd.grad(
                (theirs * direction[number]).sum(), list(parameters.values()), materialize_grads=True
            )
            came = self.architecture.unflatten(gradient[number])
            largest = max(float(tensor.abs().max()) for tensor in expected)
            for name, tensor in zip(parameters, expected, strict=True):
                self._close(came[name], tensor, largest)
            buffers = dict(module.named_buffers())
            after = self.architecture.unflatten(rows.detach()[number])
            for name in self.architecture.frozen_names & buffers.keys():
                self._close(after[name], buffers[name])
            assert counts[number].tolist() == [int(buffers[name]) for name in self.architecture.counters]
        self.rows, self.counts = rows.detach(), counts

    def _close(self, came: Tensor, expected: Tensor, largest: float = 1.0) -> None:
        relative, absolute = self.tolerance
        torch.testing.assert_close(
            came, expected.view(came.shape), rtol=relative, atol=absolute * max(largest, 1.0)
        )


@settings(max_examples=60)
@given(
    drawn=graphs.graphs(),
    n=st.integers(1, 3),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    each=st.booleans(),
    training=st.booleans(),
)
def test_random_graphs(
    drawn: tuple[nn.Module, tuple[int, ...]], n: int, dtype: torch.dtype, each: bool, training: bool
) -> None:
    module, shape = drawn
    Case(module, shape, n, dtype, each).compare(training)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("layer", "shape"), [rest for _, *rest in LAYERS], ids=[name for name, *_ in LAYERS])
def test_every_operation(layer: graphs.Function, shape: tuple[int, ...], training: bool) -> None:
    torch.manual_seed(3)
    for each in (True, False):
        case = Case(graphs.net(layer, shape), shape, 3, torch.float64, each)
        case.compare(training)
        case.compare(training)  # on the statistics of the first time


@pytest.mark.parametrize(("layer", "shape"), [rest for _, *rest in LAYERS], ids=[name for name, *_ in LAYERS])
def test_every_operation_is_stored_and_given_back(layer: graphs.Function, shape: tuple[int, ...]) -> None:
    torch.manual_seed(4)
    module = graphs.net(layer, shape)
    architecture = Architecture.from_module(module, input_shape=shape)
    program = architecture.program
    assert program is not None
    assert Program.from_list(json.loads(json.dumps(program.to_list()))) == program
    assert program.tensors().keys() >= {segment.name for segment in architecture.segments}
    made = ProgramModule(program, architecture.frozen_names)
    assert made.load_state_dict(module.state_dict()).missing_keys == []
    inputs = torch.randn(5, *shape)
    for training in (False, True):
        assert torch.equal(made.train(training)(inputs), module.train(training)(inputs))
    own, theirs = made.state_dict(), module.state_dict()
    assert own.keys() == theirs.keys()
    assert all(torch.equal(own[name], theirs[name]) for name in own)
    sizes = program.shapes(shape)
    assert torch.Size(sizes[-1]).numel() == 3 and len(sizes) == len(program.operations) + 1


@pytest.mark.parametrize("make", [nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout])
def test_dropouts(make: type[nn.Module]) -> None:
    """What is kept is what PyTorch makes of it; whole channels where it drops those; every model at its own rate."""
    shape = (4, 6) if make is nn.Dropout1d else (4, 6, 5)
    layer = {2: nn.Conv1d, 3: nn.Conv2d}[len(shape)](4, 4, 1, bias=False)
    module = nn.Sequential(layer, make(0.3), nn.Tanh(), nn.Softsign())
    architecture = Architecture.from_module(module)
    assert architecture.program is not None
    size = torch.Size(shape).numel()
    identity = torch.eye(4).flatten().expand(2, -1).clone()
    inputs = torch.randn(50, *shape) + 3.0
    noise = StepNoise(torch.tensor([5, 6]), 1, 2, torch.tensor([0.0, 0.6]))
    hidden = forward(architecture, identity, inputs, each=False, noise=noise).view(2, 50, *shape)
    plain = forward(architecture, identity, inputs, each=False).view(2, 50, *shape)
    assert torch.allclose(hidden[0], plain[0])
    dropped = {"AlphaDropout": lambda x: alpha(x, 0.6)}.get(
        make.__name__, lambda x: (x / 0.4, torch.zeros(()))
    )
    kept, gone = (nn.Softsign()(torch.tanh(value)) for value in dropped(inputs))
    is_kept = torch.isclose(hidden[1], kept, atol=1e-5)
    assert bool((is_kept | torch.isclose(hidden[1], gone.expand_as(kept), atol=1e-5)).all())
    assert 0.3 < float(is_kept.float().mean()) < 0.5
    whole = is_kept.flatten(2).float().mean(2)
    assert bool(((whole == 0) | (whole == 1)).all()) == (make in (nn.Dropout1d, nn.Dropout2d))
    assert size == hidden[0, 0].numel()
    alone = StepNoise(torch.tensor([6]), 1, 2, torch.tensor([0.6]))
    again = forward(architecture, identity[1:], inputs, each=False, noise=alone)
    assert torch.equal(again.view(50, *shape), hidden[1])  # whatever the neighbours


def alpha(x: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    bottom = -1.7580993408473766
    scale = ((1 - rate) * (1 + rate * bottom**2)) ** -0.5
    return scale * x - scale * bottom * rate, torch.tensor(scale * bottom * (1 - rate))


def test_streams_of_chains_are_places_and_those_of_graphs_are_stored() -> None:
    chain = Program((Dropout(0.5), *graphs_program(nn.Sequential(nn.Flatten(), nn.Linear(4, 2))).operations))
    assert chain.is_chain and chain.streams == (0, 1, 2) and "stream" not in chain.to_list()[0]
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    program = graphs_program(module)
    assert [row["stream"] for row in program.to_list()] == [0, 1, 2, 3]
    silent = program.without_streams()
    assert silent.streams == (None,) * 4 and Program.from_list(silent.to_list()) == silent
    assert chain.without_streams() == chain


def graphs_program(module: nn.Module) -> Program:
    program = Architecture.from_module(module).program
    assert program is not None
    return program


def test_what_a_module_began_is_not_continued_with_other_random_numbers(
    data: zs.Dataset, tmp_path: Path
) -> None:
    """A zoo without a program draws as its module does, and a training of it is taken up as it was begun."""
    own = tiny.population(lambda: tiny.Residual(dropout=0.5))
    of_module = own.clone()
    of_module.architecture = dataclasses.replace(own.architecture, program=None).retraced(own.to_modules()[0])
    options = {"epochs": 2, "batch_size": 5, "checkpoint": tmp_path / "begun"}

    def stop(progress: zs.Progress) -> None:
        if progress.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        zs.train(of_module.clone(), data, progress=stop, **options)
    with pytest.raises(zs.InputError, match="other settings"):
        zs.train(own.clone(), data, **options)
    resumed, at_once = of_module.clone(), of_module.clone()
    zs.train(resumed, data, **options)
    zs.train(at_once, data, epochs=2, batch_size=5)
    assert torch.equal(resumed.weights, at_once.weights)
    zs.train(own, data, epochs=2, batch_size=5)
    assert not torch.allclose(own.weights, at_once.weights)


def test_a_chain_with_batch_norm_is_evaluated_natively(data: zs.Dataset) -> None:
    modules = tiny.make(
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 2),
            nn.BatchNorm2d(3, affine=False), nn.Tanh(), nn.Flatten(), nn.Linear(12, 6), nn.BatchNorm1d(6), nn.GELU(),
            nn.Dropout(0.3), nn.Linear(6, tiny.CLASSES),
        )
    )  # fmt: skip
    population = zs.Population.from_modules(modules)
    images = data.test.normalized()
    assert population.compile().why_not_native(images) == infer.why_unavailable()
    twins = zs.magnitude_prune(population, 0.7)
    for models in (population, twins):
        expected = torch.stack([module(images) for module in models.to_modules()])
        for mode in ("auto", "dense", "sparse"):
            torch.testing.assert_close(models.compile(mode)(images), expected, rtol=1e-4, atol=1e-5)
        plan = models.compile()
        torch.testing.assert_close(plan.reference_scores(slice(None), images), expected, rtol=1e-4, atol=1e-5)
        result = zs.evaluate(models, data)
        assert torch.equal(result.predictions.long(), expected.argmax(2))
    with pytest.raises(zs.InputError, match="they lack batch_norm '1'"):
        zs.train(population, data, epochs=1, engine="native")
    assert "evaluated natively, trained on the reference executor" in repr(population)


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        ([nn.ReLU(), nn.BatchNorm2d(1), nn.Conv2d(1, 2, 3)], "batch_norm '1' that follows no convolution"),
        ([nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.BatchNorm2d(2)], "batch_norm '2' that follows no"),
        (
            [nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False)],
            "'1' without running statistics",
        ),
        ([nn.Conv2d(1, 2, 3), nn.GroupNorm(1, 2)], "group_norm '1'"),
        ([nn.Conv2d(1, 2, 3), nn.Mish()], "the activation mish"),
        ([nn.Conv2d(1, 2, 3, dilation=2)], "dilation in conv2d '0'"),
        ([nn.Conv2d(1, 2, 3), nn.AvgPool2d(2, padding=1)], "padding in avg_pool2d"),
    ],
)
def test_what_native_evaluation_lacks_is_named(layers: list[nn.Module], reason: str) -> None:
    module = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    population = zs.Population.from_modules([module.eval()], input_shape=tiny.SHAPE)
    images = torch.randn(4, *tiny.SHAPE)
    assert reason in population.compile().why_not_native(images)
    torch.testing.assert_close(population(images)[0], module(images))


def test_wanda_looks_at_every_layer_of_a_graph(data: zs.Dataset) -> None:
    population = tiny.population(tiny.batch_normed, n=2)
    seen: dict[str, Tensor] = {}
    forward(
        population.architecture,
        population.weights,
        data.test.normalized(),
        watch=lambda op, w: seen.update({op.name: w}),
    )
    assert {name: tuple(windows.shape) for name, windows in seen.items()} == {
        "stem": (1, 9, 11 * 64), "conv": (2, 27, 11 * 64), "head": (2, 3, 11),
    }  # fmt: skip
    twins = zs.magnitude_prune(population, 0.5, score="wanda", data=data)
    assert twins.sparsity().tolist() == [0.5, 0.5]
    grouped = tiny.population(lambda: nn.Sequential(nn.Conv2d(1, 4, 8), nn.Conv2d(4, 4, 1, groups=2)), n=1)
    with pytest.raises(zs.InputError, match=r"what enters conv2d '1' differs"):
        zs.magnitude_prune(grouped, 0.5, score="wanda", data=data)
