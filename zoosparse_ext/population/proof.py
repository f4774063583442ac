"""The proof that a population computes what its modules compute: scores and a gradient, compared on random inputs."""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from zoosparse_ext.errors import InputError, ZoosparseError
from zoosparse_ext.population.architecture import Architecture, ProgramModule
from zoosparse_ext.population.forward import StepNoise, forward
from zoosparse_ext.population.likeness import Difference, differences, own_behavior
from zoosparse_ext.population.modules import forward_modules, seeded
from zoosparse_ext.population.plan import Plan, as_images
from zoosparse_ext.population.program import Conv2d, Flatten, Linear, Program

_BATCH = 4
_LAYERS = 4  # whose inputs are tried
_MODELS = 8  # whose scores are compared, from the first to the last
_SIDES = (28, 32, 8, 16, 64, 96, 128, 224, 12, 10, 6, 5, 4, 3, 2, 1)  # of images that are tried
_SIZES = (  # where layers keep how many features or channels they take
    *(
        "in_channels",
        "in_features",
        "in1_features",
        "input_size",
        "embed_dim",
        "num_features",
        "num_channels",
    ),
)
_LENGTHS = (32, 64, 128, 16, 100, 256, 8, 5)  # of signals and sequences
_TOLERANCE = {
    "scores": (1e-3, 1e-4),
    "gradients": (1e-2, 1e-3),
}  # relative, and absolute as a share of the largest
_NOTHING = StepNoise(torch.zeros(1, dtype=torch.int64), 0, 0, torch.zeros(1))  # no dropout


@dataclass(frozen=True)
class Model:
    """One of the models: its module, its row of the matrix [P], and its counters [C].

    `unlike` says where it differs from the first model beside its columns.
    """

    number: int
    module: nn.Module
    row: Tensor
    counts: Tensor
    unlike: tuple[Difference, ...] = ()


def spread(n: int, always: Iterable[int] = ()) -> list[int]:
    """Numbers of the models to compare: up to eight of n, evenly from the first to the last, and some always.

    >>> spread(100, always=[50])
    [0, 14, 28, 42, 50, 57, 71, 85, 99]
    """
    last = min(n, _MODELS) - 1
    return sorted({round(place * (n - 1) / max(1, last)) for place in range(last + 1)} | set(always))


def example_for(architecture: Architecture, module: nn.Module) -> Tensor | None:
    """Inputs [1, …] that a module takes, as far as that can be told from its layers; None where it cannot.

    >>> chain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 2))
    >>> example_for(Architecture.from_module(chain), chain).shape
    torch.Size([1, 3, 8, 8])
    """
    if architecture.input_shape is not None:
        return torch.randn(1, *architecture.input_shape, generator=_generator(0))
    if architecture.program is not None and (example := _example_of_chain(architecture.program)) is not None:
        return example
    runner = copy.deepcopy(module).eval()
    for candidate in _candidates(module):
        batch = candidate.expand(3, *candidate.shape[1:])  # so that an axis of 1 is not taken for the batch
        try:
            with torch.no_grad(), seeded(None, 0):
                scores = runner(batch)
        except Exception:  # whatever a module raises for an input that it does not take
            continue
        if (
            isinstance(scores, Tensor)
            and scores.dim() >= 2
            and len(scores) == 3
            and scores[0, 0].numel() == 1
        ):
            return candidate
    return None


def prove(
    architecture: Architecture, models: Sequence[Model], example: Tensor, *, may_run_as_module: bool = True
) -> Architecture:
    """Compare what an architecture computes with the modules that its rows were made from.

    Scores in evaluation mode on two random batches, for all these models; for the first and for those that differ in
    more than columns, one gradient in training mode without dropout, and what training does to buffers.

    Args:
        architecture: with a template.
        models: those to compare.
        example: inputs [B, …] of the shape and kind that the modules take.
        may_run_as_module: a chain may become a module where its program computes something else.

    Returns:
        The architecture; without its program, or with `one_by_one`, where the program or `vmap` computes something
        else than the modules do.

    Raises:
        InputError: a module cannot run on such inputs, or computes something else; names the model and the layer.
    """
    batches = [_batch(example, seed) for seed in (1, 2)]
    attempts = [architecture]
    if (
        may_run_as_module and architecture.program is not None
    ):  # torch.fx does not see all that a forward does
        reason = "it computes something else than the chain of its layers"
        attempts.append(without_program(architecture, models[0].module, reason))
    if may_run_as_module or architecture.program is None:
        attempts.append(replace(attempts[-1], one_by_one=True))
    for attempt in attempts:
        if attempt.program is None:
            _require_no_trace_left(architecture, models[0], batches[0])
        try:
            _compare(attempt, models, batches)
        except InputError:
            if attempt is attempts[-1]:
                raise
        else:
            return attempt
    raise AssertionError  # the last attempt returned or raised


def _compare(architecture: Architecture, models: Sequence[Model], batches: Sequence[Tensor]) -> None:
    plan = Plan(architecture, torch.stack([model.row for model in models]))
    for inputs in batches:
        scores = plan(inputs)  # [n, B, classes]
        for model, ours in zip(models, scores, strict=True):
            _compare_scores(architecture, model, inputs, ours)
    for model in models:
        if model is models[0] or model.unlike:
            _compare_training(architecture, model, batches[0])


