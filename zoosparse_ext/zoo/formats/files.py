"""Reading files that someone else wrote: only regular files inside the folder that was named, within bounds.

A path that comes out of a table, a name in an archive or a symbolic link may point anywhere. Everything that importers
open goes through :func:`open_inside`.
"""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
from pyarrow import parquet

from zoosparse_ext.errors import StoreError
from zoosparse_ext.zoo.tables import frame_of

MAX_TEXT = 256 * 2**20  # bytes of a JSON or CSV file; result.json of a published trial has about 0.1 MB
MAX_CHECKPOINT = 8 * 2**30
MAX_RATIO = 200  # of unpacked to packed bytes; tables of numbers reach about 20, a bomb 1,000
_SMALL = 16 * 2**20  # below this, no ratio is dangerous


def open_inside(root: str | os.PathLike[str], path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading; symbolic links are followed as long as they stay inside `root`.

    Raises:
        StoreError: the file is missing, unreadable, no regular file (a pipe, a device), or lies outside `root`.
    """
    flags = (
        os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    )  # non-blocking: opening a pipe must not wait for a writer
    try:
        try:
            handle = os.open(path, flags | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            handle = os.open(resolve_inside(root, path), flags)
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise StoreError(f"{path} is no regular file")
    return os.fdopen(handle, "rb", buffering=0)


def resolve_inside(root: str | os.PathLike[str], path: str | os.PathLike[str]) -> Path:
    """The real path, for names that come from tables, archives or links.

    Raises:
        StoreError: it lies outside `root`.
    """
    return Path(resolve_all(root, [path])[0])


def resolve_all(root: str | os.PathLike[str], paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    """The real paths of many names.

    In the cache of the Hugging Face Hub, ``snapshots/<revision>/`` has links to files in ``blobs/``, which count as
    inside.

    Raises:
        StoreError: one lies outside `root`.
    """
    base, found = os.path.realpath(root), []
    cache, snapshot, _ = base.partition(f"{os.sep}snapshots{os.sep}")
    bases = [base.rstrip(os.sep) + os.sep] + ([f"{cache}{os.sep}blobs{os.sep}"] if snapshot else [])
    for path in paths:
        try:
            real = os.path.realpath(os.path.join(root, path))
        except (OSError, ValueError) as error:
            raise StoreError(f"{path!s:.200} is no usable path: {error}") from error
        if real != base and not real.startswith(tuple(bases)):
            raise StoreError(
                f"{path!s:.200} leads out of {root} (to {real}); copy the file into the folder first"
            )
        found.append(real)
    return found


def read_bytes(
    root: str | os.PathLike[str], path: str | os.PathLike[str], limit: int = MAX_TEXT
) -> bytearray:
    """A whole file.

    Raises:
        StoreError: as :func:`open_inside`, or the file is larger than `limit`.
    """
    with open_inside(root, path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise StoreError(f"{path} has {size:,} bytes, more than the {limit:,} that such a file may have")
        content = bytearray(size)
        view, filled = memoryview(content), 0
        try:
            while filled < size and (count := file.readinto(view[filled:])):  # type: ignore[attr-defined]
                filled += count
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error.strerror or error}") from error
    if filled < size:
        raise StoreError(f"{path} became shorter while it was read")
    return content


def read_gzip(
    root: str | os.PathLike[str], path: str | os.PathLike[str], limit: int = 16 * MAX_TEXT
) -> bytes:
    """A gzip file, unpacked, unless it unpacks to far more than such files do.

    Raises:
        StoreError: as :func:`read_bytes`; the file is damaged, or a bomb.
    """
    packed = read_bytes(root, path, MAX_CHECKPOINT)
    allowed = min(limit, max(_SMALL, MAX_RATIO * len(packed)))
    try:
        content = gzip.GzipFile(fileobj=io.BytesIO(packed)).read(allowed + 1)
    except (OSError, EOFError, ValueError) as error:
        raise StoreError(f"{path} is damaged: {error}") from error
    except Exception as error:  # zlib.error has no base of its own
        raise StoreError(f"{path} is damaged: {error}") from error
    if len(content) > allowed:
        raise StoreError(f"{path} unpacks from {len(packed):,} to more than {allowed:,} bytes; refused")
    return content


def read_json(root: str | os.PathLike[str], path: str | os.PathLike[str]) -> Any:
    """A JSON file.

    Raises:
        StoreError: as :func:`read_bytes`, or it is not JSON.
    """
    return parse_json(read_bytes(root, path), path)


def parse_json(content: bytes | bytearray, name: object) -> Any:
    """JSON that someone else wrote.

    Raises:
        StoreError: it is not JSON, nested without end, or holds halves of characters, which Python reads and no table
            or file can hold.
    """
    try:
        value = json.loads(content)
        if b"\\u" in content or not content.isascii():
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{name} is not JSON: {error}") from error
    return value


def parse_parquet(content: bytes | bytearray, name: object) -> pd.DataFrame:
    """A table of Parquet that someone else wrote.

    Raises:
        StoreError: it is damaged.
    """
    try:
        with parquet.ParquetFile(io.BytesIO(content)) as file:
            return frame_of(file.read(use_threads=False))
    except Exception as error:  # pyarrow raises many types
        raise StoreError(f"{name} is no table that can be read: {error!s:.200}") from error
