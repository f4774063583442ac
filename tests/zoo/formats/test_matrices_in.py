"""Importing vectorised zoos: a matrix, `index_dict.json`, a table of the rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import zoosparse_ext as zs
from zoosparse_ext.zoo.index_dict import index_dict

CNN_S = zs.architecture("cnn-s", activation="tanh")


def write_matrix(path: Path, matrix: Tensor) -> None:
    writers: dict[str, Callable[[], Any]] = {
        ".npy": lambda: np.save(path, matrix.numpy()),
        ".npz": lambda: np.savez(path, data=matrix.numpy(), rows=np.arange(len(matrix))),
        ".safetensors": lambda: save_file({"weights": matrix}, path),
        ".pt": lambda: torch.save(matrix, path),
    }
    writers[path.suffix]()


def write_zoo(folder: Path, rows: int = 4, suffix: str = ".npy", table: pd.DataFrame | None = None) -> Tensor:
    folder.mkdir()
    matrix = torch.randn(rows, CNN_S.n_parameters, generator=torch.Generator().manual_seed(0))
    write_matrix(folder / f"zoo{suffix}", matrix)
    (folder / "index_dict.json").write_text(json.dumps(index_dict(CNN_S)))
    if table is not None:
        table.to_csv(folder / "models.csv", index=False)
    return matrix


def skipped(zoo: zs.Zoo) -> dict[str, str]:
    return {entry["name"]: entry["reason"] for entry in zoo.provenance["import"]["skipped"]}


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors", ".pt"])
def test_rows_become_models_whatever_the_file(tmp_path: Path, suffix: str) -> None:
    table = pd.DataFrame(
        {"name": list("abcd"), "test_acc": [0.1, 0.2, 0.3, 0.4], "nlin": "tanh", "seed": [5, 6, 7, 8]}
    )
    matrix = write_zoo(tmp_path / "zoo", suffix=suffix, table=table)
    zoo = zs.import_zoo(tmp_path / "zoo")
    population = zoo.population()
    assert torch.equal(population.weights, matrix)
    assert zoo.models["model_id"].tolist() == list("abcd")
    assert zoo.models["accuracy"].tolist() == [0.1, 0.2, 0.3, 0.4]
    assert population.seeds.tolist() == [5, 6, 7, 8]
    image = torch.rand(3, 1, 28, 28)
    assert torch.allclose(population(image), zs.Population(matrix, CNN_S)(image), atol=1e-6)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_become_float32(tmp_path: Path, suffix: str, dtype: torch.dtype) -> None:
    matrix = write_zoo(tmp_path / "zoo", suffix=suffix).to(dtype)
    write_matrix(tmp_path / "zoo" / f"zoo{suffix}", matrix)
    found = zs.import_zoo(tmp_path / "zoo", activation="tanh").population().weights
    assert found.dtype == torch.float32 and torch.equal(found, matrix.float())


def test_other_orders_of_bytes_become_ours(tmp_path: Path) -> None:
    matrix = write_zoo(tmp_path / "zoo").numpy()
    np.save(tmp_path / "zoo" / "zoo.npy", matrix.astype(">f8"))
    assert np.array_equal(zs.import_zoo(tmp_path / "zoo", activation="tanh").population().weights, matrix)


@pytest.mark.filterwarnings("error")
def test_numbers_beyond_float32_are_infinite(tmp_path: Path) -> None:
    matrix = write_zoo(tmp_path / "zoo").numpy().astype(np.float64)
    matrix[1, 3] = 1e300
    np.save(tmp_path / "zoo" / "zoo.npy", matrix)
    zoo = zs.import_zoo(tmp_path / "zoo", activation="tanh")
    assert "'module_list.0.weight' holds NaN or infinite weights" in skipped(zoo)["000001"]


def test_rows_of_many_epochs_become_populations(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "model": ["a", "b", "a", "b"],
            "epoch": [3, 3, 0, 0],
            "test_accuracy": [0.9, 0.8, 0.1, 0.2],
            "activation": "tanh",
        }
    )
    matrix = write_zoo(tmp_path / "zoo", table=table)
    zoo = zs.import_zoo(tmp_path / "zoo", epochs="all")
    assert torch.equal(zoo.population("original").weights, matrix[:2])
    assert torch.equal(zoo.population("original@0").weights, matrix[2:])
    assert zoo.models["accuracy"].tolist() == [0.9, 0.8]
    assert zoo.history.sort_values(["model_id", "epoch"]).test_accuracy.tolist() == [0.1, 0.9, 0.2, 0.8]


def test_a_pickle_is_run_with_consent_only(tmp_path: Path) -> None:
    matrix = write_zoo(tmp_path / "zoo", suffix=".pt")
    torch.save({"weights": matrix, "made by": Path("someone")}, tmp_path / "zoo" / "zoo.pt")
    with pytest.raises(zs.StoreError, match="--trust-pickle"):
        zs.import_zoo(tmp_path / "zoo", activation="tanh")
    found = zs.import_zoo(tmp_path / "zoo", activation="tanh", trust_pickle=True, out=tmp_path / "out")
    assert torch.equal(found.population().weights, matrix)


def test_a_file_without_weights_tells_what_it_holds(tmp_path: Path) -> None:
    write_zoo(tmp_path / "zoo")
    np.save(tmp_path / "zoo" / "zoo.npy", np.zeros((4, 2464), np.int32))
    with pytest.raises(zs.StoreError, match=r"0 matrices of weights \(weights int32 \[4, 2464\]\)"):
        zs.import_zoo(tmp_path / "zoo", activation="tanh")


@pytest.mark.parametrize("epochs", ["last", "all"])
def test_a_name_of_several_rows_is_no_model(tmp_path: Path, epochs: str) -> None:
    """Such as a column with the name of the architecture."""
    table = pd.DataFrame({"model": ["cnn", "cnn", "cnn", "b"], "epoch": [1, 2, 2, 2], "activation": "tanh"})
    matrix = write_zoo(tmp_path / "zoo", table=table)
    zoo = zs.import_zoo(tmp_path / "zoo", epochs=epochs)
    assert torch.equal(zoo.population().weights, matrix[3:])
    assert "3 rows have this name in column 'model', several of them epoch 2" in skipped(zoo)["cnn"]


def test_what_the_table_does_not_say_must_be_said(tmp_path: Path) -> None:
    matrix = write_zoo(tmp_path / "zoo")
    with pytest.raises(zs.InputError, match="activation cannot be told"):
        zs.import_zoo(tmp_path / "zoo")
    assert torch.equal(zs.import_zoo(tmp_path / "zoo", activation="relu").population().weights, matrix)
    given = zs.import_zoo(tmp_path / "zoo", architecture=CNN_S)
    assert given.population().architecture == CNN_S


def test_rows_without_activation_or_with_nan_are_skipped(tmp_path: Path) -> None:
    table = pd.DataFrame({"model_id": list("abcd"), "activation": ["tanh", None, "tanh", "tanh"]})
    matrix = write_zoo(tmp_path / "zoo", table=table)
    matrix[3, 1500] = torch.nan
    write_matrix(tmp_path / "zoo" / "zoo.npy", matrix)
    zoo = zs.import_zoo(tmp_path / "zoo")
    assert zoo.models["model_id"].tolist() == ["a", "c"]
    assert "does not say its activation" in skipped(zoo)["row 1"]
    assert "'module_list.6.weight' holds NaN" in skipped(zoo)["d"]
    with pytest.raises(zs.StoreError, match="does not say its activation"):
        zs.import_zoo(tmp_path / "zoo", strict=True)


def test_files_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "zoo"
    write_zoo(folder, table=pd.DataFrame({"model_id": list("abc"), "activation": "tanh"}))
    with pytest.raises(zs.StoreError, match=r"4 rows, but models\.csv has 3 lines"):
        zs.import_zoo(folder)
    (folder / "models.csv").unlink()
    write_matrix(folder / "zoo.npy", torch.zeros(4, 100))
    with pytest.raises(zs.StoreError, match=r"100 columns, index_dict\.json describes 2464"):
        zs.import_zoo(folder, activation="tanh")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: index.pop("layer"), "aligned lists"),
        (lambda index: index["idx_start"].__setitem__(1, 7), "starts at 7, expected 208"),
        (lambda index: index["kernel_size"].__setitem__(0, 24), "do not fit"),
        (lambda index: index["kernel_no"].__setitem__(0, 10**9), "do not fit"),
        (lambda index: index["channels_in"].__setitem__(0, "1"), "starts at"),
    ],
)
def test_an_index_that_contradicts_itself_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    write_zoo(tmp_path / "zoo")
    path = tmp_path / "zoo" / "index_dict.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))
    with pytest.raises(zs.StoreError, match=message):
        zs.import_zoo(tmp_path / "zoo", activation="tanh")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors", ".pt"])
def test_a_damaged_matrix_is_refused(tmp_path: Path, suffix: str) -> None:
    write_zoo(tmp_path / "zoo", suffix=suffix)
    path = tmp_path / "zoo" / f"zoo{suffix}"
    content = path.read_bytes()
    for keep in (0, 50, len(content) // 2):
        path.write_bytes(content[:keep])
        with pytest.raises(zs.StoreError):
            zs.import_zoo(tmp_path / "zoo", activation="tanh")


def test_objects_in_numpy_files_are_never_unpickled(tmp_path: Path) -> None:
    write_zoo(tmp_path / "zoo")
    np.save(tmp_path / "zoo" / "zoo.npy", np.array([[Trap()]], dtype=object), allow_pickle=True)
    with pytest.raises(zs.StoreError):
        zs.import_zoo(tmp_path / "zoo", activation="tanh")
    assert not Trap.sprung


class Trap:
    """Unpickling it would tell."""

    sprung = False

    @classmethod
    def spring(cls) -> None:
        cls.sprung = True

    def __reduce__(self) -> tuple[Any, ...]:
        return Trap.spring, ()
