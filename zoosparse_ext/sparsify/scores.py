"""What the selection compares: the magnitude of a weight, or something that uses data, or nothing at all.

Every score is a matrix [N, P] of numbers ≥ 0 beside the weights; the smallest are pruned.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from zoosparse_ext import random
from zoosparse_ext.data import Split
from zoosparse_ext.errors import InputError
from zoosparse_ext.population.forward import forward
from zoosparse_ext.population.modules import forward_modules
from zoosparse_ext.population.population import Population, chunks
from zoosparse_ext.population.program import Layer

_MODELS, _IMAGES = 16, 128  # whose activations are held at a time


def magnitude(population: Population) -> Tensor:
    """|w| [N, P].

    Source: Han, Pool, Tran, Dally, "Learning both Weights and Connections for Efficient Neural Networks", NeurIPS 2015.
    """
    return population.weights.detach().abs()


def gradient(population: Population, images: Split) -> Tensor:
    """|w · ∂L/∂w| [N, P]: what removing a weight changes in the mean cross-entropy on the images, to first order.

    Source: Mozer, Smolensky, "Skeletonization", NeurIPS 1988; as a baseline of whole networks ("gradient magnitude"):
    Blalock, Gonzalez Ortiz, Frankle, Guttag, "What is the State of Neural Network Pruning?", MLSys 2020.
    """
    architecture = population.architecture
    run = forward_modules if architecture.program is None else forward
    total = torch.zeros_like(population.weights)
    for columns in chunks(len(images), _IMAGES):
        pixels = images.normalized(columns).to(total)
        labels = images.labels[columns].to(total.device)
        for rows in chunks(len(population), _MODELS):
            weights = population.weights[rows].detach().requires_grad_()
            logits = run(architecture, weights, pixels)  # [n, B, classes]
            targets = labels.expand(logits.shape[0], -1).reshape(-1)
            loss = F.cross_entropy(logits.flatten(0, 1), targets, reduction="sum")
            total[rows] += torch.autograd.grad(loss, weights)[0]
    return (population.weights.detach() * total).abs() / len(images)


def wanda(population: Population, images: Split) -> Tensor:
    """|w| · ‖x‖₂ [N, P], x being everything that the weight is multiplied with over the images; biases: |b|.

    Meant to be compared within one output (scope ``"output"``).

    Raises:
        InputError: the architecture is not a program, or has layers whose outputs see different inputs (groups).

    Source: Sun, Liu, Bair, Kolter, "A Simple and Effective Pruning Approach for Large Language Models", ICLR 2024.
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

    for rows in chunks(len(population), _MODELS):

        def add(op: Layer, windows: Tensor, rows: slice = rows) -> None:
            columns = segments[f"{op.name}.weight"].slice
            norms = windows.square().sum(2)  # [n or 1, in·kh·kw]
            squares[rows, columns] += norms.repeat(1, (columns.stop - columns.start) // norms.shape[1])

        with torch.no_grad():
            for columns in chunks(len(images), _IMAGES):
                pixels = images.normalized(columns).to(squares)
                forward(architecture, population.weights[rows], pixels, watch=add)
    return population.weights.detach().abs() * squares.sqrt()


def at_random(population: Population, seed: int = 0) -> Tensor:
    """Uniform numbers [N, P] of each model's own stream: the baseline that any score must beat."""
    p = population.weights.shape[1]
    stream = random.stream_id(random.RANDOM_PRUNING)
    return random.uniform(population.seeds, seed, p, step=0, stream=stream)[:, 0].to(population.weights)


# Data in, seed in, scores out.
Score = Callable[[Population, "Split | None", int], Tensor]

SCORES: dict[str, Score] = {
    "magnitude": lambda population, images, seed: magnitude(population),
    "gradient": lambda population, images, seed: gradient(population, _needed("gradient", images)),
    "wanda": lambda population, images, seed: wanda(population, _needed("wanda", images)),
    "random": lambda population, images, seed: at_random(population, seed),
}


def _needed(score: str, images: Split | None) -> Split:
    if images is None:
        raise InputError(f"the score {score!r} looks at training images; pass data=…")
    return images
