"""A study from its config to its zoo: every stage that is done is kept, every stage that is not is gone on with."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from zoosparse_ext.data import Dataset, load_dataset
from zoosparse_ext.errors import InputError
from zoosparse_ext.study.config import DataConfig, StudyConfig
from zoosparse_ext.study.grid import model_groups
from zoosparse_ext.study.stages import (
    OnProgress,
    add_magnitude_twins,
    add_matched_twins,
    add_variational_twins,
    train_zoo,
)
from zoosparse_ext.zoo import Zoo

StageBar = Callable[[str], AbstractContextManager[OnProgress]]


def run_study(config: StudyConfig, path: Path, checkpoint: Path, bar: StageBar) -> Zoo:
    """Run what is missing of a study and return its zoo, saved at `path`.

    Args:
        config: the study.
        path: folder of the zoo; each finished stage is saved there.
        checkpoint: folder for the epochs of the stage under way.
        bar: makes a progress bar for a stage, given its title.

    Raises:
        InputError: the folder holds the zoo of another study.
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
                **config.zoo.how_to_train(),
            )
        _keep(zoo, path, checkpoint)
    return _sparsify(zoo, data, config, path, checkpoint, bar)


def load_data(config: DataConfig) -> Dataset:
    """The data set of a study."""
    data = load_dataset(config.spec, mean=config.mean, std=config.std)
    return data if config.limit is None else data.limit(config.limit)


def _sparsify(
    zoo: Zoo, data: Dataset, config: StudyConfig, path: Path, checkpoint: Path, bar: StageBar
) -> Zoo:
    magnitude, variational = config.magnitude, config.variational
    if magnitude:
        fine_tuning = {
            "epochs": magnitude.epochs,
            "batch_size": magnitude.batch_size,
            "optimizer": magnitude.optimizer.build(),
            "seed": config.seed,
        }
        for scope in magnitude.scopes:
            if f"magnitude-{scope}" in zoo.populations:
                continue
            with bar(f"prune ({scope})") as progress:
                zoo = add_magnitude_twins(
                    zoo,
                    data,
                    magnitude.ratios,
                    scope,
                    schedule=magnitude.schedule,
                    checkpoint=checkpoint,
                    progress=progress,
                    **fine_tuning,
                )
            _keep(zoo, path, checkpoint)
    if variational and "variational" not in zoo.populations:
        with bar("variational dropout") as progress:
            zoo = add_variational_twins(
                zoo,
                data,
                epochs=variational.epochs,
                batch_size=variational.batch_size,
                preset=variational.preset,
                threshold=variational.threshold,
                optimizer=variational.optimizer.build(),
                seed=config.seed,
                checkpoint=checkpoint,
                progress=progress,
            )
        _keep(zoo, path, checkpoint)
    if magnitude and variational:
        for scope in magnitude.matched_scopes:
            if f"magnitude-matched-{scope}" in zoo.populations:
                continue
            with bar(f"prune (matched, {scope})") as progress:
                zoo = add_matched_twins(
                    zoo, data, scope, checkpoint=checkpoint, progress=progress, **fine_tuning
                )
            _keep(zoo, path, checkpoint)
    return zoo


def _keep(zoo: Zoo, path: Path, checkpoint: Path) -> None:
    """Save a finished stage; its epochs are then no longer needed."""
    zoo.save(path)
    shutil.rmtree(checkpoint, ignore_errors=True)


def _require_same(zoo: Zoo, settings: dict[str, object], path: Path) -> None:
    there = zoo.provenance.get("settings", {})
    changed = [key for key in settings if key != "title" and there.get(key) != settings[key]]
    if changed:
        raise InputError(
            f"{path} holds the zoo of a study with other settings ({', '.join(changed)}); "
            "choose another folder, or remove it first"
        )
