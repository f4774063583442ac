"""State dicts from files of PyTorch and safetensors, without ever running a pickle.

Files of `torch.save` are zip archives of stored records. They are read here directly: the pickle is looked at once per
layout, since the checkpoints of a zoo differ in their numbers only, and the numbers are taken from the records. That is
what makes an import much faster than a loop over `torch.load`. Files from before PyTorch 1.6 go through
``torch.load(weights_only=True)``.
"""

from __future__ import annotations

import io
import math
import mmap
import os
import re
import struct
import warnings
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from zoosparse_ext.errors import StoreError
from zoosparse_ext.zoo.formats.files import MAX_CHECKPOINT, read_bytes
from zoosparse_ext.zoo.formats.unpickle import StoredTensor, load_pickle

State = dict[str, Tensor]
SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "module")
_END, _ENTRY, _LOCAL = struct.Struct("<4s4H2LH"), struct.Struct("<4s6H3L5H2L"), struct.Struct("<26x2H")
_END_64, _LOCATOR_64 = struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")
_FULL = 0xFFFFFFFF  # the number is in a field for more than 32 bits
_MAX_LAYOUTS = 64


class Record(NamedTuple):
    """A stored record of an archive."""

    offset: int
    size: int
    crc: int


class CheckpointReader:
    """Reads the state dicts of a zoo and remembers their layouts.

    Args:
        root: the folder that all files must lie in.
        trust: run pickles that need more than tensors and plain values, such as whole modules.
    """

    def __init__(self, root: str | os.PathLike[str], trust: bool = False) -> None:
        self.root, self.trust = root, trust
        self._layouts: dict[bytes, dict[str, StoredTensor]] = {}

    def read(self, path: str | os.PathLike[str]) -> State:
        """Named tensors; those of `torch.nn.utils.prune` as they were stored.

        Raises:
            StoreError: missing, truncated or damaged; not a state dict; a pickle that would have to be run.
        """
        content = read_bytes(self.root, path, MAX_CHECKPOINT)
        if os.fspath(path).endswith(".safetensors"):
            return _read_safetensors(content, path)
        try:
            return self._parse(content, path)
        except StoreError:
            if not self.trust:
                raise
            return _run(content, path)

    def _parse(self, content: bytearray, path: object) -> State:
        """The state dict of a file of PyTorch, without running its pickle."""
        if not content.startswith(b"PK\x03\x04"):
            return _read_legacy(content, path)
        records = zip_records(content, path)
        pickled = _record(content, records, "data.pkl", path)
        layout = self._layouts.get(pickled)
        if layout is None:
            layout = state_of(load_pickle(pickled, path), path)
            if len(self._layouts) < _MAX_LAYOUTS:
                self._layouts[pickled] = layout
        if "byteorder" in records and _record(content, records, "byteorder", path) == b"big":
            raise StoreError(f"{path} was written on a big-endian machine, which is not supported")
        return {name: read_tensor(content, records, tensor, path) for name, tensor in layout.items()}


def zip_records(content: bytearray | mmap.mmap, path: object) -> dict[str, Record]:
    """The records of an archive by name, without the folder that `torch.save` puts around them.

    Raises:
        StoreError: no archive of stored records, or one that claims more than the file holds.
    """
    start = content.rfind(b"PK\x05\x06", max(0, len(content) - _END.size - 65_535))
    if start < 0 or start + _END.size > len(content):
        raise StoreError(f"{path} is truncated: the directory of the archive is missing")
    records: dict[str, Record] = {}
    try:
        count, position = _directory(content, start)
        for _ in range(count):
            sign, *_, flags, method, _, _, crc, packed, size, n, extra, comment, _, _, _, header = (
                _ENTRY.unpack_from(content, position)
            )
            name = bytes(content[position + _ENTRY.size : position + _ENTRY.size + n]).decode()
            if _FULL in (size, packed, header):
                field = content[position + _ENTRY.size + n : position + _ENTRY.size + n + extra]
                size, packed, header = _wide(bytes(field), [size, packed, header])
            position += _ENTRY.size + n + extra + comment
            name_length, extra_length = _LOCAL.unpack_from(content, header)
            offset = header + 30 + name_length + extra_length
            if sign != b"PK\x01\x02" or method != 0 or flags & 1 or packed != size or offset + size > start:
                raise StoreError(f"{path}: record {name[:80]!r} is compressed, encrypted or leaves the file")
            records[name.partition("/")[2] or name] = Record(offset, size, crc)
    except (struct.error, UnicodeDecodeError, OverflowError) as error:
        raise StoreError(
            f"{path} is damaged: the directory of the archive cannot be read ({error})"
        ) from error
    return records


