"""`zoosparse demo` and `zoosparse study`: whole studies."""

from __future__ import annotations

import shutil
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import torch
import typer
from rich.markup import escape

from zoosparse_ext.cli import options as o
from zoosparse_ext.cli.claims import print_claims
from zoosparse_ext.cli.console import (
    duration,
    out,
    print_json,
    print_table,
    resumable,
    say,
    size,
    training_bar,
)
from zoosparse_ext.cli.summary import print_summary
from zoosparse_ext.errors import InputError
from zoosparse_ext.study import reporting
from zoosparse_ext.study.chunks import MODELS
from zoosparse_ext.study.config import (
    FULL,
    StudyConfig,
    apply_preset,
    read_config,
    recipe,
    recipe_text,
    recipes,
)
from zoosparse_ext.study.log import RunLog
from zoosparse_ext.study.plan import Stage, plan_study, rough_seconds
from zoosparse_ext.study.run import as_begun, load_data, run_study
from zoosparse_ext.study.runner import LocalRunner, Runner
from zoosparse_ext.study.tensorboard import TensorBoard
from zoosparse_ext.zoo import Zoo
from zoosparse_ext.zoo.folder import MANIFEST

DEMO = recipe("demo")
LONG = 300.0  # seconds from which on a study says what it takes before it starts
GLANCE = 0.15  # seconds of measuring for it, for each kind of work
Folder = Annotated[Path, typer.Option("--out", help="Folder for the zoo and the report.")]
Changes = Annotated[
    list[str] | None, typer.Option("--set", help="Override a value: --set zoo.seeds=4", show_default=False)
]
Restart = Annotated[bool, typer.Option("--restart", help="Throw away an earlier study in the same folder.")]
Chunk = Annotated[
    int | None,
    typer.Option(
        "--chunk",
        min=1,
        help=f"Models that run, fail and are tried again together; default: {MODELS}, with --ray fewer.",
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray", metavar="local|ADDRESS", help="Run the chunks on Ray: here, or on the cluster there."
    ),
]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Workers of --ray. Default: one for every four cores.")
]
Board = Annotated[
    bool, typer.Option("--tensorboard", help="Write the epochs for TensorBoard as well, into the folder.")
]
Preset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        help=f"{FULL}: more twins of both methods: cubic schedule, ten times the learning rate, another seed.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the claims as JSON.")]


def demo(
    folder: Folder = Path("demo"),
    models: Annotated[
        int | None, typer.Option(help=f"How many models. Default: {DEMO.zoo.seeds}.", show_default=False)
    ] = None,
    changes: Changes = None,
    restart: Restart = False,
    chunk: Chunk = None,
    device: o.Device = None,
    as_json: AsJson = False,
) -> None:
    """Train a small zoo on real digits, sparsify it both ways, and write the report.

    Every stage is kept: run it again after an interruption and it goes on.

    [bold]Example[/]

    zoosparse demo --out demo --models 16
    """
    number = {} if models is None else {"zoo.seeds": models}
    settings = recipe("demo", {**number, **_overrides(changes)})
    _run(settings, folder, restart, as_json, _runner(chunk), device)


def study(
    config: Annotated[
        str | None, typer.Argument(help="TOML file, or the name of a recipe.", show_default=False)
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--out", help="Folder; default: the name of the study.")
    ] = None,
    changes: Changes = None,
    preset: Preset = None,
    list_recipes: Annotated[
        bool, typer.Option("--list", help="List the recipes of the published zoos.")
    ] = False,
    init: Annotated[
        str | None, typer.Option("--init", help="Print a recipe, to start a file of your own from.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the plan: time, memory and disk, measured in a few seconds."),
    ] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of a study.")] = False,
    restart: Restart = False,
    chunk: Chunk = None,
    ray: Ray = None,
    workers: Workers = None,
    device: o.Device = None,
    tensorboard: Board = False,
    as_json: AsJson = False,
) -> None:
    """Run a whole study from one file: train, sparsify, analyse, report.

    [bold]Examples[/]

    zoosparse study --list

    zoosparse study --init mnist-seed > my-study.toml

    zoosparse study my-study.toml --set zoo.seeds=16 --dry-run

    zoosparse study my-study.toml --preset full --set zoo.seeds=32

    zoosparse study my-study.toml --ray local --workers 4

    zoosparse study my-study.toml --device cuda
    """
    if list_recipes:
        out.print("\n".join(recipes()))
    elif init is not None:
        print(recipe_text(init), end="")
    elif schema:
        print_json(StudyConfig.model_json_schema())
    elif config is None:
        raise InputError("name a TOML file or a recipe; `zoosparse study --list` shows the recipes")
    else:
        overrides = _overrides(changes)
        path = Path(config)
        chosen = read_config(path, overrides) if path.suffix == ".toml" else recipe(config, overrides)
        chosen = chosen if preset is None else apply_preset(chosen, preset)
        if dry_run:
            _print_plan(chosen, as_json)
        else:
            runner = _runner(chunk, ray, workers, device)
            _run(chosen, folder or Path(path.stem), restart, as_json, runner, device, tensorboard)


