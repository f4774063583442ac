"""Wanda: the size of a weight times that of what it is multiplied with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from zoosparse_ext.data import Split
from zoosparse_ext.errors import InputError
from zoosparse_ext.population.forward import forward
from zoosparse_ext.population.population import Population, chunks
from zoosparse_ext.population.program import Layer
from zoosparse_ext.sparsify.methods.base import Ranking, register

MODELS, IMAGES = 16, 128  # whose activations are held at a time


@register
@dataclass(frozen=True)
class Wanda(Ranking):
    """|w| · ‖x‖₂, x being everything that the weight is multiplied with over the training images; biases: |b|.

    Meant to be compared within one output (scope ``"output"``). Only chains of layers are supported; other
    architectures are refused.

    Source: Sun, Liu, Bair, Kolter, "A Simple and Effective Pruning Approach for Large Language Models", ICLR 2024.
    """

    name: ClassVar[str] = "wanda"
    label: ClassVar[str] = "Wanda"
    phrase: ClassVar[str] = "Wanda pruning"
    source: ClassVar[str] = "Sun et al. 2024"
    needs_images: ClassVar[bool] = True

    def score(self, population: Population, images: Split | None, seed: int) -> Tensor:
        assert images is not None
        return population.weights.detach().abs() * _norms(population, images)


def _norms(population: Population, images: Split) -> Tensor:
    """‖x‖₂ [N, P]; 1 for biases.

    Raises:
        InputError: the architecture is not a program, or outputs of a layer see different inputs (groups).
    """
    architecture = population.architecture
    if architecture.program is None:
        raise InputError(
            f"Wanda scores look at what enters each layer of a program; {architecture.name!r} is none: "
            f"{architecture.reason}"
        )
    segments = {segment.name: segment for segment in architecture.segments}
    squares = torch.ones_like(population.weights)
    for op in architecture.program.layers:
        squares[:, segments[f"{op.name}.weight"].slice] = 0.0

    for rows in chunks(len(population), MODELS):

        def add(op: Layer, windows: Tensor, rows: slice = rows) -> None:
            columns = segments[f"{op.name}.weight"].slice
            norms = windows.square().sum(2)  # [n or 1, in·kh·kw]
            squares[rows, columns] += norms.repeat(1, (columns.stop - columns.start) // norms.shape[1])

        with torch.no_grad():
            for columns in chunks(len(images), IMAGES):
                pixels = images.normalized(columns).to(squares)
                forward(architecture, population.weights[rows], pixels, watch=add)
    return squares.sqrt()
