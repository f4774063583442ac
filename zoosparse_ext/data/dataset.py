"""`Dataset` and `Split`: images and labels as tensors in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from zoosparse_ext.errors import DataError, InputError


@dataclass(frozen=True, eq=False)
class Split:
    """Images and labels of one split.

    Args:
        images: [M, C, H, W], uint8 (0 … 255, stored as they are) or float32 (taken as they are).
        labels: int64 [M], classes counted from 0.
        mean, std: float32 [C], of pixels scaled to [0, 1] if the images are uint8.
        name: for messages.

    Raises:
        DataError: no images, other numbers of images and labels, a type or shape that is not supported, a negative
            label, a pixel that is NaN or infinite, a standard deviation of 0.
    """

    images: Tensor
    labels: Tensor
    mean: Tensor
    std: Tensor
    name: str = "data"

    def __post_init__(self) -> None:
        if self.images.dim() != 4 or self.images.dtype not in (torch.uint8, torch.float32):
            came = f"{self.images.dtype} {list(self.images.shape)}"
            raise DataError(f"{self.name}: images must be uint8 or float32 [M, C, H, W], got {came}")
        if len(self.images) == 0:
            raise DataError(f"{self.name}: there are no images")
        if self.labels.shape != self.images.shape[:1] or self.labels.dtype != torch.int64:
            came = f"{self.labels.dtype} {list(self.labels.shape)}"
            raise DataError(
                f"{self.name}: labels must be int64 [{len(self.images)}], one per image, got {came}"
            )
        if int(self.labels.min()) < 0:
            raise DataError(f"{self.name}: label {int(self.labels.min())}; classes are counted from 0")
        if self.images.dtype == torch.float32 and not bool(torch.isfinite(self.images).all()):
            bad = int((~torch.isfinite(self.images)).flatten(1).any(1).int().argmax())
            raise DataError(f"{self.name}: image {bad} holds NaN or infinity")
        channels = self.images.shape[1]
        shaped = self.mean.shape == (channels,) and self.std.shape == (channels,)
        finite = bool(torch.isfinite(torch.cat([self.mean.flatten(), self.std.flatten()])).all())
        if not (shaped and finite and bool((self.std > 0).all())):
            came = f"mean {self.mean.tolist()}, std {self.std.tolist()}"
            raise DataError(
                f"{self.name}: mean and std need {channels} finite values, std above 0; got {came}"
            )

    def __len__(self) -> int:
        return self.images.shape[0]

    def __repr__(self) -> str:
        return f"Split({self.name!r}, {len(self)} × {'×'.join(map(str, self.images.shape[1:]))} {self.images.dtype})"

    def normalized(self, index: Tensor | slice | None = None) -> Tensor:
        """Images as a network takes them, float32 [m, C, H, W]: (pixels − mean) / std; all, or those of an index.

        >>> zero_mean, unit_std = torch.zeros(1), torch.ones(1)
        >>> split = Split(torch.full((2, 1, 1, 1), 255, dtype=torch.uint8), torch.tensor([0, 1]), zero_mean, unit_std)
        >>> split.normalized(torch.tensor([1])).flatten()
        tensor([1.])
        """
        images = self.images if index is None else self.images[index]
        if images.dtype == torch.uint8:
            images = images.to(torch.float32) / 255.0
        return (images - self.mean.view(-1, 1, 1)) / self.std.view(-1, 1, 1)

    def head(self, count: int) -> Split:
        """The first `count` images."""
        return replace(self, images=self.images[:count], labels=self.labels[:count])


@dataclass(frozen=True, eq=False)
class Dataset:
    """Three named splits with one normalisation.

    Args:
        train, val, test: the splits; `val` may be None.
        spec: how to load it again, e.g. ``"digits"``; None for tensors of the user's own.
        size_limit: what :meth:`limit` cut it to.
    """

    train: Split
    val: Split | None
    test: Split
    spec: str | None = None
    size_limit: int | None = field(default=None)

    def __post_init__(self) -> None:
        for split in self.splits.values():
            _require_size(split.name, split.images, self.train.images)

    @classmethod
    def from_tensors(
        cls,
        images: Tensor,
        labels: Tensor,
        *,
        val: tuple[Tensor, Tensor] | None = None,
        test: tuple[Tensor, Tensor] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        spec: str | None = None,
    ) -> Dataset:
        """A data set of tensors that are in memory.

        Args:
            images: [M, C, H, W] (or [M, H, W]), uint8 or floating point (kept as float32); arrays become tensors.
            labels: integers [M].
            val, test: images and labels of the other splits. Without `test`, every sixth image of each class is
                taken for it.
            mean, std: normalisation per channel; default: that of the training pixels (per channel).

        Raises:
            DataError: as :class:`Split`; labels that are not integers, or outside the classes of the training labels.

        >>> images = torch.randint(0, 255, (60, 1, 4, 4), dtype=torch.uint8)
        >>> data = Dataset.from_tensors(images, torch.arange(60) % 3)
        >>> len(data.train), len(data.test), data.classes
        (51, 9, 3)
        """
        images, labels = _pair("train", (images, labels))
        if test is None:
            held_out = stratified(labels, parts=6) == 5
            test = (images[held_out], labels[held_out])
            images, labels = images[~held_out], labels[~held_out]
        default_mean, default_std = _moments(images)
        centre = default_mean if mean is None else torch.as_tensor(mean, dtype=torch.float32)
        scale = default_std if std is None else torch.as_tensor(std, dtype=torch.float32)

        def split(name: str, pair: tuple[Tensor, Tensor]) -> Split:
            pixels, classes = _pair(name, pair)
            _require_size(name, pixels, images)
            made = Split(pixels, classes, centre, scale, name)
            if len(made) and int(made.labels.max()) > int(labels.max()):
                raise DataError(
                    f"{name}: label {int(made.labels.max())} is outside the classes of train (0 … {int(labels.max())})"
                )
            return made

        return cls(
            split("train", (images, labels)),
            None if val is None else split("val", val),
            split("test", test),
            spec,
        )

    @property
    def splits(self) -> dict[str, Split]:
        """The splits by name."""
        named = {"train": self.train, "val": self.val, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}

    @cached_property
    def classes(self) -> int:
        """Number of classes: the largest label plus one."""
        return max(int(split.labels.max()) for split in self.splits.values()) + 1

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        _, channels, height, width = self.train.images.shape
        return (channels, height, width)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over images, labels and normalisation of all splits."""
        digest = hashlib.sha256()
        for name, split in self.splits.items():
            digest.update(f"{name} {split.images.dtype} {list(split.images.shape)}".encode())
            for tensor in (split.images, split.labels, split.mean, split.std):
                digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def limit(self, count: int) -> Dataset:
        """The first `count` training images, and as large a share of the other splits.

        Raises:
            InputError: a count below 1.
        """
        if count < 1:
            raise InputError(f"a data set needs at least one training image, got a limit of {count}")
        share = min(1.0, count / len(self.train))

        def cut(split: Split) -> Split:
            return split.head(max(1, round(share * len(split))))

        val = None if self.val is None else cut(self.val)
        return Dataset(cut(self.train), val, cut(self.test), self.spec, count)

    def normalized_by(self, mean: Sequence[float] | None, std: Sequence[float] | None) -> Dataset:
        """The same data with another normalisation; None keeps what there is."""

        def change(split: Split) -> Split:
            centre = split.mean if mean is None else torch.tensor(mean, dtype=torch.float32)
            scale = split.std if std is None else torch.tensor(std, dtype=torch.float32)
            return replace(split, mean=centre, std=scale)

        val = None if self.val is None else change(self.val)
        return replace(self, train=change(self.train), val=val, test=change(self.test))

    def describe(self) -> dict[str, Any]:
        """What a zoo notes about its data, as plain values."""
        return {
            "spec": self.spec,
            "limit": self.size_limit,
            "fingerprint": self.fingerprint,
            "classes": self.classes,
            "input_shape": list(self.input_shape),
            "images": {name: len(split) for name, split in self.splits.items()},
            "mean": self.train.mean.tolist(),
            "std": self.train.std.tolist(),
        }