def _directory(content: bytearray | mmap.mmap, end: int) -> tuple[int, int]:
    """Number of entries and start of the directory; archives of many records or of 4 GB have these elsewhere."""
    *_, count, _, position, _ = _END.unpack_from(content, end)
    if position != _FULL and count != 0xFFFF:
        return count, position
    place = end - _LOCATOR_64.size
    if place < 0 or content[place : place + 4] != b"PK\x06\x07":
        return count, position
    *_, count, _, position = _END_64.unpack_from(content, _LOCATOR_64.unpack_from(content, place)[2])
    return count, position


def _wide(fields: bytes, numbers: list[int]) -> list[int]:
    """Sizes and position of an entry, those that need 64 bits taken from its extra fields."""
    place = 0
    while place + 4 <= len(fields):
        kind, length = struct.unpack_from("<2H", fields, place)
        if kind == 1:
            wide = iter(struct.unpack_from(f"<{length // 8}Q", fields, place + 4))
            return [next(wide, number) if number == _FULL else number for number in numbers]
        place += 4 + length
    return numbers


def read_tensor(
    content: bytearray | mmap.mmap, records: Mapping[str, Record], tensor: StoredTensor, path: object
) -> Tensor:
    """A tensor from its record; shares memory with `content`.

    Raises:
        StoreError: the record is missing, of another length, or fails its checksum.
    """
    storage = tensor.storage
    record = records.get(f"data/{storage.key}")
    length = storage.numel * storage.dtype.itemsize
    if record is None or record.size != length:
        came = "is missing" if record is None else f"has {record.size} bytes"
        raise StoreError(f"{path} is damaged: record data/{storage.key:.40} {came}, expected {length} bytes")
    _check(content, record, f"data/{storage.key}", path)
    if storage.numel == 0:
        return torch.empty(tensor.shape, dtype=storage.dtype)
    flat = torch.frombuffer(content, dtype=storage.dtype, count=storage.numel, offset=record.offset)
    if tensor.offset or tensor.numel != storage.numel or not tensor.contiguous:
        return flat.as_strided(tensor.shape, tensor.stride, tensor.offset)
    return flat if len(tensor.shape) == 1 else flat.view(tensor.shape)


def state_of(value: Any, path: object, *, kind: Callable[[Any], bool] | None = None) -> dict[str, Any]:
    """The state dict in what a checkpoint holds, also one level down (`state_dict`, `model`, …).

    Raises:
        StoreError: there is none.
    """
    is_tensor = kind or (lambda item: isinstance(item, StoredTensor))
    for candidate in (value, *(value.get(name) for name in _WRAPPERS if isinstance(value, Mapping))):
        if isinstance(candidate, Mapping):
            state = {name: item for name, item in candidate.items() if is_tensor(item)}
            if state and all(isinstance(name, str) for name in state):
                return {name.removeprefix("module."): item for name, item in state.items()}
    raise StoreError(f"{path} holds no state dict: expected named tensors, found {type(value).__name__}")