def _require_no_trace_left(architecture: Architecture, model: Model, inputs: Tensor) -> None:
    """Raise InputError if a module changes its input, or computes something else the second time."""
    given, module = inputs.clone(), copy.deepcopy(model.module).eval()
    with torch.no_grad():
        scores = []
        for _ in range(2):
            with seeded(None, 0):
                scores.append(module(given))
            if not torch.equal(given, inputs):
                raise InputError(
                    f"{architecture.name!r} changes its input in place, which other models see as well; let it work on "
                    "a copy"
                )
    if not torch.allclose(scores[0], scores[1], equal_nan=True):
        before = dict(model.module.named_buffers())
        changed = [name for name, buffer in module.named_buffers() if not torch.equal(buffer, before[name])]
        found = differences(model.module, module, before)
        changed += [".".join(filter(None, (difference.layer, difference.attribute))) for difference in found]
        where = f" in {changed[0]!r}" if changed else ""
        raise InputError(
            f"{architecture.name!r} computes something else when it is called again: it keeps something from call to "
            f"call{where}, which a population cannot"
        )


def run_both_ways(module: nn.Module, example: Tensor) -> None:
    """Run a module on random inputs like an example in evaluation and in training mode, as far as it can be."""
    for training in (False, True):
        with contextlib.suppress(Exception), torch.no_grad(), seeded(None, 0):
            module.train(training)(_batch(example, 1))


def check_runs(architecture: Architecture, module: nn.Module, example: Tensor) -> None:
    """Raise InputError unless a module gives scores for such inputs."""
    try:
        with torch.no_grad(), seeded(None, 0):
            scores = copy.deepcopy(module).eval()(_batch(example, 1))
    except Exception as error:  # whatever the module's own code raises
        size = "×".join(map(str, example.shape[1:]))
        raise InputError(f"{architecture.name!r} cannot take inputs of size {size}: {error}") from error
    if not isinstance(scores, Tensor) or scores.dim() < 2 or scores.shape[2:].numel() != 1:
        came = f"{list(scores.shape)}" if isinstance(scores, Tensor) else f"a {type(scores).__name__}"
        raise InputError(
            f"{architecture.name!r} returns {came} for inputs [{_BATCH}, …]; a population needs scores "
            f"[{_BATCH}, classes]"
        )


def _compare_scores(architecture: Architecture, model: Model, inputs: Tensor, ours: Tensor) -> None:
    with torch.no_grad(), seeded(None, 0):
        theirs = copy.deepcopy(model.module).eval()(inputs)
    if theirs.numel() == ours.numel() and _close("scores", ours.flatten(1), theirs.flatten(1)):
        return
    raise _differs(architecture, model, "scores", _layer_that_differs(architecture, model, inputs))


def _compare_training(architecture: Architecture, model: Model, inputs: Tensor) -> None:
    module = copy.deepcopy(model.module).train()
    for layer in module.modules():
        if isinstance(layer, nn.modules.dropout._DropoutNd):
            layer.p = 0.0
    parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
    try:
        with seeded(_NOTHING, 0):
            scores = module(inputs)
        factors = torch.randn(scores.flatten(1).shape, generator=_generator(3))
        objective = (scores.flatten(1) * factors).sum()  # of any shape: a chain may end in maps
        gradients = torch.autograd.grad(objective, list(parameters.values()), materialize_grads=True)
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return  # it cannot be trained, which train says
    row, counts = model.row[None].clone().requires_grad_(), model.counts[None].clone()
    if architecture.program is not None:
        ours = forward(architecture, row, as_images(inputs, architecture.program), noise=_NOTHING)
    else:
        ours = forward_modules(architecture, row, inputs, counts=counts, noise=_NOTHING)
    (gradient,) = torch.autograd.grad((ours[0].flatten(1) * factors).sum(), row, materialize_grads=True)
    own = architecture.unflatten(gradient[0])
    theirs = dict(zip(parameters, gradients, strict=True))
    largest = max(float(tensor.abs().max()) for tensor in gradients if tensor.numel()) if gradients else 0.0
    for name, expected in theirs.items():
        if not _close("gradients", own[name], expected, largest):
            raise _differs(architecture, model, "gradients in training", name)
    buffers = dict(module.named_buffers())
    trained = architecture.unflatten(row.detach()[0])
    for name in architecture.frozen_names & buffers.keys():
        if not _close("scores", trained[name], buffers[name]):
            raise _differs(architecture, model, "buffers after a step of training", name)


def _differs(architecture: Architecture, model: Model, what: str, layer: str) -> InputError:
    reasons = [f"it differs from model 0: {difference}" for difference in model.unlike[:1]]
    reasons += [behavior] if (behavior := own_behavior(model.module)) else []
    reasons += (
        []
        if reasons
        else ["its forward uses something that no column of the matrix and no common module holds"]
    )
    return InputError(
        f"model {model.number} of {architecture.name!r} gives other {what} as a module than in a population"
        + (f", from {layer!r} on" if layer else "")
        + f"; {'; '.join(reasons)}"
    )


