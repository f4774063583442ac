"""Counter-based random numbers: Philox4x32-10 in plain PyTorch.

Every random number of a training run is a function of ``(model seed, global seed, step, stream, sample, element)``
and of nothing else, so results do not depend on the number of threads, the chunk size, or the place of a model in its
zoo, and a resumed run continues with the same bits. The native engines produce the same streams.

Source: Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

DROPOUT = 1
VARIATIONAL_NOISE = 2
SAMPLE_ORDER = 3
AUGMENTATION = 4
RANDOM_PRUNING = 5
GATES = 6

_MASK32 = 0xFFFFFFFF
_MULTIPLIER_0, _MULTIPLIER_1 = 0xD2511F53, 0xCD9E8D57
_WEYL_0, _WEYL_1 = 0x9E3779B9, 0xBB67AE85
_ROUNDS = 10


def stream_id(purpose: int, layer: int = 0) -> int:
    """The stream number of a purpose (`DROPOUT`, …) and the index of an operation in its program."""
    return purpose << 16 | layer


def philox4x32(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]) -> list[Tensor]:
    """Four 32-bit words per counter, as int64 tensors in [0, 2³²); counters and keys broadcast.

    >>> zero = torch.zeros(1, dtype=torch.int64)
    >>> [hex(int(word)) for word in philox4x32((zero, zero, zero, zero), (zero, zero))]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        product_0 = c0 * _MULTIPLIER_0  # wraps in int64; the low 64 bits are what is needed
        product_1 = c2 * _MULTIPLIER_1
        c0, c1, c2, c3 = (
            (product_1 >> 32 & _MASK32) ^ c1 ^ k0,
            product_1 & _MASK32,
            (product_0 >> 32 & _MASK32) ^ c3 ^ k1,
            product_0 & _MASK32,
        )
        k0, k1 = (k0 + _WEYL_0) & _MASK32, (k1 + _WEYL_1) & _MASK32
    return [c0, c1, c2, c3]


def random_words(seeds: Tensor, seed: int, count: int, *, step: int, stream: int, samples: int = 1) -> Tensor:
    """32-bit words as int64 [N, samples, count] for model seeds [N].

    Element e of sample b is word ``e % 4`` of counter ``(e // 4, step, stream, b)`` under key
    ``(model seed, global seed)``; seeds count modulo 2³².
    """
    device = seeds.device
    blocks = torch.arange((count + 3) // 4, device=device).view(1, 1, -1)
    sample = torch.arange(samples, device=device).view(1, -1, 1)

    def constant(value: int) -> Tensor:
        return torch.tensor(value & _MASK32, device=device)

    key = ((seeds.to(torch.int64) & _MASK32).view(-1, 1, 1), constant(seed))
    words = philox4x32((blocks, constant(step), constant(stream), sample), key)
    full = torch.stack(torch.broadcast_tensors(*words), dim=-1)  # [N, samples, blocks, 4]
    return full.flatten(2)[..., :count]


def uniform(seeds: Tensor, seed: int, count: int, *, step: int, stream: int, samples: int = 1) -> Tensor:
    """float32 [N, samples, count] in (0, 1]: 24 random bits, centred; the topmost of them rounds to 1."""
    return _to_unit(random_words(seeds, seed, count, step=step, stream=stream, samples=samples))


def normal(seeds: Tensor, seed: int, count: int, *, step: int, stream: int, samples: int = 1) -> Tensor:
    """Standard normal float32 [N, samples, count] by Box and Muller on neighbouring pairs of words."""
    pairs = uniform(seeds, seed, (count + 1) // 2 * 2, step=step, stream=stream, samples=samples)
    pairs = pairs.unflatten(-1, (-1, 2))
    radius = (-2.0 * pairs[..., 0].log()).sqrt()
    angle = 2.0 * math.pi * pairs[..., 1]
    return torch.stack((radius * angle.cos(), radius * angle.sin()), dim=-1).flatten(-2)[..., :count]


def permutation(seeds: Tensor, seed: int, count: int, *, epoch: int) -> Tensor:
    """One random order of `count` samples per model seed: int32 [N, count].

    >>> order = permutation(torch.tensor([1, 2, 1]), seed=0, count=5, epoch=3)
    >>> bool((order[0] == order[2]).all()), order.sort(1).values[1].tolist()
    (True, [0, 1, 2, 3, 4])
    """
    keys = random_words(seeds, seed, count, step=epoch, stream=stream_id(SAMPLE_ORDER))[:, 0]
    return keys.argsort(dim=1, stable=True).to(torch.int32)


def _to_unit(words: Tensor) -> Tensor:
    return ((words >> 8).to(torch.float32) + 0.5) * 2.0**-24