def _runner(
    chunk: int | None, ray: str | None = None, workers: int | None = None, device: str | None = None
) -> AbstractContextManager[Runner]:
    if ray is None:
        if workers is not None:
            raise InputError("--workers needs --ray; without it, one process uses all cores")
        return nullcontext(LocalRunner(chunk or MODELS))
    from zoosparse_ext.study.ray_runner import RayRunner  # Ray is optional, and takes a second to load

    return RayRunner(ray, workers, chunk, gpus=device is not None and device.startswith("cuda"))


def _run(
    config: StudyConfig,
    folder: Path,
    restart: bool,
    as_json: bool,
    runner: AbstractContextManager[Runner],
    device: str | None = None,
    tensorboard: bool = False,
) -> None:
    started = time.monotonic()
    path = folder / "zoo"
    bar = RunLog(folder / "log.jsonl").stages(reporting.loaded_meanwhile(training_bar))
    if tensorboard:
        bar = TensorBoard(folder / "tensorboard").stages(bar)
    with resumable(path, "study") as checkpoint:
        if restart:
            Zoo.remove(path)
            shutil.rmtree(checkpoint, ignore_errors=True)
        _announce(config, path)
        with runner as workers:
            zoo = run_study(config, path, checkpoint, bar, workers, device)
        page, claims = reporting.write(zoo, folder, config.title)
    print_claims(claims, as_json)
    if as_json:
        return
    print_summary(zoo, config.title)
    networks = sum(zoo.info()["populations"].values())
    say(f"{networks} networks in {time.monotonic() - started:.0f} s.  Report: [bold]{escape(str(page))}[/]")


def _announce(config: StudyConfig, path: Path) -> None:
    """Say in a line what a long study is going to take, as far as it is not done yet."""
    done: list[str] = []
    if (path / MANIFEST).exists():
        zoo = Zoo.open(path)
        config, done = as_begun(config, zoo, path), list(zoo.populations)
    data = load_data(config.data)
    if rough_seconds(config, data, done) < LONG:
        return
    if stages := plan_study(config, data, done, GLANCE):
        say(f"{sum(stage.networks for stage in stages):,} networks; this takes {_total(stages)}.")


def _total(stages: list[Stage]) -> str:
    """What stages take in all."""
    seconds, disk = sum(stage.seconds for stage in stages), sum(stage.disk for stage in stages)
    memory, resume = max(stage.memory for stage in stages), max(stage.resume for stage in stages)
    threads = torch.get_num_threads()
    return (
        f"about {duration(seconds)} on {threads} thread{'s' if threads != 1 else ''}, up to {size(memory)} of memory, "
        f"{size(disk)} of disk and {size(resume)} while it runs; analysis and report come on top"
    )


def _print_plan(config: StudyConfig, as_json: bool) -> None:
    stages = plan_study(config, load_data(config.data))
    if as_json:
        disk = sum(stage.disk for stage in stages) + max(stage.resume for stage in stages)
        memory = max(stage.memory for stage in stages)
        total = {"seconds": sum(stage.seconds for stage in stages), "memory": memory, "disk": disk}
        print_json({"stages": [asdict(stage) for stage in stages], "total": total})
        return
    rows = [
        {
            "population": stage.population,
            "networks": stage.networks,
            "epochs": stage.epochs,
            "time": duration(stage.seconds),
            "memory": size(stage.memory),
            "disk": size(stage.disk),
        }
        for stage in stages
    ]
    print_table(pd.DataFrame(rows), config.title)
    say(f"This takes {_total(stages)}.")


def _overrides(changes: list[str] | None) -> dict[str, Any]:
    """`zoo.seeds=4` as a key and a TOML value; text that is no TOML value counts as a string."""
    values = {}
    for change in changes or []:
        key, equals, value = change.partition("=")
        if not equals or not all(part.strip() for part in key.split(".")):
            raise InputError(f"--set {change!r}: write key=value, as in --set zoo.seeds=4")
        values[key.strip()] = _toml_value(value)
    return values


def _toml_value(text: str) -> Any:
    from zoosparse_ext.study.config import tomllib

    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
