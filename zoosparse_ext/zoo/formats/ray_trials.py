"""Trials of a Ray Tune tree, as modelzoos.cc publishes them: folders, hyperparameters, results.

``ROOT/NN_tune_trainable_…/{params.json, result.json, checkpoint_000050/checkpoints}``, in the layouts of old and new
Ray versions, nested at any depth.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from zoosparse_ext.errors import StoreError
from zoosparse_ext.zoo.formats.files import parse_json, read_bytes, read_json, resolve_inside
from zoosparse_ext.zoo.formats.plan import Record, Skipped
from zoosparse_ext.zoo.formats.unpickle import load_pickle

_CHECKPOINT = re.compile(r"checkpoint_(\d{1,9})$")
_METADATA = (".tune_metadata", "checkpoints.tune_metadata")
_PARAMS = ("params.json", "config.json")
_MAX_DEPTH = 8
_INT64 = 2**63


@dataclass(frozen=True)
class Trial:
    """One training run.

    Args:
        name: of the folder; what a twin's `training::init_checkpoint_path` ends with.
        checkpoints: epoch and file, ascending.
        source: the row of a twin's original in the table `models`.
        pruned: its last checkpoint holds masks of `torch.nn.utils.prune`.
    """

    name: str
    folder: str
    root: str  # no file outside is read
    params: Record
    checkpoints: tuple[tuple[int, str], ...]
    stamp: tuple[int, int] = (0, 0)  # size and time of the last checkpoint
    id: str = ""
    source: Record | None = None
    pruned: bool = False

    @property
    def last(self) -> int:
        return self.checkpoints[-1][0]

    @property
    def source_name(self) -> str | None:
        """Folder name of the model that a twin started from. Nothing else in a twin's params.json says it."""
        path = text(self.params, "training::init_checkpoint_path")
        parts = [part for part in (path or "").replace("\\", "/").split("/") if part]
        return parts[-1] if parts else None


def is_tree(root: str | os.PathLike[str]) -> bool:
    """Whether a folder holds trials with Ray's checkpoint folders."""
    return next((True for found in _folders(root, []) if found[1]), False)


def find_trials(root: str | os.PathLike[str]) -> tuple[list[Trial], list[Skipped]]:
    """All trials below a folder in the order of their paths, and those that are broken.

    Names that appear in several folders are told apart by the folder above them (`Trial.id`).
    """
    skipped: list[Skipped] = []
    trials = []
    for folder, checkpoints, names in _folders(root, skipped):
        trial = _trial(os.fspath(root), folder, checkpoints, names)
        if isinstance(trial, Skipped):
            skipped.append(trial)
        else:
            trials.append(trial)
    count = Counter(trial.name for trial in trials)
    return [replace(t, id=_path(t, root) if count[t.name] > 1 else t.name) for t in trials], skipped


def read_results(trial: Trial) -> dict[int, Record]:
    """Lines of `result.json` by training iteration, which is the epoch; iteration 0 is the untrained model.

    A position says nothing: a restored trial repeats iterations (the last one counts), and a run may have been killed
    in the middle of its last line, which is then left out.

    Raises:
        StoreError: a line other than the last is no JSON object.
    """
    path = os.path.join(trial.folder, "result.json")
    if not os.path.lexists(path):
        return {}
    lines = read_bytes(trial.root, path).splitlines()
    results: dict[int, Record] = {}
    for position, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            result = parse_json(line, f"line {position} of {path}")
        except StoreError:
            if position == len(lines) - 1:
                break
            raise
        iteration = result.get("training_iteration") if isinstance(result, dict) else None
        if not isinstance(iteration, int) or not 0 <= iteration < _INT64:
            raise StoreError(f"line {position} of {path} has no training_iteration")
        results[iteration] = result
    return results


def number(record: Record, key: str) -> float | None:
    """A number of a record, or None."""
    value = record.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if not isinstance(value, int) or -_INT64 <= value < _INT64 else None


