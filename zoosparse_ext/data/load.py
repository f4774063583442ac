"""`load_dataset`: a data set by a short name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoosparse_ext.data.dataset import Dataset, stratified
from zoosparse_ext.data.digits import read_digits
from zoosparse_ext.data.files import read_idx_folder, read_npz
from zoosparse_ext.errors import DataError, InputError

Loader = Callable[[str], Dataset]
_SPECS = "digits, idx:DIR, npz:FILE, torchvision:NAME[:ROOT]"


def load_dataset(
    spec: str, *, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> Dataset:
    """Load images and labels into memory.

    Args:
        spec: one of

            - ``digits``: 1,797 real handwritten digits, embedded, resized from 8×8 to 28×28; 1,204 train, 297 val and
              296 test images, stratified by class;
            - ``idx:DIR``: the MNIST family as downloaded (``train-images-idx3-ubyte``, gzipped or not); the last sixth
              of the training images is `val` (50,000 and 10,000 for MNIST);
            - ``npz:FILE``: arrays ``x_train, y_train, x_test, y_test`` (optionally ``x_val, y_val``); images
              ``[M, H, W]``, ``[M, C, H, W]`` or ``[M, H, W, C]``, uint8 or floating point;
            - ``torchvision:NAME[:ROOT]``: a class of `torchvision.datasets` with a train and a test part.

        mean, std: normalisation per channel, of pixels in [0, 1]; default: that of the training pixels.

    >>> data = load_dataset("digits")
    >>> data.input_shape, data.classes, [len(split) for split in data.splits.values()]
    ((1, 28, 28), 10, [1204, 297, 296])

    Raises:
        InputError: a spec of none of these forms.
        DataError: a file that is missing, corrupt or inconsistent; names it.
    """
    kind, _, argument = spec.partition(":")
    if kind not in _LOADERS or bool(argument) == (kind == "digits"):
        raise InputError(f"unknown data set {spec!r}; known: {_SPECS}")
    try:
        return _LOADERS[kind](argument).normalized_by(mean, std)
    except DataError as error:
        if argument in str(error):
            raise
        raise DataError(f"{spec}: {error}") from error  # a split does not know where it came from


def _digits(_: str) -> Dataset:
    images, labels = read_digits()
    part = stratified(labels, parts=6)
    val, test = part == 4, part == 5
    train = ~(val | test)
    return Dataset.from_tensors(
        images[train],
        labels[train],
        val=(images[val], labels[val]),
        test=(images[test], labels[test]),
        spec="digits",
    )


def _idx(folder: str) -> Dataset:
    train_images, train_labels, test_images, test_labels = read_idx_folder(Path(folder).expanduser())
    held_out = len(train_images) // 6
    cut = len(train_images) - held_out
    val = (train_images[cut:], train_labels[cut:]) if held_out else None
    spec = f"idx:{folder}"
    return Dataset.from_tensors(
        train_images[:cut], train_labels[:cut], val=val, test=(test_images, test_labels), spec=spec
    )


def _npz(file: str) -> Dataset:
    arrays = read_npz(Path(file).expanduser())
    val = (arrays["x_val"], arrays["y_val"]) if "x_val" in arrays else None
    test = (arrays["x_test"], arrays["y_test"])
    return Dataset.from_tensors(arrays["x_train"], arrays["y_train"], val=val, test=test, spec=f"npz:{file}")


def _torchvision(argument: str) -> Dataset:
    try:
        from torchvision import datasets
    except ImportError:
        raise DataError(
            'torchvision is not installed; pip install "zoosparse-ext[torchvision]", or use idx:DIR or npz:FILE'
        ) from None
    name, _, root = argument.partition(":")
    kind = getattr(datasets, name, None)
    if not isinstance(kind, type):
        raise InputError(
            f"torchvision.datasets has no {name!r}; names are those of its classes, such as MNIST"
        )
    known = inspect.signature(kind).parameters
    parts: list[dict[str, Any]]
    if "train" in known:
        parts = [{"train": True}, {"train": False}]
    elif "split" in known:
        parts = [{"split": "train"}, {"split": "test"}]
    else:
        raise DataError(f"torchvision:{name} has no train and test part; save it as npz:FILE")
    try:
        train, test = (_stack(name, kind(root or "data", download=True, **part)) for part in parts)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise DataError(f"torchvision:{name} cannot be loaded: {error}") from error
    return Dataset.from_tensors(*train, test=test, spec=f"torchvision:{argument}")


def _stack(name: str, part: Iterable[tuple[Any, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """All images of a torchvision data set of PIL images [M, C, H, W], and its labels."""
    images, labels = [], []
    for image, label in part:
        array = np.asarray(image, dtype=np.uint8)
        images.append(array[None] if array.ndim == 2 else array.transpose(2, 0, 1))
        labels.append(int(label))
    if len({image.shape for image in images}) != 1:
        raise DataError(f"torchvision:{name}: images differ in size; resize them and save them as npz:FILE")
    return torch.from_numpy(np.stack(images)), torch.tensor(labels)


_LOADERS: dict[str, Loader] = {"digits": _digits, "idx": _idx, "npz": _npz, "torchvision": _torchvision}
