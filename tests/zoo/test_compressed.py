"""Twins on disk as bits and values: exact, smaller, and damage told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.zoo.made_up import architecture, assert_same, zoo
from tests.zoo.made_up import population as made_up
from zoosparse_ext import ops
from zoosparse_ext.errors import StoreError
from zoosparse_ext.population.population import Population
from zoosparse_ext.zoo import Zoo, compressed


def twins(n: int = 40, inputs: int = 150, kept: int = 30) -> Population:
    """Rows with their largest weights left, and nothing else that takes room."""
    population = made_up(n, network=architecture("wide", inputs), predictions=None)
    mask = ops.magnitude_prune_(population.weights, population.weights.shape[1] - kept)
    population.packed_masks = ops.pack_mask(mask)
    return population


def shard_of(folder: Path, name: str) -> tuple[Path, dict[str, object]]:
    (entry,) = json.loads((folder / "manifest.json").read_text())["populations"][name]
    (shard,) = entry["shards"]
    return folder / shard["file"], shard


def test_comes_back_to_the_same_bits_and_is_smaller(tmp_path: Path) -> None:
    mine = zoo([made_up(40, network=architecture("wide", 150), predictions=None)], magnitude=[twins()])
    mine.save(tmp_path / "small")
    mine.save(tmp_path / "large", compress=False)
    for name in ("small", "large"):
        assert_same(mine, Zoo.open(tmp_path / name))
    small, large = (shard_of(tmp_path / name, "magnitude")[0].stat().st_size for name in ("small", "large"))
    dense = twins().weights.nbytes
    assert small < 0.2 * dense < large
    sizes = Zoo.open(tmp_path / "small").info()
    assert sizes["bytes_on_disk"]["magnitude"] < sizes["bytes_on_disk"]["original"]
    assert sizes["bytes"]["magnitude"] > sizes["bytes"]["original"]  # in memory, its masks are there as well


def test_rows_on_disk_can_be_taken_over_and_changed(tmp_path: Path) -> None:
    zoo(magnitude=[twins()]).save(tmp_path / "a")
    taken = Zoo.open(tmp_path / "a")
    taken.save(tmp_path / "b")
    assert_same(taken, Zoo.open(tmp_path / "b"))
    assert shard_of(tmp_path / "a", "magnitude") == (
        tmp_path / "a" / str(shard_of(tmp_path / "b", "magnitude")[1]["file"]),
        shard_of(tmp_path / "b", "magnitude")[1],
    )


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -0.0, 1e-45])
def test_odd_numbers_keep_their_bits(value: float) -> None:
    weights = torch.zeros(3, 100)
    weights[1, 7], weights[2, 99] = value, value
    back = compressed.restore(compressed.compress({"weights": weights}), 3, 100)
    assert torch.equal(back.view(torch.int32), weights.view(torch.int32))


@pytest.mark.parametrize("kept", [0, 1, 50, 97, 100])
def test_any_sparsity_comes_back(kept: int) -> None:
    weights = torch.randn(5, 100, generator=torch.Generator().manual_seed(0))
    ops.magnitude_prune_(weights, 100 - kept)
    assert compressed.is_worth_it(weights) == (kept < 72)
    assert torch.equal(compressed.restore(compressed.compress({"weights": weights}), 5, 100), weights)


def test_masks_that_say_the_same_are_not_stored_twice() -> None:
    population = twins()
    tensors = {"weights": population.weights, "packed_masks": population.packed_masks}
    assert set(compressed.compress(tensors)) == {"packed_masks", "weights_values"}
    population.weights[0, int((population.weights[0] != 0).nonzero()[0])] = 0.0  # trained to exactly zero
    assert set(compressed.compress(tensors)) == {"packed_masks", "weights_values", "weights_bits"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda parts: parts.pop("weights_values"), "holds neither 'weights' nor 'weights_values'"),
        (
            lambda parts: parts.update(weights_values=parts["weights_values"][1:]),
            "but the bits keep 1200 weights",
        ),
        (lambda parts: parts.update(weights_values=parts["weights_values"].double()), "holds torch.float64"),
        (
            lambda parts: parts.update(packed_masks=parts["packed_masks"][:, 1:]),
            "as bits of 40 × 302 weights",
        ),
    ],
)
def test_parts_that_do_not_fit(change, message: str) -> None:
    population = twins()
    parts = compressed.compress({"weights": population.weights, "packed_masks": population.packed_masks})
    change(parts)
    with pytest.raises(StoreError, match=message):
        compressed.restore(parts, *population.weights.shape)


@pytest.mark.parametrize("damage", ["truncated", "altered", "not compressed"])
def test_a_damaged_shard_is_named(tmp_path: Path, damage: str) -> None:
    zoo(magnitude=[twins()]).save(tmp_path / "zoo")
    shard, _ = shard_of(tmp_path / "zoo", "magnitude")
    content = shard.read_bytes()
    if damage == "not compressed":
        manifest = tmp_path / "zoo" / "manifest.json"
        manifest.write_text(manifest.read_text().replace('"compressed": true', '"compressed": false'))
    else:
        shard.write_bytes(content[:-8] if damage == "truncated" else content[:-4] + bytes([1, 2, 3, 4]))
    with pytest.raises(StoreError, match=shard.name):
        Zoo.open(tmp_path / "zoo").population("magnitude")
