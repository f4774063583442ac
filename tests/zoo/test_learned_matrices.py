"""What a training learned beside the weights, by name: it goes wherever the rows go, and comes back from stores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import zoosparse_ext as zs
from tests.zoo.made_up import architecture, cut, zoo
from zoosparse_ext.errors import InputError, StoreError
from zoosparse_ext.population.kept import snapshot
from zoosparse_ext.population.tensors import tensors_of
from zoosparse_ext.study.chunks import join, reordered
from zoosparse_ext.zoo import Zoo

N = 3


@pytest.fixture
def population() -> zs.Population:
    """One with two matrices, of which the first has had a name of its own since version 0.1."""
    torch.manual_seed(0)
    network = architecture()
    shape = (N, network.n_parameters)
    learned = {"log_sigma2": torch.randn(shape), "log_gates": torch.randn(shape)}
    found = zs.Population(torch.randn(shape), network, learned=learned)
    assert found.log_sigma2 is found.learned["log_sigma2"]
    return found


def assert_same(ours: zs.Population, theirs: zs.Population) -> None:
    mine, others = tensors_of(ours), tensors_of(theirs)
    assert mine.keys() == others.keys() and ours.learned.keys() == theirs.learned.keys()
    assert all(torch.equal(mine[name], others[name]) for name in mine)


def test_rows_take_it_along(population: zs.Population) -> None:
    for rows in ([2, 0], slice(1, None), 1):
        some = population[rows]
        assert torch.equal(
            some.learned["log_gates"], population.learned["log_gates"][rows].view(len(some), -1)
        )
    whole = population.clone()
    assert_same(whole, population)
    assert_same(snapshot(population), population)
    whole.learned["log_gates"].zero_()
    assert population.learned["log_gates"].any()
    assert_same(join([population[:1], population[1:]]), population)
    assert_same(reordered(population, [1, 0, 2]), population[[1, 0, 2]])
    assert population.to("cpu") is population and set(population.learned) == {"log_sigma2", "log_gates"}


def test_log_sigma2_is_one_of_them(population: zs.Population) -> None:
    other = torch.zeros_like(population.weights)
    population.log_sigma2 = other
    assert population.learned["log_sigma2"] is other
    population.log_sigma2 = None
    assert population.log_sigma2 is None and list(population.learned) == ["log_gates"]


def test_a_matrix_of_other_rows_is_refused(population: zs.Population) -> None:
    with pytest.raises(InputError, match="log_gates has 2 rows for a population of 3 models"):
        zs.Population(
            population.weights, population.architecture, learned={"log_gates": population.weights[:2]}
        )


@pytest.mark.parametrize("sparse", [False, True])
def test_a_zoo_keeps_it(
    population: zs.Population, tmp_path: Path, sparse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    population.packed_masks = torch.zeros(N, 1, dtype=torch.uint8) + 15
    if sparse:  # enough to be compressed, in shards of one row
        population.weights.zero_()
        monkeypatch.setattr("zoosparse_ext.zoo.shards.SHARD_BYTES", 1)
    zoo([population]).save(tmp_path)
    assert_same(Zoo.open(tmp_path).population(), population)
    (entry,) = json.loads((tmp_path / "manifest.json").read_text())["populations"]["original"]
    assert "learned.log_gates" not in entry["tensors"]  # which earlier versions would not understand
    assert len(entry["shards"]) == (N if sparse else 1)
    if not sparse:
        cut(tmp_path, rows=2)
        assert_same(Zoo.open(tmp_path).population(), population)


def test_a_zoo_without_what_its_manifest_names_is_damaged(population: zs.Population, tmp_path: Path) -> None:
    zoo([population]).save(tmp_path)
    path = tmp_path / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["populations"]["original"][0]["learned"]["learned.other"] = ["float32", 8]
    path.write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match=r"holds nothing as 'learned\.other'"):
        Zoo.open(tmp_path, verify=False).population()


@pytest.mark.parametrize("format", ["safetensors", "npz", "huggingface", "modules", "modelzoos"])
def test_exports_keep_it(tmp_path: Path, format: str) -> None:
    population = zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(N))
    population.learned["log_gates"] = torch.randn_like(population.weights)
    zs.export_zoo(Zoo({"original": [population]}, population.models), tmp_path / "out", format=format)
    assert_same(zs.import_zoo(tmp_path / "out").population(), population)
    zs.import_zoo(tmp_path / "out", out=tmp_path / "back")
    assert_same(Zoo.open(tmp_path / "back").population(), population)


def test_an_export_cannot_name_a_file_elsewhere(tmp_path: Path) -> None:
    population = zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(N))
    population.learned["../../elsewhere"] = torch.randn_like(population.weights)
    zs.export_zoo(Zoo({"original": [population]}, population.models), tmp_path / "out", format="safetensors")
    (file,) = (tmp_path / "out" / "weights").glob("*.safetensors")
    assert "learned.../../elsewhere" in load_file(file)
    with pytest.raises(StoreError, match="holds"):
        zs.import_zoo(tmp_path / "out", out=tmp_path / "back")
