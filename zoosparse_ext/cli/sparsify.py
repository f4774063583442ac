"""`zoosparse prune`, `vardrop` and `control`: sparse twins of a zoo, and what they are compared with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from zoosparse_ext.cli import options as o
from zoosparse_ext.cli.console import print_json, print_table, resumable, resume_folder, training_bar
from zoosparse_ext.errors import InputError
from zoosparse_ext.sparsify.schedules import SCHEDULES
from zoosparse_ext.sparsify.selection import SCOPES
from zoosparse_ext.sparsify.series import Series
from zoosparse_ext.sparsify.variational import PRESETS
from zoosparse_ext.study.method_config import MagnitudeConfig, VariationalConfig
from zoosparse_ext.study.naming import (
    VARIATIONAL,
    control_series,
    magnitude_series,
    variational_population,
    variational_series,
)
from zoosparse_ext.study.populations import earlier_epoch, lacking_ratios
from zoosparse_ext.study.stages import (
    RATIOS,
    add_control_twins,
    add_magnitude_twins,
    add_matched_twins,
    add_variational_twins,
    ratios_text,
)
from zoosparse_ext.study.unfinished import begun as begun_in
from zoosparse_ext.study.unfinished import place
from zoosparse_ext.words import Texts
from zoosparse_ext.zoo import Zoo

MP, VD = MagnitudeConfig(), VariationalConfig()  # the defaults of a study
KEPT = ",".join(map(str, MP.matched_epochs))


def prune(
    zoo_path: o.ZooPath,
    ratios: Annotated[
        str | None,
        typer.Option(
            help=f"0.5,0.8,0.9 or first:last:step. Default: {','.join(map(str, RATIOS))}.", show_default=False
        ),
    ] = None,
    scope: Annotated[str, typer.Option(help=", ".join(SCOPES))] = "global",
    matched: Annotated[
        bool,
        typer.Option("--matched", help="Prune each model to the sparsity of its variational twin instead."),
    ] = False,
    to: Annotated[
        str | None,
        typer.Option("--to", help="With --matched: the population of these twins, where there are several."),
    ] = None,
    at_epoch: Annotated[
        int | None,
        typer.Option(
            "--at-epoch",
            help="With --matched: take the sparsity of these twins after this epoch, and fine-tune for as many epochs. "
            "Default: their last epoch.",
            show_default=False,
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            help=f"Passes over the training images. Default: {MP.epochs}, or those of --at-epoch.",
            show_default=False,
        ),
    ] = None,
    schedule: Annotated[str, typer.Option(help=", ".join(SCHEDULES))] = MP.schedule,
    batch_size: o.BatchSize = MP.batch_size,
    optimizer: o.TwinOptimizer = None,
    lr: o.TwinLearningRate = None,
    weight_decay: o.TwinWeightDecay = None,
    momentum: o.TwinMomentum = None,
    optimizer_state: o.OptimizerState = MP.optimizer_state,
    lr_schedule: o.LrSchedule = MP.lr_schedule,
    loss: o.InheritedLoss = None,
    crop: o.InheritedCrop = None,
    flip: o.InheritedFlip = None,
    biases: Annotated[bool, typer.Option("--biases", help="Prune biases as well.")] = False,
    recalibrate: o.Recalibrate = MP.recalibrate,
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
    wanted = list(RATIOS) if ratios is None else o.parse_ratios(ratios)
    if matched and ratios is not None:
        raise InputError(
            "--ratios says how sparse twins become, --matched that they become as sparse as others; leave out one of "
            "them"
        )
    for name, value in (("--to", to), ("--at-epoch", at_epoch)):
        if value is not None and not matched:
            raise InputError(
                f"{name} says what --matched twins are matched to; add --matched, or leave it out"
            )
    zoo = Zoo.open(zoo_path)
    images = o.data_of(zoo, data)
    source = variational_population(zoo, to) if matched else None
    earlier = None if source is None else earlier_epoch(zoo, source, at_epoch)
    settings: dict[str, Any] = {
        "epochs": epochs if epochs is not None else MP.epochs if earlier is None else earlier,
        "schedule": schedule,
        "batch_size": batch_size,
        "optimizer": o.twin_optimizer(optimizer, lr, weight_decay, momentum),
        "optimizer_state": optimizer_state,
        "lr_schedule": lr_schedule,
        "biases": biases,
        "recalibrate": recalibrate,
        "seed": seed,
        **o.task_of(zoo, loss, crop, flip),
    }
    begun = begun_in(resume_folder(zoo_path), of_commands=True)
    series, texts = magnitude_series(zoo, scope, source, earlier, begun, **settings)
    if source is None:
        lacking = lacking_ratios(zoo, series.key, wanted, replacing=replace)
        texts = {**texts, "ratios": ratios_text(lacking)}

    def add(**running: Any) -> Zoo:
        if source is not None:
            return add_matched_twins(zoo, images, scope, to=source, epoch=earlier, **running)
        return add_magnitude_twins(zoo, images, wanted, scope, **running)

    words = [*(["matched"] if matched else []), scope, *([] if earlier is None else [f"epoch {earlier}"])]
    running = {**settings, "allow_nan": allow_nan, "device": device, "replace": replace, "begun": begun}
    _make(zoo_path, series, texts, f"prune ({', '.join(words)})", add, running, as_json)


def vardrop(
    zoo_path: o.ZooPath,
    epochs: o.Epochs = VD.epochs,
    preset: Annotated[str, typer.Option(help=", ".join(PRESETS))] = VD.preset,
    threshold: Annotated[
        float, typer.Option(help="Weights with log α from here on are dropped.")
    ] = VD.threshold,
    kl_scale: Annotated[
        float, typer.Option("--kl-scale", help="Multiplies the KL weight: the larger, the sparser the twins.")
    ] = VD.kl_scale,
    keep: o.Keep = KEPT,
    batch_size: o.BatchSize = VD.batch_size,
    optimizer: o.TwinOptimizer = None,
    lr: o.TwinLearningRate = None,
    weight_decay: o.TwinWeightDecay = None,
    momentum: o.TwinMomentum = None,
    optimizer_state: o.OptimizerState = VD.optimizer_state,
    lr_schedule: o.LrSchedule = VD.lr_schedule,
    loss: o.InheritedLoss = None,
    crop: o.InheritedCrop = None,
    flip: o.InheritedFlip = None,
    recalibrate: o.Recalibrate = VD.recalibrate,
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

    zoosparse vardrop my-zoo --kl-scale 10

    zoosparse vardrop my-zoo --preset molchanov --epochs 50
    """
    zoo = Zoo.open(zoo_path)
    images = o.data_of(zoo, data)
    settings: dict[str, Any] = {
        "epochs": epochs,
        "preset": preset,
        "threshold": threshold,
        "kl_scale": kl_scale,
        "batch_size": batch_size,
        "optimizer": o.twin_optimizer(optimizer, lr, weight_decay, momentum),
        "optimizer_state": optimizer_state,
        "lr_schedule": lr_schedule,
        "recalibrate": recalibrate,
        "seed": seed,
        **o.task_of(zoo, loss, crop, flip),
    }
    begun = begun_in(resume_folder(zoo_path), of_commands=True)
    series, texts = variational_series(zoo, begun, **settings)
    running = {**settings, "keep": o.parse_epochs(keep, epochs), "begun": begun}
    running |= {"allow_nan": allow_nan, "device": device, "replace": replace}

    def add(**running: Any) -> Zoo:
        return add_variational_twins(zoo, images, **running)

    _make(zoo_path, series, texts, "variational dropout", add, running, as_json)


