"""Networks written by hand: chains, blocks, transformers, functional style, weights used twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import Tensor, nn

from tests.population.kinds.kind import (
    CLASSES,
    FAST,
    REFUSED,
    RUNS,
    Kind,
    features,
    sequences,
    stirred,
    tokens,
)

Forward = Callable[[Any, Tensor], Any]


class Written(nn.Module):
    """A small network whose forward pass is given as a function of the module and its input."""

    def __init__(self, forward: Forward, **children: nn.Module) -> None:
        super().__init__()
        self.as_written = forward
        for name, child in children.items():
            self.add_module(name, child)

    def forward(self, x: Tensor) -> Any:
        return self.as_written(self, x)


class OwnChain(nn.Module):
    """What a tutorial teaches: layers in `__init__`, functions in `forward`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 3, 3)
        self.fc1, self.fc2 = nn.Linear(3, 7), nn.Linear(7, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(torch.tanh(self.conv2(x)), 2)
        return self.fc2(F.relu(self.fc1(torch.flatten(x, 1))))


class Viewed(OwnChain):
    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x.view(-1, x.shape[1] * x.shape[2] * x.shape[3])
        return F.log_softmax(self.fc2(F.dropout(F.relu(self.fc1(x)), training=self.training)), dim=1)


class Listed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Flatten(), nn.Linear(64, 5), nn.Tanh(), nn.Linear(5, CLASSES)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleDict(
            {"conv": nn.Conv2d(1, 2, 3), "act": nn.ReLU(), "out": nn.Linear(72, CLASSES)}
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks["out"](torch.flatten(self.blocks["act"](self.blocks["conv"](x)), 1))


class Keyword(nn.Module):
    """A layer whose name is a keyword of Python, which torch.fx cannot write down."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleDict({"in": nn.Conv2d(1, 2, 3), "lambda": nn.Linear(72, CLASSES)})

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks["lambda"](torch.flatten(self.blocks["in"](x), 1))


class NamedLikeOurs(nn.Module):
    """Children whose names the package itself may use."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.Conv2d(1, 2, 3)
        self.program = nn.Linear(72, 5)
        self.weights = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.weights(F.relu(self.program(torch.flatten(self.steps(x), 1))))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.conv = (
            nn.Conv2d(1, 3, 3, padding=1),
            nn.BatchNorm2d(3),
            nn.Conv2d(3, 3, 3, padding=1),
        )
        self.head = nn.Linear(3, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        return self.head((x + F.relu(self.conv(x))).mean((2, 3)))


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(width, 2, 3, padding=1) for width in (1, 3, 5)])
        self.head = nn.Linear(7 * 64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = torch.cat([x, F.relu(conv(x))], 1)
        return self.head(x.flatten(1))


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.squeeze, self.excite = nn.Conv2d(1, 4, 3), nn.Linear(4, 2), nn.Linear(2, 4)
        self.head = nn.Linear(4 * 36, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3))))))
        return self.head((x * gate[:, :, None, None]).flatten(1))


class InvertedBottleneck(nn.Sequential):
    """A block of MobileNet, as a sequence."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 4, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU6(),
            nn.Conv2d(4, 4, 3, 2, 1, groups=4, bias=False), nn.BatchNorm2d(4), nn.ReLU6(),
            nn.Conv2d(4, 2, 1), nn.Flatten(), nn.Linear(32, CLASSES),
        )  # fmt: skip


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.middle = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.up, self.out = nn.ConvTranspose2d(3, 3, 2, 2), nn.Conv2d(6, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        wide = F.relu(self.down(x))
        deep = self.up(F.relu(self.middle(F.max_pool2d(wide, 2))))
        return self.out(torch.cat([wide, deep], 1)).mean((2, 3))


class VisionTransformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 6, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 6))
        self.positions = nn.Parameter(torch.randn(1, 5, 6))
        self.block = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True, activation="gelu")
        self.norm, self.head = nn.LayerNorm(6), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        return self.head(self.norm(self.block(x))[:, 0])


class Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.tokens, self.channels = nn.LayerNorm(6), nn.Linear(5, 5), nn.Linear(6, 6)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x + F.gelu(self.tokens(self.norm(x).transpose(1, 2))).transpose(1, 2)
        return self.head((x + self.channels(self.norm(x))).mean(1))


class LanguageModel(nn.Module):
    """Embedding and output share one matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.gru = nn.Embedding(11, 6), nn.GRU(6, 6, batch_first=True)
        self.out = nn.Linear(6, 11, bias=False)
        self.out.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.gru(self.embedding(x))[0][:, -1])


class Causal(nn.Module):
    """A transformer with a table of positions as a buffer and a causal mask made in forward."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6)
        angle = torch.arange(5)[:, None] * torch.exp(-torch.arange(0, 6, 2) / 3)
        self.register_buffer("positions", torch.cat([angle.sin(), angle.cos()], 1))
        self.block = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.triu(torch.full((5, 5), -torch.inf), 1)
        return self.head(self.block(self.embedding(x) + self.positions, src_mask=mask)[:, -1])


class Mixture(nn.Module):
    """Each sample goes to one of two experts."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(6, 2)
        self.experts = nn.ModuleList([nn.Linear(6, CLASSES), nn.Linear(6, CLASSES)])

    def forward(self, x: Tensor) -> Tensor:
        chosen = self.gate(x).argmax(1)
        scores = x.new_zeros(len(x), CLASSES)
        for number, expert in enumerate(self.experts):
            rows = (chosen == number).nonzero()[:, 0]
            scores[rows] = expert(x[rows])
        return scores


