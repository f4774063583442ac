"""Exact selection by magnitude against everything a user would reach for.

The job: of each of 2,000 models (10,000 on a GPU) of 2,464 parameters (CNN-s), find the 80 % smallest weights, zero
them in place and return the mask. Copying the matrix is the roof: selection has to read and write as much.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from conftest import Contender
from torch import Tensor
from torch.nn.utils import prune

from zoosparse_ext import ops

# CNN-s: (parameters, typical scale after training) of each layer, weights and bias apart
LAYERS = [
    (200, 0.25), (8, 0.1), (1200, 0.09), (6, 0.08), (96, 0.2), (4, 0.1), (720, 0.16), (20, 0.1), (200, 0.35), (10, 0.1),
]  # fmt: skip
P = sum(count for count, _ in LAYERS)
MODELS = {"cpu": 2000, "cuda": 10000}
K = round(0.8 * P)
NINE = [round(tenth * P / 10) for tenth in range(1, 10)]  # of a study


def random_rows(n: int) -> Tensor:
    """Standard normal, float32 [n, P]."""
    return torch.randn(n, P, generator=torch.Generator().manual_seed(0))


def trained_rows(n: int) -> Tensor:
    """Like trained models, float32 [n, P]: a scale a layer and model, heavy tails, so few exponents hold most keys."""
    generator = torch.Generator().manual_seed(0)
    layers = []
    for count, scale in LAYERS:
        per_model = scale * torch.randn(n, 1, generator=generator).mul(0.3).exp()
        tails = torch.randn(n, count, generator=generator).mul(0.4).exp()
        layers.append(torch.randn(n, count, generator=generator) * tails * per_model)
    return torch.cat(layers, dim=1)


ROWS = {"random": random_rows, "trained": trained_rows}


def by_topk(weights: Tensor) -> Tensor:
    kept = weights.abs().topk(P - K, dim=1, sorted=False).indices
    mask = torch.zeros_like(weights, dtype=torch.bool).scatter_(1, kept, True)
    weights.mul_(mask)
    return mask


def by_kthvalue(weights: Tensor) -> Tensor:
    magnitude = weights.abs()
    mask = magnitude > magnitude.kthvalue(K, dim=1, keepdim=True).values
    weights.mul_(mask)
    return mask


def by_sort(weights: Tensor) -> Tensor:
    magnitude = weights.abs()
    mask = magnitude > magnitude.sort(dim=1).values[:, K - 1 : K]
    weights.mul_(mask)
    return mask


def by_partition(weights: Tensor) -> Tensor:
    array = weights.numpy()
    magnitude = np.abs(array)
    mask = magnitude > np.partition(magnitude, K - 1, axis=1)[:, K - 1 : K]
    array *= mask
    return torch.from_numpy(mask)


def by_prune_loop(weights: Tensor) -> Tensor:
    masks = []
    for row in weights:
        module = torch.nn.Module()
        module.weight = torch.nn.Parameter(row)
        prune.l1_unstructured(module, "weight", amount=K)
        masks.append(module.weight_mask.bool())
        prune.remove(module, "weight")
    return torch.stack(masks)


def rivals_on(device: str) -> dict[str, Callable[[Tensor], Tensor]]:
    """What a user could write; NumPy and PyTorch's own pruning, a model at a time, are for the CPU."""
    everywhere = {"torch.topk": by_topk, "torch.kthvalue": by_kthvalue, "torch.sort": by_sort}
    if device == "cuda":
        return everywhere
    return {"np.partition": by_partition, **everywhere, "torch.nn.utils.prune, a loop": by_prune_loop}


@pytest.mark.parametrize("kind", ROWS)
def test_prune(race: Callable[..., None], device: str, kind: str) -> None:
    weights = ROWS[kind](MODELS[device]).to(device)
    buffer = torch.empty_like(weights)

    ties = weights.abs() == ops.magnitude_threshold(weights, K)[:, None]

    def fresh() -> tuple[Tensor]:
        return (buffer.copy_(weights),)

    race(
        {
            "magnitude_prune_": Contender(lambda w: ops.magnitude_prune_(w, K), fresh),
            "copy of the matrix": Contender(lambda: buffer.copy_(weights), validate=False),
            **{name: Contender(rival, fresh) for name, rival in rivals_on(device).items()},
        },
        bytes_moved=2 * weights.nbytes,
        roof="copy of the matrix",
        same=lambda mask, ours: not ((mask != ours) & ~ties).any(),  # the rivals prune any of equals
    )


