"""Tiny networks and images: everything here runs in milliseconds."""

from __future__ import annotations

import pytest
import torch

import zoosparse_ext as zs
from tests.population.tiny import CLASSES, SHAPE


@pytest.fixture(scope="session")
def data() -> zs.Dataset:
    """23 training images (no multiple of a batch), 7 validation and 11 test images, uint8."""
    generator = torch.Generator().manual_seed(5)

    def split(m: int) -> tuple[torch.Tensor, torch.Tensor]:
        images = torch.randint(0, 256, (m, *SHAPE), dtype=torch.uint8, generator=generator)
        return images, torch.arange(m) % CLASSES

    return zs.Dataset.from_tensors(*split(23), val=split(7), test=split(11))
