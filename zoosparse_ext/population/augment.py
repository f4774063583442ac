"""Random crops and flips of training images, drawn from the counter-based random numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from zoosparse_ext import random
from zoosparse_ext.options import check_options, option


@dataclass(frozen=True)
class Augment:
    """What happens to every training image before a model sees it; evaluation sees the images as they are.

    Equal to `torchvision.transforms.RandomCrop(size, padding=crop)`, then `RandomHorizontalFlip()`, with the numbers of
    :mod:`zoosparse_ext.random`: each model moves its own images, whatever trains beside it.

    Example::

        zs.train(population, data, epochs=20, augment=zs.Augment(crop=4, flip=True))

    Args:
        crop: an image moves by up to so many pixels up or down and left or right; black (0) comes in.
        flip: mirror half of the images left to right.

    Raises:
        InputError: a negative crop.
    """

    crop: int = option(0, "Shift training images at random by up to this many pixels.", low=0, below=2**20)
    flip: bool = option(False, "Mirror half of the training images.")

    def __post_init__(self) -> None:
        check_options(self, "Augment: ")

    def __call__(
        self,
        images: Tensor,  # [N or 1, B, C, H, W]
        black: Tensor,  # [C]: what a pixel of 0 is after normalisation
        seeds: Tensor,  # [N]
        seed: int,
        step: int,
    ) -> Tensor:
        """Images [N, B, C, H, W] of one step; the place in the batch is the sample of the random numbers."""
        batch, channels, height, width = images.shape[1:]
        stream = random.stream_id(random.AUGMENTATION)
        words = random.random_words(seeds, seed, 3, step=step, stream=stream, samples=batch)  # [N, B, 3]
        down, right = (words[..., i] % (2 * self.crop + 1) - self.crop for i in (0, 1))
        flipped = (words[..., 2] >> 31 == 1) & self.flip
        row = torch.arange(height, device=images.device) + down.unsqueeze(-1)  # [N, B, H]
        column = torch.arange(width, device=images.device)
        column = torch.where(flipped.unsqueeze(-1), width - 1 - column, column) + right.unsqueeze(-1)
        inside = _within(row, height).unsqueeze(-1) & _within(column, width).unsqueeze(-2)  # [N, B, H, W]
        source = row.clamp(0, height - 1).unsqueeze(-1) * width + column.clamp(0, width - 1).unsqueeze(-2)
        source = source.flatten(2).unsqueeze(2).expand(-1, -1, channels, -1)  # [N, B, C, H * W]
        moved = images.expand(len(seeds), -1, -1, -1, -1).flatten(3).gather(3, source)
        return torch.where(inside.unsqueeze(2), moved.unflatten(3, (height, width)), black.view(-1, 1, 1))


def _within(index: Tensor, size: int) -> Tensor:
    return (index >= 0) & (index < size)
