"""Archives of `torch.save` and `np.savez`: zip files of stored records, read in place.

Nothing is unpacked, so there is no bomb and no path of a member to follow. The checkpoints of a zoo are built alike:
their archives differ in numbers and checksums only. A :class:`Frame` is what they share; an archive that it fits need
not be parsed again, which is what makes an import much faster than a loop over `torch.load`.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from operator import itemgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoosparse_ext.errors import StoreError
from zoosparse_ext.zoo.formats.unpickle import StoredTensor

Content = bytearray | mmap.mmap
_END, _ENTRY, _LOCAL = struct.Struct("<4s4H2LH"), struct.Struct("<4s6H3L5H2L"), struct.Struct("<26x2H")
_END_64, _LOCATOR_64 = struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")
_FULL = 0xFFFFFFFF  # the number is in a field for more than 32 bits


class Record(NamedTuple):
    """A stored record of an archive."""

    offset: int
    size: int
    crc: int
    header: int  # where the header before it begins
    entry: int  # where its entry in the directory begins
    folder: int  # bytes of the name that are the folder around it


class Slot(NamedTuple):
    """Where the numbers of a tensor lie in a file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int  # bytes of the whole storage
    stop: int
    numel: int
    part: tuple[tuple[int, ...], int] | None = (
        None  # stride and offset, of a part or another order of the storage
    )


def zip_records(content: Content, path: object) -> dict[str, Record]:
    """The records of an archive by name, without the folder that `torch.save` puts around them.

    Raises:
        StoreError: no archive of stored records, or one that claims more than the file holds.
    """
    end = _find_end(content, path)
    records: dict[str, Record] = {}
    try:
        count, position = _directory(content, end)
        for _ in range(count):
            entry = position
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
            if sign != b"PK\x01\x02" or method != 0 or flags & 1 or packed != size or offset + size > end:
                raise StoreError(
                    f"{path}: record {name[:80]!r} is compressed, encrypted or leaves the file; expected one that is "
                    "stored as it is, as torch.save and np.savez (not np.savez_compressed) write it"
                )
            folder, _, inside = name.partition("/")
            record = Record(offset, size, crc, header, entry, len(folder.encode()) if inside else 0)
            records[inside or name] = record
    except (struct.error, UnicodeDecodeError, OverflowError) as error:
        raise StoreError(
            f"{path} is damaged: the directory of the archive cannot be read ({error})"
        ) from error
    return records


def _find_end(content: Content, path: object) -> int:
    end = content.rfind(b"PK\x05\x06", max(0, len(content) - _END.size - 65_535))
    if end < 0 or end + _END.size > len(content):
        raise StoreError(f"{path} is truncated: the directory of the archive is missing")
    return end


def _directory(content: Content, end: int) -> tuple[int, int]:
    """Number of entries and start of the directory; archives of many records or of 4 GB have these elsewhere."""
    *_, count, _, position, _ = _END.unpack_from(content, end)
    if not _is_wide(content, end):
        return count, position
    place = end - _LOCATOR_64.size
    if place < 0 or content[place : place + 4] != b"PK\x06\x07":
        return count, position
    *_, count, _, position = _END_64.unpack_from(content, _LOCATOR_64.unpack_from(content, place)[2])
    return count, position


def _is_wide(content: Content, end: int) -> bool:
    *_, count, _, position, _ = _END.unpack_from(content, end)
    return bool(position == _FULL or count == 0xFFFF)


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