def stratified(labels: Tensor, parts: int) -> Tensor:
    """Part of each sample, int64 [M]: within its class, samples go to parts 0, 1, …, parts − 1, 0, … in order.

    >>> stratified(torch.tensor([7, 7, 3, 7, 3]), parts=2).tolist()
    [0, 1, 0, 0, 1]
    """
    part = torch.empty_like(labels)
    for label in labels.unique():
        members = (labels == label).nonzero()[:, 0]
        part[members] = torch.arange(len(members)) % parts
    return part


def _require_size(name: str, images: Tensor, train: Tensor) -> None:
    """All splits have images of one size and as many channels, [M, C, H, W]."""
    if images.shape[1:] != train.shape[1:]:
        raise DataError(
            f"images of {name} are {list(images.shape[1:])}, those of train {list(train.shape[1:])}"
        )


def _pair(name: str, pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Images with four axes, uint8 or float32, and labels as int64, of equal number."""
    images, labels = (torch.as_tensor(tensor) for tensor in pair)
    if images.dim() == 3:
        images = images.unsqueeze(1)
    if images.dim() != 4:
        raise DataError(
            f"{name}: images must be [M, C, H, W] or [M, H, W], got {list(images.shape)}; "
            "rows of features are images [M, 1, 1, features]"
        )
    if images.is_floating_point():
        images = images.to(torch.float32)
    if labels.shape != images.shape[:1] or labels.is_floating_point() or labels.is_complex():
        came = f"{labels.dtype} {list(labels.shape)}"
        raise DataError(f"{name}: labels must be integers [{len(images)}], one per image, got {came}")
    return images, labels.to(torch.int64)


def _moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, float32 [C]; of uint8 scaled to [0, 1]."""
    if images.numel() == 0:
        return torch.zeros(images.shape[1]), torch.ones(images.shape[1])
    moments = torch.tensor([_moments_of(channel.flatten()) for channel in images.unbind(1)])
    mean, std = moments.unbind(1)
    return mean, torch.where(std > 0, std, 1.0)


def _moments_of(pixels: Tensor) -> tuple[float, float]:
    if pixels.dtype == torch.uint8:  # counted, not widened: float64 would take eight times the images
        share = torch.bincount(pixels, minlength=256).to(torch.float64) / len(pixels)
        level = torch.arange(256, dtype=torch.float64) / 255
        mean = share @ level
        return mean.item(), (share @ (level - mean).square()).sqrt().item()
    pixels = pixels.to(torch.float64)
    return pixels.mean().item(), pixels.std(correction=0).item()
