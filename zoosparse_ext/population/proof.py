"""The proof that a population computes what its modules compute: scores and a gradient, compared on random inputs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from zoosparse_ext.errors import InputError, ZoosparseError
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.examples import BATCH, batch_like, generator
from zoosparse_ext.population.forward import StepNoise, forward
from zoosparse_ext.population.likeness import Difference, attributes_read, differences, own_behavior
from zoosparse_ext.population.modules import forward_modules, seeded, set_dropout
from zoosparse_ext.population.plain import copy_module
from zoosparse_ext.population.plan import Plan, as_images
from zoosparse_ext.population.program_module import ProgramModule

_MODELS = 8  # whose scores are compared, from the first to the last
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
        may_run_as_module: a program may be left where it computes something else than the module.

    Returns:
        The architecture; without its program, or with `one_by_one`, where the program or `vmap` computes something
        else than the modules do.

    Raises:
        InputError: a module cannot run on such inputs, or computes something else; names the model and the layer.
    """
    batches = [batch_like(example, seed) for seed in (1, 2)]
    attempts = [architecture]
    if may_run_as_module and architecture.program is not None:
        # torch.fx does not see all that a forward does.
        reason = "it computes something else than the operations that torch.fx finds"
        attempts.append(without_program(architecture, models[0].module, reason))
    if may_run_as_module or architecture.program is None:
        attempts.append(replace(attempts[-1], one_by_one=True))
    for attempt in attempts:
        if attempt.why_not_chain:
            _require_no_trace_left(architecture, models[0], batches[0])
        try:
            _compare(attempt, models, batches)
        except Exception as error:  # vmap raises many types for what it cannot run
            if attempt is not attempts[-1]:
                continue
            if isinstance(error, ZoosparseError):
                raise
            raise InputError(f"{architecture.name!r} cannot be run in a population: {error}") from error
        return attempt
    raise AssertionError  # the last attempt returned or raised


def _compare(architecture: Architecture, models: Sequence[Model], batches: Sequence[Tensor]) -> None:
    rows = torch.stack([model.row for model in models])
    plan = Plan(architecture, rows.clone())
    for inputs in batches:
        scores = plan(inputs)  # [n, B, classes]
        if not _same_bits(plan.weights, rows):
            changed = [
                s.name
                for s in architecture.segments
                if not _same_bits(plan.weights[:, s.slice], rows[:, s.slice])
            ]
            raise InputError(
                f"the forward of {architecture.name!r} writes to {changed[0]!r} in evaluation mode: every look at the "
                "population would change it; compute with a changed copy instead"
            )
        for model, ours in zip(models, scores, strict=True):
            _compare_scores(architecture, model, inputs, ours)
    for model in models:
        if model is models[0] or model.unlike:
            _compare_training(architecture, model, batches[0])


def _require_no_trace_left(architecture: Architecture, model: Model, inputs: Tensor) -> None:
    """Raise InputError if a module changes its input, or computes something else the second time."""
    given, module = inputs.clone(), copy_module(model.module).eval()
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


def both_ways(example: Tensor) -> list[Callable[[nn.Module], None]]:
    """What runs a module on random inputs like an example, in evaluation and in training mode, as far as it can be."""

    def run(module: nn.Module, training: bool) -> None:
        with contextlib.suppress(Exception), torch.no_grad(), seeded(None, 0):
            module.train(training)(batch_like(example, 1))

    return [partial(run, training=training) for training in (False, True)]


def check_runs(
    architecture: Architecture, module: nn.Module, example: Tensor, *, scores_needed: bool = True
) -> None:
    """Raise InputError unless a module gives scores for such inputs, or, where they are not needed, anything."""
    try:
        with torch.no_grad(), seeded(None, 0):
            scores = copy_module(module).eval()(batch_like(example, 1))
    except Exception as error:  # whatever the module's own code raises
        size = "×".join(map(str, example.shape[1:]))
        raise InputError(f"{architecture.name!r} cannot take inputs of size {size}: {error}") from error
    if not scores_needed:
        return
    if not isinstance(scores, Tensor) or scores.dim() < 2 or scores.shape[2:].numel() != 1:
        came = f"{list(scores.shape)}" if isinstance(scores, Tensor) else f"a {type(scores).__name__}"
        raise InputError(
            f"{architecture.name!r} returns {came} for inputs [{BATCH}, …]; a population needs scores "
            f"[{BATCH}, classes]"
        )


