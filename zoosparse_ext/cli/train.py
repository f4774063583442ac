"""`zoosparse train`: a zoo from a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zoosparse_ext.cli import options as o
from zoosparse_ext.cli.console import err, print_json, resumable, training_bar
from zoosparse_ext.errors import InputError
from zoosparse_ext.population.networks import NETWORKS, architecture
from zoosparse_ext.study.provenance import command_line
from zoosparse_ext.study.stages import train_zoo
from zoosparse_ext.zoo import Zoo


def train(
    out: Annotated[Path, typer.Option(help="Folder of the new zoo.", show_default=False)],
    data: o.DataSpec = "digits",
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
    dropout: Annotated[float | None, typer.Option(help="Rate in [0, 1); adds dropout layers.")] = None,
    order: o.Order = "per-model",
    seed: o.Seed = 0,
    limit: o.Limit = None,
    as_json: o.Json = False,
) -> None:
    """Train a population of networks and save it as a zoo.

    Ctrl-C keeps finished epochs; the same command goes on from there, to the same bits.

    [bold]Examples[/]

      zoosparse train --out my-zoo --models 32 --epochs 20

      zoosparse train --out mnist-zoo --data idx:path/to/mnist --init uniform --lr 3e-4 --epochs 50
    """
    if models < 1:
        raise InputError(f"--models must be 1 or more, got {models}")
    Zoo.require_new(out)
    images = o.open_data(data or "digits", limit)
    channels, height, _ = images.input_shape
    network = architecture(
        arch, channels=channels, activation=activation, dropout=dropout, classes=images.classes, size=height
    )
    with resumable(out) as checkpoint, training_bar(f"train {network.name}") as progress:
        zoo = train_zoo(
            images,
            network,
            range(first_seed, first_seed + models),
            epochs=epochs,
            optimizer=o.make_optimizer(optimizer, lr, weight_decay, momentum),
            init=init,
            batch_size=batch_size,
            dropout=dropout or 0.0,
            order=order,
            seed=seed,
            checkpoint=checkpoint,
            progress=progress,
            settings={"command": command_line(), "seed": seed},
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
    err.print(
        f"{models} × {network.name} in [bold]{out}[/]: test accuracy {accuracy.median():.1%} "
        f"({accuracy.min():.1%} – {accuracy.max():.1%}).\nNext: zoosparse prune {out}"
    )
