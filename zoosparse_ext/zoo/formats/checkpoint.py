"""State dicts from files of PyTorch and safetensors, without ever running a pickle.

The checkpoints of a zoo differ in their numbers only, so a header or pickle is looked at once per layout, and the
numbers of all others are taken from the places that it names. Files from before PyTorch 1.6 go through
``torch.load(weights_only=True)``.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import struct
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from zoosparse_ext import ops
from zoosparse_ext.errors import StoreError
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.zoo.formats.archive import Frame, Slot, read_record, slot_of, take, zip_records
from zoosparse_ext.zoo.formats.files import MAX_CHECKPOINT, read_bytes
from zoosparse_ext.zoo.formats.unpickle import StoredTensor, load_pickle

State = dict[str, Tensor]
SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "module")
_MAX_LAYOUTS = 64


class Layout(NamedTuple):
    """What equally built checkpoints share.

    Args:
        frame: tells whether another file is built so; None: unknown.
        slots: of the tensors, with the place of each checksum.
        outline: the state dict without its numbers.
    """

    frame: Frame | Header | None
    slots: list[tuple[str, Slot, int]]
    outline: State

    @classmethod
    def of(cls, frame: Frame | Header | None, slots: list[tuple[str, Slot, int]]) -> Layout:
        outline = {name: torch.zeros((), dtype=slot.dtype).expand(slot.shape) for name, slot, _ in slots}
        return cls(frame, slots, outline)

    def read(self, content: bytearray, checksums: Sequence[int], path: object) -> State:
        """The state dict of a file that is built so."""
        return {name: take(content, slot, checksums[place], path) for name, slot, place in self.slots}


class Header:
    """The header of a safetensors file, which has no checksums."""

    def __init__(self, content: bytearray) -> None:
        self._bytes = bytes(content[: 8 + struct.unpack_from("<Q", content)[0]])

    def checksums(self, content: bytearray) -> Sequence[int] | None:
        """As :meth:`Frame.checksums`."""
        return [0] if content.startswith(self._bytes) else None


class CheckpointReader:
    """Reads the state dicts of a zoo and remembers their layouts.

    Args:
        root: the folder that all files must lie in.
        trust: run pickles that need more than tensors and plain values, such as whole modules.
    """

    def __init__(self, root: str | os.PathLike[str], trust: bool = False) -> None:
        self.root, self.trust = root, trust
        self._layouts: dict[tuple[bool, int], Layout] = {}  # by the length of the file

    def read(self, path: str | os.PathLike[str]) -> State:
        """Named tensors; those of `torch.nn.utils.prune` as they were stored.

        Raises:
            StoreError: missing, truncated or damaged; not a state dict; a pickle that would have to be run.
        """
        return self._state(path, Layout.read)

    def outline(self, path: str | os.PathLike[str]) -> State:
        """Names, types and shapes: as :meth:`read`, with whatever numbers.

        Raises:
            StoreError: as :meth:`read`; damage to the numbers goes unnoticed.
        """
        return self._state(path, lambda layout, *_: dict(layout.outline))

    def _state(self, path: str | os.PathLike[str], of: Callable[..., State]) -> State:
        content = read_bytes(self.root, path, MAX_CHECKPOINT)
        safe = os.fspath(path).endswith(".safetensors")
        try:
            if safe or content.startswith(b"PK\x03\x04"):
                layout, checksums = self._look(content, path, safe)
                return of(layout, content, checksums, path)
            return _read_legacy(content, path)
        except StoreError:
            if safe or not self.trust:
                raise
            return _run(content, path)

    def _look(
        self, content: bytearray, path: str | os.PathLike[str], safe: bool
    ) -> tuple[Layout, Sequence[int]]:
        """The layout of a file, and its checksums."""
        key = safe, len(content)
        layout = self._layouts.get(key)
        checksums = None if layout is None or layout.frame is None else layout.frame.checksums(content)
        if layout is None or checksums is None:
            layout, checksums = (_safetensors_layout if safe else _archive_layout)(content, path)
            if key in self._layouts or len(self._layouts) < _MAX_LAYOUTS:
                self._layouts[key] = layout
        return layout, checksums


@lru_cache(maxsize=16)
def checkpoint_reader(root: str, trust: bool = False) -> CheckpointReader:
    """The reader of a folder, which goes on knowing the layouts that it met."""
    return CheckpointReader(root, trust)


def _archive_layout(content: bytearray, path: object) -> tuple[Layout, Sequence[int]]:
    """Of a file of `torch.save`."""
    records = zip_records(content, path)
    state = state_of(load_pickle(read_record(content, records, "data.pkl", path), path), path)
    shared = ["data.pkl"]
    if "byteorder" in records:
        shared.append("byteorder")
        if read_record(content, records, "byteorder", path) == b"big":
            raise StoreError(f"{path} was written on a big-endian machine, which is not supported")
    others = [name for name in records if name not in shared]
    slots = []
    for name, tensor in state.items():
        slots.append((name, slot_of(records, tensor, path), others.index(f"data/{tensor.storage.key}")))
    return Layout.of(Frame.of(content, records, shared), slots), [records[name].crc for name in others]


def _safetensors_layout(content: bytearray, path: object) -> tuple[Layout, Sequence[int]]:
    """Of a file of safetensors, whose library checks the header."""
    try:
        tensors = load(bytes(content))
        start = 8 + struct.unpack_from("<Q", content)[0]
        entries = json.loads(content[8:start])
        slots = []
        for name, tensor in sorted(tensors.items()):  # the library's order changes from file to file
            first, last = entries[name]["data_offsets"]
            slots.append(
                (
                    name,
                    Slot(tensor.dtype, tuple(tensor.shape), start + first, start + last, tensor.numel()),
                    0,
                )
            )
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise StoreError(f"{path} is damaged: {error}") from error
    return Layout.of(Header(content), slots), [0]


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
    if not any(name.endswith("_orig") for name in state):
        return state, {}
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


def pruning_row(architecture: Architecture, masks: State) -> Tensor:
    """Masks of some tensors as bits of a row [ceil(P/8)]; what has no mask is kept."""
    kept = torch.ones(architecture.n_parameters, dtype=torch.bool)
    for segment in architecture.segments:
        if segment.name in masks:
            kept[segment.slice] = masks[segment.name].reshape(-1)
    return ops.pack_mask(kept[None])[0]


def run_pickle(content: bytes | bytearray, path: object, *, trusted: bool) -> Any:
    """What `torch.load` makes of a file; code in it runs only if it is trusted.

    Raises:
        StoreError: it cannot be loaded.
    """
    if len(content) == 0:
        raise StoreError(f"{path} is empty")
    if content.startswith(b"version https://git-lfs"):
        raise StoreError(f"{path} is a pointer of Git LFS in place of the file; fetch that with git lfs pull")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols, which are not the user's concern
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=not trusted)
    except (Exception, MemoryError) as error:  # a damaged file raises anything
        raise StoreError(f"{path} {_why_unreadable(error, trusted, bytes(content[:8]))}") from error


def _why_unreadable(error: BaseException, trusted: bool, head: bytes) -> str:
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
    if reason.startswith("Unsupported operand"):
        reason = f"it begins with {head!r}, and torch.save writes something else"
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
