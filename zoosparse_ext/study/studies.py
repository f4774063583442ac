"""Studies for those who write Python: what `zoosparse_ext.run_study` does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from zoosparse_ext.data import Dataset
from zoosparse_ext.errors import InputError, StoreError, require_kind
from zoosparse_ext.population.hooks import Progress
from zoosparse_ext.study.config import StudyConfig, apply_preset, make_config, read_config, recipe
from zoosparse_ext.study.inheritance import inherited
from zoosparse_ext.study.log import RunLog
from zoosparse_ext.study.resume import kept_epochs_of
from zoosparse_ext.study.run import StageBar, add_twins
from zoosparse_ext.study.run import run_study as run_whole
from zoosparse_ext.study.runner import StageProgress
from zoosparse_ext.study.twin_stages import twin_stages
from zoosparse_ext.study.work import OnProgress
from zoosparse_ext.study.zoo_data import data_of_zoo, require_data_of
from zoosparse_ext.zoo import Zoo
from zoosparse_ext.zoo.create import ORIGINAL, with_modules
from zoosparse_ext.zoo.folder import MANIFEST

OF_MODELS = ("data", "zoo")  # sections that say what the models are: not to be named for a zoo that exists


def run(
    study: StudyConfig | Mapping[str, Any] | str | Path,
    out: str | Path | Zoo,
    *,
    data: Dataset | None = None,
    preset: str | None = None,
    progress: Callable[[Progress], None] | None = None,
    device: str | None = None,
) -> Zoo:
    """See :func:`zoosparse_ext.run_study`."""
    require_kind("out", out, (str, Path, Zoo), "a folder, or a zs.Zoo to add twins to")
    require_kind("data", data, (Dataset, type(None)), "a zs.Dataset")
    if progress is not None and not callable(progress):
        require_kind("progress", progress, (), "a function that takes a zs.Progress")
    config = _config(study)
    config = config if preset is None else apply_preset(config, preset)
    bar = _bar(progress)
    if isinstance(out, Zoo):
        return _add(config, out, data, bar, device)
    if data is not None:
        raise InputError(
            "a new study loads its data itself, by the key data.spec; data=… is for twins of a zoo that exists: make "
            "one with zs.Zoo.create(folder, population, data) and pass it as out"
        )
    folder = Path(out)
    if (folder / MANIFEST).exists():
        raise InputError(
            f"{folder} is a zoo itself, and the folder of a study holds one; pass zs.Zoo.open({str(folder)!r}) to add "
            "twins to it, or choose another folder"
        )
    path, logged = folder / "zoo", RunLog(folder / "log.jsonl")
    with kept_epochs_of(path, "study") as checkpoint:
        return run_whole(config, path, checkpoint, logged.stages(bar), device=device)


def _add(config: StudyConfig, zoo: Zoo, data: Dataset | None, bar: StageBar, device: str | None) -> Zoo:
    """Twins of a zoo that exists."""
    if named := [key for key in OF_MODELS if key in config.model_fields_set]:
        raise InputError(
            f"the zoo has its models already; leave {' and '.join(named)} out of the study, which then makes twins"
        )
    path = zoo.folder
    if path is None:
        raise StoreError(
            "the zoo is in memory only, and twins are saved as they are made; save it first: zoo.save(folder)"
        )
    if data is None:
        data = data_of_zoo(zoo, option="data=…")
    require_data_of(zoo, data, "that were given", "data=…")
    task = inherited(zoo)
    augment = task["augment"]
    changes = {
        "loss": task["loss"],
        "crop": 0 if augment is None else augment.crop,
        "flip": augment is not None and augment.flip,
    }
    config = config.model_copy(update={"zoo": config.zoo.model_copy(update=changes)})
    networks = [group.architecture for group in zoo.groups(ORIGINAL)] if ORIGINAL in zoo.populations else []
    with kept_epochs_of(path, "study") as checkpoint:
        return add_twins(
            zoo,
            data,
            twin_stages(config, zoo),
            path,
            checkpoint,
            bar,
            device=device,
            order=[*zoo.populations],
            opened=lambda place: with_modules(Zoo.open(place), networks),
        )


def _config(study: StudyConfig | Mapping[str, Any] | str | Path) -> StudyConfig:
    """A study as a config, however it was written down."""
    if isinstance(study, StudyConfig):
        return study
    if isinstance(study, Mapping):
        return make_config(dict(study))
    require_kind(
        "study",
        study,
        (str, Path),
        "the name of a recipe, the path of a .toml file, or a dictionary of its keys",
    )
    path = Path(study)
    return read_config(path) if isinstance(study, Path) or path.suffix == ".toml" else recipe(str(study))


def _bar(progress: Callable[[Progress], None] | None) -> StageBar:
    """Hands progress on, with the title of the stage."""

    @contextmanager
    def shown(stage: str) -> Iterator[OnProgress]:
        def show(state: Progress) -> None:
            if progress is not None:
                progress(replace(state, stage=stage) if isinstance(state, StageProgress) else state)

        yield show

    return shown
