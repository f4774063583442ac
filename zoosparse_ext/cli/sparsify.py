"""`zoosparse prune` and `zoosparse vardrop`: sparse twins of a zoo."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from zoosparse_ext.cli import options as o
from zoosparse_ext.cli.console import print_json, print_table, resumable, training_bar
from zoosparse_ext.ops.vardrop import THRESHOLD
from zoosparse_ext.sparsify.schedules import SCHEDULES
from zoosparse_ext.sparsify.selection import SCOPES
from zoosparse_ext.sparsify.variational import PRESETS
from zoosparse_ext.study.config import make_optimizer
from zoosparse_ext.study.stages import add_magnitude_twins, add_matched_twins, add_variational_twins
from zoosparse_ext.zoo import Zoo


def prune(
    zoo_path: o.ZooPath,
    ratios: Annotated[str, typer.Option(help="0.5,0.8,0.9 or first:last:step.")] = "0.1:0.9:0.1",
    scope: Annotated[str, typer.Option(help=", ".join(SCOPES))] = "global",
    matched: Annotated[
        bool,
        typer.Option("--matched", help="Prune each model to the sparsity of its variational twin instead."),
    ] = False,
    epochs: o.Epochs = 15,
    schedule: Annotated[str, typer.Option(help=", ".join(SCHEDULES))] = "one-shot",
    batch_size: o.BatchSize = 10,
    optimizer: o.OptimizerName = "adam",
    lr: o.LearningRate = 1e-3,
    weight_decay: o.WeightDecay = 0.0,
    momentum: o.Momentum = 0.0,
    biases: Annotated[bool, typer.Option("--biases", help="Prune biases as well.")] = False,
    seed: o.Seed = 0,
    data: o.DataSpec = None,
    allow_nan: o.AllowNan = False,
    device: o.Device = None,
    as_json: o.Json = False,
) -> None:
    """Magnitude-prune every model of a zoo at every ratio, and fine-tune with the masks held.

    [bold]Examples[/]

    zoosparse prune my-zoo

    zoosparse prune my-zoo --ratios 0.5,0.9 --scope layer --epochs 5

    zoosparse prune my-zoo --matched
    """
    wanted = o.parse_ratios(ratios)
    zoo = Zoo.open(zoo_path)
    images = o.data_of(zoo, data)
    settings: dict[str, Any] = {
        "epochs": epochs,
        "schedule": schedule,
        "batch_size": batch_size,
        "optimizer": make_optimizer(optimizer, lr, weight_decay, momentum),
        "biases": biases,
        "seed": seed,
        "allow_nan": allow_nan,
        "device": device,
    }
    name = f"magnitude-matched-{scope}" if matched else f"magnitude-{scope}"
    title = f"prune (matched, {scope})" if matched else f"prune ({scope})"
    with resumable(zoo_path, name) as checkpoint, training_bar(title) as progress:
        if matched:
            zoo = add_matched_twins(zoo, images, scope, checkpoint=checkpoint, progress=progress, **settings)
        else:
            zoo = add_magnitude_twins(
                zoo, images, wanted, scope, checkpoint=checkpoint, progress=progress, **settings
            )
        zoo.save(zoo_path)
    _print_twins(zoo, name, as_json)


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
    seed: o.Seed = 0,
    data: o.DataSpec = None,
    allow_nan: o.AllowNan = False,
    device: o.Device = None,
    as_json: o.Json = False,
) -> None:
    """Sparsify every model of a zoo by variational dropout.

    [bold]Examples[/]

    zoosparse vardrop my-zoo

    zoosparse vardrop my-zoo --preset molchanov --epochs 50
    """
    zoo = Zoo.open(zoo_path)
    images = o.data_of(zoo, data)
    with resumable(zoo_path, "variational") as checkpoint, training_bar("variational dropout") as progress:
        zoo = add_variational_twins(
            zoo,
            images,
            epochs=epochs,
            preset=preset,
            threshold=threshold,
            batch_size=batch_size,
            optimizer=make_optimizer(optimizer, lr, weight_decay, momentum),
            seed=seed,
            allow_nan=allow_nan,
            device=device,
            checkpoint=checkpoint,
            progress=progress,
        )
        zoo.save(zoo_path)
    _print_twins(zoo, "variational", as_json)


def _print_twins(zoo: Zoo, name: str, as_json: bool) -> None:
    """Medians over the models after the last epoch, per ratio."""
    ids = {twin for group in zoo.populations[name] for twin in group.ids}
    rows = zoo.twins[zoo.twins.twin_id.isin(ids)]
    final = rows[rows.epoch == rows.epoch.max()].assign(target=lambda frame: frame.target.round(6))
    groups = final.groupby("target", dropna=False) if name.count("-") == 1 else final.groupby("method")
    table = groups[["sparsity", "accuracy", "agreement", "kappa"]].median().reset_index()
    if as_json:
        print_json({"population": name, "twins": len(ids), "median": table})
    else:
        shares = ("target", "sparsity", "accuracy", "agreement")
        print_table(table, f"{name}: medians of {len(final)} twins", shares)
