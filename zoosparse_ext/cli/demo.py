"""`zoosparse demo`: a whole small study on the embedded digits."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from zoosparse_ext.cli.claims import print_claims
from zoosparse_ext.cli.console import out, print_json, resumable, training_bar
from zoosparse_ext.data import load_dataset
from zoosparse_ext.errors import InputError
from zoosparse_ext.population.networks import architecture
from zoosparse_ext.population.optimizers import Adam
from zoosparse_ext.study import reporting
from zoosparse_ext.study.provenance import command_line
from zoosparse_ext.study.stages import (
    add_magnitude_twins,
    add_matched_twins,
    add_variational_twins,
    train_zoo,
)
from zoosparse_ext.zoo import Zoo

EPOCHS, FINE_TUNING_EPOCHS, VARDROP_EPOCHS = 20, 5, 25
OPTIMIZER = Adam(lr=1e-3)


def demo(
    folder: Annotated[Path, typer.Option("--out", help="Folder for the zoo and the report.")] = Path("demo"),
    models: Annotated[int, typer.Option(help="How many models.")] = 8,
    restart: Annotated[
        bool, typer.Option("--restart", help="Throw away an earlier demo in the same folder.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the claims as JSON.")] = False,
) -> None:
    """Train a small zoo on real digits, sparsify it both ways, and write the report.

    Every stage is kept: run it again after an interruption and it goes on.

    [bold]Example[/]

      zoosparse demo --out demo --models 8
    """
    started = time.monotonic()
    zoo_path = folder / "zoo"
    if restart:
        shutil.rmtree(zoo_path, ignore_errors=True)
    zoo = _study(zoo_path, models)
    page = reporting.write(zoo, folder, "Sparse twins of a zoo of digit classifiers")
    claims = reporting.claims(zoo)
    if as_json:
        print_json(claims)
    else:
        print_claims(claims)
        networks = sum(len(group) for groups in zoo.populations.values() for group in groups)
        out.print(f"{networks} networks in {time.monotonic() - started:.0f} s.  Report: [bold]{page}[/]")


def _study(path: Path, models: int) -> Zoo:
    data = load_dataset("digits")
    zoo = Zoo.open(path) if (path / "manifest.json").exists() else None
    if zoo is not None and len(zoo.models) != models:
        raise InputError(
            f"{path} holds a demo of {len(zoo.models)} models, not {models}; pass --restart or another --out"
        )
    fine_tuning: dict[str, Any] = {"epochs": FINE_TUNING_EPOCHS, "optimizer": OPTIMIZER}
    with resumable(path) as checkpoint:
        if zoo is None:
            with training_bar(f"train {models} networks") as progress:
                zoo = train_zoo(
                    data,
                    architecture("cnn-s"),
                    range(1, models + 1),
                    epochs=EPOCHS,
                    optimizer=OPTIMIZER,
                    checkpoint=checkpoint,
                    progress=progress,
                    settings={"command": command_line(), "seed": 0},
                )
            zoo.save(path)
        if "magnitude-global" not in zoo.populations:
            with training_bar("magnitude pruning, nine ratios") as progress:
                zoo = add_magnitude_twins(zoo, data, checkpoint=checkpoint, progress=progress, **fine_tuning)
            zoo.save(path)
        if "variational" not in zoo.populations:
            with training_bar("variational dropout") as progress:
                zoo = add_variational_twins(
                    zoo,
                    data,
                    epochs=VARDROP_EPOCHS,
                    optimizer=OPTIMIZER,
                    checkpoint=checkpoint,
                    progress=progress,
                )
            zoo.save(path)
        for scope in ("global", "layer"):
            if f"magnitude-matched-{scope}" not in zoo.populations:
                with training_bar(f"magnitude at the same sparsity, {scope}") as progress:
                    zoo = add_matched_twins(
                        zoo, data, scope, checkpoint=checkpoint, progress=progress, **fine_tuning
                    )
                zoo.save(path)
    return zoo
