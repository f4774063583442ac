"""Whether two splits share images, beyond the few that happen to be equal."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from zoosparse_ext.data import Split

_TOLERATED = 0.01  # of the smaller split: published data sets repeat some images
_ROWS = 4096  # hashed at a time, a few MB


def shared_images(split: Split, evaluated: Split) -> int:
    """How many images of `evaluated` are in `split`; 0 where chance explains as many.

    Images may be equal by chance: small ones, blank ones. As large a share of `evaluated` is then in `split` as of
    `split` is there twice.

    >>> images = torch.rand(100, 1, 8, 8)
    >>> labels, mean, std = torch.zeros(60, dtype=torch.int64), torch.zeros(1), torch.ones(1)
    >>> shared_images(Split(images[:60], labels, mean, std), Split(images[40:], labels, mean, std))
    20

    Images are compared by a hash of 64 bits.
    """
    ours, theirs = split.images, evaluated.images
    if ours.shape[1:] != theirs.shape[1:] or ours.dtype != theirs.dtype:
        return 0
    (kinds, counts), (other_kinds, other_counts) = (
        np.unique(_hashes(images).numpy(), return_counts=True) for images in (ours, theirs)
    )
    shared = int(other_counts[np.isin(other_kinds, kinds)].sum())
    if np.array_equal(kinds, other_kinds) and np.array_equal(counts, other_counts):
        return shared
    expected = counts[counts > 1].sum() / len(ours) * len(theirs)
    tolerated = expected + 5 * math.sqrt(expected) + _TOLERATED * min(len(ours), len(theirs))
    return shared if shared > tolerated else 0


def _hashes(images: Tensor) -> Tensor:
    """int64 [M]: each image's bytes as words, multiplied with fixed odd numbers and summed."""
    images = images.detach().cpu()
    width = images[0].numel() * images.element_size()
    generator = torch.Generator().manual_seed(0)
    factors = torch.randint(-(2**63), 2**63 - 1, (-(-width // 8),), generator=generator) | 1
    hashes = torch.empty(len(images), dtype=torch.int64)
    for start in range(0, len(images), _ROWS):
        rows = images[start : start + _ROWS].contiguous()
        bytes_ = F.pad(rows.view(torch.uint8).view(len(rows), width), (0, -width % 8))
        words = bytes_.contiguous().view(torch.int64)
        # high bytes reach the low ones, which alone decide about the low bits of a product
        hashes[start : start + _ROWS] = ((words ^ (words >> 32)) * factors).sum(1)
    return hashes
