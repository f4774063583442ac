"""Counting set bits: masks and predictions are compared 8 or 64 at a time."""

from __future__ import annotations

import numpy as np

from zoosparse_ext.analysis.groups import Array

_BITS_IN_BYTE = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)


def bit_counts(words: Array) -> Array:
    """Set bits of every number, uint8 [...] for unsigned whole numbers [...].

    >>> bit_counts(np.array([0b1011, 255, 0], dtype=np.uint64)).tolist()
    [3, 8, 0]
    """
    if hasattr(np, "bitwise_count"):  # numpy 2
        return np.asarray(np.bitwise_count(words))
    return _by_table(words)


def _by_table(words: Array) -> Array:
    size = words.dtype.itemsize
    counts = _BITS_IN_BYTE[np.ascontiguousarray(words)[..., None].view(np.uint8)]  # [..., size]
    return np.asarray(counts[..., 0] if size == 1 else counts.sum(axis=-1, dtype=np.uint8))


def popcount(packed: Array) -> Array:
    """Set bits per row of uint8 [..., B]: int64 [...].

    >>> popcount(np.array([[0b1011, 255], [0, 0]], dtype=np.uint8)).tolist()
    [11, 0]
    """
    return np.asarray(bit_counts(packed).sum(axis=-1, dtype=np.int64))
