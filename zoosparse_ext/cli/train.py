"""`zoosparse train`: a zoo from a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from zoosparse_ext.cli import options as o
from zoosparse_ext.cli.console import percent, print_json, resumable, say, training_bar
from zoosparse_ext.cli.derived import flags, with_flags
from zoosparse_ext.study.config import ZooConfig, make_config
from zoosparse_ext.study.grid import model_groups
from zoosparse_ext.study.stages import train_zoo
from zoosparse_ext.zoo import Zoo
from zoosparse_ext.zoo.provenance import command_line

_NAMES = {"architecture": "--arch", "seeds": "--models"}
_LEFT_OUT = ("seeds_of_points", "keep_optimizer_state")


@with_flags(flags(ZooConfig, _LEFT_OUT, _NAMES), before="optimizer")
def train(
    out: Annotated[Path, typer.Option(help="Folder of the new zoo.", show_default=False)],
    data: o.NewData = "digits",
    seeds: Annotated[
        int, typer.Option("--models", help="How many models; their seeds count from --first-seed.")
    ] = 16,
    optimizer: o.OptimizerName = "adam",
    lr: o.LearningRate = 1e-3,
    weight_decay: o.WeightDecay = 0.0,
    momentum: o.Momentum = 0.0,
    keep: o.KeepModels = "",
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
    **options: Any,
) -> None:
    """Train a population of networks and save it as a zoo.

    Ctrl-C keeps finished epochs; the same command resumes from there bit for bit.

    [bold]Examples[/]

    zoosparse train --out my-zoo --models 32 --epochs 20

    zoosparse train --out mnist-zoo --data idx:path/to/mnist --lr 3e-4
    """
    chosen = {"name": optimizer, "lr": lr, "weight_decay": weight_decay, "momentum": momentum}
    zoo_settings = {**options, "seeds": seeds, "optimizer": chosen, "keep": o.listed_epochs(keep)}
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
            keep=config.kept_epochs,
            keep_optimizer_state=keep_optimizer_state,
            **config.zoo.options(seed),
        )
        zoo.save(out)
    accuracy = zoo.models.accuracy
    summary = {
        "zoo": str(out),
        "models": seeds,
        "epochs": config.zoo.epochs,
        "parameters": network.n_parameters,
        "test_accuracy": {"median": accuracy.median(), "min": accuracy.min(), "max": accuracy.max()},
    }
    if as_json:
        print_json(summary)
        return
    shown = escape(str(out))
    say(
        f"{seeds} × {network.name} in [bold]{shown}[/]: test accuracy {percent(accuracy.median())} "
        f"({percent(accuracy.min())} – {percent(accuracy.max())}).\nNext: zoosparse prune {shown}"
    )
