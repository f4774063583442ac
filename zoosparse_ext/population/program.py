"""A program: the operations that a network computes, in order, over the columns of a population's matrix.

Each operation takes results of those before it, by number: a graph in single-assignment form. A chain, in which each
takes the result of the one before it alone, is what native engines run. A program knows no weights: operations name the
layer whose columns they use, and an :class:`~zoosparse_ext.population.Architecture` says where those columns are.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from zoosparse_ext.errors import InputError
from zoosparse_ext.ops import _program as native
from zoosparse_ext.population.operations import KINDS, Operation, Pair, Shape
from zoosparse_ext.population.operations.activation import Activation
from zoosparse_ext.population.operations.base import shown
from zoosparse_ext.population.operations.convolution import Conv2d
from zoosparse_ext.population.operations.dropout import Dropout
from zoosparse_ext.population.operations.joining import Combine
from zoosparse_ext.population.operations.linear import Layer, Linear
from zoosparse_ext.population.operations.pooling import AvgPool2d, GlobalAvgPool2d, MaxPool2d, Pool
from zoosparse_ext.population.operations.shape import Flatten

ACTIVATIONS: dict[str, int] = {
    name: number for number, name in enumerate(native.ACTIVATIONS)
}  # that engines know
ENCODED_COLUMNS = native.COLUMNS


@dataclass(frozen=True)
class Program:
    """Operations from an image, a signal or features to class scores.

    >>> program = Program((Flatten(), Linear("head", 4, 3)))
    >>> program.shapes((1, 2, 2))
    [(1, 2, 2), (4, 1, 1), (3, 1, 1)]
    >>> residual = Program((Linear("a", 4, 4), Combine("add")), inputs=((0,), (0, 1)))
    >>> residual.shapes((4,)), residual.why_not_chain
    ([(4,), (4,), (4,)], 'add of two results')

    Args:
        operations: in an order in which they can be computed; the last gives the scores.
        inputs: of each operation the numbers of the values that it takes: 0 is the input, i + 1 the result of operation
            i. Default: each takes the result of the one before it.
        streams: of each operation the number of its random stream, see :func:`zoosparse_ext.random.stream_id`; None:
            random numbers are those that the module draws. Default: the place of the operation.

    Raises:
        InputError: an operation takes what is not computed before it, or another number of values than it needs.
    """

    operations: tuple[Operation, ...]
    inputs: tuple[tuple[int, ...], ...] = ()
    streams: tuple[int | None, ...] = ()

    def __post_init__(self) -> None:
        length = len(self.operations)
        object.__setattr__(self, "inputs", self.inputs or tuple((place,) for place in range(length)))
        object.__setattr__(self, "streams", self.streams or tuple(range(length)))
        if not len(self.inputs) == len(self.streams) == length:
            raise InputError(
                f"a program of {length} operations has inputs of {len(self.inputs)} and streams of "
                f"{len(self.streams)}"
            )
        if not all(
            stream is None or (type(stream) is int and 0 <= stream < 2**16) for stream in self.streams
        ):
            raise InputError(f"streams of a program are numbers from 0 to {2**16 - 1}, got {self.streams}")
        for place, (op, taken) in enumerate(zip(self.operations, self.inputs, strict=True)):
            if not all(type(number) is int and 0 <= number <= place for number in taken):
                raise InputError(f"operation {place}, {op.told}, takes {taken}; known are 0 to {place}")
            if len(taken) != op.inputs and (op.inputs is not None or not taken):
                raise InputError(
                    f"operation {place}, {op.told}, takes {op.inputs or 'some'} values, got {len(taken)}"
                )

    @cached_property
    def why_not_chain(self) -> str:
        """What native engines lack of it; empty if it is a chain of operations that they know."""
        for place, (op, taken) in enumerate(zip(self.operations, self.inputs, strict=True)):
            if lacks := op.why_not_native():
                return lacks
            if taken != (place,):
                return f"{op.told} on a result that is not the last"
        names = [layer.name for layer in self.layers]
        if len(set(names)) != len(names):
            return f"a second use of layer {next(name for name in names if names.count(name) > 1)!r}"
        return "" if names else "a program without layers"

    @property
    def is_chain(self) -> bool:
        """Whether each operation takes the result of the one before it, and native engines know all of them."""
        return not self.why_not_chain

    def shapes(self, input_shape: Shape) -> list[Shape]:
        """Shape of the input and of each result; in a chain on images a flat vector of F features is (F, 1, 1).

        Raises:
            InputError: an input of this shape does not fit; names the layer, what it expects and what came.
        """
        shapes = [tuple(input_shape)]
        size = shown(shapes[0])
        for op, taken in zip(self.operations, self.inputs, strict=True):
            try:
                after = op.output_shape(*(shapes[number] for number in taken))
            except InputError as error:
                raise InputError(f"images of size {size} do not fit the network: {error}") from None
            if min(after, default=1) < 1:
                raise InputError(f"images of size {size} are too small: nothing is left after {op}")
            padded = self.is_chain and len(shapes[0]) == 3
            shapes.append(after + (1,) * (3 - len(after)) if padded else after)
        return shapes

    @cached_property
    def takes_images(self) -> bool:
        """Whether it is a chain that takes nothing but images."""
        return self.is_chain and any(isinstance(op, Conv2d | Pool) for op in self.operations)

    def scores(self, input_shape: Shape) -> int | None:
        """Number of scores for an input of this shape; None if it ends in maps or sequences.

        Raises:
            InputError: as :meth:`shapes`.
        """
        last = self.shapes(input_shape)[-1]
        return last[0] if last and math.prod(last[1:]) == 1 else None

    @cached_property
    def layers(self) -> list[Layer]:
        """The operations that are linear in a weight, in order."""
        return [op for op in self.operations if isinstance(op, Layer)]

    @property
    def classes(self) -> int | None:
        """Scores of a chain; of other programs they depend on the input."""
        return self.layers[-1].outputs if self.is_chain else None

    @property
    def draws(self) -> bool:
        """Whether training draws random numbers, other than those of variational dropout."""
        return any(op.draws for op in self.operations)

    @property
    def has_streams(self) -> bool:
        """Whether each operation has a random stream of its own; if not, the module draws the random numbers."""
        return None not in self.streams

    @property
    def has_own_streams(self) -> bool:
        """Whether random numbers are not those of the module, which version 0.1 ran; it knew chains alone."""
        return self.has_streams and not self.is_chain

    def without_streams(self) -> Program:
        """The same, its random numbers being those that the module draws: as zoos without a program were trained."""
        return self if self.is_chain else replace(self, streams=(None,) * len(self.operations))

    def tensors(self) -> dict[str, Shape]:
        """Names and shapes of the columns that it computes with."""
        return {name: shape for op in self.operations for name, shape in op.tensors().items()}

    def encode(
        self, input_shape: Shape, offsets: Mapping[str, int], frozen: Collection[str] = ()
    ) -> tuple[Tensor, Tensor]:
        """A chain as native engines read it: int64 [L, 18], whose columns are `FIELDS`, and float64 [L].

        The values are the negative slope of a leaky ReLU or the default rate of a dropout. `offsets` maps parameter
        names to their first column; `frozen` names those that training leaves alone.

        Raises:
            InputError: the program is not a chain (says what native engines lack), or the input does not fit.
        """
        if not self.is_chain:
            raise InputError(f"native engines lack {self.why_not_chain}")
        rows = []
        shapes = self.shapes(input_shape)
        for op, before, after in zip(self.operations, shapes, shapes[1:], strict=False):
            columns = {}
            if isinstance(op, Layer):
                names = {"weight": f"{op.name}.weight", "bias": f"{op.name}.bias"}
                columns = {
                    "weight": offsets[names["weight"]],
                    "bias": offsets[names["bias"]] if op.bias else -1,
                }
                columns["frozen"] = (names["weight"] in frozen) + 2 * (names["bias"] in frozen)
            sizes = dict(zip(native.FIELDS[1:7], (*before, *after), strict=True))
            kind = {"kind": native.KINDS.index(op.kind)}
            fields = native.DEFAULTS | kind | sizes | op.encoded(before) | columns
            rows.append([fields[name] for name in native.FIELDS])
        table = torch.tensor(rows, dtype=torch.int64).reshape(-1, ENCODED_COLUMNS)
        return table, torch.tensor([op.value() for op in self.operations], dtype=torch.float64)

    def to_list(self) -> list[dict[str, Any]]:
        """As plain dictionaries, for JSON; those of a chain say nothing of inputs and streams."""
        rows = [op.to_dict() for op in self.operations]
        if not self.is_chain:
            for row, taken, stream in zip(rows, self.inputs, self.streams, strict=True):
                row |= {"inputs": taken, "stream": stream}
        return rows

    @classmethod
    def from_list(cls, rows: list[dict[str, Any]]) -> Program:
        """Inverse of :meth:`to_list`.

        Raises:
            InputError: an unknown kind of operation, or inputs that do not fit.
        """
        operations, inputs, streams = [], [], []
        for place, row in enumerate(rows):
            fields = {name: _frozen(value) for name, value in row.items()}
            kind = fields.pop("kind", None)
            inputs.append(fields.pop("inputs", (place,)))
            streams.append(fields.pop("stream", place))
            if kind not in KINDS:
                raise InputError(f"unknown operation {kind!r} in a program; known: {', '.join(KINDS)}")
            operations.append(KINDS[kind](**fields))
        return cls(tuple(operations), tuple(inputs), tuple(streams))


def _frozen(value: Any) -> Any:
    """Lists as tuples, as fields hold them."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


__all__ = [
    "ACTIVATIONS",
    "Activation",
    "AvgPool2d",
    "Combine",
    "Conv2d",
    "Dropout",
    "Flatten",
    "GlobalAvgPool2d",
    "Layer",
    "Linear",
    "MaxPool2d",
    "Operation",
    "Pair",
    "Program",
    "Shape",
]
