"""Readers of data files: IDX (the MNIST family) and npz."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from zoosparse_ext.errors import DataError

_IDX_UBYTE = 0x08  # type code of unsigned bytes in the third byte of the magic number


def read_idx(path: Path) -> Tensor:
    """A uint8 tensor from an IDX file, gzipped or not.

    Raises:
        DataError: not an IDX file of unsigned bytes, or one whose length does not fit its header.

    Source: the format's description on the MNIST page (LeCun, Cortes, Burges).
    """
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _IDX_UBYTE:
        raise DataError(
            f"{path}: not an IDX file of unsigned bytes (first bytes {content[:4].hex(' ') or 'none'})"
        )
    axes = content[3]
    header = 4 + 4 * axes
    if len(content) < header:
        raise DataError(f"{path}: truncated in its header of {header} bytes")
    shape = struct.unpack(f">{axes}I", content[4:header])
    if len(content) - header != math.prod(shape):
        held = len(content) - header
        raise DataError(f"{path}: holds {held} bytes of data, its header says {'×'.join(map(str, shape))}")
    return torch.from_numpy(np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape).copy())


def read_idx_folder(folder: Path) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images [M, H, W] and labels [M], test images and labels.

    Raises:
        DataError: the folder or one of the four files is missing, or a file is damaged; names it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; idx:DIR needs the four files of the MNIST family in it")
    tensors = []
    for part in ("train", "t10k"):
        images, labels = (
            read_idx(_find(folder, part, "images", 3)),
            read_idx(_find(folder, part, "labels", 1)),
        )
        if images.dim() != 3 or labels.dim() != 1 or len(images) != len(labels):
            shapes = f"images {list(images.shape)}, labels {list(labels.shape)}"
            raise DataError(f"{folder}: {part}: {shapes} do not belong together")
        tensors += [images, labels]
    return tensors[0], tensors[1], tensors[2], tensors[3]


def _find(folder: Path, part: str, what: str, axes: int) -> Path:
    names = [f"{part}-{what}{dot}idx{axes}-ubyte{end}" for dot in "-." for end in ("", ".gz")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{folder}: holds no {names[0]} (nor {', '.join(names[1:])})")


def read_npz(path: Path) -> dict[str, Tensor]:
    """`x_train, y_train, x_test, y_test` (and `x_val, y_val`); images as [M, C, H, W], uint8 or float32.

    Raises:
        DataError: the file is missing, corrupt, holds pickled objects, lacks an array, or an array has a shape or type
            that makes no sense.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # numpy and zipfile raise many types on a damaged file, MemoryError among them
        raise DataError(f"{path}: not a readable npz file: {error}") from error
    wanted = ["x_train", "y_train", "x_test", "y_test"] + [n for n in ("x_val", "y_val") if n in arrays]
    missing = [name for name in wanted if name not in arrays]
    if missing:
        raise DataError(
            f"{path}: lacks {', '.join(missing)}; it holds {', '.join(sorted(arrays)) or 'nothing'}"
        )
    if ("x_val" in arrays) != ("y_val" in arrays):
        raise DataError(f"{path}: has one of x_val and y_val; give both or none")
    return {
        n: _images(path, n, arrays[n]) if n.startswith("x") else _labels(path, n, arrays[n]) for n in wanted
    }


def _images(path: Path, name: str, array: np.ndarray) -> Tensor:
    if array.dtype != np.uint8 and not np.issubdtype(array.dtype, np.floating):
        raise DataError(f"{path}: {name} is {array.dtype}; images are uint8 or floating point")
    if array.ndim == 4 and array.shape[3] in (1, 3) and array.shape[1] not in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    if array.ndim not in (3, 4):
        raise DataError(
            f"{path}: {name} has shape {list(array.shape)}; images are [M, H, W], [M, C, H, W] or [M, H, W, C]"
        )
    if array.dtype != np.uint8:
        with np.errstate(over="ignore"):  # a double beyond float32 becomes infinite, and is refused
            array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise DataError(f"{path}: {name} holds NaN or infinity")
    return torch.from_numpy(np.ascontiguousarray(array))


def _labels(path: Path, name: str, array: np.ndarray) -> Tensor:
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise DataError(f"{path}: {name} is {array.dtype} {list(array.shape)}; labels are integers [M]")
    return torch.from_numpy(array.astype(np.int64))
