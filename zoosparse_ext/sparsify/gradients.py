"""Gradients that scores are made of: in evaluation mode, of every parameter, frozen ones too.

The bits of a row depend on its model alone. Matrix products of several models at once would make them depend on how
many there are: the native engine takes each model by itself, and PyTorch is given one model at a time, or groups of
one size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from zoosparse_ext.data import Split
from zoosparse_ext.errors import InputError
from zoosparse_ext.population import native
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.engines import choose_engine
from zoosparse_ext.population.evaluate import check_split
from zoosparse_ext.population.forward import forward
from zoosparse_ext.population.gradients import with_gradients
from zoosparse_ext.population.modules import forward_modules
from zoosparse_ext.population.optimizers import SGD
from zoosparse_ext.population.population import Population, chunks
from zoosparse_ext.population.steps import Steps, TrainState

_LARGE = 2**20  # parameters, from which on a model is work enough alone


def thawed(architecture: Architecture, dtype: torch.dtype = torch.float32) -> Architecture:
    """The architecture with a gradient for every parameter; a module computes in this type, model by model."""
    if architecture.program is not None:
        segments = tuple(replace(segment, trainable=True) for segment in architecture.segments)
        return replace(architecture, segments=segments)
    template = architecture.module().to(dtype)
    parameters = {name for name, _ in template.named_parameters()}  # and not the buffers
    segments = tuple(replace(s, trainable=s.trainable or s.name in parameters) for s in architecture.segments)
    return replace(architecture, segments=segments, template=template, one_by_one=True)


@with_gradients
def model_gradients(
    architecture: Architecture,
    weights: Tensor,
    images: Callable[[int], Tensor],
    objective: Callable[[Tensor, int], Tensor],
    together: int = 1,
) -> Tensor:
    """The gradient [N, P] of a number for each model, by PyTorch's autograd.

    Args:
        architecture: as :func:`thawed` makes it.
        weights: [N, P].
        images: [B, C, H, W] for a group of models that begins with a row.
        objective: the sum of the numbers of such a group, from its scores [n, B, classes] and its first row.
        together: models in a group, where they are small. A group of chains is filled up with its last model, so that
            all have one size; modules run one by one.

    Raises:
        InputError: the class scores have no gradient.
    """
    size = 1 if weights.shape[1] > _LARGE else together
    result = torch.empty_like(weights)
    for rows in chunks(len(weights), size):
        group, pixels = weights[rows].detach(), images(rows.start)
        if architecture.program is None:
            group = group.clone().requires_grad_()
            scores = forward_modules(architecture, group, pixels)
        else:
            group = torch.cat([group, group[-1:].expand(size - len(group), -1)]).requires_grad_()
            scores = forward(architecture, group, pixels.expand(size, *pixels.shape), each=True)
        number = objective(scores, rows.start)
        if not number.requires_grad:
            raise InputError(
                f"{architecture.name!r} gives class scores that have no gradient: its forward detaches them"
            )
        result[rows] = torch.autograd.grad(number, group, materialize_grads=True)[0][: rows.stop - rows.start]
    return result


def loss_gradients(population: Population, split: Split, order: Tensor) -> Tensor:
    """The gradient [N, P] of the mean cross-entropy of every model on images of its own, without dropout.

    Args:
        population: N models.
        split: images and labels.
        order: int [N, B], which of them each model is shown.

    Raises:
        InputError: images or labels that do not fit the architecture; class scores that have no gradient.
    """
    check_split(population, split)
    architecture, weights = thawed(population.architecture), population.weights.detach()
    trainable = Population.from_rows(weights, architecture, population.models)
    if not native.why_not(trainable, weights.device):
        return _native(trainable, split, order)

    def images(row: int) -> Tensor:
        return split.normalized(order[row].long()).to(weights)

    def loss(scores: Tensor, row: int) -> Tensor:
        return F.cross_entropy(scores[0], split.labels[order[row].long()].to(weights.device))

    return model_gradients(architecture, weights, images, loss)


def _native(population: Population, split: Split, order: Tensor) -> Tensor:
    """By the training engine: the momentum after one step that does not change the weights is the gradient."""
    n, batch = order.shape
    engine = choose_engine("native", population, population.weights.device)
    weights = population.weights.clone(memory_format=torch.contiguous_format)
    state, table = TrainState.fresh(weights), SGD(lr=1.0, momentum=0.5).table(n)
    for rows in chunks(n, engine.models_per_call):
        steps = Steps(
            weights=weights[rows],
            state=state.at_rows(rows),
            order=order[rows].to(torch.int32),
            batch_size=batch,
            optimizer=SGD.kind,
            table=table[rows],
            factors=torch.zeros(1, dtype=torch.float64),
            seeds=population.seeds[rows],
            seed=0,
            dropout=torch.zeros(rows.stop - rows.start),
        )
        engine.run(population.architecture, split, steps)
    return state.first


def require_finite(name: str, population: Population, scores: Tensor) -> Tensor:
    """Scores [N, P] as they are; those of NaN weights are NaN, which are kept.

    Raises:
        InputError: the score of another weight is NaN or infinite; names model and layer.
    """
    missing = torch.isnan(population.weights)
    bad = ~(torch.isfinite(scores) | missing)
    if bool(bad.any()):
        row, column = (int(place) for place in bad.nonzero()[0])
        layer = next(s.layer for s in population.layers() if s.slice.start <= column < s.slice.stop)
        raise InputError(
            f"{name}: scores of model {population.ids[row]!r} are {float(scores[row, column])} in layer {layer!r}: "
            "its weights, activations or gradients are not finite; leave the model out, or prune it by magnitude"
        )
    return scores.masked_fill(missing, torch.nan)