def text(record: Record, key: str) -> str | None:
    """A text of a record, or None."""
    value = record.get(key)
    return value if isinstance(value, str) else None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _folders(
    root: str | os.PathLike[str], skipped: list[Skipped], above: tuple[str, ...] = ()
) -> Iterator[tuple[str, list[tuple[int, str]], set[str]]]:
    """Folders of trials, their checkpoint folders by number, and the names of their files."""
    folder = os.fspath(root)
    real = os.path.realpath(folder)
    if len(above) > _MAX_DEPTH or real in above:  # a link may lead back up
        return
    checkpoints: list[tuple[int, str]] = []
    children, names = [], set()
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        skipped.append(Skipped(os.path.basename(folder), f"cannot read {folder}: {error.strerror}"))
        return
    for entry in entries:
        names.add(entry.name)
        if not _is_folder(entry):
            continue
        if entry.is_symlink() and not _inside((*above, real)[0], entry.path):
            skipped.append(Skipped(entry.name, f"{entry.path} is a link that leads out of the tree"))
        elif match := _CHECKPOINT.match(entry.name):
            checkpoints.append((int(match[1]), entry.path))
        else:
            children.append(entry.path)
    trial = (
        checkpoints
        or "result.json" in names
        or ("tune_trainable" in os.path.basename(folder) and not children)
    )
    if trial:
        yield folder, sorted(checkpoints), names
    for child in children:
        yield from _folders(child, skipped, (*above, real))


def _inside(root: str, path: str) -> bool:
    try:
        resolve_inside(root, path)
    except StoreError:
        return False
    return True


def _path(trial: Trial, root: str | os.PathLike[str]) -> str:
    return os.path.relpath(trial.folder, root).replace(os.sep, "/")


def _trial(root: str, folder: str, checkpoints: list[tuple[int, str]], names: set[str]) -> Trial | Skipped:
    name = os.path.basename(folder)
    if not checkpoints:
        return Skipped(name, f"it has no checkpoint: {folder} holds no folder checkpoint_…")
    try:
        params: Any = {}
        found = next((os.path.join(folder, file) for file in _PARAMS if file in names), None)
        if found is not None:
            params = read_json(root, found)
        if not isinstance(params, dict):
            raise StoreError(f"{found} is no JSON object")
        epochs = _epochs(root, checkpoints)
    except StoreError as error:
        return Skipped(name, str(error))
    return Trial(name, folder, root, params, epochs, _stamp(epochs[-1][1]))


def _stamp(path: str) -> tuple[int, int]:
    """Tells a file from what it was when an interrupted import began."""
    try:
        status = os.stat(path)
    except OSError:
        return (0, 0)
    return (status.st_size, status.st_mtime_ns)


def _epochs(root: str, checkpoints: list[tuple[int, str]]) -> tuple[tuple[int, str], ...]:
    """Epoch and file of every checkpoint. The number of a folder is not always the training iteration: Ray's own
    metadata say it. They are looked at for all checkpoints only if they contradict the last folder's number."""
    last, folder = checkpoints[-1]
    if _iteration(root, folder, last) != last:
        checkpoints = sorted((_iteration(root, folder, index), folder) for index, folder in checkpoints)
    latest = dict(checkpoints)  # a restored trial writes an epoch again
    return tuple((epoch, os.path.join(folder, "checkpoints")) for epoch, folder in latest.items())


def _iteration(root: str, folder: str, index: int) -> int:
    for name in _METADATA:
        path = os.path.join(folder, name)
        if not os.path.lexists(path):
            continue
        try:
            metadata = load_pickle(read_bytes(root, path), path)
        except StoreError:  # other versions of Ray keep objects in it; then the folder's number has to do
            return index
        iteration = metadata.get("iteration") if isinstance(metadata, dict) else None
        return iteration if isinstance(iteration, int) and 0 <= iteration < _INT64 else index
    return index
