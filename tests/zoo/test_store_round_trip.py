"""What is saved comes back, bit by bit."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.zoo.made_up import architecture, assert_same, cut, population, zoo
from zoosparse_ext.errors import StoreError
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.networks import architecture as network
from zoosparse_ext.population.population import Population
from zoosparse_ext.population.safetensors_parts import safetensors_parts
from zoosparse_ext.zoo import Zoo
from zoosparse_ext.zoo.weights_dataset import WeightsDataset


@st.composite
def populations(draw: st.DrawFn, name: str, fewest: int = 0) -> Population:
    return population(
        draw(st.integers(fewest, 5)),
        network=architecture(name, draw(st.integers(1, 5))),
        seed=draw(st.integers(0, 9)),
        masks=draw(st.booleans()),
        log_sigma2=draw(st.booleans()),
        predictions=draw(st.sampled_from([None, torch.uint8, torch.uint16])),
    )


@settings(max_examples=25)
@given(
    first=populations("a", fewest=1),
    second=populations("b"),
    twins=populations("a"),
    shard=st.integers(1, 300),
    zeros=st.booleans(),
)
def test_any_zoo_comes_back_bit_by_bit(
    tmp_path_factory: pytest.TempPathFactory,
    first: Population,
    second: Population,
    twins: Population,
    shard: int,
    zeros: bool,
) -> None:
    folder = tmp_path_factory.mktemp("zoo")
    mine = zoo([first, second], variational=[twins])
    if zeros:
        twins.weights.zero_()  # sparse enough to be compressed
    with patch("zoosparse_ext.zoo.shards.SHARD_BYTES", shard):
        mine.save(folder)
    assert_same(mine, Zoo.open(folder))


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -0.0, 1e-45])
def test_odd_numbers_keep_their_bits(tmp_path: Path, value: float) -> None:
    mine = zoo()
    mine.population().weights[1, 2] = value
    mine.save(tmp_path)
    assert_same(mine, Zoo.open(tmp_path))


def test_a_matrix_is_one_contiguous_file_unless_it_is_sparse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoosparse_ext.zoo.shards.SHARD_BYTES", 1)
    for kept, files in ((1.0, 1), (0.0, 5)):
        mine = zoo([population(5, masks=True, log_sigma2=True, predictions=torch.uint16)])
        mine.population().weights.mul_(kept)
        mine.save(tmp_path / f"{files}")
        shards = list((tmp_path / f"{files}" / "shards").glob("rows-*"))
        assert len(shards) == files
        assert (mine.population().weights.numpy().tobytes() in shards[0].read_bytes()) == (files == 1)
        assert_same(mine, Zoo.open(tmp_path / f"{files}"))


def test_a_zoo_whose_matrices_are_cut_into_shards_opens(tmp_path: Path) -> None:
    mine = zoo([population(5, masks=True, log_sigma2=True, predictions=torch.uint16)])
    mine.save(tmp_path)
    cut(tmp_path, rows=2)
    assert len(list((tmp_path / "shards").glob("rows-*"))) == 3
    assert_same(mine, Zoo.open(tmp_path))
    assert len(WeightsDataset(tmp_path, "all")) == 5


def test_files_are_what_the_library_makes_of_the_same_tensors() -> None:
    rows = population(masks=True, log_sigma2=True, predictions=torch.uint16)
    tensors = {
        "weights": rows.weights.t(),  # not contiguous
        "packed_masks": rows.packed_masks,
        "log_sigma2": rows.log_sigma2,
        "predictions": rows.predictions,
        "labels": torch.arange(3),
        "nothing": torch.empty(0, 4),
    }
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    for metadata in (None, {"epoch": "3"}):
        ours = b"".join(safetensors_parts(tensors, metadata))
        assert ours == safetensors.torch.save(contiguous, metadata)


def test_views_and_transposed_rows_are_stored_as_they_read(tmp_path: Path) -> None:
    wide = torch.arange(48.0).reshape(8, 6).t()[:4, ::1]  # [4, 8], not contiguous
    mine = zoo([Population(wide, architecture(inputs=3))])
    mine.save(tmp_path)
    assert torch.equal(Zoo.open(tmp_path).population().weights, wide)


def test_a_network_that_is_no_chain_needs_its_module_again(tmp_path: Path) -> None:
    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.flatten(1) + self.linear(images.flatten(1))

    module, images = Skip(), torch.rand(2, 1, 1, 3)
    mine = zoo([Population(torch.randn(2, 12), Architecture.from_module(module, "skip"))])
    mine.save(tmp_path)
    again = Zoo.open(tmp_path).population()
    assert torch.equal(again.with_module(module)(images), mine.population()(images))


def test_the_manifest_is_strict_json_and_has_an_index_dict(tmp_path: Path) -> None:
    from dataclasses import replace

    mine = zoo([population(network=network("cnn-s"))])
    odd = {"lr": float("nan"), "at": [np.float32(2), np.inf, Path("x"), torch.tensor([1.5])], 3: None}
    replace(mine, provenance=odd, dataset={"std": [float("inf")]}).save(tmp_path)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    manifest = json.loads((tmp_path / "manifest.json").read_text(), parse_constant=refuse)
    assert manifest["provenance"] == {"lr": None, "at": [2.0, None, "x", [1.5]], "3": None}
    assert manifest["index_dict"]["cnn-s-tanh"]["idx_start"] == [0, 208, 1414, 1514, 2254]
    assert Zoo.open(tmp_path).dataset == {"std": [None]}


def test_a_zoo_without_labels_data_or_twins(tmp_path: Path) -> None:
    mine = Zoo({"original": [population()]}, population().models)
    mine.save(tmp_path)
    again = Zoo.open(tmp_path)
    assert again.labels is None and again.dataset is None and len(again.twins) == 0
    assert_same(mine, again)


def test_the_one_matrix_of_a_population(tmp_path: Path) -> None:
    mine = zoo([population(), population(network=architecture("other"))])
    with pytest.raises(StoreError, match="no population 'nothing'; it has original"):
        mine.population("nothing")
    with pytest.raises(StoreError, match=r"has 2 architectures; take one of populations\['original'\]"):
        mine.population()


def test_a_zoo_shows_its_populations(tmp_path: Path) -> None:
    mine = zoo([population(4)], magnitude=[population(2, seed=1), population(3, seed=2)])
    mine.save(tmp_path)
    assert repr(mine) == repr(Zoo.open(tmp_path)) == "Zoo(original: 4, magnitude: 5)"


def test_sizes_are_known_without_reading(tmp_path: Path) -> None:
    mine = zoo([population(4)], magnitude=[population(2, seed=1), population(3, seed=2)])
    mine.save(tmp_path)
    again = Zoo.open(tmp_path)
    on_disk = again.info()["bytes_on_disk"]
    assert again.info() == mine.info() | {"bytes_on_disk": on_disk}
    assert on_disk.keys() == {"original", "magnitude"} and min(on_disk.values()) > 0
    assert again.info()["populations"] == {"original": 4, "magnitude": 5}
    assert again.info()["bytes"] == {
        "original": 4 * (8 * 4 + 6),
        "magnitude": 5 * (8 * 4 + 6),
    }  # 8 weights, 6 images
    assert again.info()["tables"] == {"models": 4, "history": 4, "twins": 4}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda models: models.drop(columns="seed"),
            "table 'models' lacks column 'seed'; it has model_id, arch",
        ),
        (lambda models: models.assign(seed="one"), "column 'seed' of table 'models' is .*expected numbers"),
        (
            lambda models: models.assign(model_id=range(3)),
            "column 'model_id' of table 'models' holds 0, expected",
        ),
        (lambda models: models.assign(model_id="same"), "two models are called 'same'"),
    ],
)
def test_tables_are_checked_when_a_zoo_is_made(change: object, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        Zoo({"original": [population()]}, change(population().models))  # type: ignore[operator]


def test_a_column_that_no_file_can_hold_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    mine = zoo()
    mine.models["tags"] = pd.Series([1, "two", {3}], dtype=object)
    with pytest.raises(StoreError, match=r"table 'models' cannot be stored as Parquet.*tags"):
        mine.save(tmp_path / "new")
    assert not (tmp_path / "new").exists()
