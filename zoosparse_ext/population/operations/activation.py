"""Activations: functions of each number alone, and softmax over an axis."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoosparse_ext.errors import InputError
from zoosparse_ext.ops import _program as table
from zoosparse_ext.population.operations.base import (
    CALLED_MODULES,
    MODULES,
    VECTOR,
    NotAProgram,
    Operation,
    Run,
    Shape,
    axis_of,
    register,
)


class Function(NamedTuple):
    """An activation: what computes it, the module that does (None: none of PyTorch's), and its settings' defaults."""

    apply: Callable[..., Tensor]
    module: Callable[..., nn.Module] | None
    settings: tuple[float, ...] = ()


FUNCTIONS: dict[str, Function] = {
    "identity": Function(lambda x: x, nn.Identity),
    "relu": Function(torch.relu, nn.ReLU),
    "leaky_relu": Function(F.leaky_relu, nn.LeakyReLU),  # its slope is a field of its own
    "tanh": Function(torch.tanh, nn.Tanh),
    "sigmoid": Function(torch.sigmoid, nn.Sigmoid),
    "silu": Function(F.silu, nn.SiLU),
    "gelu": Function(F.gelu, nn.GELU),
    "relu6": Function(F.relu6, nn.ReLU6),
    "elu": Function(F.elu, nn.ELU, (1.0,)),
    "selu": Function(F.selu, nn.SELU),
    "celu": Function(F.celu, nn.CELU, (1.0,)),
    "softplus": Function(F.softplus, nn.Softplus, (1.0, 20.0)),
    "softsign": Function(F.softsign, nn.Softsign),
    "hardswish": Function(F.hardswish, nn.Hardswish),
    "hardsigmoid": Function(F.hardsigmoid, nn.Hardsigmoid),
    "hardtanh": Function(F.hardtanh, nn.Hardtanh, (-1.0, 1.0)),
    "mish": Function(F.mish, nn.Mish),
    "gelu_tanh": Function(lambda x: F.gelu(x, approximate="tanh"), lambda: nn.GELU("tanh")),
    "hardshrink": Function(F.hardshrink, nn.Hardshrink, (0.5,)),
    "softshrink": Function(F.softshrink, nn.Softshrink, (0.5,)),
    "tanhshrink": Function(F.tanhshrink, nn.Tanhshrink),
    "log_sigmoid": Function(F.logsigmoid, nn.LogSigmoid),
    "threshold": Function(F.threshold, nn.Threshold, (0.0, 0.0)),
    "sin": Function(torch.sin, None),
    "cos": Function(torch.cos, None),
    "exp": Function(torch.exp, None),
    "sqrt": Function(torch.sqrt, None),
    "abs": Function(torch.abs, None),
    "neg": Function(torch.neg, None),
    "square": Function(torch.square, None),
}


_EXACT = frozenset(
    {
        "identity",
        "relu",
        "leaky_relu",
        "relu6",
        "hardtanh",
        "hardshrink",
        "softshrink",
        "threshold",
        "abs",
        "neg",
    }
)  # the same bits by any function


@dataclass(frozen=True)
class Activation(Operation):
    """A function of each number alone, by its name in `FUNCTIONS`; `settings` are its own, as PyTorch orders them."""

    kind = "activation"
    later = ("settings",)
    function: str
    negative_slope: float = 0.01
    settings: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        known = FUNCTIONS.get(self.function)
        if known is None:
            raise InputError(f"unknown activation {self.function!r}; known: {', '.join(FUNCTIONS)}")
        if len(self.settings) not in (0, len(known.settings)):
            raise InputError(
                f"activation {self.function!r} has {len(known.settings)} settings, got {len(self.settings)}"
            )

    def output_shape(self, *sizes: Shape) -> Shape:
        return sizes[0]

    def apply(self, x: Tensor) -> Tensor:
        """The activation of any tensor."""
        if self.function == "leaky_relu":
            return F.leaky_relu(x, self.negative_slope)
        function = FUNCTIONS[self.function]
        return function.apply(x, *(self.settings or function.settings))

    def reference(self, run: Run, *values: Tensor) -> Tensor:
        """PyTorch computes what fills no vector by other functions: there are whole vectors, else bits depend on N."""
        x = values[0]
        if x.numel() % VECTOR == 0 or self.function in _EXACT:
            return self.apply(x)
        padded = F.pad(x.reshape(-1), (0, -x.numel() % VECTOR))
        return self.apply(padded)[: x.numel()].view(x.shape)

    def module(self) -> nn.Module:
        if self.function == "leaky_relu":
            return nn.LeakyReLU(self.negative_slope)
        function = FUNCTIONS[self.function]
        if function.module is None:
            return super().module()
        return function.module(*(self.settings or function.settings))

    @property
    def told(self) -> str:
        return f"the activation {self.function}"

    def why_not_native(self) -> str:
        return "" if self.function in table.ACTIVATIONS else self.told

    def encoded(self, before: Shape) -> dict[str, int]:
        return {"activation": table.ACTIVATIONS.index(self.function)}

    def value(self) -> float:
        return self.negative_slope


@dataclass(frozen=True)
class PReLU(Operation):
    """A leaky ReLU whose slope is a column, one for all channels or one for each."""

    kind = "prelu"
    name: str
    slopes: int = 1

    def output_shape(self, *sizes: Shape) -> Shape:
        (size,) = sizes
        if self.slopes != 1 and (not size or size[0] != self.slopes):
            raise InputError(
                f"prelu {self.name!r} expects {self.slopes} channels, got {size[0] if size else 'none'}"
            )
        return size

    def tensors(self) -> dict[str, Shape]:
        return {f"{self.name}.weight": (self.slopes,)}

    def reference(self, run: Run, *values: Tensor) -> Tensor:
        x = run.of_each(values[0])
        slopes = run.tensors[f"{self.name}.weight"]  # [N, slopes]
        if x.dim() == 2:
            return F.prelu(x, slopes[:, 0])
        return F.prelu(x.flatten(1, 2), slopes.expand(-1, x.shape[2]).flatten()).unflatten(1, x.shape[1:3])

    def module(self) -> nn.Module:
        return nn.PReLU(self.slopes)


@dataclass(frozen=True)
class Softmax(Operation):
    """Softmax over an axis, the batch being axis 0; its logarithm where `log`."""

    kind = "softmax"
    axis: int
    log: bool = False

    def output_shape(self, *sizes: Shape) -> Shape:
        axis_of(self.axis, sizes[0])
        return sizes[0]

    def reference(self, run: Run, *values: Tensor) -> Tensor:
        axis = self.axis + 1 if self.axis > 0 else self.axis
        return values[0].log_softmax(axis) if self.log else values[0].softmax(axis)

    def module(self) -> nn.Module:
        return (nn.LogSoftmax if self.log else nn.Softmax)(self.axis)


_SETTINGS: dict[str, tuple[str, ...]] = {  # where modules keep them
    "elu": ("alpha",),
    "celu": ("alpha",),
    "softplus": ("beta", "threshold"),
    "hardtanh": ("min_val", "max_val"),
    "hardshrink": ("lambd",),
    "softshrink": ("lambd",),
    "threshold": ("threshold", "value"),
}


def _of_module(function: str) -> Callable[[str, Any], list[Operation]]:
    names = _SETTINGS.get(function, ())

    def recognize(name: str, module: Any) -> list[Operation]:
        settings = tuple(float(getattr(module, setting)) for setting in names)
        return [Activation(function, settings=() if settings == FUNCTIONS[function].settings else settings)]

    return recognize


def _gelu(name: str, module: nn.GELU) -> list[Operation]:
    return [Activation("gelu" if module.approximate == "none" else "gelu_tanh")]


def _softmax(log: bool) -> Callable[[str, Any], list[Operation]]:
    def recognize(name: str, module: Any) -> list[Operation]:
        if module.dim is None:
            raise NotAProgram(f"softmax {name!r} does not say over which axis")
        return [Softmax(int(module.dim), log)]

    return recognize


def _called_softmax(kind: type[nn.Module]) -> Callable[..., nn.Module]:
    def make(dim: int | None = None, _stacklevel: int = 3, dtype: torch.dtype | None = None) -> nn.Module:
        if dtype is not None:
            raise NotAProgram(f"softmax in {dtype}")
        return kind(dim)

    return make


class _Alone(nn.Module):
    """Stands for a function that is no module of PyTorch's."""

    def __init__(self, function: str) -> None:
        super().__init__()
        self.function = function


def _prelu(name: str, module: nn.PReLU) -> list[Operation]:
    return [PReLU(name, module.num_parameters)]


register(Activation, PReLU, Softmax)
for _name, _function in FUNCTIONS.items():
    if isinstance(_function.module, type) and _name not in ("identity", "leaky_relu", "gelu"):
        MODULES[_function.module] = _of_module(_name)
MODULES[nn.LeakyReLU] = lambda name, m: [Activation("leaky_relu", m.negative_slope)]
MODULES[nn.GELU], MODULES[nn.PReLU] = _gelu, _prelu
MODULES[nn.Softmax], MODULES[nn.LogSoftmax] = _softmax(False), _softmax(True)
MODULES[nn.Softmax2d] = lambda *_: [Softmax(-3)]
MODULES[_Alone] = lambda name, m: [Activation(m.function)]
_SPELLINGS: list[tuple[tuple[Any, ...], Callable[..., nn.Module]]] = [
    ((torch.relu, F.relu, "relu"), nn.ReLU),
    ((torch.tanh, F.tanh, "tanh"), nn.Tanh),
    ((torch.sigmoid, F.sigmoid, "sigmoid"), nn.Sigmoid),
    ((operator.neg,), lambda: _Alone("neg")),
    ((F.silu,), nn.SiLU),
    ((F.gelu,), nn.GELU),
    ((F.leaky_relu,), nn.LeakyReLU),
    ((F.relu6,), nn.ReLU6),
    ((F.elu,), nn.ELU),
    ((F.selu, torch.selu), nn.SELU),
    ((F.celu,), nn.CELU),
    ((F.softplus,), nn.Softplus),
    ((F.softsign,), nn.Softsign),
    ((F.hardswish,), nn.Hardswish),
    ((F.hardsigmoid,), nn.Hardsigmoid),
    ((F.hardtanh,), nn.Hardtanh),
    ((F.mish,), nn.Mish),
    ((F.logsigmoid,), nn.LogSigmoid),
    ((F.tanhshrink,), nn.Tanhshrink),
    ((F.softmax, torch.softmax, "softmax"), _called_softmax(nn.Softmax)),
    ((F.log_softmax, torch.log_softmax, "log_softmax"), _called_softmax(nn.LogSoftmax)),
]
_SPELLINGS += [
    ((getattr(torch, name), name), partial(_Alone, name))
    for name in ("sin", "cos", "exp", "sqrt", "abs", "neg", "square")
]
for _names, _module in _SPELLINGS:
    CALLED_MODULES.update(dict.fromkeys(_names, _module))
