"""The models of a study: the grid of hyperparameters, in groups that can share a matrix."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pandas as pd

from zoosparse_ext.data import Dataset
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.networks import architecture
from zoosparse_ext.population.optimizers import Optimizer
from zoosparse_ext.study.config import ZooConfig
from zoosparse_ext.study.sections import make_optimizer


@dataclass(frozen=True)
class ModelGroup:
    """Models that share an architecture and a kind of optimizer, and so train as one matrix.

    Args:
        models: one row per model: model_id, seed, activation, init, optimizer, lr, weight_decay, momentum, dropout,
            batch_size, epochs.
    """

    architecture: Architecture
    models: pd.DataFrame
    optimizer: Optimizer


def model_groups(config: ZooConfig, data: Dataset) -> list[ModelGroup]:
    """All models of a zoo, in groups.

    >>> from zoosparse_ext.data import load_dataset
    >>> config = ZooConfig(seeds=2, vary={"activation": ["relu", "tanh"], "lr": [0.1, 0.2]})
    >>> [(group.architecture.name, len(group.models)) for group in model_groups(config, load_dataset("digits"))]
    [('cnn-s-relu', 4), ('cnn-s-tanh', 4)]
    """
    table = _models(config)
    groups = []
    keys = [table.activation.fillna(""), table.optimizer, table.dropout > 0]
    for _, rows in table.groupby(keys, sort=False):
        first = rows.iloc[0]
        network = _network(config, first.activation, bool(first.dropout > 0), data)
        rows = rows.assign(activation=_activation(network)).reset_index(drop=True)
        rows["model_id"] = _ids(network.name, rows, many=len(table) > config.seeds)
        optimizer = make_optimizer(
            first.optimizer, rows.lr.tolist(), rows.weight_decay.tolist(), rows.momentum.tolist()
        )
        groups.append(ModelGroup(network, rows, optimizer))
    return groups


def _models(config: ZooConfig) -> pd.DataFrame:
    """One row per model, all groups."""
    optimizer = config.optimizer
    base = {
        "activation": config.activation,
        "init": config.init,
        "optimizer": optimizer.name,
        "lr": optimizer.lr,
        "weight_decay": optimizer.weight_decay,
        "momentum": optimizer.momentum,
        "dropout": config.dropout,
        "batch_size": config.batch_size,
        "epochs": config.epochs,
    }
    rows = []
    for number, point in enumerate(itertools.product(*config.vary.values())):
        start = config.first_seed + (number * config.seeds if config.seeds_of_points == "distinct" else 0)
        values = {**base, **dict(zip(config.vary, point, strict=True)), "point": number}
        rows += [{**values, "seed": seed} for seed in range(start, start + config.seeds)]
    return pd.DataFrame(rows)


def _network(config: ZooConfig, activation: str | None, dropout: bool, data: Dataset) -> Architecture:
    channels, height, width = data.input_shape
    return architecture(
        config.architecture,
        channels=channels,
        activation=activation,
        dropout=0.0 if dropout else None,  # the rates are in the table, one per model
        classes=data.classes,
        size=(height, width),
    )


def _activation(network: Architecture) -> str | None:
    if network.network is not None:
        return str(network.network["activation"])
    operations = [] if network.program is None else network.program.operations
    return next((op.function for op in operations if hasattr(op, "function")), None)


def _ids(name: str, rows: pd.DataFrame, many: bool) -> list[str]:
    """`<architecture>-<point of the grid>-<seed>`; without the point where there is only one."""
    points = [f"-{point:03d}" if many else "" for point in rows["point"]]
    return [f"{name}{point}-{seed:04d}" for point, seed in zip(points, rows["seed"], strict=True)]
