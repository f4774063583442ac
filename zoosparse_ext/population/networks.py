"""Ready architectures: the small networks of the published zoos, and an MLP.

Layer names and indices are those of the published checkpoints (`module_list.{i}.weight`); with dropout the indices
move on, as they do there.

Source: Schürholt, Taskiran, Knyazev, Giró-i-Nieto, Borth, "Model Zoos: A Dataset of Diverse Populations of Neural
Network Models", NeurIPS 2022.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from zoosparse_ext.errors import InputError
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.program import Activation, Conv2d


class Chain(nn.Module):
    """Modules called one after the other, named `module_list.{i}`."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self.module_list = nn.ModuleList(modules)

    def forward(self, images: Tensor) -> Tensor:
        for module in self.module_list:
            images = module(images)
        return images


def activation_module(name: str) -> nn.Module:
    """A fresh activation by its name (`relu`, `leaky_relu`, `tanh`, `sigmoid`, `silu`, `gelu`, `identity`)."""
    return Activation(name).module()


def cnn_s(
    channels: int = 1, activation: str = "tanh", dropout: float | None = None, classes: int = 10
) -> Chain:
    """CNN-s, 2,464 parameters on one channel; images 28×28."""
    return _small(channels, (8, 6, 4), 36, activation, dropout, classes)


def cnn_m(
    channels: int = 1, activation: str = "tanh", dropout: float | None = None, classes: int = 10
) -> Chain:
    """CNN-m, 3,047 parameters on one channel; images 28×28."""
    return _small(channels, (6, 9, 6), 54, activation, dropout, classes)


def _small(
    channels: int,
    widths: tuple[int, int, int],
    features: int,
    activation: str,
    dropout: float | None,
    classes: int,
) -> Chain:
    first, second, third = widths
    return Chain(
        [
            *(
                nn.Conv2d(channels, first, 5),
                nn.MaxPool2d(2),
                activation_module(activation),
                *_dropout(dropout),
            ),
            *(
                nn.Conv2d(first, second, 5),
                nn.MaxPool2d(2),
                activation_module(activation),
                *_dropout(dropout),
            ),
            *(nn.Conv2d(second, third, 2), activation_module(activation), nn.Flatten()),
            *(nn.Linear(features, 20), activation_module(activation), *_dropout(dropout)),
            nn.Linear(20, classes),
        ]
    )


def cnn_l(
    channels: int = 3, activation: str = "gelu", dropout: float | None = 0.0, classes: int = 10
) -> Chain:
    """CNN-l, 10,853 parameters on three channels; images 32×32. The published layout always has dropout layers."""
    rate = 0.0 if dropout is None else dropout
    modules: list[nn.Module] = []
    for before, after in ((channels, 16), (16, 32), (32, 15)):
        modules += [
            nn.Conv2d(before, after, 3),
            nn.MaxPool2d(2),
            activation_module(activation),
            *_dropout(rate),
        ]
    modules += [
        nn.Flatten(),
        nn.Linear(60, 20),
        activation_module(activation),
        *_dropout(rate),
        nn.Linear(20, classes),
    ]
    return Chain(modules)


def mlp(
    channels: int = 1,
    activation: str = "relu",
    dropout: float | None = None,
    classes: int = 10,
    size: int = 28,
    widths: Sequence[int] = (64, 32),
) -> Chain:
    """A multi-layer perceptron on images of `size`×`size`."""
    modules: list[nn.Module] = [nn.Flatten()]
    before = channels * size * size
    for width in widths:
        modules += [nn.Linear(before, width), activation_module(activation), *_dropout(dropout)]
        before = width
    return Chain([*modules, nn.Linear(before, classes)])


def _dropout(rate: float | None) -> list[nn.Module]:
    """A fresh dropout module, or none at all when the architecture is built without."""
    if rate is None:
        return []
    if not 0.0 <= rate < 1.0:
        raise InputError(f"dropout rate must lie in [0, 1), got {rate}: a rate of 1 drops everything")
    return [nn.Dropout(rate)]


NETWORKS: dict[str, Callable[..., Chain]] = {"cnn-s": cnn_s, "cnn-m": cnn_m, "cnn-l": cnn_l, "mlp": mlp}
_SIZES = {"cnn-s": 28, "cnn-m": 28, "cnn-l": 32}


def architecture(
    name: str,
    channels: int | None = None,
    activation: str | None = None,
    dropout: float | None = None,
    classes: int = 10,
    size: int = 28,
) -> Architecture:
    """A ready architecture by name: `cnn-s`, `cnn-m`, `cnn-l` or `mlp`; `size` counts for the MLP only.

    >>> architecture("cnn-s").n_parameters, architecture("cnn-m").n_parameters, architecture("cnn-l").n_parameters
    (2464, 3047, 10853)

    Raises:
        InputError: an unknown name or activation; a dropout rate outside [0, 1).
    """
    if name not in NETWORKS:
        raise InputError(f"unknown architecture {name!r}; known: {', '.join(NETWORKS)}")
    options: dict[str, Any] = {"classes": classes, "dropout": dropout}
    if channels is not None:
        options["channels"] = channels
    if activation is not None:
        options["activation"] = activation
    if name == "mlp":
        options["size"] = size
    network = Architecture.from_module(NETWORKS[name](**options))
    assert network.program is not None
    functions = (op.function for op in network.program.operations if isinstance(op, Activation))
    first = network.program.layers[0]
    side = _SIZES.get(name, size)
    depth = first.in_channels if isinstance(first, Conv2d) else channels or 1
    suffix = "" if dropout is None else "-dropout"
    full_name = f"{name}-{next(functions, 'identity')}{suffix}"
    return replace(network, name=full_name, input_shape=(depth, side, side))
