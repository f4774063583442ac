"""Exported trees, read back, and read by a loader written after the published description alone."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import zoosparse_ext as zs
from tests.zoo.formats import ray_trees as trees
from tests.zoo.formats.small_zoos import assert_same
from zoosparse_ext.zoo import Zoo


@pytest.fixture(scope="module")
def tree(stored: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "tree"
    zs.export_zoo(Zoo.open(stored), folder)
    return folder


class PublishedLoader:
    """What loaders of the published zoos do: iterate folders, read JSON, `torch.load` into an `nn.ModuleList`."""

    def __init__(self, root: Path, epochs: list[int]) -> None:
        self.models: list[dict[str, Any]] = []
        for path in sorted(path for path in root.iterdir() if path.is_dir()):
            assert "tune_trainable" in path.name
            config = json.loads((path / "params.json").read_text())
            results = [json.loads(line) for line in (path / "result.json").read_text().splitlines()]
            for epoch in epochs:
                checkpoint = path / f"checkpoint_{epoch:06d}" / "checkpoints"
                if checkpoint.exists():
                    state = torch.load(checkpoint, map_location="cpu")
                    (metrics,) = [line for line in results if line["training_iteration"] == epoch]
                    self.models.append({"path": path, "config": config, "state": state, "metrics": metrics})

    def vector(self, index: int, layers: list[int]) -> Tensor:
        """The flattened weights as weight-space learning reads them: per layer weight, then bias."""
        state = self.models[index]["state"]
        parts = [(state[f"module_list.{i}.weight"], state[f"module_list.{i}.bias"]) for i in layers]
        return torch.cat([tensor.flatten() for pair in parts for tensor in pair])


def test_the_tree_reads_back_to_the_same_zoo(zoo: Zoo, tree: Path, tmp_path: Path) -> None:
    assert_same(zoo, zs.import_zoo(tree, epochs="all"))
    zs.import_zoo(tree, out=tmp_path / "back", epochs="all")
    assert_same(zoo, Zoo.open(tmp_path / "back"))


def test_a_published_loader_reads_it(zoo: Zoo, tree: Path) -> None:
    loader = PublishedLoader(tree / "original", epochs=[2])
    rows = torch.stack([loader.vector(index, [0, 3, 6, 9, 11]) for index in range(3)])
    first, second = zoo.populations["original"]
    assert torch.equal(rows, first.weights)
    assert torch.equal(loader.vector(4, [0, 4, 8, 11, 14]), second.weights[1])
    assert [model["config"]["seed"] for model in loader.models] == [1, 2, 3, 7, 8]
    accuracy = zoo.history[(zoo.history.epoch == 2) & (zoo.history.model_id == first.ids[0])].test_accuracy
    assert loader.models[0]["metrics"]["test_acc"] == accuracy.item()
    assert len(PublishedLoader(tree / "original", epochs=[1]).models) == 5


def test_state_dicts_load_into_the_published_network(zoo: Zoo, tree: Path) -> None:
    images = torch.rand(4, 1, 28, 28)
    (model, *_) = PublishedLoader(tree / "original", epochs=[2]).models
    network = nn.Module()
    network.module_list = trees.cnn_small(
        model["config"]["model::nlin"], model["config"]["model::channels_in"]
    )
    network.load_state_dict(model["state"])
    expected = zoo.populations["original"][0](images)[0]
    assert torch.allclose(trees.run_through(network.module_list, images), expected, atol=1e-5)


def test_twins_name_their_original_and_carry_their_noise(zoo: Zoo, tree: Path) -> None:
    originals = {model["path"].name: model for model in PublishedLoader(tree / "original", epochs=[2]).models}
    twins = PublishedLoader(tree / "variational", epochs=[3]).models
    assert len(twins) == 5
    for twin in twins:
        source = originals[Path(twin["config"]["training::init_checkpoint_path"]).name]
        assert source["config"]["seed"] == twin["config"]["seed"]
        state = twin["state"]
        log_alpha = state["module_list.0.log_sigma2"] - 2 * torch.log(
            state["module_list.0.weight"].abs() + 1e-15
        )
        assert torch.equal(log_alpha >= 3, state["module_list.0.weight"] == 0)
        assert "module_list.0.log_sigma2_bias" in state
        assert 0.3 < twin["metrics"]["sparsity_ratio"] < 0.5


def test_trees_are_what_an_import_without_our_description_expects(zoo: Zoo, tree: Path) -> None:
    found = zs.import_zoo([tree / "original", tree / "variational"], epochs="all")
    for name in ("original", "original@1", "variational"):
        for mine, theirs in zip(zoo.populations[name], found.populations[name], strict=True):
            assert torch.equal(mine.weights, theirs.weights)
            assert mine.packed_masks is None or torch.equal(mine.packed_masks, theirs.packed_masks)
            assert mine.architecture.program.layers == theirs.architecture.program.layers
    assert found.models["seed"].tolist() == zoo.models["seed"].tolist()
    assert found.history["test_loss"].tolist() == zoo.history["test_loss"].tolist()


def test_every_file_of_the_layout_is_there_and_strict_json(tree: Path) -> None:
    for root in (tree / "original", tree / "variational", tree / "magnitude-global"):
        assert {"config.json", "readme.md", "index_dict.json"} <= {path.name for path in root.iterdir()}
        for path in root.rglob("*.json"):
            for line in path.read_text().splitlines() if path.name == "result.json" else [path.read_text()]:
                json.loads(line, parse_constant=pytest.fail)
    trial = next(path for path in sorted((tree / "original").iterdir()) if path.is_dir())
    checkpoint = trial / "checkpoint_000002"
    assert {path.name for path in checkpoint.iterdir()} == {
        "checkpoints",
        "optimizer",
        ".is_checkpoint",
        ".tune_metadata",
    }
    assert torch.load(checkpoint / "optimizer", weights_only=True)["param_groups"][0]["lr"] == 3e-4
    with open(trial / "progress.csv") as file:
        lines = list(csv.DictReader(file))
    assert [line["training_iteration"] for line in lines] == ["0", "1", "2"] and lines[0][
        "config/seed"
    ] == "1"
    index = json.loads((tree / "original" / "index_dict.json").read_text())
    assert index["idx_start"] == [0, 208, 1414, 1514, 2254] and index["kernel_size"] == [25, 25, 4, 1, 1]


def test_the_data_set_is_written_as_the_published_zoos_have_it(tmp_path: Path) -> None:
    images = torch.randint(0, 255, (60, 1, 28, 28), dtype=torch.uint8)
    data = zs.Dataset.from_tensors(images, torch.arange(60) % 10)
    population = zs.Population.initialise(zs.architecture("cnn-s"), [1])
    zs.export_zoo(Zoo({"original": [population]}, population.models), tmp_path / "tree", data=data)
    dump = torch.load(tmp_path / "tree/original/dataset.pt", weights_only=False)
    assert dump["dataset_seed"] == 42 and len(dump["trainset"]) == len(data.train)
    image, label = dump["testset"][0]
    assert torch.equal(image, data.test.normalized()[0]) and label == data.test.labels[0]


def test_a_trial_that_was_removed_takes_its_rows_along(zoo: Zoo, tmp_path: Path) -> None:
    zs.export_zoo(zoo, tmp_path / "tree")
    first = sorted(path for path in (tmp_path / "tree/original").iterdir() if path.is_dir())[0]
    for checkpoint in first.glob("checkpoint_*/checkpoints"):
        checkpoint.unlink()
    found = zs.import_zoo(tmp_path / "tree", epochs="all")
    gone = zoo.populations["original"][0].ids[0]
    assert gone not in set(found.models.model_id) | set(found.history.model_id) | set(found.twins.source_id)
    assert len(found.populations["original"][0]) == 2


def test_a_folder_in_use_is_not_touched(zoo: Zoo, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/mine.txt").write_text("keep")
    with pytest.raises(zs.StoreError, match="is there already"):
        zs.export_zoo(zoo, tmp_path / "tree")
    with pytest.raises(zs.InputError, match="unknown format 'onnx'; known: modelzoos"):
        zs.export_zoo(zoo, tmp_path / "other", format="onnx")
    with pytest.raises(zs.InputError, match="'npz' has no place for data"):
        zs.export_zoo(zoo, tmp_path / "other", format="npz", data=zs.load_dataset("digits"))
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]
    (tmp_path / "other.unfinished").mkdir()
    with pytest.raises(zs.StoreError, match="perhaps of an export that was killed"):
        zs.export_zoo(zoo, tmp_path / "other")
    assert (tmp_path / "other.unfinished").is_dir()
