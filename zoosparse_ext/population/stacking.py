"""From modules, state dicts or stacked tensors to the rows of a matrix, refused where a row would not say it all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import torch
from torch import Tensor, nn

from zoosparse_ext import ops
from zoosparse_ext.errors import InputError, require_kind
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.devices import full_float32
from zoosparse_ext.population.examples import example_for
from zoosparse_ext.population.likeness import Difference, attributes_read, differences
from zoosparse_ext.population.operations import NotAProgram
from zoosparse_ext.population.plain import copy_module, plain_module, tell
from zoosparse_ext.population.plan import as_images
from zoosparse_ext.population.program import Program, Shape
from zoosparse_ext.population.proof import (
    Model,
    both_ways,
    check_runs,
    prove,
    spread,
    without_program,
)
from zoosparse_ext.population.prunable import Prunable
from zoosparse_ext.population.states import plain_state
from zoosparse_ext.population.trace import trace

Models = Iterable[nn.Module | Mapping[str, Tensor]] | Mapping[str, Tensor]


@dataclass(frozen=True)
class Stacked:
    """The rows of models of one architecture."""

    architecture: Architecture
    weights: Tensor  # float32 [N, P]
    packed_masks: Tensor | None  # uint8 [N, ceil(P/8)]; None: no module was pruned
    counts: Tensor  # int64 [N, counters]


def stack(
    models: Models,
    module: nn.Module | None,
    name: str,
    input_shape: Shape | None,
    example: Tensor | None,
    prunable: Prunable | None,
) -> Stacked:
    """See `Population.from_modules`; whatever the caller's default device and autocast are."""
    with torch.device("cpu"), full_float32():
        return _stack(models, module, name, input_shape, example, prunable)


def _stack(
    models: Models,
    module: nn.Module | None,
    name: str,
    input_shape: Shape | None,
    example: Tensor | None,
    prunable: Prunable | None,
) -> Stacked:
    if isinstance(models, nn.Module):
        raise InputError("from_modules takes a list of modules; write from_modules([module]) for one")
    require_kind("models", models, Iterable, "a list of modules, or state dicts with module=…")
    require_kind("module", module, (nn.Module, type(None)), "an nn.Module")
    require_kind("input_shape", input_shape, (tuple, list, type(None)), "channels, height, width of an image")
    require_kind("prunable", prunable, (str, Iterable, Callable, type(None)), "names, patterns or a function")  # type: ignore[arg-type]
    items = _unstacked(models, module)
    if not items:
        raise InputError("no models were given: a population needs at least one")
    first = module if module is not None else items[0]
    if not isinstance(first, nn.Module):
        raise InputError("state dicts alone do not say what computes with them; pass module=… as well")
    plain = plain_module(first)
    common = plain.module
    name = name or type(common).__name__
    architecture = Architecture.from_module(common, name, prunable=prunable)
    columns = {segment.name for segment in architecture.segments}
    compared = set(spread(len(items)))
    modules: dict[int, nn.Module] = {}
    unlike: dict[int, list[Difference]] = {}
    rows, counts, masks, changes = [], [], [], list(plain.changes)
    for index, item in enumerate(items):
        try:
            require_kind("a model", item, (nn.Module, Mapping), "a module or a state dict")
            if isinstance(item, nn.Module):
                its = plain if item is first else plain_module(item)
                tensors, kept = _columns(its.module), dict(its.masks)
                changes += its.changes
                different = require_same(architecture, common, its.module)
                if different:
                    unlike[index] = different
                if different or index in compared:
                    modules[index] = its.module
            else:
                tensors, kept = plain_state(item, changes, first, columns)
            rows.append(architecture.flatten(tensors))
        except InputError as error:
            raise InputError(
                f"model {index} differs from model 0: {error}" if index else str(error)
            ) from None
        counters = dict(its.module.named_buffers()) if isinstance(item, nn.Module) else tensors
        counts.append([int(counters.get(counter, 0)) for counter in architecture.counters])
        masks.append(kept)
    tell(tuple(changes))
    weights = torch.stack(rows)
    counted = torch.tensor(counts, dtype=torch.int64).view(len(rows), len(architecture.counters))
    for index in compared - modules.keys():
        modules[index] = loaded(common, architecture, weights[index])
    architecture = _proven(architecture, common, input_shape, example, modules, unlike, weights, counted)
    return Stacked(architecture, weights, _packed(architecture, masks), counted)


