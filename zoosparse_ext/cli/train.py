"""`zoosparse train`: a zoo from a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from zoosparse_ext.cli import options as o
from zoosparse_ext.cli.console import percent, print_json, resumable, say, training_bar
from zoosparse_ext.population.networks import NETWORKS
from zoosparse_ext.study.config import make_config
from zoosparse_ext.study.grid import model_groups
from zoosparse_ext.study.provenance import command_line
from zoosparse_ext.study.stages import train_zoo
from zoosparse_ext.zoo import Zoo


def train(
    out: Annotated[Path, typer.Option(help="Folder of the new zoo.", show_default=False)],
    data: o.NewData = "digits",
    arch: Annotated[str, typer.Option(help=", ".join(NETWORKS))] = "cnn-s",
    activation: Annotated[str | None, typer.Option(help="Default: that of the published network.")] = None,
    init: Annotated[
        str, typer.Option(help="Initialisation: xavier_… or kaiming_uniform/normal, uniform, normal.")
    ] = ("kaiming_uniform"),
    models: Annotated[int, typer.Option(help="How many models; their seeds count from --first-seed.")] = 16,
    first_seed: Annotated[int, typer.Option(help="Seed of the first model.")] = 1,
    epochs: o.Epochs = 20,
    batch_size: o.BatchSize = 10,
    optimizer: o.OptimizerName = "adam",
    lr: o.LearningRate = 1e-3,
    weight_decay: o.WeightDecay = 0.0,
    momentum: o.Momentum = 0.0,
    dropout: Annotated[float, typer.Option(help="Rate in [0, 1); above 0 it adds dropout layers.")] = 0.0,
    lr_schedule: o.LrSchedule = "constant",
    loss: Annotated[str, typer.Option(help="cross_entropy, or mse (to one-hot labels).")] = "cross_entropy",
    crop: Annotated[int, typer.Option(help="Shift training images at random by up to this many pixels.")] = 0,
    flip: Annotated[bool, typer.Option("--flip", help="Mirror half of the training images.")] = False,
    order: o.Order = "per-model",
    keep_optimizer_state: Annotated[
        bool,
        typer.Option(
            "--keep-optimizer-state",
            help="Keep the moments as well, for twins with --optimizer-state source.",
        ),
    ] = False,
    seed: o.Seed = 0,
    limit: o.Limit = None,
    device: o.Device = None,
    as_json: o.Json = False,
) -> None:
    """Train a population of networks and save it as a zoo.

    Ctrl-C keeps finished epochs; the same command goes on from there, to the same bits.

    [bold]Examples[/]

    zoosparse train --out my-zoo --models 32 --epochs 20

    zoosparse train --out mnist-zoo --data idx:path/to/mnist --lr 3e-4
    """
    zoo_settings = {
        "architecture": arch,
        "activation": activation,
        "init": init,
        "dropout": dropout,
        "seeds": models,
        "first_seed": first_seed,
        "epochs": epochs,
        "batch_size": batch_size,
        "order": order,
        "lr_schedule": lr_schedule,
        "loss": loss,
        "crop": crop,
        "flip": flip,
        "optimizer": {"name": optimizer, "lr": lr, "weight_decay": weight_decay, "momentum": momentum},
    }
    config = make_config({"seed": seed, "zoo": zoo_settings}, origin="zoosparse train")
    Zoo.require_new(out)
    images = o.open_data(data, limit)
    groups = model_groups(config.zoo, images)
    network = groups[0].architecture
    with resumable(out, "train") as checkpoint, training_bar(f"train {network.name}") as progress:
        zoo = train_zoo(
            images,
            groups,
            checkpoint=checkpoint,
            progress=progress,
            settings={"command": command_line(), "seed": seed, "zoo": config.zoo.model_dump(mode="json")},
            device=device,
            keep_optimizer_state=keep_optimizer_state,
            **config.zoo.options(seed),
        )
        zoo.save(out)
    accuracy = zoo.models.accuracy
    summary = {
        "zoo": str(out),
        "models": models,
        "epochs": epochs,
        "parameters": network.n_parameters,
        "test_accuracy": {"median": accuracy.median(), "min": accuracy.min(), "max": accuracy.max()},
    }
    if as_json:
        print_json(summary)
        return
    shown = escape(str(out))
    say(
        f"{models} × {network.name} in [bold]{shown}[/]: test accuracy {percent(accuracy.median())} "
        f"({percent(accuracy.min())} – {percent(accuracy.max())}).\nNext: zoosparse prune {shown}"
    )
