"""A study from its config to its zoo: every stage that is done is kept, every stage that is not is gone on with."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from zoosparse_ext.data import Dataset, load_dataset
from zoosparse_ext.errors import ChunkError, InputError
from zoosparse_ext.study.config import DataConfig, StudyConfig
from zoosparse_ext.study.grid import model_groups
from zoosparse_ext.study.populations import in_order, ratios_of
from zoosparse_ext.study.runner import Runner
from zoosparse_ext.study.stages import (
    LOCAL,
    add_magnitude_twins,
    add_matched_twins,
    add_variational_twins,
    train_zoo,
)
from zoosparse_ext.study.work import OnProgress
from zoosparse_ext.zoo import Zoo

StageBar = Callable[[str], AbstractContextManager[OnProgress]]


@dataclass(frozen=True)
class Stage:
    """One population of twins that a study makes.

    Args:
        population: its name in the zoo.
        title: for people.
        add: makes the twins; takes the zoo and the data, and how to run it.
        needs: the population that it starts from.
        ratios: of sparsity; none where they are not chosen.
    """

    population: str
    title: str
    add: Callable[..., Zoo]
    needs: str = "original"
    ratios: tuple[float, ...] = ()

    def is_done(self, zoo: Zoo) -> bool:
        """Whether the zoo has all these twins."""
        return self.population in zoo.populations and {*self.ratios} <= {*ratios_of(zoo, self.population)}


def run_study(
    config: StudyConfig,
    path: Path,
    checkpoint: Path,
    bar: StageBar,
    runner: Runner = LOCAL,
    device: str | None = None,
) -> Zoo:
    """Run what is missing of a study and return its zoo, saved at `path`.

    Args:
        config: the study.
        path: folder of the zoo; each finished stage is saved there.
        checkpoint: folder for the epochs of the chunks under way, and the logs of those that failed.
        bar: makes a progress bar for a stage, given its title.
        runner: of the chunks; default: one after the other, in this process. The result does not depend on it.
        device: ``"cpu"`` or ``"cuda"``; default: the CPU.

    Raises:
        InputError: the folder holds the zoo of another study.
        ChunkError: chunks that failed for good, after everything that does not need them is done.
    """
    data = load_data(config.data)
    settings = config.model_dump(mode="json")
    if (path / "manifest.json").exists():
        zoo = Zoo.open(path)
        _require_same(zoo, settings, path)
    else:
        Zoo.require_new(path)
        with bar("train") as progress:
            zoo = train_zoo(
                data,
                model_groups(config.zoo, data),
                epochs=config.zoo.epochs,
                batch_size=config.zoo.batch_size,
                order=config.zoo.order,
                seed=config.seed,
                checkpoint=checkpoint,
                progress=progress,
                settings=settings,
                runner=runner,
                device=device,
                **config.zoo.how_to_train(),
            )
        zoo = _keep(zoo, path, checkpoint / "original")
    return _sparsify(zoo, data, config, path, checkpoint, bar, runner, device)


def load_data(config: DataConfig) -> Dataset:
    """The data set of a study."""
    data = load_dataset(config.spec, mean=config.mean, std=config.std)
    return data if config.limit is None else data.limit(config.limit)


def twin_stages(config: StudyConfig) -> list[Stage]:
    """The twins of a study, in the order in which they are made."""
    stages: list[Stage] = []
    magnitude, variational = config.magnitude, config.variational
    if magnitude:
        fine_tuning: dict[str, Any] = {
            "epochs": magnitude.epochs,
            "batch_size": magnitude.batch_size,
            "optimizer": magnitude.optimizer.build(),
            "lr_schedule": magnitude.lr_schedule,
            "seed": config.seed,
            **config.zoo.task(),
        }
        for scope in magnitude.scopes:
            how = {"ratios": magnitude.ratios, "scope": scope, "schedule": magnitude.schedule, **fine_tuning}
            add = partial(add_magnitude_twins, **how)
            ratios = tuple(magnitude.ratios)
            stages.append(Stage(f"magnitude-{scope}", f"prune ({scope})", add, ratios=ratios))
    if variational:
        add = partial(
            add_variational_twins,
            epochs=variational.epochs,
            batch_size=variational.batch_size,
            preset=variational.preset,
            threshold=variational.threshold,
            optimizer=variational.optimizer.build(),
            lr_schedule=variational.lr_schedule,
            seed=config.seed,
            **config.zoo.task(),
        )
        stages.append(Stage("variational", "variational dropout", add))
    if magnitude and variational:
        for scope in magnitude.matched_scopes:
            add = partial(add_matched_twins, scope=scope, to="variational", **fine_tuning)
            name, title = f"magnitude-matched-{scope}", f"prune (matched, {scope})"
            stages.append(Stage(name, title, add, needs="variational"))
    return stages


def _sparsify(
    zoo: Zoo,
    data: Dataset,
    config: StudyConfig,
    path: Path,
    checkpoint: Path,
    bar: StageBar,
    runner: Runner,
    device: str | None,
) -> Zoo:
    failures: list[ChunkError] = []
    stages = twin_stages(config)
    for stage in stages:
        if stage.is_done(zoo) or stage.needs not in zoo.populations:
            continue
        try:
            with bar(stage.title) as progress:
                zoo = stage.add(
                    zoo, data, checkpoint=checkpoint, progress=progress, runner=runner, device=device
                )
        except ChunkError as error:
            failures.append(error)
            continue
        zoo = _keep(zoo, path, checkpoint / stage.population)
    if failures:
        told = "; ".join(map(str, failures))
        raise ChunkError(f"{told}; run the same command again to try these again")
    places = ["original", *(stage.population for stage in stages), *zoo.populations]
    order = sorted(zoo.populations, key=places.index)
    if list(zoo.populations) != order:  # a stage that failed at first came later than planned
        in_order(zoo, order).save(path)
        zoo = Zoo.open(path)
    return zoo


def _keep(zoo: Zoo, path: Path, epochs: Path) -> Zoo:
    """Save a finished stage, whose epochs are then no longer needed; the zoo with its matrices left on disk."""
    zoo.save(path)
    shutil.rmtree(epochs, ignore_errors=True)
    return Zoo.open(path)


def _require_same(zoo: Zoo, settings: dict[str, object], path: Path) -> None:
    there = zoo.provenance.get("settings", {})
    changed = [key for key in settings if key != "title" and there.get(key) != settings[key]]
    if changed:
        raise InputError(
            f"{path} holds the zoo of a study with other settings ({', '.join(changed)}); "
            "choose another folder, or remove it first"
        )
