"""One tiny source of every format that can be imported, for the tests that damage them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import save_file
from torch import nn

import zoosparse_ext as zs
from tests.zoo.formats import ray_trees, test_matrices_in, test_preprocessed_in, test_small_cnn_in
from zoosparse_ext.zoo import Zoo

Write = Callable[[Path], object]
TREE_FILES = {"params.json", "result.json", "checkpoints", ".tune_metadata"}  # that an import reads


def _network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))


def small_zoo() -> Zoo:
    """Two models with twins by magnitude and an earlier epoch."""
    population = zs.Population.from_modules([_network(0), _network(1)], input_shape=(1, 2, 2))
    population.models["epoch"] = 1
    twins = zs.magnitude_prune(population, sparsity=[0.5])
    populations = {"original": [population], "magnitude": [twins], "original@0": [population]}
    return Zoo(populations, population.models, labels=torch.arange(3))


def write_tree(folder: Path) -> None:
    """An original and its twin, with the epochs in Ray's metadata."""
    name = ray_trees.trial_name(0)
    state = ray_trees.state_of(ray_trees.cnn_small())
    ray_trees.write_trial(folder / name, {0: state, 1: state}, iterations={0: 0, 1: 1})
    started = {"training__init_checkpoint_path": f"/zoo/{name}", "training__sample_epoch": 1}
    twin = {1: ray_trees.noisy(state, 1.0)}
    ray_trees.write_trial(folder / ray_trees.trial_name(1), twin, ray_trees.params(**started))


def write_matrix(suffix: str) -> Write:
    table = pd.DataFrame({"model_id": ["a", "b"], "epoch": [1, 2], "activation": "tanh", "accuracy": 0.5})
    return lambda folder: test_matrices_in.write_zoo(folder, 2, suffix, table)


def write_checkpoints(folder: Path) -> None:
    """The forms in which state dicts are saved, and a table."""
    folder.mkdir()
    states = [_state(number) for number in range(3)]
    torch.save(states[0], folder / "a.pt")
    torch.save(states[1], folder / "b.pth", _use_new_zipfile_serialization=False)
    save_file(states[2], folder / "c.safetensors")
    rows = [{"file": f, "activation": "tanh", "seed": 1} for f in ("a.pt", "b.pth", "c.safetensors")]
    (folder / "models.json").write_text(json.dumps(rows))


def _state(seed: int) -> dict[str, torch.Tensor]:
    network = zs.Population.initialise(zs.architecture("cnn-s", activation="tanh"), [seed])
    return network.to_modules()[0].state_dict()


def write_preprocessed(folder: Path) -> None:
    folder.mkdir()
    with test_preprocessed_in.published_class() as cls:
        test_preprocessed_in.write(folder / "set.pt", cls)


def write_export(format: str) -> Write:
    return lambda folder: zs.export_zoo(small_zoo(), folder, format=format)


SOURCES: dict[str, Write] = {
    "modelzoos": write_tree,
    "preprocessed": write_preprocessed,
    **{f"flat{suffix}": write_matrix(suffix) for suffix in (".npy", ".npz", ".safetensors", ".pt")},
    "small-cnn-zoo": lambda folder: test_small_cnn_in.write_zoo(
        folder, test_small_cnn_in.metrics(["relu", "tanh"])
    ),
    "checkpoints": write_checkpoints,
    **{f"exported {f}": write_export(f) for f in ("modelzoos", "safetensors", "npz", "modules")},
}


def files_of(folder: Path) -> list[Path]:
    """Files that an import of the folder reads."""
    tree = any(folder.glob("*/params.json"))
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.stat().st_size and (not tree or path.name in TREE_FILES)
    ]
