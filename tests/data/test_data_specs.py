"""`load_dataset` by its spec, torchvision among them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest

from tests.data.file_samples import SIZE, digits_like
from zoosparse_ext.data import load_dataset
from zoosparse_ext.errors import DataError, InputError


@pytest.mark.parametrize("spec", ["", "mnist", "digits:8", "idx", "idx:", "npz:", "torchvision:", "IDX:x"])
def test_an_unknown_spec_lists_the_known_ones(spec: str) -> None:
    with pytest.raises(InputError, match=r"unknown data set .*known: digits, idx:DIR, npz:FILE, torchvision"):
        load_dataset(spec)


def test_without_torchvision_the_way_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(DataError, match=r'pip install "zoosparse-ext\[torchvision\]", or use idx:DIR'):
        load_dataset("torchvision:MNIST")


class Made:
    """What data sets of torchvision look like to us: pairs of an image and a label."""

    size: int | None = SIZE

    def __init__(self, root: str, count: int, download: bool) -> None:
        if root == "offline":
            raise RuntimeError("Dataset not found")
        self.pairs = list(zip(*digits_like(count), strict=True))

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.uint8]]:
        return iter(self.pairs)


class Plain(Made):
    def __init__(self, root: str, train: bool = True, download: bool = False) -> None:
        super().__init__(root, 12 if train else 4, download)


class Splits(Made):
    def __init__(self, root: str, split: str = "train", download: bool = False) -> None:
        super().__init__(root, {"train": 12, "test": 4}[split], download)


class Colour(Plain):
    def __iter__(self) -> Iterator[tuple[np.ndarray, np.uint8]]:
        return ((np.stack([image] * 3, axis=-1), label) for image, label in self.pairs)


class Sizes(Plain):
    def __iter__(self) -> Iterator[tuple[np.ndarray, np.uint8]]:
        return ((image[: 2 + index % 2], label) for index, (image, label) in enumerate(self.pairs))


class Whole:
    def __init__(self, root: str) -> None: ...


@pytest.fixture
def torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    module, datasets = ModuleType("torchvision"), ModuleType("torchvision.datasets")
    for kind in (Plain, Splits, Colour, Sizes, Whole):
        setattr(datasets, kind.__name__, kind)
    datasets.utils = ModuleType("utils")  # type: ignore[attr-defined]
    module.datasets = datasets  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision", module)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", datasets)


@pytest.mark.usefixtures("torchvision")
@pytest.mark.parametrize(("name", "channels"), [("Plain", 1), ("Splits", 1), ("Colour", 3)])
def test_data_sets_of_torchvision(name: str, channels: int) -> None:
    data = load_dataset(f"torchvision:{name}")
    assert data.input_shape == (channels, SIZE, SIZE) and (len(data.train), len(data.test)) == (12, 4)
    assert data.spec == f"torchvision:{name}"


@pytest.mark.usefixtures("torchvision")
@pytest.mark.parametrize(
    ("spec", "kind", "message"),
    [
        ("torchvision:Nothing", InputError, "has no 'Nothing'"),
        ("torchvision:utils", InputError, "has no 'utils'"),
        ("torchvision:Whole", DataError, "no train and test part; save it as npz"),
        ("torchvision:Plain:offline", DataError, "cannot be loaded: Dataset not found"),
        ("torchvision:Sizes", DataError, "images differ in size"),
    ],
)
def test_torchvision_data_that_cannot_be_had(spec: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        load_dataset(spec)
