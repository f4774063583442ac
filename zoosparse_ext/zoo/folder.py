"""A folder whose content changes as a whole.

Files have names made of their content and are never changed; a manifest says which of them count. It is replaced last,
in one step, so that a crash at any moment leaves either the old or the new state. Files that no longer count are
removed afterwards.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zoosparse_ext.errors import StoreError

MANIFEST = "manifest.json"
_LOCK = ".lock"
_TEMPORARY = ".tmp"


@dataclass(frozen=True)
class FileEntry:
    """A file that a manifest refers to, with what it must contain."""

    file: str  # relative to the folder
    bytes: int
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, so that two writers never mix.

    Raises:
        StoreError: another process holds it, or the folder cannot be made.
    """
    with _disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / _LOCK, "w")  # noqa: SIM115 - closed below, together with the lock
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StoreError(f"another process is writing to {folder}; wait for it to end") from None
        yield


def write_file(folder: Path, stem: str, suffix: str, content: bytes) -> FileEntry:
    """Write content under a name made of its hash; nothing is written if that file is there already."""
    digest = hashlib.sha256(content).hexdigest()
    name = f"{stem}-{digest[:16]}{suffix}"
    path = folder / name
    if not (path.exists() and path.stat().st_size == len(content)):
        _replace(path, content)
    return FileEntry(name, len(content), digest)


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Make a new manifest count, then remove the files it no longer names."""
    content = json.dumps(manifest, indent=1, allow_nan=False).encode()
    _replace(folder / MANIFEST, content)
    kept = {entry["file"] for entry in _entries(manifest)} | {MANIFEST, _LOCK}
    for path in folder.rglob("*"):
        if path.is_file() and path.relative_to(folder).as_posix() not in kept and _ours(path):
            path.unlink(missing_ok=True)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder.

    Raises:
        StoreError: there is none, or it is not JSON.
    """
    path = folder / MANIFEST
    if not path.is_file():
        what = "no such folder" if not folder.exists() else f"it holds no {MANIFEST}"
        raise StoreError(f"{folder} is not a zoo: {what}")
    try:
        manifest = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} is damaged: {error}") from error
    if not isinstance(manifest, dict):
        raise StoreError(f"{path} is damaged: expected a JSON object")
    return manifest


def check_file(folder: Path, entry: FileEntry, *, content: bool = True) -> Path:
    """The path of a file, after a check of its size and, unless `content` is false, its checksum.

    Raises:
        StoreError: the file is missing, lies outside the folder, is truncated, or was altered; names it.
    """
    path = folder / entry.file
    if Path(entry.file).is_absolute() or ".." in Path(entry.file).parts or path.is_symlink():
        raise StoreError(f"{folder / MANIFEST} refers to {entry.file!r}, which lies outside the zoo")
    if not path.is_file():
        raise StoreError(f"{path} is missing; the zoo is incomplete, restore it from a copy")
    if path.stat().st_size != entry.bytes:
        raise StoreError(
            f"{path} has {path.stat().st_size} bytes, expected {entry.bytes}: it is truncated or was altered"
        )
    if content:
        with open(path, "rb") as file:
            digest = (
                hashlib.file_digest(file, "sha256").hexdigest()
                if hasattr(hashlib, "file_digest")
                else _digest(path)
            )
        if digest != entry.sha256:
            raise StoreError(f"{path} was altered: SHA-256 {digest[:16]}…, expected {entry.sha256[:16]}…")
    return path


def is_foreign(folder: Path) -> bool:
    """Whether a folder holds something, but no zoo."""
    if not folder.exists() or (folder / MANIFEST).exists():
        return False
    return any(path.name != _LOCK and not _ours(path) and not path.is_dir() for path in folder.rglob("*"))


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(path.name + _TEMPORARY)
    with _disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = " (the disk is full)" if error.errno == errno.ENOSPC else ""
        raise StoreError(
            f"cannot write {path}: {error.strerror or error}{full}; what was there is unchanged"
        ) from error


def _entries(value: Any) -> Iterator[dict[str, Any]]:
    """All file entries in a manifest, wherever they are."""
    if isinstance(value, dict):
        if {"file", "bytes", "sha256"} <= value.keys():
            yield value
        for item in value.values():
            yield from _entries(item)
    elif isinstance(value, list):
        for item in value:
            yield from _entries(item)


def _ours(path: Path) -> bool:
    """A file this module wrote: a temporary, or `<stem>-<16 hex digits>.<suffix>` in `shards/` or `tables/`."""
    if path.name.endswith(_TEMPORARY):
        return True
    digits = path.stem.rpartition("-")[2]
    return (
        path.parent.name in ("shards", "tables")
        and len(digits) == 16
        and set(digits) <= set("0123456789abcdef")
    )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()  # Python 3.10 has no hashlib.file_digest
