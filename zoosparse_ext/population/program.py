"""A program: the chain of operations that a network computes, over the columns of a population's matrix.

Native engines and the PyTorch reference run the same program, forward, sparse and in training. A program knows no
weights: operations name the layer whose columns they use, and an :class:`~zoosparse_ext.population.Architecture` says
where those columns are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from zoosparse_ext.errors import InputError

Shape = tuple[int, int, int]  # channels, height, width; a flat vector of F features is (F, 1, 1)
Pair = tuple[int, int]

ACTIVATIONS: dict[str, int] = {  # name → number in the encoded program
    "identity": 0,
    "relu": 1,
    "leaky_relu": 2,
    "tanh": 3,
    "sigmoid": 4,
    "silu": 5,
    "gelu": 6,
}


def _window_output(size: Shape, kernel: Pair, stride: Pair, padding: Pair) -> Pair:
    height = (size[1] + 2 * padding[0] - kernel[0]) // stride[0] + 1
    width = (size[2] + 2 * padding[1] - kernel[1]) // stride[1] + 1
    return height, width


@dataclass(frozen=True)
class Conv2d:
    """Convolution with groups = 1 and dilation = 1; `name` is the layer that holds weight and bias."""

    kind: ClassVar[str] = "conv2d"
    name: str
    in_channels: int
    out_channels: int
    kernel_size: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    bias: bool = True

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return (self.out_channels, self.in_channels, *self.kernel_size)

    def output_shape(self, size: Shape) -> Shape:
        if size[0] != self.in_channels:
            raise InputError(f"layer {self.name!r} expects {self.in_channels} channels, got {size[0]}")
        return (self.out_channels, *_window_output(size, self.kernel_size, self.stride, self.padding))

    def module(self) -> nn.Module:
        return nn.Conv2d(
            self.in_channels, self.out_channels, self.kernel_size, self.stride, self.padding, bias=self.bias
        )


@dataclass(frozen=True)
class Linear:
    """Fully connected layer on a flat input."""

    kind: ClassVar[str] = "linear"
    name: str
    in_features: int
    out_features: int
    bias: bool = True

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return (self.out_features, self.in_features)

    def output_shape(self, size: Shape) -> Shape:
        if size != (self.in_features, 1, 1):
            came = size[0] if size[1:] == (1, 1) else "×".join(map(str, size)) + " (not flat)"
            raise InputError(f"layer {self.name!r} expects {self.in_features} features, got {came}")
        return (self.out_features, 1, 1)

    def module(self) -> nn.Module:
        return nn.Linear(self.in_features, self.out_features, bias=self.bias)


@dataclass(frozen=True)
class MaxPool2d:
    kind: ClassVar[str] = "max_pool2d"
    kernel_size: Pair
    stride: Pair
    padding: Pair = (0, 0)

    def output_shape(self, size: Shape) -> Shape:
        return (size[0], *_window_output(size, self.kernel_size, self.stride, self.padding))

    def module(self) -> nn.Module:
        return nn.MaxPool2d(self.kernel_size, self.stride, self.padding)


@dataclass(frozen=True)
class AvgPool2d:
    kind: ClassVar[str] = "avg_pool2d"
    kernel_size: Pair
    stride: Pair

    def output_shape(self, size: Shape) -> Shape:
        return (size[0], *_window_output(size, self.kernel_size, self.stride, (0, 0)))

    def module(self) -> nn.Module:
        return nn.AvgPool2d(self.kernel_size, self.stride)


@dataclass(frozen=True)
class GlobalAvgPool2d:
    """`nn.AdaptiveAvgPool2d(1)`."""

    kind: ClassVar[str] = "global_avg_pool2d"

    def output_shape(self, size: Shape) -> Shape:
        return (size[0], 1, 1)

    def module(self) -> nn.Module:
        return nn.AdaptiveAvgPool2d(1)


@dataclass(frozen=True)
class Activation:
    kind: ClassVar[str] = "activation"
    function: str
    negative_slope: float = 0.01

    def __post_init__(self) -> None:
        if self.function not in ACTIVATIONS:
            raise InputError(f"unknown activation {self.function!r}; known: {', '.join(ACTIVATIONS)}")

    def output_shape(self, size: Shape) -> Shape:
        return size

    def module(self) -> nn.Module:
        modules: dict[str, nn.Module] = {
            "identity": nn.Identity(),
            "relu": nn.ReLU(),
            "leaky_relu": nn.LeakyReLU(self.negative_slope),
            "tanh": nn.Tanh(),
            "sigmoid": nn.Sigmoid(),
            "silu": nn.SiLU(),
            "gelu": nn.GELU(),
        }
        return modules[self.function]


@dataclass(frozen=True)
class Dropout:
    """Element-wise dropout; `rate` is the default, a population may give every model its own."""

    kind: ClassVar[str] = "dropout"
    rate: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.rate < 1.0:
            raise InputError(
                f"dropout rate must lie in [0, 1), got {self.rate}: a rate of 1 drops everything"
            )

    def output_shape(self, size: Shape) -> Shape:
        return size

    def module(self) -> nn.Module:
        return nn.Dropout(self.rate)


@dataclass(frozen=True)
class Flatten:
    kind: ClassVar[str] = "flatten"

    def output_shape(self, size: Shape) -> Shape:
        return (size[0] * size[1] * size[2], 1, 1)

    def module(self) -> nn.Module:
        return nn.Flatten()


Operation = Conv2d | Linear | MaxPool2d | AvgPool2d | GlobalAvgPool2d | Activation | Dropout | Flatten
_KINDS: dict[str, type] = {
    op.kind: op
    for op in (Conv2d, Linear, MaxPool2d, AvgPool2d, Activation, Dropout, Flatten, GlobalAvgPool2d)
}
_KIND_NUMBERS = {kind: number for number, kind in enumerate(_KINDS)}
ENCODED_COLUMNS = 18


@dataclass(frozen=True)
class Program:
    """A chain of operations from an image to class scores.

    >>> program = Program((Flatten(), Linear("head", 4, 3)))
    >>> program.shapes((1, 2, 2))
    [(1, 2, 2), (4, 1, 1), (3, 1, 1)]
    """

    operations: tuple[Operation, ...]

    def shapes(self, input_shape: Shape) -> list[Shape]:
        """Shape before each operation and after the last.

        Raises:
            InputError: an image of this shape does not fit; names the layer, what it expects and what came.
        """
        shapes = [input_shape]
        for op in self.operations:
            try:
                after = op.output_shape(shapes[-1])
            except InputError as error:
                size = "×".join(map(str, input_shape))
                raise InputError(f"images of size {size} do not fit the network: {error}") from None
            if min(after) < 1:
                size = "×".join(map(str, input_shape))
                raise InputError(f"images of size {size} are too small: nothing is left after {op}")
            shapes.append(after)
        return shapes

    @property
    def layers(self) -> list[Conv2d | Linear]:
        """The operations that hold weights, in order."""
        return [op for op in self.operations if isinstance(op, Conv2d | Linear)]

    @property
    def classes(self) -> int:
        last = self.layers[-1]
        return last.out_features if isinstance(last, Linear) else last.out_channels

    def encode(
        self, input_shape: Shape, offsets: Mapping[str, int], frozen: Collection[str] = ()
    ) -> tuple[Tensor, Tensor]:
        """The program as native engines read it: int64 [L, 18] and float64 [L].

        Columns: kind, in channels, height, width, out channels, height, width, kernel height, width, stride height,
        width, padding height, width, weight column, bias column (−1 without), activation, frozen (1: the weight is,
        2: the bias is), one reserved. The values are the negative slope of a leaky ReLU or the default rate of a
        dropout. `offsets` maps parameter names to their first column; `frozen` names those that training leaves alone.
        """
        rows, values = [], []
        shapes = self.shapes(input_shape)
        for op, before, after in zip(self.operations, shapes, shapes[1:], strict=False):
            kernel: Pair = getattr(
                op, "kernel_size", before[1:] if isinstance(op, GlobalAvgPool2d) else (1, 1)
            )
            columns, still = (-1, -1), 0
            if isinstance(op, Conv2d | Linear):
                still = (f"{op.name}.weight" in frozen) + 2 * (f"{op.name}.bias" in frozen)
                columns = (offsets[f"{op.name}.weight"], offsets[f"{op.name}.bias"] if op.bias else -1)
            activation = ACTIVATIONS[op.function] if isinstance(op, Activation) else 0
            stride: Pair = getattr(op, "stride", (1, 1))
            padding: Pair = getattr(op, "padding", (0, 0))
            number = _KIND_NUMBERS[op.kind]
            rows.append([number, *before, *after, *kernel, *stride, *padding, *columns, activation, still, 0])
            value = op.negative_slope if isinstance(op, Activation) else getattr(op, "rate", 0.0)
            values.append(float(value))
        table = torch.tensor(rows, dtype=torch.int64).reshape(-1, ENCODED_COLUMNS)
        return table, torch.tensor(values, dtype=torch.float64)

    def to_list(self) -> list[dict[str, Any]]:
        """As plain dictionaries, for JSON."""
        return [{"kind": op.kind, **asdict(op)} for op in self.operations]

    @classmethod
    def from_list(cls, rows: list[dict[str, Any]]) -> Program:
        """Inverse of :meth:`to_list`."""
        operations = []
        for row in rows:
            fields = {k: tuple(v) if isinstance(v, list) else v for k, v in row.items() if k != "kind"}
            if row.get("kind") not in _KINDS:
                raise InputError(
                    f"unknown operation {row.get('kind')!r} in a program; known: {', '.join(_KINDS)}"
                )
            operations.append(_KINDS[row["kind"]](**fields))
        return cls(tuple(operations))
