"""`zoosparse prune` and `zoosparse vardrop`: sparse twins of a zoo."""

from __future__ import annotations

from typing import Annotated, Any

import pandas as pd
import typer

from zoosparse_ext.cli import options as o
from zoosparse_ext.cli.console import print_json, print_table, resumable, training_bar
from zoosparse_ext.errors import InputError
from zoosparse_ext.ops.vardrop import THRESHOLD
from zoosparse_ext.sparsify.schedules import SCHEDULES
from zoosparse_ext.sparsify.selection import SCOPES
from zoosparse_ext.sparsify.series import Series
from zoosparse_ext.sparsify.variational import PRESETS
from zoosparse_ext.study.config import make_optimizer
from zoosparse_ext.study.naming import (
    VARIATIONAL,
    magnitude_series,
    variational_population,
    variational_series,
)
from zoosparse_ext.study.stages import RATIOS, add_magnitude_twins, add_matched_twins, add_variational_twins
from zoosparse_ext.zoo import Zoo


def prune(
    zoo_path: o.ZooPath,
    ratios: Annotated[
        str | None, typer.Option(help="0.5,0.8,0.9 or first:last:step. Default: 0.1:0.9:0.1.")
    ] = None,
    scope: Annotated[str, typer.Option(help=", ".join(SCOPES))] = "global",
    matched: Annotated[
        bool,
        typer.Option("--matched", help="Prune each model to the sparsity of its variational twin instead."),
    ] = False,
    to: Annotated[
        str | None,
        typer.Option("--to", help="Of --matched: the population of these twins, where there are several."),
    ] = None,
    epochs: o.Epochs = 15,
    schedule: Annotated[str, typer.Option(help=", ".join(SCHEDULES))] = "one-shot",
    batch_size: o.BatchSize = 10,
    optimizer: o.OptimizerName = "adam",
    lr: o.LearningRate = 1e-3,
    weight_decay: o.WeightDecay = 0.0,
    momentum: o.Momentum = 0.0,
    lr_schedule: o.LrSchedule = "constant",
    loss: o.InheritedLoss = None,
    crop: o.InheritedCrop = None,
    flip: o.InheritedFlip = None,
    biases: Annotated[bool, typer.Option("--biases", help="Prune biases as well.")] = False,
    seed: o.Seed = 0,
    data: o.DataSpec = None,
    replace: o.Replace = False,
    allow_nan: o.AllowNan = False,
    device: o.Device = None,
    as_json: o.Json = False,
) -> None:
    """Magnitude-prune every model of a zoo at every ratio, and fine-tune with the masks held.

    Twins at further ratios are added to those that are there; with other settings they are a population beside them.

    [bold]Examples[/]

    zoosparse prune my-zoo

    zoosparse prune my-zoo --ratios 0.5,0.9 --scope layer --epochs 5

    zoosparse prune my-zoo --matched
    """
    wanted = RATIOS if ratios is None else o.parse_ratios(ratios)
    if matched and ratios is not None:
        raise InputError(
            "--ratios says how sparse twins become, --matched that they become as sparse as others; leave out one of "
            "them"
        )
    if to is not None and not matched:
        raise InputError("--to says what --matched twins are matched to; add --matched, or leave it out")
    zoo = Zoo.open(zoo_path)
    images = o.data_of(zoo, data)
    settings: dict[str, Any] = {
        "epochs": epochs,
        "schedule": schedule,
        "batch_size": batch_size,
        "optimizer": make_optimizer(optimizer, lr, weight_decay, momentum),
        "lr_schedule": lr_schedule,
        "biases": biases,
        "seed": seed,
        **o.task_of(zoo, loss, crop, flip),
    }
    source = variational_population(zoo, to) if matched else None
    series, _ = magnitude_series(zoo, scope, source, **settings)
    running: dict[str, Any] = {**settings, "allow_nan": allow_nan, "device": device, "replace": replace}
    title = f"prune (matched, {scope})" if matched else f"prune ({scope})"
    with resumable(zoo_path, series.key) as checkpoint, training_bar(title) as progress:
        running |= {"checkpoint": checkpoint, "progress": progress}
        if source is not None:
            zoo = add_matched_twins(zoo, images, scope, to=source, **running)
        else:
            zoo = add_magnitude_twins(zoo, images, wanted, scope, **running)
        zoo.save(zoo_path)
    _print_twins(zoo, series, as_json)


def vardrop(
    zoo_path: o.ZooPath,
    epochs: o.Epochs = 25,
    preset: Annotated[str, typer.Option(help=", ".join(PRESETS))] = "modelzoos",
    threshold: Annotated[
        float, typer.Option(help="Weights with log α from here on are dropped.")
    ] = THRESHOLD,
    batch_size: o.BatchSize = 10,
    optimizer: o.OptimizerName = "adam",
    lr: o.LearningRate = 3e-4,
    weight_decay: o.WeightDecay = 0.0,
    momentum: o.Momentum = 0.0,
    lr_schedule: o.LrSchedule = "constant",
    loss: o.InheritedLoss = None,
    crop: o.InheritedCrop = None,
    flip: o.InheritedFlip = None,
    seed: o.Seed = 0,
    data: o.DataSpec = None,
    replace: o.Replace = False,
    allow_nan: o.AllowNan = False,
    device: o.Device = None,
    as_json: o.Json = False,
) -> None:
    """Sparsify every model of a zoo by variational dropout.

    With other settings than the twins that are there, they are a population beside them.

    [bold]Examples[/]

    zoosparse vardrop my-zoo

    zoosparse vardrop my-zoo --preset molchanov --epochs 50
    """
    zoo = Zoo.open(zoo_path)
    images = o.data_of(zoo, data)
    settings: dict[str, Any] = {
        "epochs": epochs,
        "preset": preset,
        "threshold": threshold,
        "batch_size": batch_size,
        "optimizer": make_optimizer(optimizer, lr, weight_decay, momentum),
        "lr_schedule": lr_schedule,
        "seed": seed,
        **o.task_of(zoo, loss, crop, flip),
    }
    series, _ = variational_series(zoo, **settings)
    running = {**settings, "allow_nan": allow_nan, "device": device, "replace": replace}
    with resumable(zoo_path, series.key) as checkpoint, training_bar("variational dropout") as progress:
        zoo = add_variational_twins(zoo, images, checkpoint=checkpoint, progress=progress, **running)
        zoo.save(zoo_path)
    _print_twins(zoo, series, as_json)


def _print_twins(zoo: Zoo, series: Series, as_json: bool) -> None:
    """Medians over the models after the last epoch, per ratio."""
    ids = {twin for group in zoo.groups(series.key) for twin in group.ids}
    rows = zoo.twins[zoo.twins.twin_id.isin(ids)]
    final = rows[rows.epoch == rows.epoch.max()].assign(target=lambda frame: frame.target.round(6))
    single = series.matched or series.method == VARIATIONAL  # every model has a ratio of its own, or none
    groups = final.groupby("method" if single else "target", dropna=False)
    table: pd.DataFrame = groups[["sparsity", "accuracy", "agreement", "kappa"]].median().reset_index()
    if as_json:
        print_json({"population": series.key, "twins": len(ids), "median": table})
    else:
        shares = ("target", "sparsity", "accuracy", "agreement")
        print_table(table, f"{series.key}: medians of {len(final)} twins", shares)
