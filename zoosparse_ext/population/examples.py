"""Inputs that a module takes, as far as they can be told from its layers or from an example."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from zoosparse_ext.errors import InputError
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.modules import seeded
from zoosparse_ext.population.plain import copy_module
from zoosparse_ext.population.program import Conv2d, Flatten, Linear, Program, Shape

BATCH = 4  # inputs of the proof
_LAYERS = 4  # whose inputs are tried
_SIDES = (28, 32, 8, 16, 64, 96, 128, 224, 12, 10, 6, 5, 4, 3, 2, 1)  # of images that are tried
# Where layers keep how many features or channels they take.
_SIZES = [
    "in_channels",
    "in_features",
    "in1_features",
    "input_size",
    "embed_dim",
    "num_features",
    "num_channels",
]
_LENGTHS = (32, 64, 128, 16, 100, 256, 8, 5)  # of signals and sequences


def example_for(architecture: Architecture, module: nn.Module) -> Tensor | None:
    """Inputs [1, …] that a module takes, as far as that can be told from its layers; None where it cannot.

    >>> chain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 2))
    >>> example_for(Architecture.from_module(chain), chain).shape
    torch.Size([1, 3, 8, 8])
    """
    if architecture.input_shape is not None:
        return torch.randn(1, *architecture.input_shape, dtype=torch.float32, generator=generator(0))
    program = architecture.program
    if program is not None and program.is_chain and (example := _example_of_chain(program)) is not None:
        return example
    runner = copy_module(module).eval()
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


def generator(seed: int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(seed)


def batch_like(example: Tensor, seed: int) -> Tensor:
    """Random inputs [4, …] like an example: normal numbers as large as its own, or its own whole numbers mixed."""
    shape, draws = (BATCH, *example.shape[1:]), generator(seed)
    if not example.is_floating_point() or _holds_indices(example):
        values = example.flatten()
        return values[torch.randint(len(values), shape, generator=draws)]
    mean, std = float(example.mean()), float(example.std()) if example.numel() > 1 else 1.0
    noise = torch.randn(shape, dtype=torch.float32, generator=draws)
    return noise * (std if 0 < std < float("inf") else 1.0) + (mean if abs(mean) < float("inf") else 0.0)


def _holds_indices(example: Tensor) -> bool:
    """Whether floating-point inputs are whole numbers: positions in a table rather than measurements."""
    return example.numel() > 1 and bool((example == example.round()).all()) and len(example.unique()) > 2


def _example_of_chain(program: Program) -> Tensor | None:
    channels = program.layers[0].weight_shape[1]
    leading = itertools.takewhile(lambda op: not isinstance(op, Flatten | Conv2d), program.operations)
    if any(isinstance(op, Linear) for op in leading):  # it takes features, not images
        return torch.randn(1, channels, dtype=torch.float32, generator=generator(0))
    flat = [(channels, 1, 1)] + [
        (channels // side**2, side, side) for side in _SIDES if channels % side**2 == 0
    ]
    shapes = [(channels, side, side) for side in (*_SIDES, *range(1, 257))]
    ends = {shape: end for shape in [*shapes, *flat] if (end := _end_of(program, shape)) is not None}
    with_scores = [shape for shape, end in ends.items() if end[1:] == (1, 1)]  # rather than maps
    shape = next(iter(with_scores or ends), None)
    return None if shape is None else torch.randn(1, *shape, dtype=torch.float32, generator=generator(0))


def _end_of(program: Program, shape: Shape) -> Shape | None:
    """What a program makes of images of a shape; None where they do not fit."""
    try:
        return program.shapes(shape)[-1]
    except InputError:
        return None


def _candidates(module: nn.Module) -> Iterator[Tensor]:
    """Inputs [1, …] that one of the first layers with parameters takes."""
    layers = [child for child in module.modules() if child._parameters]
    for layer in layers[:_LAYERS]:
        yield from _inputs_of(layer)


def _inputs_of(layer: nn.Module) -> Iterator[Tensor]:
    draws = generator(0)
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        for length in _LENGTHS:
            yield torch.randint(layer.num_embeddings, (1, length), generator=draws)
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
        yield torch.randn(1, *shape, dtype=torch.float32, generator=draws)
