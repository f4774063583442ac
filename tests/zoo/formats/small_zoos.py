"""Tiny zoos with everything a zoo can hold, made without training."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import torch
from torch import Tensor

import zoosparse_ext as zs
from zoosparse_ext import ops
from zoosparse_ext.sparsify.twins import twin_rows
from zoosparse_ext.zoo import Zoo

IMAGES = 7
EPOCHS = 2


def originals(
    architecture: zs.Architecture, seeds: range = range(1, 4), epochs: int = EPOCHS
) -> zs.Population:
    table = pd.DataFrame(
        {
            "model_id": [f"{architecture.name}/{seed}" for seed in seeds],
            "activation": architecture.name.split("-")[2] if architecture.name.startswith("cnn") else "relu",
            "optimizer": "adam",
            "lr": 3e-4,
            "weight_decay": 1e-3,
            "momentum": math.nan,
            "dropout": 0.0,
            "batch_size": 10,
            "epochs": epochs,
            "loss": np.linspace(0.1, 0.3, len(seeds)),
            "accuracy": np.linspace(0.9, 0.7, len(seeds)),
        }
    )
    population = zs.Population.initialise(architecture, seeds, table=table)
    population.predictions = predictions(len(seeds))
    return population


def predictions(rows: int) -> Tensor:
    return torch.arange(rows * IMAGES, dtype=torch.uint8).view(rows, IMAGES) % 10


def magnitude_twins(population: zs.Population) -> zs.Population:
    twins = zs.magnitude_prune(population, sparsity=[0.5, 0.9])
    twins.predictions = predictions(len(twins))
    return twins


def variational_twins(population: zs.Population) -> zs.Population:
    """Twins whose masks follow from log σ² and the threshold 3, as those of the published zoos."""
    generator = torch.Generator().manual_seed(5)
    weights = population.weights.clone()
    log_sigma2 = torch.full_like(weights, -10.0)
    kept = torch.ones_like(weights, dtype=torch.bool)
    for segment in population.layers():
        if segment.prunable:
            drop = torch.rand(len(weights), segment.size, generator=generator) < 0.4
            log_alpha = torch.where(drop, 5.0, 1.0)
            log_sigma2[:, segment.slice] = log_alpha + 2 * weights[:, segment.slice].abs().log()
            kept[:, segment.slice] = ~drop
        elif len(segment.shape) == 1 and "module_list.0." in segment.name:
            log_sigma2[:, segment.slice] = -7.5  # biases of a convolution are variational too
    packed = ops.pack_mask(kept)
    ops.apply_mask_(weights, packed)
    table = population.models.assign(source_id=population.ids, method="variational", scope=None, matched=None)
    table["target"] = math.nan
    table["twin_id"] = [f"{source}/variational" for source in population.ids]
    return zs.Population(weights, population.architecture, table, packed_masks=packed, log_sigma2=log_sigma2)


def history(population: zs.Population, epochs: int = EPOCHS) -> pd.DataFrame:
    rows = []
    for place, model in enumerate(population.ids):
        for epoch in range(epochs + 1):
            value = (place + 1) / (epoch + 7)  # no short decimal fraction
            rows.append(
                {
                    "model_id": model,
                    "epoch": epoch,
                    "train_loss": math.nan if epoch == 0 else 1 / value,
                    "train_accuracy": math.nan if epoch == 0 else value,
                    "val_loss": value / 3,
                    "val_accuracy": value / 7,
                    "test_loss": value / 11,
                    "test_accuracy": value / 13,
                }
            )
    return pd.DataFrame(rows)


def full_zoo() -> Zoo:
    """Two architectures, an earlier epoch, and twins by both methods."""
    groups = [
        originals(zs.architecture("cnn-s")),
        originals(zs.architecture("cnn-s", activation="relu", dropout=0.5), range(7, 9)),
    ]
    earlier = [zs.Population(0.5 * g.weights, g.architecture, g.models[["model_id", "seed"]]) for g in groups]
    magnitude = [magnitude_twins(group) for group in groups]
    variational = [variational_twins(group) for group in groups]
    twins = [twin_rows(group, epoch, None, None) for group in magnitude + variational for epoch in (0, 3)]
    return Zoo(
        {
            "original": groups,
            "magnitude-global": magnitude,
            "variational": variational,
            "original@1": earlier,
        },
        pd.concat([group.models for group in groups], ignore_index=True),
        pd.concat([history(group) for group in groups], ignore_index=True),
        pd.concat(twins, ignore_index=True),
        labels=torch.arange(IMAGES) % 10,
        dataset={"spec": "digits", "mean": [0.5]},
        provenance={"seed": 3},
    )


def assert_same(ours: Zoo, theirs: Zoo) -> None:
    """Bit-equal tensors, equal tables."""
    assert list(ours.populations) == list(theirs.populations)
    for name, groups in ours.populations.items():
        for mine, other in zip(groups, theirs.populations[name], strict=True):
            assert mine.architecture == other.architecture
            for tensor in ("weights", "packed_masks", "log_sigma2", "predictions"):
                left, right = getattr(mine, tensor), getattr(other, tensor)
                assert (left is None) == (right is None), (name, tensor)
                assert left is None or torch.equal(left, right), (name, tensor)
            pd.testing.assert_frame_equal(mine.models, other.models)
    for table in ("models", "history", "twins"):
        pd.testing.assert_frame_equal(getattr(ours, table), getattr(theirs, table))
    assert (ours.id, ours.dataset) == (theirs.id, theirs.dataset)
    assert torch.equal(ours.labels, theirs.labels)
