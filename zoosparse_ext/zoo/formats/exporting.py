"""`export_zoo`: a zoo in the form that other tools read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from zoosparse_ext.data import Dataset
from zoosparse_ext.errors import InputError, StoreError
from zoosparse_ext.zoo.formats.ray_export import export_modelzoos
from zoosparse_ext.zoo.store import Zoo

EXPORTERS: dict[str, Callable[[Zoo, Path, Dataset | None], None]] = {
    "modelzoos": export_modelzoos,
}


def export_zoo(
    zoo: Zoo, dst: str | os.PathLike[str], format: str = "modelzoos", *, data: Dataset | None = None
) -> None:
    """Write a zoo for other tools; `import_zoo` reads each of these back to the same weights, masks and tables.

    Example::

        zs.export_zoo(zoo, "tree", format="modelzoos")
        state = torch.load("tree/original/NN_tune_trainable_…/checkpoint_000050/checkpoints")

    Args:
        zoo: with all its populations.
        dst: a folder that does not exist yet; it appears when everything is written.
        format: ``"modelzoos"``, the Ray tree of modelzoos.cc.
        data: what the models were trained on, written as `dataset.pt` into the trees of modelzoos.

    Raises:
        InputError: an unknown format.
        StoreError: `dst` is there already, or cannot be written.
    """
    if format not in EXPORTERS:
        raise InputError(f"unknown format {format!r}; known: {', '.join(EXPORTERS)}")
    target = Path(dst)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise StoreError(f"{target} is there already; choose another folder, or remove it first")
    unfinished = target.with_name(target.name + ".unfinished")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        EXPORTERS[format](zoo, unfinished, data)
        if target.exists():
            target.rmdir()
        unfinished.rename(target)
    except OSError as error:
        raise StoreError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
