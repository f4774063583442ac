"""The reference executor of programs that are no chains: every operation over many models at once, by PyTorch.

Values are `[B, N, *shape]`, N = 1 where all models see the same. Models lie beside the channels, so that a convolution,
a norm or a pool of all models is one call of PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zoosparse_ext import random
from zoosparse_ext.errors import InputError
from zoosparse_ext.ops import vardrop
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.learning import Variances
from zoosparse_ext.population.operations.base import Run
from zoosparse_ext.population.operations.linear import Layer

if TYPE_CHECKING:
    from zoosparse_ext.population.forward import StepNoise

Watch = Callable[[Layer, Tensor], None]


def forward_graph(
    architecture: Architecture,
    weights: Tensor,  # [N, P]; running statistics among the columns are updated in place when training
    inputs: Tensor,  # [B, …] for all models, or [N, B, …]
    *,
    each: bool,
    counts: Tensor | None = None,
    noise: StepNoise | None = None,
    variances: Variances | None = None,
    watch: Watch | None = None,
) -> Tensor:
    """Class scores [N, B, classes]; arguments as of :func:`zoosparse_ext.population.forward.forward`.

    Raises:
        InputError: noise of `variances` for a tensor that no convolution or linear layer multiplies with.
        ValueError: one value per channel in a batch norm that is trained.
    """
    program = architecture.program
    assert program is not None
    run = _run(architecture, weights, noise, counts)
    noisy = variances is not None and noise is not None
    if noisy:
        _require_noise(architecture)
    values: dict[int, Tensor] = {0: inputs.transpose(0, 1) if each else inputs.unsqueeze(1)}
    last_use = {number: place for place, taken in enumerate(program.inputs) for number in taken}
    for place, (op, taken) in enumerate(zip(program.operations, program.inputs, strict=True)):
        run.stream = program.streams[place]
        given = [values[number] for number in taken]
        if watch is not None and isinstance(op, Layer):
            watch(op, op.windows(given[0]))
        result = op.reference(run, *given)
        if noisy and isinstance(op, Layer) and (std := _deviation(op, given[0], run, variances)) is not None:
            result = result + std * run.draw(random.normal, random.VARIATIONAL_NOISE, result)
        values[place + 1] = result
        for number in {number for number in taken if last_use[number] == place}:
            del values[number]
    return run.of_each(result).flatten(2).transpose(0, 1)


def _run(architecture: Architecture, weights: Tensor, noise: StepNoise | None, counts: Tensor | None) -> Run:
    """What the operations compute with, whose buffers and counters are those of these models."""
    slices = {segment.name: segment.slice for segment in architecture.segments}
    places = {name: place for place, name in enumerate(architecture.counters)}

    def write(name: str, value: Tensor) -> None:
        with torch.no_grad():
            weights.data[:, slices[name]] = value.reshape(value.shape[0], -1)

    def counted(name: str) -> Tensor | None:
        return counts[:, places[name]] if counts is not None and name in places else None

    return Run(_columns(architecture, weights), weights.shape[0], noise, write, counted)


def _columns(architecture: Architecture, rows: Tensor) -> dict[str, Tensor]:
    """Named tensors [N, *shape]; one split, so that the gradients of all of them are put together once."""
    parts = rows.split([segment.size for segment in architecture.segments], dim=1)
    return {
        s.name: part.unflatten(1, s.shape or (1,))
        for s, part in zip(architecture.segments, parts, strict=True)
    }


def _require_noise(architecture: Architecture) -> None:
    """Raise InputError if something prunable is not the weight of a layer, on which noise can be put."""
    assert architecture.program is not None
    weights = {f"{layer.name}.weight" for layer in architecture.program.layers}
    for segment in architecture.prunable_segments:
        if segment.name not in weights:
            raise no_noise(architecture, segment.name)


def no_noise(architecture: Architecture, name: str) -> InputError:
    """The error for a tensor on which no variational noise can be put."""
    return InputError(
        f"the method cannot put noise on {name!r} of {architecture.name!r}, which is not used by calling a "
        "convolution or linear layer; leave it out with prunable=… when the population is made, or prune by magnitude"
    )


def _deviation(op: Layer, x: Tensor, run: Run, variances: Variances | None) -> Tensor | None:
    """Standard deviation of what a layer computes: sqrt(Σ Var(w)·x² + 1e-15); None without noise."""
    assert variances is not None
    tensors = {name: run.tensors.get(f"{op.name}.{name}") for name in ("weight", "bias")}
    weight, bias = (
        None if t is None else variances.of(f"{op.name}.{name}", t) for name, t in tensors.items()
    )
    return None if weight is None else (op.apply(x.square(), weight, bias) + vardrop.EPSILON).sqrt()
