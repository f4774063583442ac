"""A folder whose content changes as a whole.

Files have names made of their content and are never changed; a manifest says which of them count. It is replaced last,
in one step, so that a crash at any moment leaves either the old or the new state. Files that do not count are removed
by whoever writes next.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from zoosparse_ext.errors import StoreError
from zoosparse_ext.zoo.plain import plain

MANIFEST = "manifest.json"
_LOCK = ".lock"
TEMPORARY = ".tmp"
_FOLDERS = ("shards", "tables")
_UNCHANGED = "what was there is unchanged"
_OURS = re.compile(
    r"(rows|optimizer|labels|models|history|twins)-[0-9a-f]{16}\.\w+(\.tmp)?|manifest\.json\.tmp|\.lock"
)


@dataclass(frozen=True)
class FileEntry:
    """A file that a manifest refers to, with what it must contain."""

    file: str  # relative to the folder
    bytes: int
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, entry: dict[str, Any]) -> FileEntry:
        return cls(str(entry["file"]), int(entry["bytes"]), str(entry["sha256"]))


@contextlib.contextmanager
def changing(folder: Path) -> Iterator[None]:
    """Hold the folder's lock while files are written; if that fails, remove what was written.

    Raises:
        StoreError: another process holds the lock, or the folder cannot be made.
    """
    with locked(folder):
        try:
            yield
        except BaseException:
            sweep(folder)
            raise


@contextlib.contextmanager
def locked(folder: Path, *, owner: Path | None = None) -> Iterator[None]:
    """Hold the folder's lock, so that two writers never mix.

    The folder is made if there is none; what was made for the lock alone is removed in the end. `owner` is what the
    message names in place of the folder.

    Raises:
        StoreError: another process holds the lock, or the folder cannot be made.
    """
    with disk_errors(folder):
        made = [path for path in (folder, *folder.parents) if not path.exists()]
        if (folder / _LOCK).exists():  # a writer that was killed left it
            made = [folder]
        lock = _take_lock(folder, owner or folder)
    with lock:
        try:
            yield
        finally:
            _remove_unused(folder, made)


def _take_lock(folder: Path, owner: Path) -> TextIO:
    """The lock file, open and locked. Tried again if whoever held it removed the folder in between."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = open(folder / _LOCK, "w")  # noqa: SIM115 - closed by the caller, together with the lock
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise StoreError(f"another process is writing to {owner}; wait for it to end") from None
        except OSError:
            lock.close()
            raise
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock.fileno()), os.stat(folder / _LOCK)):
                return lock
        lock.close()


def write_file(folder: Path, stem: str, suffix: str, content: Sequence[bytes | memoryview]) -> FileEntry:
    """Write content under a name made of its hash; nothing is written if that file is there already.

    The content comes in parts, which are read where they lie.
    """
    digest, size = _digest(content), sum(map(len, content))
    name = f"{stem}-{digest[:16]}{suffix}"
    path = folder / name
    with disk_errors(path):
        there = path.is_file() and path.stat().st_size == size and _digest(_blocks(path)) == digest
    if not there:
        replace_file(path, content)
    return FileEntry(name, size, digest)


def carry_file(source: Path, target: Path, entry: FileEntry) -> None:
    """Make a file of one folder count in another as well; in the same folder it only has to be there.

    Raises:
        StoreError: as :func:`check_file`.
    """
    same = source.resolve() == target.resolve()
    path = check_file(source, entry, content=not same)
    if not same:
        replace_file(target / entry.file, _blocks(path))


def write_manifest(folder: Path, manifest: dict[str, Any]) -> str:
    """Make a new manifest count, then remove the files it does not name; returns its hash."""
    content = json.dumps(plain(manifest), indent=1, allow_nan=False).encode()
    replace_file(folder / MANIFEST, [content])
    sweep(folder)
    return hashlib.sha256(content).hexdigest()


def read_manifest(folder: Path) -> tuple[dict[str, Any], str]:
    """The manifest of a folder, and its hash.

    Raises:
        StoreError: there is none, or it is not JSON.
    """
    path = folder / MANIFEST
    if not path.is_file():
        what = "no such folder" if not folder.exists() else f"it holds no {MANIFEST}"
        raise StoreError(f"{folder} is not a zoo: {what}")
    try:
        content = path.read_bytes()
        manifest = json.loads(content)
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path} is damaged: {error}") from error
    if not isinstance(manifest, dict):
        raise StoreError(f"{path} is damaged: expected a JSON object")
    return manifest, hashlib.sha256(content).hexdigest()


def file_entries(value: Any) -> Iterator[FileEntry]:
    """All file entries in a manifest or a part of one, wherever they are."""
    if isinstance(value, dict):
        if {"file", "bytes", "sha256"} <= value.keys():
            yield FileEntry.from_dict(value)
        for item in value.values():
            yield from file_entries(item)
    elif isinstance(value, list):
        for item in value:
            yield from file_entries(item)