class Hyper(nn.Module):
    """A network that makes the weights of another."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.maker = nn.Parameter(torch.randn(3)), nn.Linear(3, 6 * CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.maker(self.embedding).view(CLASSES, 6))


class Functional(nn.Module):
    """Parameters without layers."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix, self.bias = nn.Parameter(torch.randn(6, CLASSES)), nn.Parameter(torch.randn(CLASSES))
        self.temperature = nn.Parameter(torch.rand(()) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bi,ij->bj", x, self.matrix) / self.temperature + self.bias


class Collections(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factors = nn.ParameterList([nn.Parameter(torch.randn(6, 6)) for _ in range(2)])
        self.heads = nn.ParameterDict({"out": nn.Parameter(torch.randn(6, CLASSES))})

    def forward(self, x: Tensor) -> Tensor:
        for factor in self.factors:
            x = torch.tanh(x @ factor)
        return x @ self.heads["out"]


class Standardized(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, weight / weight.std((1, 2, 3), keepdim=True), self.bias)


def unused_layer(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    def built() -> nn.Module:
        module = build()
        module.add_module("spare", nn.Linear(3, 2))
        module.register_parameter("spare_weight", nn.Parameter(torch.randn(2)))
        return module

    return built


def empty_parameter() -> nn.Module:
    module = OwnChain()
    module.register_parameter("nothing", nn.Parameter(torch.empty(0, 3)))
    return module


def tied() -> nn.Module:
    module = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Linear(64, CLASSES)
    )
    module[3].weight = module[1].weight
    return module


def one_layer_under_two_names() -> nn.Module:
    layer = nn.Linear(6, 6)
    return nn.Sequential(layer, nn.Tanh(), layer, nn.Linear(6, CLASSES))


KINDS = [
    Kind("A chain with functions in forward", OwnChain, FAST),
    Kind(
        "A nested Sequential",
        lambda: nn.Sequential(
            nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()),
            nn.Sequential(
                nn.Flatten(), nn.Sequential(nn.Linear(72, 5), nn.Identity()), nn.Linear(5, CLASSES)
            ),
        ),
        FAST,
    ),
    Kind("A ModuleList called in a loop", Listed, FAST),
    Kind("A ModuleDict", Named, FAST),
    Kind("A layer named by a keyword of Python", Keyword, RUNS),
    Kind("Layers named steps, program and weights", NamedLikeOurs, FAST),
    Kind(
        "A chain that ends in a pool and no linear layer",
        lambda: nn.Sequential(nn.Conv2d(1, CLASSES, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        FAST,
    ),
    Kind("One activation used several times", lambda: _same_activation(), FAST),
    Kind("view() instead of flatten, and a log-softmax at the end", Viewed, RUNS),
    Kind("A residual network", lambda: stirred(Residual()), RUNS),
    Kind("A dense network", Dense, RUNS),
    Kind("Squeeze and excitation", SqueezeExcite, RUNS),
    Kind("An inverted bottleneck", lambda: stirred(InvertedBottleneck()), RUNS),
    Kind("A U-net with one score per class", UNet, RUNS),
    Kind("A vision transformer", VisionTransformer, RUNS),
    Kind("A mixer", Mixer, RUNS, sequences),
    Kind("A transformer with a table of positions and a causal mask", Causal, RUNS, tokens),
    Kind("A mixture of experts", Mixture, RUNS, features),
    Kind("A network that makes the weights of another", Hyper, RUNS, features),
    Kind("Parameters without layers", Functional, RUNS, features, chosen=("matrix",)),
    Kind("ParameterList and ParameterDict", Collections, RUNS, features, chosen=("factors.*", "heads.out")),
    Kind(
        "Weights standardized in forward",
        lambda: nn.Sequential(Standardized(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, CLASSES)),
        RUNS,
    ),
    Kind("Unused layers and parameters", unused_layer(OwnChain), RUNS),
    Kind("A parameter with no elements", empty_parameter, RUNS),
    Kind("Layers that share a weight", tied, REFUSED, names=("shares", "1.weight", "3.weight")),
    Kind(
        "A layer under two names",
        one_layer_under_two_names,
        REFUSED,
        features,
        names=("shares", "0.weight", "2.weight"),
    ),
    Kind(
        "An embedding tied to the output",
        LanguageModel,
        REFUSED,
        tokens,
        names=("shares", "embedding.weight", "out.weight"),
    ),
]


def _same_activation() -> nn.Module:
    activation = nn.GELU()
    return nn.Sequential(
        nn.Conv2d(1, 2, 3), activation, nn.Flatten(), nn.Linear(72, 5), activation, nn.Linear(5, CLASSES)
    )
