"""Transforms of `torch.func` over populations: the scores of a loop, or an error that names the network."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import grad, hessian, jacrev, vmap

import zoosparse_ext as zs
from zoosparse_ext.errors import InputError

BATCH = torch.randn(3, 2, 1, 2, 2, generator=torch.Generator().manual_seed(0))  # [batch, B, C, H, W]


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images.flatten(1))


class Normed(Linear):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(super().forward(images))


class Branching(Linear):
    """Cannot run under vmap where images differ."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(2 * images if images.sum() > 0 else images)


class Scaled(Linear):
    """Cannot run under vmap where weights differ."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) * self.layer.weight.sum().item()


class Noisy(Linear):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + torch.randn(3)


class OtherUnderVmap(Linear):
    """Computes something else where vmap runs it, and raises nothing."""

    def forward(self, images: Tensor) -> Tensor:
        scores = super().forward(images)
        return scores + float(torch._C._functorch.maybe_get_level(self.layer.weight) > 0)


def population(kind: type[nn.Module]) -> zs.Population:
    return zs.Population.from_modules([kind() for _ in range(2)], example=BATCH[0])


def gradient(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return grad(lambda images: function(images).square().sum())


@pytest.mark.parametrize("kind", [Linear, Normed, Scaled])
def test_vmap_over_images(kind: type[nn.Module]) -> None:
    ours = population(kind)
    expected = torch.stack([ours(images) for images in BATCH])
    torch.testing.assert_close(vmap(ours)(BATCH), expected)
    expected = torch.stack([gradient(ours)(images) for images in BATCH])
    torch.testing.assert_close(vmap(gradient(ours))(BATCH), expected)
    over_vmap = grad(lambda batch: vmap(ours)(batch).square().sum())
    torch.testing.assert_close(over_vmap(BATCH), expected)


@pytest.mark.parametrize("kind", [Linear, Normed, Branching])
def test_vmap_over_weights(kind: type[nn.Module]) -> None:
    ours = population(kind)
    several = torch.stack([ours.weights, 2 * ours.weights])
    expected = torch.stack([ours.scores(weights, BATCH[0]) for weights in several])
    torch.testing.assert_close(vmap(lambda weights: ours.scores(weights, BATCH[0]))(several), expected)


@pytest.mark.parametrize("kind", [Branching, OtherUnderVmap])
def test_transforms_of_one_batch_run_model_by_model(kind: type[nn.Module]) -> None:
    ours = population(kind)
    (images,) = BATCH[:1]
    torch.testing.assert_close(jacrev(ours)(images), torch.autograd.functional.jacobian(ours, images))
    second = hessian(lambda images: ours(images).square().sum())(images)
    expected = torch.autograd.functional.hessian(lambda images: ours(images).square().sum(), images)
    torch.testing.assert_close(second, expected)


CALLS: dict[str, Callable[[zs.Population], object]] = {
    "images": lambda ours: vmap(ours)(BATCH),
    "gradients": lambda ours: vmap(gradient(ours))(BATCH),
    "a gradient over vmap": lambda ours: grad(lambda batch: vmap(ours)(batch).sum())(BATCH),
    "in chunks": lambda ours: vmap(ours, chunk_size=1)(BATCH),
    "images of several levels": lambda ours: vmap(vmap(ours))(BATCH[None]),
    "weights": lambda ours: vmap(lambda row: ours.scores(row[None], BATCH[0]))(ours.weights),
    "second derivatives": lambda ours: hessian(lambda images: ours(images).sum())(BATCH[0]),
}


@pytest.mark.parametrize(
    ("kind", "calls", "reason"),
    [
        (Branching, ["images", "gradients", "a gradient over vmap", "in chunks"], "vmap: It looks like"),
        (Branching, ["images of several levels"], "vmap: It looks like"),
        (Scaled, ["weights"], "vmap: It looks like you're calling .item"),
        (Noisy, ["images", "weights", "second derivatives"], "vmap: called random operation"),
        (OtherUnderVmap, list(CALLS)[:-1], "under vmap it computes something else"),
    ],
)
def test_vmap_over_what_runs_model_by_model(kind: type[nn.Module], calls: list[str], reason: str) -> None:
    ours = population(kind)
    assert ours.architecture.one_by_one == (kind is OtherUnderVmap)
    for call in calls:
        with pytest.raises(InputError) as caught:
            CALLS[call](ours)
        assert f"torch.vmap cannot go over {kind.__name__!r}, which runs model by model ({reason}" in str(
            caught.value
        )
        assert "call it in a loop, torch.stack([population(images) for images in batch])" in str(caught.value)
    assert ours(BATCH[0]).shape == (2, 2, 3)