def _layer_that_differs(architecture: Architecture, model: Model, inputs: Tensor) -> str:
    """The first layer, in the order in which they are called, that gives something else; empty if none does."""
    program = architecture.program
    common = architecture.module() if program is None else ProgramModule(program)
    common.load_state_dict(dict(architecture.unflatten(model.row)), strict=False)
    outputs = [_outputs(module, inputs) for module in (copy.deepcopy(model.module), common)]
    for name, theirs in outputs[0].items():
        ours = outputs[1].get(name, theirs)
        if ours.shape != theirs.shape or not _close("scores", ours, theirs):
            return name
    return ""


def _outputs(module: nn.Module, inputs: Tensor) -> Mapping[str, Tensor]:
    """What each named layer gives, in the order in which they finish."""
    outputs: dict[str, Tensor] = {}

    def keep(name: str, output: object) -> None:
        if isinstance(output, Tensor):
            outputs.setdefault(name, output.detach().clone())

    handles = [
        layer.register_forward_hook(lambda _, __, output, name=name: keep(name, output))
        for name, layer in module.named_modules()
        if name
    ]
    try:
        with torch.no_grad(), seeded(None, 0):
            module.eval()(inputs)
    except ZoosparseError:
        raise
    except Exception:  # what was called before is compared all the same
        pass
    finally:
        for handle in handles:
            handle.remove()
    return outputs


def _close(kind: str, ours: Tensor, theirs: Tensor, largest: float | None = None) -> bool:
    relative, share = _TOLERANCE[kind]
    finite = theirs[theirs.isfinite()] if theirs.is_floating_point() else theirs
    scale = largest if largest is not None else float(finite.abs().max()) if finite.numel() else 0.0
    return torch.allclose(ours.float(), theirs.float(), relative, share * scale + 1e-7, equal_nan=True)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _batch(example: Tensor, seed: int) -> Tensor:
    """Random inputs [4, …] like an example: normal numbers as large as its own, or its own whole numbers mixed."""
    shape, generator = (_BATCH, *example.shape[1:]), _generator(seed)
    if not example.is_floating_point():
        values = example.flatten()
        return values[torch.randint(len(values), shape, generator=generator)]
    mean, std = float(example.mean()), float(example.std()) if example.numel() > 1 else 1.0
    noise = torch.randn(shape, generator=generator)
    return noise * (std if 0 < std < float("inf") else 1.0) + (mean if abs(mean) < float("inf") else 0.0)


def _example_of_chain(program: Program) -> Tensor | None:
    channels = program.layers[0].weight_shape[1]
    leading = itertools.takewhile(lambda op: not isinstance(op, Flatten | Conv2d), program.operations)
    if any(isinstance(op, Linear) for op in leading):  # it takes features, not images
        return torch.randn(1, channels, generator=_generator(0))
    flat = [(channels, 1, 1)] + [
        (channels // side**2, side, side) for side in _SIDES if channels % side**2 == 0
    ]
    shapes = [(channels, side, side) for side in (*_SIDES, *range(1, 257))]
    for shape in [*shapes, *flat]:
        try:
            program.shapes(shape)
        except InputError:
            continue
        return torch.randn(1, *shape, generator=_generator(0))
    return None


def _candidates(module: nn.Module) -> Iterator[Tensor]:
    """Inputs [1, …] that one of the first layers with parameters takes."""
    layers = [child for child in module.modules() if child._parameters]
    for layer in layers[:_LAYERS]:
        yield from _inputs_of(layer)


def _inputs_of(layer: nn.Module) -> Iterator[Tensor]:
    generator = _generator(0)
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        for length in _LENGTHS:
            yield torch.randint(layer.num_embeddings, (1, length), generator=generator)
        return
    features = next((int(getattr(layer, name)) for name in _SIZES if hasattr(layer, name)), None)
    shapes: list[tuple[int, ...]] = []
    if features is None:
        last = tuple(getattr(layer, "normalized_shape", ()))
        shapes = [last, *((length, *last) for length in _LENGTHS)] if last else []
    elif isinstance(layer, nn.Conv3d | nn.ConvTranspose3d | nn.BatchNorm3d):
        shapes = [(features, side, side, side) for side in (16, 8, 32, 4)]
    elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d | nn.GroupNorm):
        shapes = [(features, side, side) for side in _SIDES]
    elif isinstance(layer, nn.Conv1d | nn.ConvTranspose1d):
        shapes = [(features, length) for length in _LENGTHS]
    else:
        squares = [(features // side**2, side, side) for side in _SIDES if features % side**2 == 0]
        shapes = [(features,), *((length, features) for length in _LENGTHS), *squares]
    for shape in shapes:
        yield torch.randn(1, *shape, generator=generator)


def without_program(architecture: Architecture, module: nn.Module, reason: str) -> Architecture:
    """The architecture of a module whose program takes no such inputs though the module does: it runs as a module."""
    return replace(architecture, program=None, reason=reason, template=copy.deepcopy(module))
