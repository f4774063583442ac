"""Made-up images and labels, and the bytes of an IDX file."""

from __future__ import annotations

import struct

import numpy as np

TRAIN, TEST, SIZE = 12, 4, 5


def idx_bytes(array: np.ndarray) -> bytes:
    """An array of unsigned bytes as IDX."""
    return (
        struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
    )


def digits_like(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [M, 5, 5] and labels uint8 [M] of three classes."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, SIZE, SIZE), dtype=np.uint8)
    return images, np.arange(count, dtype=np.uint8) % 3
