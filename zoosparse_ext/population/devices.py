"""Where a population runs, and what to do when the memory there ends."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor

from zoosparse_ext.errors import InputError

log = logging.getLogger(__name__)

Part = TypeVar("Part")


def device_of(name: torch.device | str | None, like: Tensor) -> torch.device:
    """The device of this name; of `like` where there is none.

    >>> device_of(None, torch.empty(0)), device_of("cpu", torch.empty(0))
    (device(type='cpu'), device(type='cpu'))

    Raises:
        InputError: no such device, or not on this machine.
    """
    if name is None:
        return like.device
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise InputError(f"device {name!r}: there is no such device; write 'cpu' or 'cuda'") from None
    if device.type not in ("cpu", "cuda"):
        _require(device)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"device {str(device)!r}: torch {torch.__version__} sees {torch.cuda.device_count()} CUDA devices on this "
            "machine; leave the device out to run on the CPU"
        )
    return device


def _require(device: torch.device) -> None:
    """Raise InputError unless PyTorch can hold a tensor there."""
    try:
        torch.empty(0, device=device)
    except (AssertionError, NotImplementedError, RuntimeError) as error:
        raise InputError(f"device {str(device)!r} cannot be used here: {error}") from error


@contextmanager
def full_float32() -> Iterator[None]:
    """Convolutions of cuDNN without TF32, which PyTorch allows there unless told otherwise, and no autocast around.

    >>> with full_float32():
    ...     torch.backends.cudnn.allow_tf32
    False
    """
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def by_rows(n: int, run: Callable[[slice], Part], most: int | None = None) -> list[Part]:
    """What `run` makes of all of n rows, at most so many at a time; half as many wherever the memory ends.

    >>> by_rows(5, lambda rows: (rows.start, rows.stop), most=2)
    [(0, 2), (2, 4), (4, 5)]

    Without rows, `run` is called once, with none. A message goes to the log whenever the number is halved.

    Raises:
        InputError: the memory ends with one row.
    """
    size = max(1, n if most is None else min(n, most))
    parts: list[Part] = []
    start = 0
    while start < n or not parts:
        try:
            parts.append(run(slice(start, min(start + size, n))))
            start += size
            continue
        except torch.OutOfMemoryError as error:
            ended = str(error).split(". ")[0]
        # Outside the handler, where nothing holds the tensors of the failed run any more.
        if size == 1:
            raise InputError(
                f"one model is too much for the memory of the device: {ended}; take fewer images, or the CPU"
            )
        size = (size + 1) // 2
        log.warning("%s: going on with %d models at a time", ended, size)
        torch.cuda.empty_cache()
    return parts