def loaded(module: nn.Module, architecture: Architecture, row: Tensor) -> nn.Module:
    """A copy of a module with the tensors of a row [P]."""
    copied = copy_module(module)
    copied.load_state_dict({n: t.clone() for n, t in architecture.unflatten(row).items()}, strict=False)
    return copied


def proven_rows(
    architecture: Architecture, module: nn.Module, weights: Tensor, *, may_run_as_module: bool
) -> Architecture:
    """The architecture of rows [N, P], compared with a module that holds them one after the other.

    `may_run_as_module` says that its program may be left.

    Raises:
        InputError: it computes something else.
    """
    weights = weights.detach().cpu()
    with torch.device("cpu"), full_float32():
        modules = {number: loaded(module, architecture, weights[number]) for number in spread(len(weights))}
        counts = torch.zeros(len(weights), len(architecture.counters), dtype=torch.int64)
        return _proven(
            architecture,
            module,
            architecture.input_shape,
            None,
            modules,
            {},
            weights,
            counts,
            may_run_as_module,
        )


def require_same(architecture: Architecture, first: nn.Module, other: nn.Module) -> list[Difference]:
    """What a module has other than the first beside its columns, and may not matter: see `attributes_read`.

    Raises:
        InputError: another tensor, frozen flag, class, hook, or, of programs, another operation or other inputs of one.
    """
    _require_columns(architecture, _columns(other))
    found = differences(first, other, [segment.name for segment in architecture.segments])
    if not found:
        return []
    if architecture.program is None:
        for difference in found:
            if not difference.attribute:
                raise InputError(f"{difference}")
        return found
    try:
        program = trace(copy_module(other))
    except NotAProgram as error:
        raise InputError(f"it does not trace to a program ({error}), model 0 does") from None
    if different := _where_programs_differ(architecture.program, program):
        read = ", and its forward reads it" if found[0].attribute else ""
        raise InputError(f"{found[0]}{read}: {different}")
    return []  # a program holds all that it computes


def _where_programs_differ(first: Program, other: Program) -> str:
    """The first operation of another program that is not that of the first; empty if there is none."""
    operations, inputs = (first.operations, other.operations), (first.inputs, other.inputs)
    for place, (mine, its) in enumerate(zip_longest(*operations)):
        if mine != its:
            return f"it computes {its or 'nothing more'} where model 0 computes {mine or 'nothing more'}"
        taken = [
            ", ".join(
                "the input" if n == 0 else f"the result of {first.operations[n - 1].told}" for n in numbers
            )
            for numbers in (inputs[1][place], inputs[0][place])
        ]
        if taken[0] != taken[1]:
            return (
                f"its operation {place}, {mine.told}, takes {taken[0]} where that of model 0 takes {taken[1]}"
            )
    return ""


def _require_columns(architecture: Architecture, tensors: Mapping[str, Tensor]) -> None:
    """Raise InputError unless these are the columns of an architecture, with the same frozen ones."""
    if len(tensors) != len(architecture.segments):
        raise InputError(f"it has {len(tensors)} tensors where model 0 has {len(architecture.segments)}")
    for (name, tensor), segment in zip(tensors.items(), architecture.segments, strict=True):
        if segment.name not in tensors:
            shapes = [list(shape) for shape in (tensor.shape, segment.shape)]
            raise InputError(f"{name!r} {shapes[0]} where model 0 has {segment.name!r} {shapes[1]}")
    for segment in architecture.segments:
        tensor, name = tensors[segment.name], segment.name
        if tuple(tensor.shape) != segment.shape:
            raise InputError(
                f"{name!r} {list(tensor.shape)} where model 0 has {name!r} {list(segment.shape)}"
            )
        if isinstance(tensor, nn.Parameter) and tensor.requires_grad != segment.trainable:
            states = [
                "trained" if trained else "frozen" for trained in (tensor.requires_grad, segment.trainable)
            ]
            raise InputError(f"{name!r} is {states[0]} (requires_grad) where that of model 0 is {states[1]}")


def _proven(
    architecture: Architecture,
    first: nn.Module,
    input_shape: Shape | None,
    example: Tensor | None,
    modules: Mapping[int, nn.Module],
    unlike: Mapping[int, list[Difference]],
    weights: Tensor,
    counts: Tensor,
    may_run_as_module: bool = True,
) -> Architecture:
    """The architecture, once its scores were compared with those of the modules."""
    known = (
        example if example is not None else example_for(replace(architecture, input_shape=input_shape), first)
    )
    if known is None:
        if unlike:
            index, found = next(iter(unlike.items()))
            raise InputError(
                f"model {index} differs from model 0: {found[0]}; pass example=, inputs [B, …] as the models take "
                "them, so that it can be seen whether this matters"
            )
        return replace(architecture, unproven="the shape of its inputs is not known: pass example=")
    fitting = _fitting(architecture, first, known, told=example is not None)
    architecture = replace(fitting, input_shape=input_shape)
    for index, found in unlike.items():
        _require_unread(index, modules[index], found, known)
    models = [
        Model(index, modules[index], weights[index], counts[index], tuple(unlike.get(index, ())))
        for index in sorted(modules)
    ]
    return prove(architecture, models, known, may_run_as_module=may_run_as_module)


