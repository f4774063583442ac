"""The embedded digits: 1,797 real handwritten digits, for trials and demonstrations without a download.

The test part of UCI "Optical Recognition of Handwritten Digits" as scikit-learn ships it, values and order unchanged;
`digits.npz` holds its 8×8 images (0 … 16) and labels. Licence: Creative Commons Attribution 4.0 (CC BY 4.0).

Source: Alpaydin, Kaynak, 1998, https://doi.org/10.24432/C50P49.
"""

from __future__ import annotations

from importlib import resources

import numpy as np
import torch
from torch import Tensor

_INK = 16  # the largest value of a stored pixel
_SIDE = 28


def read_digits() -> tuple[Tensor, Tensor]:
    """Images uint8 [1797, 1, 28, 28] and labels int64 [1797].

    >>> images, labels = read_digits()
    >>> images.shape, labels[:3].tolist()
    (torch.Size([1797, 1, 28, 28]), [0, 1, 2])
    """
    archive = resources.files("zoosparse_ext.data") / "digits.npz"
    with resources.as_file(archive) as path, np.load(path, allow_pickle=False) as arrays:
        small = torch.from_numpy(arrays["images"])  # [M, 8, 8]
        labels = torch.from_numpy(arrays["labels"]).to(torch.int64)  # [M]
    return enlarge(small).unsqueeze(1), labels


def enlarge(small: Tensor) -> Tensor:
    """Bilinear 8×8 → 28×28 with values 0 … 16 → 0 … 255, halves rounded up; [M, 8, 8] → uint8 [M, 28, 28].

    In whole numbers, because 1,943 of the pixels lie exactly between two bytes: floating point would round them one
    way or the other by the order in which a processor adds.

    >>> enlarge(torch.full((1, 8, 8), 8))[0, 0, 0]      # half the ink: 127.5
    tensor(128, dtype=torch.uint8)
    """
    # Row i of the large image lies at (i + ½)·8/28 − ½ = (4i − 5)/14 of the small one; outside, the edge is repeated.
    position = (4 * torch.arange(_SIDE) - 5).clamp(0, 7 * 14)
    # Weights are in fourteenths; a ninth column, past the edge, takes the zero of the last rows.
    weights = torch.zeros(_SIDE, 9, dtype=torch.int64)
    rows = torch.arange(_SIDE)
    weights[rows, position // 14] = 14 - position % 14
    weights[rows, position // 14 + 1] = position % 14
    weights = weights[:, :8]
    large = weights @ small.to(torch.int64) @ weights.T  # [M, 28, 28], in 196ths of a level of ink
    full = _INK * 14 * 14
    return ((2 * 255 * large + full) // (2 * full)).to(torch.uint8)
