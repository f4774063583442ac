"""`export_zoo`: a zoo in the form that other tools read."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from zoosparse_ext.data import Dataset
from zoosparse_ext.errors import InputError, StoreError
from zoosparse_ext.zoo.formats.card import card, figures
from zoosparse_ext.zoo.formats.contents import FOLDER, write_contents
from zoosparse_ext.zoo.formats.packed import write_packed
from zoosparse_ext.zoo.formats.plan import Record
from zoosparse_ext.zoo.formats.ray_export import export_modelzoos
from zoosparse_ext.zoo.formats.states import state_dict, write_beside
from zoosparse_ext.zoo.ids import check_ids
from zoosparse_ext.zoo.store import Zoo


@dataclass(frozen=True)
class ExportOptions:
    """What only some formats need."""

    data: Dataset | None = None
    license: str = "unknown"


def export_zoo(
    zoo: Zoo,
    dst: str | os.PathLike[str],
    format: str = "modelzoos",
    *,
    data: Dataset | None = None,
    license: str = "unknown",
) -> None:
    """Write a zoo for other tools; `import_zoo` reads each of these back to the same weights, masks and tables.

    Example::

        zs.export_zoo(zoo, "tree", format="modelzoos")
        state = torch.load("tree/original/NN_tune_trainable_…/checkpoint_000050/checkpoints")

        zs.export_zoo(zoo, "repository", format="huggingface", license="cc-by-4.0")

    Args:
        zoo: with all its populations.
        dst: a folder that does not exist yet; it appears when everything is written.
        format: ``"modelzoos"`` (the Ray tree of modelzoos.cc), ``"safetensors"`` or ``"npz"`` (one matrix a
            population), ``"huggingface"`` (safetensors with a dataset card and figures, ready for the Hub),
            ``"modules"`` (one state dict a model, for ``module.load_state_dict``).
        data: what the models were trained on, written as `dataset.pt` into the trees of modelzoos.
        license: of the dataset card, as the Hub names licences.

    Raises:
        InputError: an unknown format, or `data` for one that has no place for it.
        StoreError: `dst` is there already, or cannot be written; two networks of the zoo have one id; a population has
            a name that cannot be that of a folder.
    """
    if format not in EXPORTERS:
        raise InputError(f"unknown format {format!r}; known: {', '.join(EXPORTERS)}")
    if data is not None and format != "modelzoos":
        raise InputError(f"format {format!r} has no place for data; leave out data=… (--with-data, --data)")
    target = Path(dst)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise StoreError(f"{target} is there already; choose another folder, or remove it first")
    check_ids(zoo)
    _check_names(zoo)
    unfinished = target.with_name(target.name + ".unfinished")
    try:
        unfinished.mkdir(parents=True)
    except FileExistsError:
        raise StoreError(
            f"{unfinished} is there, perhaps of an export that was killed; remove it first"
        ) from None
    except OSError as error:
        raise StoreError(f"cannot write {target}: {error.strerror or error}") from error
    try:
        EXPORTERS[format](zoo, unfinished, ExportOptions(data, license))
        if target.exists():
            target.rmdir()
        unfinished.rename(target)
    except OSError as error:
        raise StoreError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _check_names(zoo: Zoo) -> None:
    """Raise StoreError if a population cannot have a folder of its name in an export."""
    for name in zoo.populations:
        if name in ("", ".", "..", FOLDER, "models.csv") or "/" in name or "\0" in name:
            raise StoreError(
                f"a population is called {name!r}, which cannot be the name of its folder in an export; rename it"
            )


def export_huggingface(zoo: Zoo, dst: Path, options: ExportOptions) -> None:
    """A dataset repository: packed files, `README.md`, figures."""
    write_packed(zoo, dst, "safetensors")
    drawn = figures(zoo)
    for file, drawing in drawn.items():
        (dst / file).parent.mkdir(exist_ok=True)
        (dst / file).write_text(drawing)
    (dst / "README.md").write_text(card(zoo, options.license, list(drawn)))


def export_modules(zoo: Zoo, dst: Path, options: ExportOptions) -> None:
    """One state dict a row, ``<population>/<id>.pt``, and `models.csv`."""
    entries: dict[str, list[Record]] = {}
    for name, groups in zoo.populations.items():
        (dst / name).mkdir()
        entries[name] = []
        for number, group in enumerate(groups):
            files = [f"{name}/{_file_name(id, number, row)}.pt" for row, id in enumerate(group.ids)]
            for row, file in enumerate(files):
                torch.save(state_dict(group, row), dst / file)
            beside = write_beside(dst / FOLDER, f"{name}-{number}", group)
            entries[name].append({"files": files, **beside})
    zoo.models.to_csv(dst / "models.csv", index=False)
    write_contents(dst / FOLDER, zoo, "modules", entries)


def _file_name(id: str, group: int, row: int) -> str:
    """A name that any file system takes; numbers tell those apart that differ in other characters only."""
    return f"{re.sub(r'[^A-Za-z0-9.=-]+', '_', id)[:80].lstrip('.')}-{group}-{row:05d}"


EXPORTERS: dict[str, Callable[[Zoo, Path, ExportOptions], None]] = {
    "modelzoos": lambda zoo, dst, options: export_modelzoos(zoo, dst, options.data),
    "safetensors": lambda zoo, dst, options: write_packed(zoo, dst, "safetensors"),
    "huggingface": export_huggingface,
    "npz": lambda zoo, dst, options: write_packed(zoo, dst, "npz"),
    "modules": export_modules,
}
