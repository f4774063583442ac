"""What an operation of a program is: its fields, its shape rule, its reference, its module, its encoding.

An operation is one class: adding one means its class, its line in a table of recognition, and its test. Values are
tensors `[B, N, *shape]` where it computes: N models beside each other, or N = 1 where all of them see the same. With
the models beside the channels one call of PyTorch serves them all: a convolution of N models is a convolution with N
times as many groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from zoosparse_ext import random
from zoosparse_ext.errors import InputError

if TYPE_CHECKING:
    from zoosparse_ext.population.forward import StepNoise

Shape = tuple[
    int, ...
]  # of one sample: channels, height, width of an image; features; channels, length of a signal
Pair = tuple[int, int]
VECTOR = 64  # numbers: whole vectors of every instruction set


class NotAProgram(Exception):
    """The module computes something that a program cannot express; the message says what."""


@dataclass
class Run:
    """What operations compute with beside their inputs.

    Args:
        tensors: the columns of each model by name, [N, *shape].
        models: N.
        noise: of a training step; None in evaluation.
        write: puts a new value [N, *shape] into the columns of a buffer.
        counted: int64 [N], counters of a name, which go up in place; None where nobody counts.
        stream: number of the random stream of the operation that runs.
    """

    tensors: Mapping[str, Tensor]
    models: int
    noise: StepNoise | None = None
    write: Callable[[str, Tensor], None] = lambda name, value: None
    counted: Callable[[str], Tensor | None] = lambda name: None
    stream: int | None = 0

    @property
    def training(self) -> bool:
        return self.noise is not None

    def of_each(self, x: Tensor) -> Tensor:
        """A value [B, N, …], also where all models see the same."""
        return x.expand(-1, self.models, *x.shape[2:]) if x.shape[1] != self.models else x

    def rate(self, default: float, dims: int) -> float | Tensor:
        """Dropout rate of each model, to be broadcast over values with so many axes, or one for all."""
        assert self.noise is not None
        if self.noise.dropout is None:
            return default
        return self.noise.dropout.view(1, -1, *[1] * (dims - 2))

    def draw(self, kind: Callable[..., Tensor], purpose: int, like: Tensor) -> Tensor:
        """Random numbers of the shape of a value [B, N, *shape]; elements are counted in `shape`, sample by sample."""
        assert self.noise is not None and self.stream is not None
        batch, shape = like.shape[0], like.shape[2:]
        flat = like.new_empty(()).expand(self.models, math.prod(shape), batch, 1, 1)
        numbers = self.noise.draw(kind, purpose, self.stream, flat)
        return numbers[..., 0, 0].permute(2, 0, 1).unflatten(2, shape) if shape else numbers[..., 0, 0].T

    def kept(self, like: Tensor, rate: float | Tensor) -> Tensor:
        """Which elements a dropout leaves: bool [B, N, *shape]."""
        return self.draw(random.uniform, random.DROPOUT, like) >= rate


@dataclass(frozen=True)
class Operation:
    """One operation of a program, with its settings as fields; it holds no weights, it names their columns."""

    kind: ClassVar[str]
    inputs: ClassVar[int | None] = 1  # None: any number
    draws: ClassVar[bool] = False  # random numbers, in training
    later: ClassVar[
        tuple[str, ...]
    ] = ()  # fields that version 0.1 lacks: stored where they are not the default

    def output_shape(self, *sizes: Shape) -> Shape:
        """Shape of the result for inputs of these shapes.

        Raises:
            InputError: they do not fit; says what was expected.
        """
        raise NotImplementedError

    def reference(self, run: Run, *values: Tensor) -> Tensor:
        """The result [B, N, *shape] of values [B, N or 1, *shape], by PyTorch."""
        raise NotImplementedError

    def module(self) -> nn.Module:
        """A module that computes the same."""
        return Applied(self)

    def tensors(self) -> dict[str, Shape]:
        """Names and shapes of the columns it computes with."""
        return {}

    def counters(self) -> tuple[str, ...]:
        """Names of the counters that go up in training."""
        return ()

    @property
    def told(self) -> str:
        """Its kind and, where it has one, its name, for messages."""
        name = getattr(self, "name", "")
        return f"{self.kind} {name!r}" if name else self.kind

    def why_not_native(self) -> str:
        """What of it native engines lack; empty if they have it."""
        return self.told

    def encoded(self, before: Shape) -> dict[str, int]:
        """Fields of its row in the program that native engines read, beside kind, shapes and columns."""
        return {}

    def value(self) -> float:
        """The number beside its row."""
        return 0.0

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        row: dict[str, Any] = {"kind": self.kind}
        for field in fields(self):
            value = getattr(self, field.name)
            default = field.default if field.default is not MISSING else None
            if field.name not in self.later or value != default:
                row[field.name] = value
        return row


class Applied(nn.Module):
    """The module of an operation that has neither columns nor a module of PyTorch's own."""

    def __init__(self, operation: Operation) -> None:
        super().__init__()
        self.operation = operation

    def forward(self, *values: Tensor) -> Tensor:
        result = self.operation.reference(Run({}, 1), *(value.unsqueeze(1) for value in values))
        return result.squeeze(1)

    def extra_repr(self) -> str:
        return f"{self.operation}"


