"""Ready architectures: the networks of the published zoos, and an MLP.

Layer names and indices are those of the published checkpoints (`module_list.{i}.weight`); with dropout the indices
move on, as they do there.

Source: Schürholt, Taskiran, Knyazev, Giró-i-Nieto, Borth, "Model Zoos: A Dataset of Diverse Populations of Neural
Network Models", NeurIPS 2022.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from zoosparse_ext.errors import InputError
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.program import Activation
from zoosparse_ext.population.residual import ResNet18


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
    size: int | tuple[int, int] = 28,
    widths: Sequence[int] = (64, 32),
) -> Chain:
    """A multi-layer perceptron on square images, or on images of `size` (height, width)."""
    modules: list[nn.Module] = [nn.Flatten()]
    height, width = _pair(size)
    before = channels * height * width
    for units in widths:
        modules += [nn.Linear(before, units), activation_module(activation), *_dropout(dropout)]
        before = units
    return Chain([*modules, nn.Linear(before, classes)])


def resnet18(
    channels: int = 3, activation: str = "relu", dropout: float | None = None, classes: int = 10
) -> ResNet18:
    """ResNet-18 with the stem for CIFAR, 11.2 million parameters; images of any size, 32×32 in the published zoos."""
    if dropout is not None:
        raise InputError("resnet18 has no dropout layers; leave the dropout rate at 0")
    return ResNet18(channels, classes, lambda: activation_module(activation))


def _dropout(rate: float | None) -> list[nn.Module]:
    """A fresh dropout module, or none at all when the architecture is built without."""
    if rate is None:
        return []
    if not 0.0 <= rate < 1.0:
        raise InputError(f"dropout rate must lie in [0, 1), got {rate}: a rate of 1 drops everything")
    return [nn.Dropout(rate)]


NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "cnn-s": cnn_s,
    "cnn-m": cnn_m,
    "cnn-l": cnn_l,
    "resnet18": resnet18,
    "mlp": mlp,
}
_SIZES = {"cnn-s": 28, "cnn-m": 28, "cnn-l": 32, "resnet18": 32, "mlp": 28}
_ANY_SIZE = ("resnet18", "mlp")


def architecture(
    name: str,
    channels: int | None = None,
    activation: str | None = None,
    dropout: float | None = None,
    classes: int = 10,
    size: int | tuple[int, int] | None = None,
) -> Architecture:
    """A ready architecture by name: `cnn-s`, `cnn-m`, `cnn-l`, `resnet18` or `mlp`.

    `size` is the side of the images of the last two, or height and width; default: 32 and 28.

    >>> architecture("cnn-s").n_parameters, architecture("cnn-m").n_parameters, architecture("cnn-l").n_parameters
    (2464, 3047, 10853)
    >>> architecture("mlp", size=(1, 30), classes=3)  # rows of 30 features, as images [M, 1, 1, 30]
    Architecture('mlp-relu', P = 4163, images 1×1×30)

    `resnet18` is no chain, so it runs on the reference executor; its columns are 11,173,962 parameters and the 9,600
    running statistics of its batch norms.

    Raises:
        InputError: an unknown name or activation; a dropout rate outside [0, 1), or of `resnet18`.
    """
    if name not in NETWORKS:
        raise InputError(f"unknown architecture {name!r}; known: {', '.join(NETWORKS)}")
    defaults = {key: value.default for key, value in inspect.signature(NETWORKS[name]).parameters.items()}
    options: dict[str, Any] = {
        "channels": channels or defaults["channels"],
        "activation": activation or defaults["activation"],
        "dropout": dropout,
        "classes": classes,
    }
    side = size if size is not None and name in _ANY_SIZE else _SIZES[name]
    if name == "mlp":
        options["size"] = side
    network = Architecture.from_module(NETWORKS[name](**options))
    suffix = "" if dropout is None else "-dropout"
    return replace(
        network,
        name=f"{name}-{options['activation']}{suffix}",
        input_shape=(options["channels"], *_pair(side)),
        network={"name": name, **options} if network.why_not_chain else None,
    )


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width."""
    return (size, size) if isinstance(size, int) else size


def network_module(network: Mapping[str, Any]) -> nn.Module:
    """The module of a ready architecture that is no chain, from the arguments that its zoo keeps.

    >>> type(network_module({"name": "resnet18", "channels": 1, "classes": 5})).__name__
    'ResNet18'
    """
    options = dict(network)
    return NETWORKS[options.pop("name")](**options)
