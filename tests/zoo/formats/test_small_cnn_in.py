"""Importing the Small CNN Zoo: rows of Keras kernels with a layout."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import zoosparse_ext as zs

SHAPES = {  # in the order of the published layout: bias, then kernel
    "sequential/conv2d": [(4,), (3, 3, 1, 4)],
    "sequential/conv2d_1": [(5,), (3, 3, 4, 5)],
    "sequential/dense": [(10,), (5, 10)],
}
COLUMNS = sum(int(np.prod(shape)) for shapes in SHAPES.values() for shape in shapes)


def layout() -> pd.DataFrame:
    rows, start = [], 0
    for module, shapes in SHAPES.items():
        for kind, shape in zip(("bias", "kernel"), shapes, strict=True):
            end = start + int(np.prod(shape))
            rows.append(
                {"varname": f"{module}/{kind}:0", "start_idx": start, "end_idx": end, "shape": str(shape)}
            )
            start = end
    return pd.DataFrame(rows)


def metrics(activations: list[str], dropout: float = 0.0) -> pd.DataFrame:
    n = len(activations)
    return pd.DataFrame(
        {
            "config.activation": activations,
            "config.dropout": dropout,
            "config.learning_rate": np.linspace(1e-4, 1e-2, n),
            "modeldir": [f"/models/{number // 2}" for number in range(n)],
            "step": [(0, 86)[number % 2] for number in range(n)],
            "test_accuracy": np.linspace(0.1, 0.9, n),
        }
    )


def write_zoo(folder: Path, table: pd.DataFrame) -> np.ndarray:
    folder.mkdir(exist_ok=True)
    matrix = np.random.default_rng(0).normal(size=(len(table), COLUMNS)).astype(np.float32)
    np.save(folder / "weights.npy", matrix)
    layout().to_csv(folder / "layout.csv", index=False)
    with gzip.open(folder / "metrics.csv.gz", "wt") as file:
        table.to_csv(file, index=False)
    return matrix


def keras(row: np.ndarray, images: Tensor, activation: str) -> Tensor:
    """The network as Keras computes it: kernels [height, width, in, out], no padding, stride 2."""
    tensors, start = [], 0
    for shapes in SHAPES.values():
        parts = []
        for shape in shapes:
            parts.append(torch.tensor(row[start : start + int(np.prod(shape))]).reshape(shape))
            start += int(np.prod(shape))
        tensors.append(parts)
    hidden = images
    for bias, kernel in tensors[:-1]:
        hidden = F.conv2d(hidden, kernel.permute(3, 2, 0, 1), bias, stride=2)
        hidden = getattr(torch, activation)(hidden)
    bias, kernel = tensors[-1]
    return hidden.mean((2, 3)) @ kernel + bias


def test_rows_compute_what_keras_computes(tmp_path: Path) -> None:
    matrix = write_zoo(tmp_path / "zoo", metrics(["relu", "relu", "tanh", "tanh"]))
    zoo = zs.import_zoo(tmp_path / "zoo", epochs="all")
    images = torch.rand(6, 1, 28, 28)
    groups = {group.architecture.name: group for group in zoo.populations["original"]}
    assert torch.allclose(groups["small-cnn-relu"](images)[0], keras(matrix[1], images, "relu"), atol=1e-5)
    assert torch.allclose(groups["small-cnn-tanh"](images)[0], keras(matrix[3], images, "tanh"), atol=1e-5)
    earlier = zoo.populations["original@0"][0]
    assert torch.allclose(earlier(images)[0], keras(matrix[0], images, "relu"), atol=1e-5)


def test_columns_of_the_table_have_our_names(tmp_path: Path) -> None:
    write_zoo(tmp_path / "zoo", metrics(["relu"] * 4))
    zoo = zs.import_zoo(tmp_path / "zoo")
    assert zoo.models["model_id"].tolist() == ["/models/0", "/models/1"]
    assert zoo.models["lr"].tolist() == pytest.approx([3.4e-3, 1e-2])
    assert zoo.models["accuracy"].tolist() == pytest.approx([0.1 + 0.8 / 3, 0.9])


def test_sparse_twins_of_it(tmp_path: Path) -> None:
    write_zoo(tmp_path / "zoo", metrics(["relu"] * 4, dropout=0.3))
    twins = zs.magnitude_prune(zs.import_zoo(tmp_path / "zoo").population(), sparsity=0.5)
    assert twins.sparsity().tolist() == pytest.approx([0.5, 0.5], abs=0.01)


def test_unknown_activations_are_skipped(tmp_path: Path) -> None:
    write_zoo(tmp_path / "zoo", metrics(["relu", "relu", "wave", "wave"]))
    zoo = zs.import_zoo(tmp_path / "zoo")
    assert len(zoo.population()) == 1
    reasons = {entry["reason"] for entry in zoo.provenance["import"]["skipped"]}
    assert len(reasons) == 1 and "unknown activation 'wave'" in reasons.pop()


def test_a_dropout_rate_that_is_no_number_is_none(tmp_path: Path) -> None:
    table = metrics(["relu", "tanh"])
    table["config.dropout"] = ["0.2", "a lot"]
    write_zoo(tmp_path / "zoo", table)
    zoo = zs.import_zoo(tmp_path / "zoo", epochs="all")
    assert sum(len(population) for population in zoo.populations.values()) == 2


def test_files_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "zoo"
    write_zoo(folder, metrics(["relu"] * 4))
    np.save(folder / "weights.npy", np.zeros((3, COLUMNS), np.float32))
    with pytest.raises(zs.StoreError, match="table has 4 lines"):
        zs.import_zoo(folder)
    write_zoo(folder, metrics(["relu"] * 4))
    layout().iloc[1:].to_csv(folder / "layout.csv", index=False)
    with pytest.raises(zs.StoreError, match="does not fit"):
        zs.import_zoo(folder)
    (folder / "metrics.csv.gz").unlink()
    layout().to_csv(folder / "layout.csv", index=False)
    with pytest.raises(zs.StoreError, match=r"lacks metrics\.csv\.gz"):
        zs.import_zoo(folder)