def fold_pruning(state: State, path: object) -> tuple[State, State]:
    """State and masks of `torch.nn.utils.prune`: `weight_orig` and `weight_mask` become a weight and a mask.

    >>> state = {"0.weight_orig": torch.tensor([[1.0, 2.0]]), "0.weight_mask": torch.tensor([[1.0, 0.0]])}
    >>> fold_pruning(state, "example")
    ({'0.weight': tensor([[1., 0.]])}, {'0.weight': tensor([[ True, False]])})

    Raises:
        StoreError: a mask without weights, or of another shape.
    """
    folded, masks = {}, {}
    for name, tensor in state.items():
        if name.endswith("_orig"):
            stem = name.removesuffix("_orig")
            mask = state.get(f"{stem}_mask")
            if mask is None or mask.shape != tensor.shape:
                raise StoreError(f"{path}: {name!r} has no mask {stem + '_mask'!r} of its shape")
            masks[stem] = mask != 0
            folded[stem] = torch.where(masks[stem], tensor, torch.zeros_like(tensor))
        elif not (name.endswith("_mask") and f"{name.removesuffix('_mask')}_orig" in state):
            folded[name] = tensor
    return folded, masks


def _read_safetensors(content: bytearray, path: object) -> State:
    try:
        return dict(sorted(load(bytes(content)).items()))  # the library's order changes from file to file
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise StoreError(f"{path} is damaged: {error}") from error


def run_pickle(content: bytes | bytearray, path: object, *, trusted: bool) -> Any:
    """What `torch.load` makes of a file; code in it runs only if it is trusted.

    Raises:
        StoreError: it cannot be loaded.
    """
    if len(content) == 0:
        raise StoreError(f"{path} is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols, which are not the user's concern
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=not trusted)
    except (Exception, MemoryError) as error:  # a damaged file raises anything
        raise StoreError(f"{path} {_why_unreadable(error, trusted)}") from error


def _why_unreadable(error: BaseException, trusted: bool) -> str:
    """What is wrong with a pickle, without PyTorch's advice to run whatever is in it."""
    text = str(error).strip()
    if not trusted and (asked := re.search(r"GLOBAL (\S+)", text)):
        return (
            f"is a pickle that needs {asked[1]}; loading it could run code. Save a state dict instead "
            "(torch.save(model.state_dict(), …)), or pass trust_pickle=True (--trust-pickle) if you trust whoever made "
            "the file"
        )
    inner = re.search(r"WeightsUnpickler error:\s*(.+)", text)
    reason = inner[1] if inner else text.partition("\n")[0] or type(error).__name__
    return f"is no checkpoint that can be read{'' if trusted else ' safely'}: {reason:.200}"


def _run(content: bytearray, path: object) -> State:
    """The state dict of a checkpoint that may be anything: a whole module, objects around it."""
    value = run_pickle(content, path, trusted=True)
    value = value.get("model", value) if isinstance(value, dict) else value
    if isinstance(value, nn.Module):
        value = value.state_dict()
    return state_of(value, path, kind=lambda item: isinstance(item, Tensor))


def _read_legacy(content: bytearray, path: object) -> State:
    value = run_pickle(content, path, trusted=False)
    state = state_of(value, path, kind=lambda item: isinstance(item, Tensor))
    for name, tensor in state.items():
        stored = (
            tensor.untyped_storage().nbytes() // tensor.element_size()
            if tensor.layout == torch.strided
            else 0
        )
        if tensor.is_meta or math.prod(tensor.shape) > stored:
            raise StoreError(f"{path}: {name!r} has shape {list(tensor.shape)}, more than the file holds")
    return state


def _record(content: bytearray, records: Mapping[str, Record], name: str, path: object) -> bytes:
    if name not in records:
        raise StoreError(f"{path} was not written by torch.save: the archive lacks {name}")
    record = records[name]
    _check(content, record, name, path)
    return bytes(content[record.offset : record.offset + record.size])


def _check(content: bytearray | mmap.mmap, record: Record, name: str, path: object) -> None:
    part = memoryview(content)[record.offset : record.offset + record.size]
    if record.crc and zlib.crc32(part) != record.crc:  # 0: PyTorch was told to write no checksums
        raise StoreError(f"{path} is damaged: the checksum of {name:.60} does not fit")