@dataclass(frozen=True)
class Call:
    """A call of a function or method as torch.fx saw it, with the numbers of values where it has tensors."""

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    training: bool

    def bound(self, *names: str, **defaults: Any) -> dict[str, Any]:
        """Arguments by name.

        Raises:
            NotAProgram: there are others.
        """
        if len(self.args) > len(names):
            raise NotAProgram(f"{self.name} has more arguments than {', '.join(names)}")
        given = dict(zip(names, self.args, strict=False)) | dict(self.kwargs)
        if unknown := set(given) - set(names):
            raise NotAProgram(f"{self.name} has the argument {min(unknown)!r}")
        missing = [name for name in names if name not in given and name not in defaults]
        if missing:
            raise NotAProgram(f"{self.name} lacks the argument {missing[0]!r}")
        return defaults | given


@dataclass(frozen=True)
class Value:
    """The result of an operation, by its number in the program; 0 is the input."""

    number: int


class BatchSize:
    """The number of samples, as ``x.size(0)`` gives it."""

    def __repr__(self) -> str:
        return "the number of samples"


Steps = Sequence[
    tuple[Operation, tuple[Value, ...]]
]  # operations and what they take; () takes the result before

# How operations are recognized. A module becomes operations one after the other; a call of a function first becomes the
# module that it stands for, or, where it joins values, operations with the values that they take.
MODULES: dict[type[nn.Module], Callable[[str, Any], list[Operation]]] = {}
CALLED_MODULES: dict[Any, Callable[..., nn.Module]] = {}
CALLED: dict[Any, Callable[[Call], Any]] = {}  # operations with what they take, or a thing that is known
KINDS: dict[str, type[Operation]] = {}


def register(*kinds: type[Operation]) -> None:
    """Make operations known to stored programs, by their kind."""
    KINDS.update({kind.kind: kind for kind in kinds})


def pair(value: Any) -> Pair:
    """Height and width, from one number or two."""
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def single(value: Any) -> int:
    return int(value) if isinstance(value, int) else int(value[0])


def several(value: Any, dims: int) -> tuple[int, ...]:
    """One number per axis, from one number or from so many."""
    return (value,) * dims if isinstance(value, int) else tuple(map(int, value))


def require_rank(what: str, size: Shape, *ranks: int) -> None:
    """Raise InputError unless a shape has one of these numbers of axes, the batch not counted."""
    names = {1: "features", 2: "a signal [C, L]", 3: "an image [C, H, W]"}
    if len(size) not in ranks:
        expected = " or ".join(names[rank] for rank in ranks)
        raise InputError(f"{what} expects {expected}, got {shown(size)}")


def shown(size: Shape) -> str:
    return "×".join(map(str, size)) or "one number"


def axis_of(axis: int, size: Shape) -> int:
    """An axis counted as PyTorch does, with the batch as axis 0, as a place in the shape of a sample.

    Raises:
        InputError: there is no such axis, or it is the batch.
    """
    rank = len(size) + 1
    place = axis + rank if axis < 0 else axis
    if not 1 <= place < rank:
        raise InputError(f"axis {axis} is not one of a sample {shown(size)}")
    return place - 1


def flat_models(tensor: Tensor) -> Tensor:
    """[N, C, …] as [N·C, …]."""
    return tensor.flatten(0, 1)