@contextlib.contextmanager
def understood(folder: Path) -> Iterator[None]:
    """Turn whatever goes wrong in making sense of a manifest into a StoreError that names it."""
    try:
        yield
    except StoreError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise StoreError(f"{folder / MANIFEST} is damaged: {type(error).__name__}: {error}") from error


def check_file(folder: Path, entry: FileEntry, *, content: bool = True) -> Path:
    """The path of a file, after a check of its size and, unless `content` is false, its checksum.

    Raises:
        StoreError: the file is missing, outside the folder, unreadable, truncated or altered; names it.
    """
    path = folder / entry.file
    if Path(entry.file).is_absolute() or ".." in Path(entry.file).parts or path.is_symlink():
        raise StoreError(f"{folder / MANIFEST} refers to {entry.file!r}, which lies outside the zoo")
    if not path.is_file():
        raise StoreError(
            f"{path} is missing: the zoo is incomplete (restore it from a copy), or was changed after it was opened"
        )
    if path.stat().st_size != entry.bytes:
        raise StoreError(
            f"{path} has {path.stat().st_size} bytes, expected {entry.bytes}: it is truncated or was altered"
        )
    if content:
        try:
            digest = _digest(_blocks(path))
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error.strerror or error}") from error
        if digest != entry.sha256:
            raise StoreError(f"{path} was altered: SHA-256 {digest[:16]}…, expected {entry.sha256[:16]}…")
    return path


def is_free(folder: Path) -> bool:
    """Whether a folder is missing or holds nothing but what a failed write of ours left."""
    if not folder.exists():
        return True
    if not folder.is_dir():
        return False
    inside = [path for name in _FOLDERS for path in folder.glob(f"{name}/*")]
    beside = [path for path in folder.iterdir() if not (path.name in _FOLDERS and path.is_dir())]
    return all(path.is_file() and _OURS.fullmatch(path.name) for path in (*inside, *beside))


def foreign_files(folder: Path) -> list[str]:
    """Files of a zoo's folder, by their paths in it, that no writer of ours made."""
    files = [path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()]
    ours = {folder / MANIFEST} | {folder / entry.file for entry in file_entries(read_manifest(folder)[0])}
    known = {folder / name for name in ("", *_FOLDERS)}
    return [
        path.relative_to(folder).as_posix()
        for path in sorted(files)
        if path not in ours and not (path.parent in known and _OURS.fullmatch(path.name))
    ]


def sweep(folder: Path) -> None:
    """Remove what was written here and does not count."""
    kept = set()
    if (folder / MANIFEST).exists():
        try:
            kept = {entry.file for entry in file_entries(read_manifest(folder)[0])}
        except StoreError:
            return  # who knows what counts
    candidates = [folder / (MANIFEST + TEMPORARY)]
    candidates += [path for name in _FOLDERS for path in folder.glob(f"{name}/*")]
    for path in candidates:
        if _OURS.fullmatch(path.name) and path.relative_to(folder).as_posix() not in kept:
            with contextlib.suppress(OSError):  # it does no harm, and the next write tries again
                path.unlink(missing_ok=True)


def _remove_unused(folder: Path, made: list[Path]) -> None:
    """Remove what is empty: the folders for shards and tables, and those of `made`, which may hold the lock."""
    with contextlib.suppress(OSError):
        for name in _FOLDERS:
            if (folder / name).is_dir() and not any((folder / name).iterdir()):
                (folder / name).rmdir()
        if made and [path.name for path in folder.iterdir()] == [_LOCK]:
            (folder / _LOCK).unlink()
            for path in made:
                path.rmdir()


def replace_file(path: Path, content: Iterable[bytes | memoryview]) -> None:
    """Write a file whole or not at all, synced to disk; its folder is made.

    Raises:
        StoreError: the disk is full, or cannot be written to.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            for part in content:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    _sync_names(path)


def _sync_names(path: Path) -> None:
    """Have the name of a file outlast a loss of power, as its content does already."""
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOTSUP):
            return  # network file systems that keep names by themselves
        what = f"cannot confirm that {path} is on the disk: {_reason(error)}"
        after = (
            "the new state is in place; open the zoo again to go on" if path.name == MANIFEST else _UNCHANGED
        )
        raise StoreError(f"{what}; {after}") from error
    finally:
        os.close(handle)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what goes wrong in writing into a StoreError that names the path."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot write {path}: {_reason(error)}; {_UNCHANGED}") from error


def _reason(error: OSError) -> str:
    full = " (the disk is full)" if error.errno == errno.ENOSPC else ""
    return f"{error.strerror or error}{full}"


def _digest(content: Iterable[bytes | memoryview]) -> str:
    digest = hashlib.sha256()
    for part in content:
        digest.update(part)
    return digest.hexdigest()


def _blocks(path: Path) -> Iterator[bytes]:
    """The content of a file, some of it at a time."""
    with open(path, "rb") as file:
        while block := file.read(2**20):
            yield block
