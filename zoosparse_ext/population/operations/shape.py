"""Other views of the same numbers, and sums, means and extremes over axes."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from zoosparse_ext.errors import InputError
from zoosparse_ext.population.operations.base import (
    CALLED,
    MODULES,
    BatchSize,
    Call,
    NotAProgram,
    Operation,
    Run,
    Shape,
    Steps,
    Value,
    axis_of,
    register,
    shown,
)
from zoosparse_ext.population.operations.pooling import GlobalAvgPool2d


def _shifted(axis: int) -> int:
    """An axis counted with the batch as 0, for values that have the models after it."""
    return axis + 1 if axis > 0 else axis


@dataclass(frozen=True)
class Flatten(Operation):
    """One axis of several, from `start` to `end`, the batch being axis 0; by default all of a sample."""

    kind = "flatten"
    later = ("start", "end")
    start: int = 1
    end: int = -1

    def _axes(self, size: Shape) -> tuple[int, int]:
        first, last = axis_of(self.start, size), axis_of(self.end, size)
        if first > last:
            raise InputError(f"flatten of axes {self.start} to {self.end} of a sample {shown(size)}")
        return first, last

    def output_shape(self, *sizes: Shape) -> Shape:
        (size,) = sizes
        first, last = self._axes(size)
        return (*size[:first], prod(size[first : last + 1]), *size[last + 1 :])

    def reference(self, run: Run, *values: Tensor) -> Tensor:
        first, last = self._axes(tuple(values[0].shape[2:]))
        return values[0].flatten(first + 2, last + 2)

    def module(self) -> nn.Module:
        return nn.Flatten(self.start, self.end)

    def why_not_native(self) -> str:
        return "" if (self.start, self.end) == (1, -1) else "flatten of some axes"


@dataclass(frozen=True)
class Reshape(Operation):
    """Other axes of the same numbers of a sample; one may be −1."""

    kind = "reshape"
    shape: tuple[int, ...]

    def output_shape(self, *sizes: Shape) -> Shape:
        (size,) = sizes
        known = prod(length for length in self.shape if length != -1)
        if (self.shape.count(-1) == 1 and known and prod(size) % known == 0) or known == prod(size):
            return tuple(prod(size) // known if length == -1 else length for length in self.shape)
        raise InputError(f"a sample {shown(size)} cannot become {shown(self.shape)}")

    def reference(self, run: Run, *values: Tensor) -> Tensor:
        x = values[0]
        return x.reshape(*x.shape[:2], *self.output_shape(tuple(x.shape[2:])))


@dataclass(frozen=True)
class Transpose(Operation):
    """Two axes exchanged, the batch being axis 0."""

    kind = "transpose"
    first: int
    second: int

    def output_shape(self, *sizes: Shape) -> Shape:
        size = list(sizes[0])
        first, second = axis_of(self.first, sizes[0]), axis_of(self.second, sizes[0])
        size[first], size[second] = size[second], size[first]
        return tuple(size)

    def reference(self, run: Run, *values: Tensor) -> Tensor:
        return values[0].transpose(_shifted(self.first), _shifted(self.second))


@dataclass(frozen=True)
class Permute(Operation):
    """Axes in another order, the batch staying axis 0; `axes` are those after it."""

    kind = "permute"
    axes: tuple[int, ...]

    def output_shape(self, *sizes: Shape) -> Shape:
        (size,) = sizes
        places = [axis_of(axis, size) for axis in self.axes]
        if sorted(places) != list(range(len(size))):
            raise InputError(f"{self.axes} are not the axes of a sample {shown(size)}")
        return tuple(size[place] for place in places)

    def reference(self, run: Run, *values: Tensor) -> Tensor:
        x = values[0]
        size = tuple(x.shape[2:])
        return x.permute(0, 1, *(axis_of(axis, size) + 2 for axis in self.axes))


@dataclass(frozen=True)
class Index(Operation):
    """A part of each sample: whole numbers, slices as (start, stop, step), None for a new axis, "..." for the rest.

    `items` are those after the batch, or all of them where they begin with "...".
    """

    kind = "index"
    items: tuple[Any, ...]

    def _index(self, *before: slice) -> tuple[Any, ...]:
        made = [
            slice(*item) if isinstance(item, tuple) else ... if item == "..." else item for item in self.items
        ]
        return (*made,) if made and made[0] is ... else (*before, *made)

    def output_shape(self, *sizes: Shape) -> Shape:
        (size,) = sizes
        try:
            with_batch = torch.empty(7, *size, device="meta")[self._index(slice(None))].shape
        except (IndexError, ValueError) as error:
            raise InputError(f"{self.items} is no part of a sample {shown(size)}: {error}") from error
        taken = sum(isinstance(item, int) for item in self.items)
        if taken > len(size) or with_batch[0] != 7:
            raise InputError(f"{self.items} is no part of a sample {shown(size)}")
        return tuple(with_batch[1:])

    def reference(self, run: Run, *values: Tensor) -> Tensor:
        return values[0][self._index(slice(None), slice(None))]


@dataclass(frozen=True)
class Reduce(Operation):
    """Sum, mean, maximum or minimum over axes, the batch being axis 0."""

    kind = "reduce"
    function: str
    axes: tuple[int, ...]
    keepdim: bool = False

    def __post_init__(self) -> None:
        if self.function not in REDUCTIONS:
            raise InputError(f"unknown function {self.function!r}; known: {', '.join(REDUCTIONS)}")

    @property
    def told(self) -> str:
        return f"{self.function} over axes {', '.join(map(str, self.axes))}"

    def output_shape(self, *sizes: Shape) -> Shape:
        (size,) = sizes
        gone = {axis_of(axis, size) for axis in self.axes}
        kept = (1 if place in gone else length for place, length in enumerate(size))
        return tuple(kept) if self.keepdim else tuple(n for place, n in enumerate(size) if place not in gone)

    def reference(self, run: Run, *values: Tensor) -> Tensor:
        axes = tuple(_shifted(axis) for axis in self.axes)
        return REDUCTIONS[self.function](values[0], axes, self.keepdim)


REDUCTIONS: dict[str, Callable[[Tensor, tuple[int, ...], bool], Tensor]] = {
    "mean": torch.mean,
    "sum": torch.sum,
    "max": torch.amax,
    "min": torch.amin,
}


def _flatten(call: Call) -> Steps:
    given = call.bound("input", "start_dim", "end_dim", start_dim=0, end_dim=-1)
    return [(_of_flatten(given["start_dim"], given["end_dim"]), (given["input"],))]


def _of_flatten(start: int, end: int) -> Flatten:
    if start == 0:
        raise NotAProgram("flatten takes the batch as well")
    return Flatten(start, end)


def _reshape(call: Call) -> Steps:
    x, *sizes = (*call.args, *call.kwargs.values())
    if len(sizes) == 1 and isinstance(sizes[0], Sequence):
        sizes = list(sizes[0])
    lead, rest = sizes[:1], sizes[1:]
    if not isinstance(x, Value) or not lead or not (isinstance(lead[0], BatchSize) or lead[0] == -1):
        raise NotAProgram(f"{call.name} changes the batch, or its sizes are not plain numbers")
    if not rest or not all(type(size) is int for size in rest) or (lead == [-1] and -1 in rest):
        raise NotAProgram(f"{call.name} to sizes that are not plain numbers")
    return [(Flatten() if rest == [-1] else Reshape(tuple(rest)), (x,))]


def _transpose(call: Call) -> Steps:
    given = call.bound("input", "dim0", "dim1")
    _require_plain(call, given["dim0"], given["dim1"])
    return [(Transpose(given["dim0"], given["dim1"]), (given["input"],))]


def _permute(call: Call) -> Steps:
    x, *axes = (*call.args, *call.kwargs.values())
    if len(axes) == 1 and isinstance(axes[0], Sequence):
        axes = list(axes[0])
    _require_plain(call, *axes)
    if not axes or axes[0] != 0:
        raise NotAProgram(f"{call.name} moves the batch")
    return [(Permute(tuple(axes[1:])), (x,))]


def _unsqueeze(call: Call) -> Steps:
    given = call.bound("input", "dim")
    axis = given["dim"]
    _require_plain(call, axis)
    if axis < -1 or axis == 0:
        raise NotAProgram(f"{call.name} at axis {axis}")
    items = ("...", None) if axis == -1 else (*[(None, None, None)] * (axis - 1), None)
    return [(Index(items), (given["input"],))]


def _getitem(call: Call) -> Steps | BatchSize:
    x, items = call.args
    if isinstance(x, Sizes):
        if items == 0:
            return BatchSize()
        raise NotAProgram("sizes of images are not known while a module is traced")
    items = items if isinstance(items, tuple) else (items,)
    for item in items:
        plain = item is None or item is ... or type(item) is int
        if not plain and not (
            isinstance(item, slice)
            and all(end is None or type(end) is int for end in (item.start, item.stop, item.step))
        ):
            raise NotAProgram("an index that is no plain number")
    if items[0] is not ... and items[0] != slice(None):
        raise NotAProgram("an index into the batch")
    made = tuple(
        (item.start, item.stop, item.step) if isinstance(item, slice) else "..." if item is ... else item
        for item in (items if items[0] is ... else items[1:])
    )
    if not isinstance(x, Value):
        raise NotAProgram("an index into something else than a result")
    return [(Index(made), (x,))]


def _reduce(function: str) -> Callable[[Call], Steps]:
    def recognize(call: Call) -> Steps:
        given = call.bound("input", "dim", "keepdim", keepdim=False)
        axes = tuple(given["dim"]) if isinstance(given["dim"], Sequence) else (given["dim"],)
        _require_plain(call, *axes)
        if 0 in axes or not axes:
            raise NotAProgram(f"{call.name} over the batch")
        x = (given["input"],)
        if function == "mean" and sorted(axes) == [2, 3]:  # of images: what native engines know
            return [(GlobalAvgPool2d(), x)] if given["keepdim"] else [(GlobalAvgPool2d(), x), (Flatten(), ())]
        return [(Reduce(function, axes, bool(given["keepdim"])), x)]

    return recognize


def _require_plain(call: Call, *numbers: Any) -> None:
    if not all(type(number) is int for number in numbers):
        raise NotAProgram(f"{call.name} at axes that are not plain numbers")


class Sizes:
    """What ``x.shape`` and ``x.size()`` give."""

    def __repr__(self) -> str:
        return "the sizes of a result"


def _size(call: Call) -> Sizes | BatchSize:
    given = call.bound("input", "dim", dim=None)
    if given["dim"] is None:
        return Sizes()
    if given["dim"] != 0:
        raise NotAProgram("sizes of images are not known while a module is traced")
    return BatchSize()


def _attribute(call: Call) -> Sizes:
    if call.args[1] != "shape":
        raise NotAProgram(f"the attribute {call.args[1]!r} of a result")
    return Sizes()


def _same(call: Call) -> Value:
    given = call.bound("input")
    assert isinstance(given["input"], Value)
    return given["input"]


register(Flatten, Reshape, Transpose, Permute, Index, Reduce)
MODULES[nn.Flatten] = lambda _, m: [_of_flatten(m.start_dim, m.end_dim)]
MODULES[nn.Identity] = lambda *_: []
_SPELLINGS: list[tuple[tuple[Any, ...], Callable[[Call], Any]]] = [
    ((torch.flatten, "flatten"), _flatten),
    ((torch.reshape, "reshape", "view"), _reshape),
    ((torch.transpose, "transpose"), _transpose),
    ((torch.permute, "permute"), _permute),
    ((torch.unsqueeze, "unsqueeze"), _unsqueeze),
    (("contiguous", "clone"), _same),
    ((operator.getitem,), _getitem),
    ((getattr,), _attribute),
    (("size",), _size),
]
for _spellings, _recognize in _SPELLINGS:
    CALLED.update(dict.fromkeys(_spellings, _recognize))
for _function, _names in {"mean": ("mean",), "sum": ("sum",), "max": ("amax",), "min": ("amin",)}.items():
    for _name in _names:
        CALLED[_name] = CALLED[getattr(torch, _name)] = _reduce(_function)
