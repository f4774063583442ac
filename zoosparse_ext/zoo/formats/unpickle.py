"""Reading pickles without running them.

A pickle is a program that may call anything. :class:`SafeUnpickler` knows a handful of harmless names; tensors become
:class:`StoredTensor` records, whose bounds are checked before memory is touched. Every other name is refused or, where
the caller asks for it, replaced by an empty stand-in class.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from zoosparse_ext.errors import StoreError

DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class Storage(NamedTuple):  # tuples: a pickle cannot change one after its bounds were checked
    """A run of numbers in an archive: the record `data/<key>`."""

    dtype: torch.dtype
    key: str
    numel: int


class StoredTensor(NamedTuple):
    """Where a tensor lies in its storage; nothing is read yet."""

    storage: Storage
    offset: int  # elements
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def contiguous(self) -> bool:
        return _contiguous(self.shape, self.stride)


@lru_cache(maxsize=1024)  # a zoo has few shapes and many tensors
def _contiguous(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    expected = 1
    for length, step in zip(reversed(shape), reversed(stride), strict=True):
        if length != 1 and step != expected:
            return False
        expected *= length
    return True


class StandIn:
    """Takes the place of a class that is not loaded: keeps the attributes, has none of the behaviour."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        self.state = state
        if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], Mapping):
            state = state[1]
        if isinstance(state, Mapping):
            self.__dict__.update({str(name): value for name, value in state.items()})


def load_pickle(
    content: bytes | bytearray | memoryview,
    name: object,
    stand_in: Callable[[str, str], Any] | None = None,
) -> Any:
    """The objects of a pickle, with tensors as :class:`StoredTensor`.

    Args:
        content: the pickle.
        name: of the file, for messages.
        stand_in: a class to use in place of `module.name`, or None to refuse it.

    Raises:
        StoreError: the pickle needs a class or function that is not known to be harmless (names it), or is damaged.
    """
    try:
        _check_memo(content)
        return SafeUnpickler(io.BytesIO(content), name, stand_in).load()
    except StoreError:
        raise
    except (Exception, MemoryError) as error:  # a damaged pickle raises anything
        raise StoreError(f"{name} is damaged: {type(error).__name__}: {error}") from error


def _check_memo(content: bytes | bytearray | memoryview) -> None:
    """Raise ValueError for a memo far larger than the pickle: a few bytes could otherwise claim all memory."""
    size = len(content)
    for opcode, argument, _ in pickletools.genops(bytes(content)):
        if opcode.name in ("PUT", "LONG_BINPUT") and argument is not None and argument > size:
            raise ValueError(f"the pickle of {size:,} bytes claims {argument:,} objects")


class SafeUnpickler(pickle.Unpickler):
    """Resolves a fixed list of names, never imports anything."""

    def __init__(
        self, file: io.BytesIO, name: object, stand_in: Callable[[str, str], Any] | None = None
    ) -> None:
        super().__init__(file, encoding="utf-8")
        self._name = name
        self._stand_in = stand_in

    def find_class(self, module: str, name: str) -> Any:
        known = _KNOWN.get((module, name))
        if known is not None:
            return known
        if module in ("torch", "torch.storage") and name in DTYPES:
            return _StorageType(DTYPES[name])
        replaced = None if self._stand_in is None else self._stand_in(module, name)
        if replaced is not None:
            return replaced
        raise StoreError(
            f"{self._name} is a pickle that needs {module}.{name}; loading it could run code. Save a state dict "
            "instead (torch.save(model.state_dict(), …)), or pass trust_pickle=True (--trust-pickle) if you trust "
            "whoever made the file"
        )

    def persistent_load(self, pid: Any) -> Storage:
        kind, storage_type, key, _, numel = pid
        if kind != "storage" or not isinstance(storage_type, _StorageType) or not isinstance(key, str):
            raise ValueError(f"unknown persistent id {str(pid)[:80]}")
        if not isinstance(numel, int) or numel < 0:
            raise ValueError(f"a storage of {numel} elements")
        return Storage(storage_type.dtype, key, numel)


class _StorageType(NamedTuple):
    dtype: torch.dtype


class Call:
    """A function that a pickle may call, but not alter."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "_function", function)

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)  # type: ignore[attr-defined]

    def __setattr__(self, name: str, value: Any) -> None:
        raise ValueError("the pickle tries to alter a function")


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> StoredTensor:
    numbers = (offset, *shape, *stride)
    if not isinstance(storage, Storage) or len(shape) != len(stride) or len(shape) > 64:
        raise ValueError("a tensor without storage, or with more strides than axes")
    if not all(type(number) is int and 0 <= number < 2**62 for number in numbers):  # no bool
        raise ValueError(f"a tensor of shape {str(shape)[:80]}")
    tensor = StoredTensor(storage, offset, tuple(shape), tuple(stride))
    last = offset + sum((length - 1) * step for length, step in zip(shape, stride, strict=True))
    if tensor.numel > storage.numel or (tensor.numel and last >= storage.numel):
        raise ValueError(f"a tensor of shape {str(shape)[:80]} in a storage of {storage.numel} elements")
    return tensor


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    return data


def _size(values: Any = ()) -> tuple[int, ...]:
    return tuple(values)


def _default_dict(*_: Any) -> dict[Any, Any]:
    return defaultdict(dict)


_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "defaultdict"): Call(_default_dict),
    ("builtins", "set"): set,
    ("builtins", "dict"): dict,
    ("builtins", "list"): list,
    ("torch._utils", "_rebuild_tensor_v2"): Call(_rebuild_tensor),
    ("torch._utils", "_rebuild_tensor"): Call(_rebuild_tensor),
    ("torch._utils", "_rebuild_parameter"): Call(_rebuild_parameter),
    ("torch", "Size"): Call(_size),
}
