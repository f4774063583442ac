"""Importing zoos against the loop that a user would write, and opening ours against reading the tree again.

The job: 100 models of CNN-s at 11 epochs as modelzoos.cc publishes them (1,100 checkpoints of 2,464 parameters), into
matrices. Everything runs in one process on one thread with the files in the page cache, so seconds are core-seconds.
Imports also read hyperparameters and results, check shapes and NaN, and build tables; the loops only load.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Contender
from safetensors.torch import load_file, save_file
from torch import Tensor

import zoosparse_ext as zs

MODELS, EPOCHS = 100, 11
NETWORK = zs.architecture("cnn-s", activation="tanh")
BYTES = MODELS * EPOCHS * NETWORK.n_parameters * 4


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def matrices() -> Tensor:
    """Random weights, float32 [epochs, N, P]."""
    return torch.randn(EPOCHS, MODELS, NETWORK.n_parameters, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def tree(matrices: Tensor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Ray tree in the published layout."""
    root = tmp_path_factory.mktemp("zoos") / "tree"
    for model in range(MODELS):
        trial = root / f"NN_tune_trainable_{model:05d}_{model}_seed={model}"
        for epoch in range(EPOCHS):
            folder = trial / f"checkpoint_{epoch:06d}"
            folder.mkdir(parents=True)
            torch.save(state_dict(matrices[epoch, model]), folder / "checkpoints")
        params = {"model::nlin": "tanh", "optim::optimizer": "adam", "optim::lr": 3e-4, "seed": model}
        lines = [{"training_iteration": e, "test_acc": 0.1 * e, "config": params} for e in range(EPOCHS)]
        (trial / "params.json").write_text(json.dumps(params))
        (trial / "result.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root


@pytest.fixture(scope="module")
def store(tree: Path) -> Path:
    """The same zoo as our store."""
    zs.import_zoo(tree, out=tree.with_name("store"), epochs="all")
    return tree.with_name("store")


def state_dict(row: Tensor) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in NETWORK.unflatten(row).items()}


def vector(state: dict[str, Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in state.values()])


def by_torch_load(tree: Path, weights_only: bool = True, epochs: range = range(EPOCHS)) -> Tensor:
    """What a user would write, [epochs, N, P]."""
    rows = [
        [
            vector(torch.load(trial / f"checkpoint_{epoch:06d}" / "checkpoints", weights_only=weights_only))
            for trial in sorted(tree.iterdir())
        ]
        for epoch in epochs
    ]
    return torch.stack([torch.stack(row) for row in rows])


def by_import(source: Path) -> Tensor:
    """Ours, [epochs, N, P]."""
    return epochs_of(zs.import_zoo(source, epochs="all", workers=1))


def epochs_of(zoo: zs.Zoo) -> Tensor:
    names = [*(f"original@{epoch}" for epoch in range(EPOCHS - 1)), "original"]
    return torch.stack([zoo.population(name).weights for name in names])


def test_import_tree(race: Callable[..., None], tree: Path) -> None:
    race(
        {
            "import_zoo": Contender(lambda: by_import(tree)),
            "torch.load, a loop": Contender(lambda: by_torch_load(tree)),
            "torch.load, a loop that runs pickles": Contender(lambda: by_torch_load(tree, False)),
        },
        bytes_moved=BYTES,
        rounds=5,
    )


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_import_folder(race: Callable[..., None], matrices: Tensor, tmp_path: Path, suffix: str) -> None:
    """A folder of as many checkpoints as the tree has, a model each."""
    for folder in (".pt", ".safetensors"):
        (tmp_path / folder).mkdir()
    for model, row in enumerate(matrices.flatten(0, 1)):
        torch.save(state_dict(row), tmp_path / ".pt" / f"{model:05d}.pt")
        save_file(state_dict(row), tmp_path / ".safetensors" / f"{model:05d}.safetensors")
    names = [segment.name for segment in NETWORK.segments]

    def loop(load: Callable[[Path], dict[str, Tensor]], folder: str) -> Tensor:
        states = [load(path) for path in sorted((tmp_path / folder).iterdir())]
        return torch.stack([vector({name: state[name] for name in names}) for state in states])

    def ours() -> Tensor:
        return zs.import_zoo(tmp_path / suffix, activation="tanh").population().weights

    contenders = {
        "import_zoo": Contender(ours),
        "torch.load, a loop over .pt": Contender(lambda: loop(torch.load, ".pt")),
    }
    if suffix == ".safetensors":
        contenders["load_file, a loop"] = Contender(lambda: loop(load_file, ".safetensors"))
    race(contenders, bytes_moved=BYTES, rounds=5)


@pytest.mark.parametrize("format", ["safetensors", "npz", "modules", "modelzoos"])
def test_import_export(
    race: Callable[..., None], store: Path, tree: Path, tmp_path: Path, format: str
) -> None:
    """What we exported, read back; against loading the tree."""
    zs.export_zoo(zs.Zoo.open(store), tmp_path / "export", format=format)
    race(
        {
            "import_zoo": Contender(lambda: by_import(tmp_path / "export")),
            "torch.load, a loop over the tree": Contender(lambda: by_torch_load(tree)),
        },
        bytes_moved=BYTES,
        rounds=5,
    )


def test_open(race: Callable[..., None], store: Path, tree: Path) -> None:
    """Opening a zoo, up to what somebody needs first; the loops over the tree give weights and no table.

    - weights of an epoch: one matrix of all models, mapped but not looked at, with its table (`Population.models`).
    - alone: the manifest, and whether every table is there; the tables of the zoo are read when first looked at.
    - the table of models: up to its first row, without weights.
    - all tables: the weights of an epoch, and `models`, `history` and `twins`.
    - all epochs: every matrix with its table, all weights copied into one tensor as the loop does.
    """
    last = range(EPOCHS - 1, EPOCHS)

    def all_tables() -> Tensor:
        zoo = zs.Zoo.open(store, verify=False)
        assert len(zoo.models) == MODELS and len(zoo.history) and not len(zoo.twins)
        return zoo.population().weights

    def models() -> str:
        return zs.Zoo.open(store, verify=False).models["model_id"].iloc[0]

    race(
        {
            "Zoo.open, weights of an epoch": Contender(
                lambda: zs.Zoo.open(store, verify=False).population().weights
            ),
            "the same, checksums verified": Contender(lambda: zs.Zoo.open(store).population().weights),
            "Zoo.open alone": Contender(lambda: zs.Zoo.open(store, verify=False), validate=False),
            "Zoo.open, the table of models": Contender(models, validate=False),
            "Zoo.open, weights of an epoch, all tables": Contender(all_tables),
            "Zoo.open, weights of all epochs": Contender(
                lambda: epochs_of(zs.Zoo.open(store, verify=False))[-1]
            ),
            "torch.load, a loop, that epoch": Contender(lambda: by_torch_load(tree, epochs=last)[0]),
            "torch.load, a loop, all epochs": Contender(lambda: by_torch_load(tree)[-1]),
        },
        bytes_moved=BYTES // EPOCHS,
        rounds=15,
    )
