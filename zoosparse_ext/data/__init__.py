"""Data sets in memory: images as uint8, normalised on the way into a network."""

from __future__ import annotations

from zoosparse_ext.data.dataset import Dataset, Split
from zoosparse_ext.data.load import load_dataset

__all__ = ["Dataset", "Split", "load_dataset"]
