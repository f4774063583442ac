"""Where values meet: arithmetic of two of them, of one with a number or a column, and concatenation."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zoosparse_ext.errors import InputError
from zoosparse_ext.population.operations.base import (
    CALLED,
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

FUNCTIONS: dict[str, Callable[[Any, Any], Tensor]] = {
    "add": torch.add,
    "subtract": torch.sub,
    "multiply": torch.mul,
    "divide": torch.div,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "power": torch.pow,
}


@dataclass(frozen=True)
class Column:
    """A parameter or buffer that a module computes with by itself: a column of the matrix, by its name."""

    name: str
    shape: Shape


def _require_known(function: str) -> None:
    if function not in FUNCTIONS:
        raise InputError(f"unknown function {function!r}; known: {', '.join(FUNCTIONS)}")


@dataclass(frozen=True)
class Combine(Operation):
    """Two values, number by number: a residual sum, a gate."""

    kind = "combine"
    inputs = 2
    function: str

    def __post_init__(self) -> None:
        _require_known(self.function)

    @property
    def told(self) -> str:
        return f"{self.function} of two results"

    def output_shape(self, *sizes: Shape) -> Shape:
        first, second = sizes
        if len(first) == len(second):
            try:
                return tuple(torch.broadcast_shapes(first, second))
            except RuntimeError:
                pass
        raise InputError(
            f"{self.function} takes two values of one shape, got {shown(first)} and {shown(second)}"
        )

    def reference(self, run: Run, *values: Tensor) -> Tensor:
        return FUNCTIONS[self.function](*values)


@dataclass(frozen=True)
class WithNumber(Operation):
    """A value and a number; with `reverse` the number comes first."""

    kind = "with_number"
    function: str
    number: float
    reverse: bool = False

    def __post_init__(self) -> None:
        _require_known(self.function)

    @property
    def told(self) -> str:
        return f"{self.function} with a number"

    def output_shape(self, *sizes: Shape) -> Shape:
        return sizes[0]

    def reference(self, run: Run, *values: Tensor) -> Tensor:
        x, number = values[0], self.number
        if self.function == "power":  # which takes numbers as they are
            return torch.pow(number, x) if self.reverse else torch.pow(x, number)
        pair = (x, torch.as_tensor(number, dtype=x.dtype, device=x.device))
        return FUNCTIONS[self.function](*(reversed(pair) if self.reverse else pair))


@dataclass(frozen=True)
class WithColumn(Operation):
    """A value and a parameter or buffer of the module's own: a scale, a table of positions."""

    kind = "with_column"
    function: str
    name: str
    shape: Shape
    reverse: bool = False

    def __post_init__(self) -> None:
        _require_known(self.function)

    @property
    def told(self) -> str:
        return f"{self.function} with {self.name!r}"

    def tensors(self) -> dict[str, Shape]:
        return {self.name: self.shape}

    def _of_a_sample(self, size: Shape) -> Shape:
        """The shape of the column beside a sample, of as many axes.

        Raises:
            InputError: the column has one number for each sample of a batch.
        """
        shape = self.shape
        if len(shape) == len(size) + 1 and shape[0] == 1:
            shape = shape[1:]
        if len(shape) > len(size):
            raise InputError(f"{self.name!r} {list(self.shape)} does not fit to {shown(size)}")
        return (1,) * (len(size) - len(shape)) + shape

    def output_shape(self, *sizes: Shape) -> Shape:
        (size,) = sizes
        try:
            return tuple(torch.broadcast_shapes(size, self._of_a_sample(size)))
        except RuntimeError as error:
            raise InputError(f"{self.name!r} {list(self.shape)} does not fit to {shown(size)}") from error

    def reference(self, run: Run, *values: Tensor) -> Tensor:
        x = values[0]
        column = run.tensors[self.name].reshape(1, run.models, *self._of_a_sample(tuple(x.shape[2:])))
        pair = (x, column)
        return FUNCTIONS[self.function](*(reversed(pair) if self.reverse else pair))


@dataclass(frozen=True)
class Concatenate(Operation):
    """Values one after the other along an axis, the batch being axis 0."""

    kind = "concatenate"
    inputs = None
    axis: int

    def output_shape(self, *sizes: Shape) -> Shape:
        axis = axis_of(self.axis, sizes[0])
        rest = {size[:axis] + size[axis + 1 :] for size in sizes}
        if len({len(size) for size in sizes}) != 1 or len(rest) != 1:
            raise InputError(f"concatenate along axis {self.axis} takes equal sizes but there, got {sizes}")
        return (*sizes[0][:axis], sum(size[axis] for size in sizes), *sizes[0][axis + 1 :])

    def reference(self, run: Run, *values: Tensor) -> Tensor:
        if len({value.shape[1] for value in values}) > 1:
            values = tuple(run.of_each(value) for value in values)
        return torch.cat(values, self.axis + 1 if self.axis > 0 else self.axis)


def combine(function: str, first: Any, second: Any) -> Steps:
    """The operation of two things, at least one of which is a value."""
    for x, other, reverse in ((first, second, False), (second, first, True)):
        if isinstance(x, Value) and isinstance(other, Value):
            return [(Combine(function), (first, second))]
        if isinstance(x, Value) and isinstance(other, Column):
            return [(WithColumn(function, other.name, other.shape, reverse), (x,))]
        if isinstance(x, Value) and isinstance(other, int | float) and not isinstance(other, bool):
            if function in ("maximum", "minimum"):
                break
            return [(WithNumber(function, float(other), reverse), (x,))]
    raise NotAProgram(f"{function} of {first!r} and {second!r}")


def _called(function: str) -> Callable[[Call], Steps]:
    def recognize(call: Call) -> Steps:
        given = call.bound("input", "other", "alpha", "rounding_mode", alpha=1, rounding_mode=None)
        if given["alpha"] != 1 or given["rounding_mode"] is not None:
            raise NotAProgram(f"{call.name} with alpha or a rounding mode")
        return combine(function, given["input"], given["other"])

    return recognize


def _power(call: Call) -> Steps:
    given = call.bound("input", "exponent")
    return combine("power", given["input"], given["exponent"])


def _concatenate(call: Call) -> Steps:
    given = call.bound("tensors", "dim", "axis", dim=0, axis=None)
    axis = given["dim"] if given["axis"] is None else given["axis"]
    tensors = given["tensors"]
    if not isinstance(tensors, Sequence) or not all(isinstance(t, Value) for t in tensors) or not tensors:
        raise NotAProgram(f"{call.name} of something else than results")
    if axis == 0:
        raise NotAProgram(f"{call.name} along the batch")
    return [(Concatenate(int(axis)), tuple(tensors))]


register(Combine, WithNumber, WithColumn, Concatenate)
for _function, _names in {
    "add": ("add", "iadd"),
    "subtract": ("sub", "isub"),
    "multiply": ("mul", "imul"),
    "divide": ("truediv", "itruediv"),
}.items():
    CALLED.update({getattr(operator, name): _called(_function) for name in _names})
    CALLED[_function] = CALLED[FUNCTIONS[_function]] = _called(_function)
CALLED.update({name: _called(function) for name, function in (("sub", "subtract"), ("mul", "multiply"))})
CALLED.update({name: _called(function) for name, function in (("add", "add"), ("div", "divide"))})
CALLED.update({torch.maximum: _called("maximum"), torch.minimum: _called("minimum")})
CALLED.update({operator.pow: _power, torch.pow: _power, "pow": _power})
CALLED.update({torch.cat: _concatenate, torch.concat: _concatenate, torch.concatenate: _concatenate})
