"""A study from its config to its zoo: every stage that is done is kept, every stage that is not is gone on with."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from zoosparse_ext.data import Dataset, load_dataset
from zoosparse_ext.errors import ChunkError, InputError
from zoosparse_ext.study.config import DataConfig, StudyConfig
from zoosparse_ext.study.grid import model_groups
from zoosparse_ext.study.populations import in_order
from zoosparse_ext.study.runner import Runner
from zoosparse_ext.study.stages import LOCAL, train_zoo
from zoosparse_ext.study.stored import is_of_study, settled
from zoosparse_ext.study.twin_stages import Stage, planned_zoo, twin_stages
from zoosparse_ext.study.work import OnProgress
from zoosparse_ext.zoo import Zoo
from zoosparse_ext.zoo.folder import MANIFEST

StageBar = Callable[[str], AbstractContextManager[OnProgress]]


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
    there = Zoo.open(path) if (path / MANIFEST).exists() else None
    if there is not None:
        config = as_begun(config, there, path)
    data = load_data(config.data)
    groups = model_groups(config.zoo, data)
    stages = twin_stages(config, planned_zoo(config, groups))
    if there is not None:
        zoo = there
    else:
        Zoo.require_new(path)
        with bar("train") as progress:
            zoo = train_zoo(
                data,
                groups,
                checkpoint=checkpoint,
                progress=progress,
                settings=config.model_dump(mode="json"),
                runner=runner,
                device=device,
                keep=config.kept_epochs,
                keep_optimizer_state=any(
                    part.optimizer_state == "source" for twins in config.twins for part in twins.each()
                ),
                **config.zoo.options(config.seed),
            )
        zoo = _keep(zoo, path, checkpoint / "original")
    order = ["original", *(stage.population for stage in stages), *zoo.populations]
    return add_twins(zoo, data, stages, path, checkpoint, bar, runner, device, order)


def as_begun(config: StudyConfig, zoo: Zoo, path: Path) -> StudyConfig:
    """The study as it goes on in the folder of a zoo: what it does not name is as the study there has it.

    Raises:
        InputError: no study made the zoo, or one with another value of a key that is named.
    """
    settings: dict[str, Any] = zoo.provenance.get("settings") or {}
    if not is_of_study(settings):
        raise InputError(
            f"{path} holds a zoo that no study made; sparsify it with zoosparse prune and vardrop, or choose another "
            "folder (--out)"
        )
    return settled(config, settings, str(path))


def load_data(config: DataConfig) -> Dataset:
    """The data set of a study."""
    data = load_dataset(config.spec, mean=config.mean, std=config.std)
    return data if config.limit is None else data.limit(config.limit)


def add_twins(
    zoo: Zoo,
    data: Dataset,
    stages: Sequence[Stage],
    path: Path,
    checkpoint: Path,
    bar: StageBar,
    runner: Runner = LOCAL,
    device: str | None = None,
    order: Sequence[str] = (),
    opened: Callable[[Path], Zoo] = Zoo.open,
) -> Zoo:
    """Run those stages of twins that a zoo lacks, each saved when it is finished; arguments as of `run_study`.

    Args:
        order: of the populations in the end; default: in which they are made.
        opened: opens the zoo again after each stage.

    Raises:
        ChunkError: as `run_study`.
    """
    failures: list[ChunkError] = []
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
        zoo = _keep(zoo, path, checkpoint / stage.population, opened)
    if failures:
        told = "; ".join(map(str, failures))
        raise ChunkError(f"{told}; run the same command again to try these again")
    ordered = in_order(zoo, [*order, *zoo.populations])
    if ordered is not zoo:  # a stage that failed at first came later than planned
        ordered.save(path)
        zoo = opened(path)
    return zoo


def _keep(zoo: Zoo, path: Path, epochs: Path, opened: Callable[[Path], Zoo] = Zoo.open) -> Zoo:
    """Save a finished stage, whose epochs are then no longer needed; the zoo with its matrices left on disk."""
    zoo.save(path)
    shutil.rmtree(epochs, ignore_errors=True)
    return opened(path)
