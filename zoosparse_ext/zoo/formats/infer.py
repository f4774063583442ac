"""The architecture of a state dict, from the names and shapes of its tensors.

What `params.json` says about channels, classes and biases is not to be believed; the tensors are. What tensors cannot
tell (activation, dropout rate) comes from the hyperparameters.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from zoosparse_ext.errors import InputError
from zoosparse_ext.population.architecture import Architecture, Segment
from zoosparse_ext.population.networks import architecture as named_architecture
from zoosparse_ext.population.program import (
    ACTIVATIONS,
    Activation,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    Operation,
    Program,
    Shape,
)

Shapes = tuple[tuple[str, tuple[int, ...]], ...]
ALIASES = {  # of activations
    "leakyrelu": "leaky_relu",
    "leaky-relu": "leaky_relu",
    "swish": "silu",
    "none": "identity",
    "linear": "identity",
}
_CONVOLUTIONAL = ("cnn-s", "cnn-m", "cnn-l")


class Layer(NamedTuple):
    """A weight and perhaps a bias, `<prefix><number>.weight`."""

    prefix: str
    number: int
    weight: tuple[int, ...]
    bias: bool


@lru_cache(maxsize=256)
def infer(shapes: Shapes, activation: str | None, dropout: float | None = None) -> Architecture:
    """The architecture whose parameters have these names and shapes.

    Known are the convolutional networks of the published zoos, with any number of input channels and classes, in the
    numbering with and without dropout layers, and chains of linear layers whose numbering leaves room for activations.

    >>> shapes = (("0.weight", (5, 4)), ("0.bias", (5,)), ("2.weight", (3, 5)), ("2.bias", (3,)))
    >>> [type(op).__name__ for op in infer(shapes, "relu").program.operations]
    ['Flatten', 'Linear', 'Activation', 'Linear']

    Args:
        shapes: names and shapes of the parameters in the order of the state dict.
        activation: as `params.json` names it.
        dropout: rate for layouts that have dropout layers; default 0.

    Raises:
        InputError: the tensors fit no known network, or the activation is missing or unknown.
    """
    layers = _layers(shapes)
    function = activation_name(activation)
    rate = 0.0 if dropout is None or math.isnan(dropout) else dropout
    found = _convolutional(layers, function, rate) or _linear(layers, function, rate)
    if found is None:
        raise InputError(
            f"tensors {_describe(shapes)} fit none of cnn-s, cnn-m, cnn-l and no chain of linear layers; where "
            "pooling and activations are cannot be told from weights. In Python, "
            "pass architecture=Architecture.from_module(module)"
        )
    return found


def activation_name(activation: str | None) -> str:
    """Our name of an activation.

    >>> activation_name("leakyrelu")
    'leaky_relu'

    Raises:
        InputError: none was given, or it is unknown.
    """
    if not isinstance(activation, str):
        raise InputError(
            "the activation cannot be told from weights, and nothing beside them says it (model::nlin in params.json, "
            "activation in a table or config.json); pass activation=… (--activation)"
        )
    name = ALIASES.get(activation.lower(), activation.lower())
    if name not in ACTIVATIONS:
        raise InputError(f"unknown activation {activation!r}; known: {', '.join(ACTIVATIONS)}")
    return name


def network_name(architecture: Architecture) -> str | None:
    """`cnn-s`, `cnn-m` or `cnn-l` if the columns are those of a published network, else None."""
    try:
        layers = _layers(tuple((s.name, s.shape) for s in architecture.segments))
    except InputError:
        return None
    return next((name for name in _CONVOLUTIONAL if _template(name, layers, "relu", 0.0) is not None), None)


def _layers(shapes: Shapes) -> list[Layer]:
    layers: list[Layer] = []
    for name, shape in sorted(shapes, key=lambda item: _place(item[0])):
        module, _, kind = name.rpartition(".")
        prefix, dot, number = module.rpartition(".")
        if kind == "weight" and _is_number(number) and len(shape) in (2, 4):
            layers.append(Layer(prefix + dot, int(number), shape, False))
        elif (
            kind == "bias"
            and layers
            and (prefix + dot, number) == (layers[-1].prefix, str(layers[-1].number))
        ):
            if shape != layers[-1].weight[:1]:
                raise InputError(
                    f"{name!r} has shape {list(shape)}, its layer has {layers[-1].weight[0]} outputs"
                )
            layers[-1] = layers[-1]._replace(bias=True)
        else:
            raise InputError(
                f"{name!r} {list(shape)} is no weight or bias of a numbered convolution or linear layer; "
                "in Python, pass architecture=Architecture.from_module(module)"
            )
    if not layers or any(min(layer.weight) < 1 for layer in layers):
        raise InputError("the state dict holds no weights of convolution or linear layers")
    return layers


def _place(name: str) -> tuple[int, bool]:
    """Layers by their numbers, weight before bias: files of safetensors and pruned modules have another order."""
    module, _, kind = name.rpartition(".")
    number = module.rpartition(".")[2]
    return (int(number) if _is_number(number) else -1, kind != "weight")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 6


def _convolutional(layers: list[Layer], function: str, rate: float) -> Architecture | None:
    for name in _CONVOLUTIONAL:
        found = _template(name, layers, function, rate)
        if found is not None:
            return found
    return None


def _template(name: str, layers: list[Layer], function: str, rate: float) -> Architecture | None:
    """A published network, if its layers have these numbers and shapes; renamed to the prefix of the state dict."""
    if len(layers) != 5 or len(layers[0].weight) != 4 or len({layer.prefix for layer in layers}) != 1:
        return None
    channels, classes = layers[0].weight[1], layers[-1].weight[0]
    for dropout in (rate, None) if rate else (None, 0.0):  # CNN-l has one layout for both
        candidate = named_architecture(name, channels, function, dropout, classes)
        assert candidate.program is not None
        expected = [(int(op.name.rpartition(".")[2]), op.weight_shape) for op in candidate.program.layers]
        if expected == [(layer.number, layer.weight) for layer in layers] and all(
            layer.bias for layer in layers
        ):
            return _renamed(candidate, layers[0].prefix)
    return None


def _renamed(architecture: Architecture, prefix: str) -> Architecture:
    assert architecture.program is not None
    if prefix == "module_list.":
        return architecture

    def rename(name: str) -> str:
        return prefix + name.removeprefix("module_list.")

    operations = [
        replace(op, name=rename(op.name)) if isinstance(op, Conv2d | Linear) else op
        for op in architecture.program.operations
    ]
    segments = tuple(replace(segment, name=rename(segment.name)) for segment in architecture.segments)
    return Architecture(architecture.name, segments, Program(tuple(operations)), architecture.input_shape)


def _linear(layers: list[Layer], function: str, rate: float) -> Architecture | None:
    """A chain of linear layers: a step of two numbers leaves room for an activation, one of three also for dropout."""
    if any(len(layer.weight) != 2 for layer in layers) or len({layer.prefix for layer in layers}) != 1:
        return None
    operations: list[Operation] = [Flatten()]
    segments: list[Segment] = []
    offset = 0
    for index, layer in enumerate(layers):
        if index:
            before = layers[index - 1]
            gap = layer.number - before.number
            if gap not in (2, 3) or layer.weight[1] != before.weight[0]:
                return None
            operations.append(Activation(function))
            if gap == 3:
                operations.append(Dropout(rate))
        name = f"{layer.prefix}{layer.number}"
        operations.append(Linear(name, layer.weight[1], layer.weight[0], layer.bias))
        tensors = [("weight", layer.weight)] + ([("bias", layer.weight[:1])] if layer.bias else [])
        for kind, shape in tensors:
            segments.append(Segment(f"{name}.{kind}", offset, shape, prunable=kind == "weight"))
            offset += segments[-1].size
    suffix = "-dropout" if any(isinstance(op, Dropout) for op in operations) else ""
    features = layers[0].weight[1]
    return Architecture(
        f"mlp-{function}{suffix}", tuple(segments), Program(tuple(operations)), _image(features)
    )


def _image(features: int) -> Shape | None:
    """The square image, grey or in colour, of so many pixels."""
    for channels in (1, 3):
        side = math.isqrt(features // channels)
        if channels * side * side == features:
            return (channels, side, side)
    return None


def _describe(shapes: Shapes) -> str:
    shown = ", ".join(f"{name} {list(shape)}" for name, shape in shapes[:4])
    return shown + (f", … ({len(shapes)} in all)" if len(shapes) > 4 else "")