def control(
    zoo_path: o.ZooPath,
    epochs: o.Epochs = MP.epochs,
    keep: o.Keep = KEPT,
    batch_size: o.BatchSize = MP.batch_size,
    optimizer: o.TwinOptimizer = None,
    lr: o.TwinLearningRate = None,
    weight_decay: o.TwinWeightDecay = None,
    momentum: o.TwinMomentum = None,
    optimizer_state: o.OptimizerState = MP.optimizer_state,
    lr_schedule: o.LrSchedule = MP.lr_schedule,
    loss: o.InheritedLoss = None,
    crop: o.InheritedCrop = None,
    flip: o.InheritedFlip = None,
    recalibrate: o.Recalibrate = MP.recalibrate,
    seed: o.Seed = 0,
    data: o.DataSpec = None,
    replace: o.Replace = False,
    allow_nan: o.AllowNan = False,
    device: o.Device = None,
    as_json: o.Json = False,
) -> None:
    """Train every model of a zoo on without pruning it: what sparse twins of equal training are compared with.

    [bold]Example[/]

    zoosparse control my-zoo
    """
    zoo = Zoo.open(zoo_path)
    images = o.data_of(zoo, data)
    settings: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch_size,
        "optimizer": o.twin_optimizer(optimizer, lr, weight_decay, momentum),
        "optimizer_state": optimizer_state,
        "lr_schedule": lr_schedule,
        "recalibrate": recalibrate,
        "seed": seed,
        **o.task_of(zoo, loss, crop, flip),
    }
    begun = begun_in(resume_folder(zoo_path), of_commands=True)
    series, texts = control_series(zoo, begun, **settings)
    running = {**settings, "keep": o.parse_epochs(keep, epochs), "begun": begun}
    running |= {"allow_nan": allow_nan, "device": device, "replace": replace}

    def add(**running: Any) -> Zoo:
        return add_control_twins(zoo, images, **running)

    _make(zoo_path, series, texts, "train on without pruning", add, running, as_json)


def _make(
    path: Path,
    series: Series,
    texts: Texts,
    title: str,
    add: Callable[..., Zoo],
    running: dict[str, Any],
    as_json: bool,
) -> None:
    """Make the twins of a series, with their epochs kept meanwhile; save them, and print what they are like."""
    work = place(series.key, texts, running["begun"])
    with resumable(path, work) as checkpoint, training_bar(title) as progress:
        zoo = add(checkpoint=checkpoint, progress=progress, **running)
        zoo.save(path)
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
