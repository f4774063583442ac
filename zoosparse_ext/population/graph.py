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
from zoosparse_ext.population.operations.base import Run
from zoosparse_ext.population.operations.convolution import Layer, Linear

if TYPE_CHECKING:
    from zoosparse_ext.population.forward import StepNoise, Variational

Watch = Callable[[Layer, Tensor], None]


def forward_graph(
    architecture: Architecture,
    weights: Tensor,  # [N, P]; running statistics among the columns are updated in place when training
    inputs: Tensor,  # [B, …] for all models, or [N, B, …]
    *,
    each: bool,
    counts: Tensor | None = None,
    noise: StepNoise | None = None,
    variational: Variational | None = None,
    watch: Watch | None = None,
) -> Tensor:
    """Class scores [N, B, classes]; arguments as of :func:`zoosparse_ext.population.forward.forward`.

    Raises:
        InputError: variational noise for a tensor that no convolution or linear layer multiplies with.
        ValueError: one value per channel in a batch norm that is trained.
    """
    program = architecture.program
    assert program is not None
    run = _run(architecture, weights, noise, counts)
    noisy, sigma2 = frozenset[str](), {}
    if variational is not None and noise is not None:
        noisy, sigma2 = _noisy(architecture), _columns(architecture, variational.log_sigma2)
    values: dict[int, Tensor] = {0: inputs.transpose(0, 1) if each else inputs.unsqueeze(1)}
    last_use = {number: place for place, taken in enumerate(program.inputs) for number in taken}
    for place, (op, taken) in enumerate(zip(program.operations, program.inputs, strict=True)):
        run.stream = program.streams[place]
        given = [values[number] for number in taken]
        if watch is not None and isinstance(op, Layer):
            watch(op, op.windows(given[0]))
        result = op.reference(run, *given)
        if isinstance(op, Layer) and f"{op.name}.weight" in noisy:
            assert variational is not None
            std = _deviation(op, given[0], run, sigma2, variational)
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


def _noisy(architecture: Architecture) -> frozenset[str]:
    """Names of the weights on which variational noise is put: all that are prunable.

    Raises:
        InputError: one of them is not the weight of a layer.
    """
    assert architecture.program is not None
    weights = {f"{layer.name}.weight" for layer in architecture.program.layers}
    for segment in architecture.prunable_segments:
        if segment.name not in weights:
            raise no_noise(architecture, segment.name)
    return architecture.prunable_names


def no_noise(architecture: Architecture, name: str) -> InputError:
    """The error for a tensor on which no variational noise can be put."""
    return InputError(
        f"variational dropout cannot put noise on {name!r} of {architecture.name!r}, which is not used by calling a "
        "convolution or linear layer; leave it out with prunable=… when the population is made, or prune by magnitude"
    )


def _deviation(op: Layer, x: Tensor, run: Run, sigma2: dict[str, Tensor], variational: Variational) -> Tensor:
    """Standard deviation of what a layer computes: sqrt(Σ exp(log α)·w²·x² + 1e-15)."""
    clamp = variational.clamp(op.weight_shape)

    def variance(name: str) -> Tensor:
        tensor = run.tensors[f"{op.name}.{name}"]
        return vardrop.log_alpha(tensor, sigma2[f"{op.name}.{name}"], clamp).exp() * tensor.square()

    of_bias = op.bias and variational.conv_biases and not isinstance(op, Linear)
    total = op.apply(x.square(), variance("weight"), variance("bias") if of_bias else None)
    return (total + vardrop.EPSILON).sqrt()