def test_nine_ratios(race: Callable[..., None], device: str) -> None:
    """The masks of a study's nine sparsities as bits, [9, N, P / 8]."""
    weights = trained_rows(MODELS[device]).to(device)

    def from_one_sort() -> Tensor:
        ranks = weights.abs().argsort(dim=1).argsort(dim=1)
        return torch.stack([ops.pack_mask(ranks >= k) for k in NINE])

    race(
        {
            "magnitude_masks, nine": Contender(lambda: ops.magnitude_masks(weights, NINE)),
            "magnitude_masks, one": Contender(
                lambda: ops.magnitude_masks(weights, NINE[-2:-1]), validate=False
            ),
            "magnitude_mask, nine calls": Contender(
                lambda: torch.stack([ops.pack_mask(ops.magnitude_mask(weights, k)) for k in NINE])
            ),
            "torch.sort, once": Contender(from_one_sort),
        },
        bytes_moved=weights.nbytes,
    )


def test_threshold(race: Callable[..., None], device: str) -> None:
    """Selection alone, without mask or zeros."""
    weights = trained_rows(MODELS[device]).to(device)
    contenders = {
        "magnitude_threshold": Contender(lambda: ops.magnitude_threshold(weights, K)),
        "torch.topk": Contender(lambda: weights.abs().topk(P - K + 1, dim=1).values[:, -1]),
        "torch.kthvalue": Contender(lambda: weights.abs().kthvalue(K, dim=1).values),
    }
    if device == "cpu":
        array = weights.numpy()
        contenders["np.partition"] = Contender(
            lambda: torch.from_numpy(np.partition(np.abs(array), K - 1, axis=1)[:, K - 1])
        )
    race(contenders, bytes_moved=weights.nbytes)


def test_layers(race: Callable[..., None], device: str) -> None:
    """The same share of every layer: a selection per row and segment."""
    weights = trained_rows(MODELS[device]).to(device)
    segments = [0]
    for count, _ in LAYERS:
        segments.append(segments[-1] + count)
    k = torch.tensor([round(0.8 * count) for count, _ in LAYERS], device=device)
    kept = [count - round(0.8 * count) for count, _ in LAYERS]

    def layer_by_layer() -> Tensor:
        masks = []
        for layer, count in zip(weights.split([count for count, _ in LAYERS], dim=1), kept, strict=True):
            largest = layer.abs().topk(count, dim=1, sorted=False).indices
            masks.append(torch.zeros_like(layer, dtype=torch.bool).scatter_(1, largest, True))
        return torch.cat(masks, dim=1)

    race(
        {
            "magnitude_mask, segments": Contender(lambda: ops.magnitude_mask(weights, k, segments)),
            "torch.topk, layer by layer": Contender(layer_by_layer),
        },
        bytes_moved=weights.nbytes,
    )


def test_masks(race: Callable[..., None], device: str) -> None:
    """Holding a mask after an optimizer's step: bits against a multiplication."""
    weights = trained_rows(MODELS[device]).to(device)
    mask = ops.magnitude_mask(weights, K)
    packed = ops.pack_mask(mask)
    race(
        {
            "apply_mask_, bits": Contender(lambda: ops.apply_mask_(weights, packed)),
            "apply_mask_, bools": Contender(lambda: ops.apply_mask_(weights, mask)),
            "torch.mul_": Contender(lambda: weights.mul_(mask)),
        },
        bytes_moved=2 * weights.nbytes,
    )


@pytest.mark.parametrize(
    "select",
    [partial(ops.magnitude_mask, k=K), partial(ops.magnitude_masks, k=NINE)],
    ids=["one mask", "nine masks"],
)
def test_rows_to_fear(race: Callable[..., None], device: str, select: Callable[[Tensor], Tensor]) -> None:
    """Ours on rows that trouble selection algorithms: no kind may be much slower than random rows."""
    n = MODELS[device]
    normal = random_rows(n)
    uniform = torch.rand(n, P, generator=torch.Generator().manual_seed(1))
    one_differs = torch.full((n, P), 0.3)
    one_differs[:, P // 2] = 0.7
    kinds = {
        "random": normal,
        "trained": trained_rows(n),
        "pruned before (80 % zeros)": normal * (uniform > 0.8),
        "quantised to 4 bits": (normal * 2).round().clamp(-8, 7),
        "crowded in one exponent": 0.25 + 1e-6 * normal,
        "all equal": torch.full((n, P), 0.3),
        "one value differs": one_differs,
        "denormals": normal * 1e-40,
        "half infinite, some NaN": torch.where(
            uniform < 0.5, float("inf"), torch.where(uniform > 0.9, float("nan"), normal)
        ),
    }
    there = {name: weights.to(device) for name, weights in kinds.items()}
    race(
        {name: Contender(partial(select, weights), validate=False) for name, weights in there.items()},
        bytes_moved=normal.nbytes,
    )
