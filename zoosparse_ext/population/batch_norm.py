"""What networks with batch norm need besides: batches with more than one value per channel, and statistics that fit."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from zoosparse_ext.data import Dataset, Split
from zoosparse_ext.errors import InputError, require_kind
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.modules import seeded
from zoosparse_ext.population.overlap import shared_images
from zoosparse_ext.population.population import Population, require_data

log = logging.getLogger(__name__)

_IMAGES = 256  # a batch of those that statistics are measured on


def check_batches(architecture: Architecture, split: Split, batch_size: int, samples: int) -> None:
    """Raise InputError before a training whose batches a module cannot take: one value per channel for batch norm.

    Args:
        architecture: what is to be trained.
        split: the training images.
        batch_size: images a step.
        samples: images an epoch, of which the last batch may be smaller.
    """
    if samples == 0:
        raise InputError(
            f"drop_last leaves nothing of {len(split)} images in batches of {batch_size}; choose a smaller batch_size"
        )
    chain = architecture.program is not None and architecture.program.is_chain
    if chain or (architecture.program is None and architecture.template is None):
        return
    smallest = samples % batch_size or min(batch_size, samples)
    module = architecture.module().train()
    values: dict[str, int] = {}  # per channel that comes into a batch norm

    def count(name: str, inputs: Tensor) -> None:
        values[name] = inputs.numel() // max(1, inputs.shape[1])

    for name, layer in module.named_modules():
        if isinstance(layer, _BatchNorm):
            layer.register_forward_pre_hook(lambda _, inputs, name=name: count(name, inputs[0]))
    if not any(isinstance(layer, _BatchNorm) for layer in module.modules()) or smallest > 1:
        return
    try:
        with torch.no_grad(), seeded(None, 0):
            module(split.normalized(slice(0, smallest)))
    except ValueError as error:
        name = next((name for name, number in values.items() if number == 1), "")
        if not name:
            raise
        raise InputError(
            f"batch norm {name!r} of {architecture.name!r} needs more than one value per channel, and the last batch "
            f"of an epoch is {smallest} of {samples} images; choose another batch_size than {batch_size}, or "
            "drop_last=True"
        ) from error


def recalibrate(population: Population, split: Split, images: int | None = 2048) -> Population:
    """The population with the running statistics of its batch norms measured anew, as averages over a split.

    Pruning changes what comes into a batch norm, whose running mean and variance are still those of the dense network.
    Everything but batch norm is in evaluation mode: no dropout, no other buffers change.

    >>> import zoosparse_ext as zs
    >>> models = [nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3)) for _ in range(2)]
    >>> images = torch.rand(36, 1, 2, 2)
    >>> data = zs.Dataset.from_tensors(images, torch.arange(36) % 3)
    >>> population = zs.Population.from_modules(models, example=images)
    >>> recalibrate(population, data.train)(data.train.normalized()).mean(1).abs().max() < 0.05
    tensor(True)

    Args:
        population: N models; stays as it is.
        split: images to measure on: training images, never those that are evaluated.
        images: at most so many of them, evenly spread over the split; None: all.

    Returns:
        A population that shares everything but weights with this one; the same one if it has no batch norm.

    Raises:
        InputError: the module is not at hand.

    Source: Li, Wu, Su, Wang, "EagleEye: Fast Sub-net Evaluation for Efficient Neural Network Pruning", ECCV 2020.
    """
    require_kind("recalibrate", split, Split, "a split of training images, such as data.train")
    architecture = population.architecture
    if not has_batch_norm(population):
        return population
    require_data(population)
    module = architecture.module().eval()
    norms = {name: layer for name, layer in module.named_modules() if _is_measured(layer)}
    weights = population.weights.detach().clone()
    chosen = _batches(len(split), len(split) if images is None else min(images, len(split)))
    for row in weights:
        tensors = architecture.unflatten(row)
        module.load_state_dict({name: tensor.clone() for name, tensor in tensors.items()}, strict=False)
        for layer in norms.values():
            layer.reset_running_stats()
            layer.momentum = None  # the average over all batches
            layer.train()
        with torch.no_grad(), seeded(None, 0):
            try:
                for batch in chosen:
                    module(split.normalized(batch).to(row))
            except ValueError as error:  # one value per channel
                raise InputError(f"recalibrate: {len(split)} images are too few: {error}") from error
        for name in norms:
            for statistic in ("running_mean", "running_var"):
                tensors[f"{name}.{statistic}"].copy_(module.get_buffer(f"{name}.{statistic}"))
    return Population.from_rows(
        weights,
        architecture,
        population.models,
        packed_masks=population.packed_masks,
        learned=population.learned,
        predictions=None,  # which were those of other statistics
        history=population.history,
        counts=population.counts,
        optimizer_state=population.optimizer_state,
        kept=population.kept,
    )


def has_batch_norm(population: Population) -> bool:
    """Whether there are running statistics among the columns."""
    return any(segment.name.endswith("running_mean") for segment in population.layers())


def key(population: Population, split: Split | None) -> str:
    """What tells a checkpoint whether statistics are measured anew; empty where there are none, or they stay."""
    return "" if split is None or not has_batch_norm(population) else f" recalibrated on {len(split)} images"


def _is_measured(layer: nn.Module) -> bool:
    return isinstance(layer, _BatchNorm) and layer.track_running_stats and layer.running_mean is not None


def _batches(available: int, images: int) -> list[Tensor]:
    """So many of the available images, evenly spread, in batches of about 256 of which none is much smaller."""
    spread = torch.arange(images) * available // images
    return list(spread.tensor_split(max(1, round(images / _IMAGES))))


def require_other_split(population: Population, split: Split | None, data: Dataset | Split) -> None:
    """Raise InputError if statistics would be measured on the images that are evaluated, or on some of them.

    The training images of a data set may hold some of its test images: then the data set repeats itself, as the log
    says, and networks were trained on these images anyway.
    """
    if split is None:
        return
    require_kind("recalibrate", split, Split, "a split of training images, such as data.train")
    if not has_batch_norm(population):
        return
    evaluated = data.test if isinstance(data, Dataset) else data
    if not (shared := shared_images(split, evaluated)):
        return
    found = f"{shared} of {len(evaluated)} are among them"
    if isinstance(data, Dataset) and split is data.train and shared_images(evaluated, split) < len(split):
        log.warning(
            "%s are evaluated on images that they were trained on: %s", population.architecture.name, found
        )
        return
    raise InputError(
        f"recalibrate: these are images that are evaluated ({evaluated.name}): {found}; measure on training images, "
        "recalibrate=data.train, and evaluate on others"
    )
