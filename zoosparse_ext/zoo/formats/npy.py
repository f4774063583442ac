"""NumPy files, mapped into memory after their headers were checked."""

from __future__ import annotations

import io
import mmap
import os
from pathlib import Path

import numpy as np

from zoosparse_ext.errors import StoreError
from zoosparse_ext.zoo.formats.archive import zip_records
from zoosparse_ext.zoo.formats.files import open_inside


def map_npz(folder: Path, file: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Arrays of an npz file, mapped into memory; objects and compressed members are refused.

    Raises:
        StoreError: the file is damaged, compressed, or an array claims more than its member holds.
    """
    with open_inside(folder, file) as opened:
        try:
            content = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY)
        except (ValueError, OSError) as error:
            raise StoreError(f"{file} is empty or cannot be mapped: {error}") from error
    arrays = {}
    for name, record in zip_records(content, file).items():
        arrays[name.removesuffix(".npy")] = npy_array(content, record.offset, record.size, f"{file}:{name}")
    return arrays


def npy_array(content: mmap.mmap | bytearray, offset: int, size: int, name: object) -> np.ndarray:
    """The array of an npy file that lies in `content`; shares its memory.

    Raises:
        StoreError: no npy, an array of objects, or one that claims more than there is.
    """
    head = io.BytesIO(content[offset : offset + min(size, 65_536)])
    try:
        version = np.lib.format.read_magic(head)
        reader = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = reader(head)
    except Exception as error:  # the header is parsed as Python text and raises anything
        raise StoreError(f"{name} is damaged: {error!s:.200}") from error
    count = 1
    for length in shape:
        count *= int(length)
    if dtype.hasobject:
        raise StoreError(f"{name} holds Python objects, which would have to be run; save an array of numbers")
    if dtype.itemsize == 0 or count < 0 or head.tell() + count * dtype.itemsize > size:
        raise StoreError(
            f"{name} claims an array {dtype} {list(shape)!s:.80}, more than its {size:,} bytes hold"
        )
    if min(shape, default=1) < 0:
        raise StoreError(f"{name} claims an array of shape {list(shape)!s:.80}")
    flat = np.frombuffer(content, dtype, count, offset + head.tell())
    return flat.reshape(shape, order="F" if fortran else "C")