class Frame:
    """All that says what is where in an archive, and the content of the records `shared`.

    An archive of the same length that has the same frame has the same records, apart from their content and checksums.
    The name of the folder around them is left out: `torch.save` calls it as the file.
    """

    def __init__(self, fields: Sequence[tuple[int, int, str]], content: bytearray) -> None:
        codes, place = "<", 0
        for start, stop, kind in fields:
            codes += f"{start - place}x" + ("L" if kind == "crc" else f"{stop - start}s")
            place = stop
        self._struct = struct.Struct(codes + f"{len(content) - place}x")
        self._same_of, self._checksums_of, self._folders_of = (
            _picker([place for place, field in enumerate(fields) if field[2] == kind])
            for kind in ("same", "crc", "folder")
        )
        self._same = self._same_of(self._struct.unpack(content))

    @classmethod
    def of(cls, content: bytearray, records: Mapping[str, Record], shared: Sequence[str]) -> Frame | None:
        """The frame of an archive; None if it is laid out in a way that `torch.save` does not use."""
        end = len(content) - _END.size
        if _find_end(content, "") != end or _is_wide(content, end):
            return None
        fields = [(record.header + 26, record.header + 30, "same") for record in records.values()]  # of names
        fields += [(records[n].offset, records[n].offset + records[n].size, "same") for n in shared]
        place = _END.unpack_from(content, end)[-2]
        for name, record in records.items():
            entry, named = record.entry, record.entry + _ENTRY.size
            if name not in shared:
                fields += [(place, entry + 16, "same"), (entry + 16, entry + 20, "crc")]
                place = entry + 20
            fields += [(place, named, "same"), (named, named + record.folder, "folder")]
            place = named + record.folder
        fields = sorted([*fields, (place, len(content), "same")])
        bounds = [bound for field in fields for bound in field[:2]]
        if any(before > after for before, after in pairwise(bounds)):
            return None
        return cls(fields, content)

    def checksums(self, content: bytearray) -> Sequence[int] | None:
        """Checksums of the records that are not shared, in the order of the directory; None: it has another frame."""
        values = self._struct.unpack(content)
        folders = set(self._folders_of(values))
        if self._same_of(values) != self._same or len(folders) > 1:
            return None
        if any(b"/" in folder or not folder.isascii() for folder in folders):
            return None
        return self._checksums_of(values)


def _picker(places: list[int]) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    """What takes the values at some places."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda values: tuple(values[place] for place in places)


def slot_of(records: Mapping[str, Record], tensor: StoredTensor, path: object) -> Slot:
    """Where a tensor of an archive lies.

    Raises:
        StoreError: its record is missing, or of another length.
    """
    storage = tensor.storage
    record = records.get(f"data/{storage.key}")
    length = storage.numel * storage.dtype.itemsize
    if record is None or record.size != length:
        came = "is missing" if record is None else f"has {record.size} bytes"
        raise StoreError(f"{path} is damaged: record data/{storage.key:.40} {came}, expected {length} bytes")
    whole = not tensor.offset and tensor.numel == storage.numel and tensor.contiguous
    part = None if whole else (tensor.stride, tensor.offset)
    return Slot(storage.dtype, tensor.shape, record.offset, record.offset + length, storage.numel, part)


def take(content: Content, slot: Slot, crc: int, path: object) -> Tensor:
    """A tensor; shares memory with `content`.

    Raises:
        StoreError: the numbers do not have this checksum. 0: PyTorch was told to write none.
    """
    dtype, shape, start, stop, numel, part = slot
    if crc and zlib.crc32(memoryview(content)[start:stop]) != crc:
        raise StoreError(f"{path} is damaged: the checksum of bytes {start} to {stop} does not fit")
    if numel == 0:
        return torch.empty(shape, dtype=dtype)
    flat = torch.frombuffer(content, dtype=dtype, count=numel, offset=start)
    if part is not None:
        return flat.as_strided(shape, *part)
    return flat if len(shape) == 1 else flat.view(shape)


def read_tensor(
    content: Content, records: Mapping[str, Record], tensor: StoredTensor, path: object
) -> Tensor:
    """A tensor of an archive; shares memory with `content`.

    Raises:
        StoreError: its record is missing, of another length, or fails its checksum.
    """
    slot = slot_of(records, tensor, path)
    return take(content, slot, records[f"data/{tensor.storage.key}"].crc, path)


def read_record(content: Content, records: Mapping[str, Record], name: str, path: object) -> bytes:
    """The content of a record.

    Raises:
        StoreError: it is missing, or fails its checksum.
    """
    if name not in records:
        raise StoreError(f"{path} was not written by torch.save: the archive lacks {name}")
    record = records[name]
    found = bytes(content[record.offset : record.offset + record.size])
    if record.crc and zlib.crc32(found) != record.crc:
        raise StoreError(f"{path} is damaged: the checksum of {name:.60} does not fit")
    return found
