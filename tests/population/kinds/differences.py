"""One model of four that is not like the others, with the same parameters."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from tests.population.kinds.kind import CLASSES, REFUSED, Kind, features, stirred
from tests.population.kinds.nets import OwnChain, Written


def chain_with(act: nn.Module) -> nn.Module:
    return Written(
        lambda m, x: m.head(m.act(m.first(x))), first=nn.Linear(6, 5), act=act, head=nn.Linear(5, CLASSES)
    )


def normed(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: stirred(
        Written(
            lambda m, x: m.head(m.norm(m.first(x))),
            first=nn.Linear(6, 6),
            norm=make(),
            head=nn.Linear(6, CLASSES),
        )
    )


def one(name: str, value: object, layer: str = "") -> Callable[[list[nn.Module]], None]:
    """The third model of four has another value of an attribute."""
    return lambda models: setattr(models[2].get_submodule(layer), name, value)


def with_own_class(models: list[nn.Module]) -> None:
    class Negative(OwnChain):
        def forward(self, x: Tensor) -> Tensor:
            return -super().forward(x)

    models[3].__class__ = Negative


def _heads(models: list[nn.Module]) -> None:
    attention = models[2].self_attn
    attention.num_heads, attention.head_dim = 3, 2


KINDS = [
    Kind(
        "One model of another slope",
        lambda: chain_with(nn.LeakyReLU(0.1)),
        REFUSED,
        features,
        names=("model 2", "negative_slope"),
        alter=one("negative_slope", 0.3, "act"),
    ),
    Kind(
        "One model of another stride",
        lambda: nn.Sequential(
            nn.Conv2d(1, 2, 3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, CLASSES)
        ),
        REFUSED,
        names=("model 2", "stride"),
        alter=one("stride", (1, 1), "0"),
    ),
    Kind(
        "One model with another number of heads",
        lambda: nn.TransformerEncoderLayer(6, 2, 8),
        REFUSED,
        features,
        names=("model 2", "num_heads"),
        alter=lambda models: _heads(models),
    ),
    Kind(
        "One model with another number of groups",
        normed(lambda: nn.GroupNorm(2, 6)),
        REFUSED,
        features,
        names=("model 2", "norm", "num_groups"),
        alter=one("num_groups", 3, "norm"),
    ),
    Kind(
        "One model with another epsilon",
        normed(lambda: nn.BatchNorm1d(6)),
        REFUSED,
        features,
        names=("model 2", "norm", "eps"),
        alter=one("eps", 0.5, "norm"),
    ),
    Kind("One model of another class", OwnChain, REFUSED, names=("model 3",), alter=with_own_class),
    Kind(
        "One model with a frozen layer",
        OwnChain,
        REFUSED,
        names=("model 2", "conv1.weight"),
        alter=lambda models: [p.requires_grad_(False) for p in models[2].conv1.parameters()] and None,
    ),
]