def _fitting(architecture: Architecture, first: nn.Module, example: Tensor, *, told: bool) -> Architecture:
    """The architecture; without its program where inputs do not fit that, though the module takes them.

    A chain may end in maps, which evaluation refuses, unless the user `told` which inputs it takes.

    Raises:
        InputError: neither takes them.
    """
    if not isinstance(example, Tensor) or example.dim() < 2 or len(example) == 0:
        came = list(example.shape) if isinstance(example, Tensor) else type(example).__name__
        raise InputError(f"example: got {came}, expected inputs [B, …] of one image or more")
    if architecture.program is not None:
        try:
            images = as_images(example, architecture.program)
            if not images.is_floating_point() or (architecture.program.takes_images and images.dim() != 4):
                raise InputError(
                    f"a chain takes images [B, C, H, W], not {example.dtype} {list(example.shape)}"
                )
            architecture.program.shapes(tuple(images.shape[1:]))
        except InputError as error:
            try:
                check_runs(architecture, first, example)
            except InputError:
                raise error from None
            return without_program(architecture, first, str(error))
    check_runs(architecture, first, example, scores_needed=told or architecture.program is None)
    return architecture


def _require_unread(index: int, module: nn.Module, found: Sequence[Difference], example: Tensor) -> None:
    """Raise InputError if the forward of a model reads a value that is not that of the first model."""
    read = attributes_read(copy_module(module), found, both_ways(example))
    for difference in found:
        if difference.certain and (difference.layer, difference.attribute) in read:
            raise InputError(
                f"model {index} differs from model 0: {difference}, and its forward reads it; floating-point buffers "
                "and parameters become columns, everything else must be equal in all models of a population"
            )


def _columns(module: nn.Module) -> dict[str, Tensor]:
    """Parameters, then the buffers that are columns, in the order of `Architecture.from_module`."""
    saved = module.state_dict()
    buffers = {name: buffer for name, buffer in module.named_buffers() if name in saved}
    columns = {name: buffer for name, buffer in buffers.items() if buffer.is_floating_point()}
    return {**dict(module.named_parameters()), **columns}


def _packed(architecture: Architecture, masks: Sequence[Mapping[str, Tensor]]) -> Tensor | None:
    if not any(masks):
        return None
    kept = torch.ones(len(masks), architecture.n_parameters, dtype=torch.bool)
    for row, of_model in zip(kept, masks, strict=True):
        for name, mask in of_model.items():
            architecture.unflatten(row)[name].copy_(mask)
    return ops.pack_mask(kept)


def _unstacked(models: Models, module: nn.Module | None) -> list[nn.Module | Mapping[str, Tensor]]:
    """The models one by one; also of what `torch.func.stack_module_state` gives: dicts of tensors [N, …]."""
    if isinstance(models, tuple) and all(isinstance(part, Mapping) for part in models):
        joined = {name: tensor for part in models for name, tensor in part.items()}
        if module is not None and _is_stacked(joined, module):
            models = joined
    if not isinstance(models, Mapping):
        return list(models)
    if module is None:
        raise InputError("stacked tensors alone do not say what computes with them; pass module=… as well")
    if not models or not _is_stacked(models, module):
        raise InputError(
            "a dict of tensors must hold one of each parameter for all models, [N, …], as "
            "torch.func.stack_module_state makes them; put state dicts of single models into a list"
        )
    count = len(next(iter(models.values())))
    if any(len(tensor) != count for tensor in models.values()):
        raise InputError("stacked tensors are of different numbers of models")
    return [{name: tensor[row] for name, tensor in models.items()} for row in range(count)]


def _is_stacked(tensors: Mapping[str, Tensor], module: nn.Module) -> bool:
    shapes = {name: parameter.shape for name, parameter in module.named_parameters()}
    return all(
        isinstance(tensor, Tensor)
        and tensor.dim() >= 1
        and tensor.shape[1:] == shapes.get(name, tensor.shape[1:])
        for name, tensor in tensors.items()
    )