def _compare_scores(architecture: Architecture, model: Model, inputs: Tensor, ours: Tensor) -> None:
    with torch.no_grad(), seeded(None, 0):
        theirs = copy_module(model.module).eval()(inputs)
    if theirs.numel() == ours.numel() and _close("scores", ours.flatten(1), theirs.flatten(1)):
        return
    raise _differs(architecture, model, "scores", _layer_that_differs(architecture, model, inputs))


def _same_bits(ours: Tensor, theirs: Tensor) -> bool:
    return torch.equal(ours.view(torch.int32), theirs.view(torch.int32))  # NaN is equal to itself


def _require_flags_kept(architecture: Architecture, module: nn.Module) -> None:
    """Raise InputError if a module in training mode freezes other parameters than the columns say."""
    for segment in architecture.segments:
        parameter = dict(module.named_parameters()).get(segment.name)
        if parameter is not None and parameter.requires_grad != segment.trainable:
            did = "freezes" if segment.trainable else "trains"
            raise InputError(
                f"train() of {architecture.name!r} {did} {segment.name!r}; say so on the module that the population is "
                f"made from: requires_grad_({not segment.trainable})"
            )


def _require_state_kept(
    architecture: Architecture, before: nn.Module, trained: nn.Module, inputs: Tensor
) -> None:
    """Raise InputError if a step of training changes what no column holds, and the forward reads it."""
    changed = differences(before, trained, [segment.name for segment in architecture.segments])
    found = [difference for difference in changed if difference.attribute]
    if not found:
        return
    read = attributes_read(before, found, both_ways(inputs))
    for difference in found:
        if (difference.layer, difference.attribute) in read:
            place = f"{difference.layer}.{difference.attribute}".lstrip(".")
            raise InputError(
                f"training changes {place!r} of {architecture.name!r}, which its forward reads and no column holds; "
                "make it a persistent buffer of floating point, which is a column of every model"
            )


def _compare_training(architecture: Architecture, model: Model, inputs: Tensor) -> None:
    module = copy_module(model.module).train()
    _require_flags_kept(architecture, module)
    set_dropout(module, 0.0)
    before = copy_module(module)
    parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
    try:
        with seeded(_NOTHING, 0):
            scores = module(inputs)
        factors = torch.randn(scores.flatten(1).shape, dtype=torch.float32, generator=generator(3))
        objective = (scores.flatten(1) * factors).sum()  # of any shape: a chain may end in maps
        gradients = torch.autograd.grad(objective, list(parameters.values()), materialize_grads=True)
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return  # it cannot be trained, which train says
    if architecture.why_not_chain:
        _require_state_kept(architecture, before, module, inputs)
    row, counts = model.row[None].clone().requires_grad_(), model.counts[None].clone()
    if architecture.program is not None and architecture.runs_program(training=True):
        images = as_images(inputs, architecture.program)
        ours = forward(architecture, row, images, each=False, counts=counts, noise=_NOTHING)
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
    common = architecture.module()
    if architecture.program is not None and architecture.program.is_chain:
        common = ProgramModule(architecture.program)
    common.load_state_dict(dict(architecture.unflatten(model.row)), strict=False)
    outputs = [_outputs(module, inputs) for module in (copy_module(model.module), common)]
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


def without_program(architecture: Architecture, module: nn.Module, reason: str) -> Architecture:
    """The architecture of a module whose program takes no such inputs though the module does: it runs as a module."""
    return replace(architecture, program=None, reason=reason, template=copy_module(module))
