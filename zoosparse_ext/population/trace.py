"""From an `nn.Module` to a :class:`Program`: torch.fx finds the operations, accepted here if they are a chain."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.fx
import torch.nn.functional as F
from torch import nn

from zoosparse_ext.population.likeness import own_behavior
from zoosparse_ext.population.program import (
    Activation,
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    MaxPool2d,
    Operation,
    Pair,
    Program,
)


class NotAChain(Exception):
    """The module computes something a program cannot express; the message says what."""


_ACTIVATION_MODULES: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.Tanh: "tanh",
    nn.Sigmoid: "sigmoid",
    nn.SiLU: "silu",
}


def _flatten(start_dim: int = 0, end_dim: int = -1) -> nn.Flatten:
    return nn.Flatten(start_dim, end_dim)


_CALLS: dict[Any, Callable[..., nn.Module]] = {  # each takes the arguments of the call, less the input
    **dict.fromkeys((torch.relu, F.relu, "relu"), nn.ReLU),
    **dict.fromkeys((torch.tanh, F.tanh, "tanh"), nn.Tanh),
    **dict.fromkeys((torch.sigmoid, F.sigmoid, "sigmoid"), nn.Sigmoid),
    F.silu: nn.SiLU,
    F.gelu: nn.GELU,
    F.leaky_relu: nn.LeakyReLU,
    F.max_pool2d: nn.MaxPool2d,
    F.avg_pool2d: nn.AvgPool2d,
    F.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
    **dict.fromkeys((torch.flatten, "flatten"), _flatten),
}


def trace(module: nn.Module) -> Program:
    """The program of a module.

    >>> trace(nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.Tanh())).operations[1]
    Linear(name='1', in_features=4, out_features=2, bias=True)

    Raises:
        NotAChain: the module branches, uses an operation that programs lack, has hooks or methods of its own, or
            computes something else while it is trained.
    """
    if behavior := own_behavior(module):
        raise NotAChain(behavior)
    programs = []
    for training in (False, True):
        with in_mode(module, training):
            programs.append(_trace(module))
    if programs[0] != programs[1]:
        raise NotAChain("the module computes something else while it is trained")
    return programs[0]


@contextlib.contextmanager
def in_mode(module: nn.Module, training: bool) -> Iterator[None]:
    """A module in training or evaluation mode, each layer back in its own afterwards."""
    modes = [(layer, layer.training) for layer in module.modules()]
    try:
        module.train(training)
        yield
    finally:
        for layer, mode in modes:
            layer.training = mode


def _trace(module: nn.Module) -> Program:
    try:
        graph = torch.fx.symbolic_trace(module).graph
    except Exception as error:  # torch.fx raises whatever the module's own code raises on a proxy
        raise NotAChain(f"torch.fx cannot trace {type(module).__name__}: {error}") from error
    operations: list[Operation] = []
    last: torch.fx.Node | None = None
    for node in graph.nodes:
        if node.op == "placeholder":
            if last is not None:
                raise NotAChain("the module takes more than one input")
        elif node.op == "output":
            if node.args[0] is not last:
                raise NotAChain("the module returns something else than the result of its last operation")
        elif node.all_input_nodes != [last]:
            raise NotAChain(f"{node.name} does not take the result of the operation before it alone")
        else:
            operations += _operation(module, node)
        last = node
    used = [op.name for op in operations if isinstance(op, Conv2d | Linear)]
    if len(set(used)) != len(used):
        raise NotAChain("a layer is used more than once")
    read = {f"{layer}.{tensor}" for layer in used for tensor in ("weight", "bias")}
    unused = [name for name, _ in module.named_parameters() if name not in read]
    if unused:
        raise NotAChain(f"parameter {unused[0]!r} belongs to no convolution or linear layer of the chain")
    if not used:
        raise NotAChain("the module has no layer with weights")
    return Program(tuple(operations))


def _operation(root: nn.Module, node: torch.fx.Node) -> list[Operation]:
    if node.op == "call_module":
        name = str(node.target)
        return _from_module(name, root.get_submodule(name))
    if node.op in ("call_function", "call_method"):
        return _from_call(node)
    raise NotAChain(f"{node.name} ({node.op}) is not supported")


def _pair(value: Any) -> Pair:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _from_conv(name: str, module: nn.Conv2d) -> list[Operation]:
    if module.groups != 1 or _pair(module.dilation) != (1, 1) or module.padding_mode != "zeros":
        raise NotAChain(f"convolution {name!r} has groups, dilation or a padding mode other than zeros")
    if isinstance(module.padding, str) and module.padding != "valid":
        raise NotAChain(f"convolution {name!r} has padding={module.padding!r}; write it as a number")
    padding = (0, 0) if isinstance(module.padding, str) else _pair(module.padding)
    kernel, stride = _pair(module.kernel_size), _pair(module.stride)
    bias = module.bias is not None
    return [Conv2d(name, module.in_channels, module.out_channels, kernel, stride, padding, bias)]


def _from_max_pool(name: str, module: nn.MaxPool2d) -> list[Operation]:
    if _pair(module.dilation) != (1, 1) or module.ceil_mode or module.return_indices:
        raise NotAChain(f"pooling {name!r} uses dilation, ceil_mode or return_indices")
    return [MaxPool2d(_pair(module.kernel_size), _pair(module.stride), _pair(module.padding))]


def _from_avg_pool(name: str, module: nn.AvgPool2d) -> list[Operation]:
    if _pair(module.padding) != (0, 0) or module.ceil_mode or module.divisor_override:
        raise NotAChain(f"pooling {name!r} uses padding, ceil_mode or divisor_override")
    return [AvgPool2d(_pair(module.kernel_size), _pair(module.stride))]


def _from_adaptive_pool(name: str, module: nn.AdaptiveAvgPool2d) -> list[Operation]:
    if module.output_size not in (1, (1, 1)):
        raise NotAChain(f"adaptive pooling {name!r} to {module.output_size}; only 1 is supported")
    return [GlobalAvgPool2d()]


def _from_flatten(name: str, module: nn.Flatten) -> list[Operation]:
    if (module.start_dim, module.end_dim) != (1, -1):
        raise NotAChain(f"flatten {name!r} keeps some axes or takes the first")
    return [Flatten()]


def _from_gelu(name: str, module: nn.GELU) -> list[Operation]:
    if module.approximate != "none":
        raise NotAChain(f"{name!r} is the tanh approximation of gelu; only the exact one is supported")
    return [Activation("gelu")]


_MODULES: dict[type[nn.Module], Callable[[str, Any], list[Operation]]] = {
    nn.Conv2d: _from_conv,
    nn.Linear: lambda name, m: [Linear(name, m.in_features, m.out_features, m.bias is not None)],
    nn.MaxPool2d: _from_max_pool,
    nn.AvgPool2d: _from_avg_pool,
    nn.AdaptiveAvgPool2d: _from_adaptive_pool,
    nn.Flatten: _from_flatten,
    nn.GELU: _from_gelu,
    nn.LeakyReLU: lambda _, m: [Activation("leaky_relu", m.negative_slope)],
    nn.Dropout: lambda _, m: [Dropout(m.p)],
    nn.Identity: lambda *_: [],
}


def _from_module(name: str, module: nn.Module) -> list[Operation]:
    if type(module) in _ACTIVATION_MODULES:
        return [Activation(_ACTIVATION_MODULES[type(module)])]
    if type(module) in _MODULES:
        return _MODULES[type(module)](name, module)
    raise NotAChain(f"{name!r} is a {type(module).__name__}, which programs lack")


def _from_call(node: torch.fx.Node) -> list[Operation]:
    if node.target not in _CALLS:
        raise NotAChain(f"the call of {node.target} is not supported; use the module of the same name")
    options = {name: value for name, value in node.kwargs.items() if name != "input"}
    return _from_module(node.name, _CALLS[node.target](*node.args[1:], **options))
