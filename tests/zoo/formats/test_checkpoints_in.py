"""Importing folders of checkpoints with a table, and repositories in the manner of the Hugging Face Hub."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import prune

import zoosparse_ext as zs

CNN_S = zs.architecture("cnn-s", activation="tanh")


def modules(count: int) -> list[nn.Module]:
    return zs.Population.initialise(CNN_S, range(count)).to_modules()


def row_of(state: dict[str, Tensor]) -> Tensor:
    return CNN_S.flatten(state)


def reasons(zoo: zs.Zoo) -> dict[str, str]:
    return {entry["name"]: entry["reason"] for entry in zoo.provenance["import"]["skipped"]}


def test_files_with_a_table(tmp_path: Path) -> None:
    networks = modules(3)
    for number, network in enumerate(networks):
        torch.save(network.state_dict(), tmp_path / f"m{number}.pt")
    table = pd.DataFrame(
        {"file": ["m2.pt", "m0.pt", "m1.pt"], "activation": "tanh", "test_acc": [0.3, 0.1, 0.2]}
    )
    table.to_csv(tmp_path / "models.csv", index=False)
    zoo = zs.import_zoo(tmp_path)
    assert torch.equal(zoo.population().weights, torch.stack([row_of(n.state_dict()) for n in networks]))
    assert zoo.models["model_id"].tolist() == ["m0", "m1", "m2"]
    assert zoo.models["accuracy"].tolist() == [0.1, 0.2, 0.3]


def test_one_folder_a_model_as_on_the_hub(tmp_path: Path) -> None:
    networks = modules(2)
    for number, network in enumerate(networks):
        folder = tmp_path / f"model-{number}"
        folder.mkdir()
        save_file(network.state_dict(), folder / "model.safetensors")
        torch.save(network.state_dict(), folder / "pytorch_model.bin")  # the same, for older loaders
        (folder / "config.json").write_text(
            json.dumps({"hidden_act": "tanh", "seed": 40 + number, "layers": [1]})
        )
    zoo = zs.import_zoo(tmp_path)
    assert zoo.models["model_id"].tolist() == ["model-0", "model-1"]
    assert zoo.models["activation"].tolist() == ["tanh", "tanh"]
    assert zoo.population().seeds.tolist() == [40, 41]
    assert torch.equal(zoo.population().weights[1], row_of(networks[1].state_dict()))


def test_pruned_state_becomes_weights_and_masks(tmp_path: Path) -> None:
    dense, pruned = modules(2)
    expected = {}
    for name, module in pruned.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            prune.l1_unstructured(module, "weight", amount=0.5)
            expected[f"{name}.weight"] = module.weight.detach()
            expected[f"{name}.bias"] = module.bias.detach()
    torch.save(dense.state_dict(), tmp_path / "dense.pt")
    torch.save(pruned.state_dict(), tmp_path / "twin.pt")
    pd.DataFrame(
        {
            "model_id": ["dense", "twin"],
            "activation": "tanh",
            "source_id": [None, "dense"],
            "target": [None, 0.5],
        }
    ).to_csv(tmp_path / "table.csv", index=False)
    zoo = zs.import_zoo(tmp_path)
    twin = zoo.population("magnitude")
    assert torch.equal(twin.weights[0], row_of(expected))
    assert twin.sparsity().tolist() == pytest.approx([0.5], abs=0.005)
    assert bool((twin.weights[~twin.masks] == 0).all()) and int((~twin.masks).sum()) == int(
        (twin.weights == 0).sum()
    )
    assert zoo.twins[["twin_id", "source_id", "target"]].values.tolist() == [["twin", "dense", 0.5]]


def test_one_file_of_a_folder(tmp_path: Path) -> None:
    """With its line of the table; the lines of others are not missing models."""
    for number, network in enumerate(modules(3)):
        torch.save(network.state_dict(), tmp_path / f"m{number}.pt")
    table = pd.DataFrame({"file": ["m0.pt", "m1.pt", "m2.pt"], "activation": "tanh", "seed": [7, 8, 9]})
    table.to_csv(tmp_path / "models.csv", index=False)
    zoo = zs.import_zoo(tmp_path / "m1.pt", strict=True)
    assert zoo.models[["model_id", "seed"]].values.tolist() == [["m1", 8]]


def test_architectures_are_groups(tmp_path: Path) -> None:
    torch.save(modules(1)[0].state_dict(), tmp_path / "a.pt")
    chain = nn.Sequential(nn.Linear(784, 8), nn.Tanh(), nn.Linear(8, 10))
    torch.save(chain.state_dict(), tmp_path / "b.pt")
    zoo = zs.import_zoo(tmp_path, activation="tanh")
    assert [len(group) for group in zoo.populations["original"]] == [1, 1]
    image = torch.rand(2, 1, 28, 28)
    assert torch.allclose(zoo.populations["original"][1](image)[0], chain(image.flatten(1)), atol=1e-6)


def test_broken_models_are_skipped_with_the_reason(tmp_path: Path) -> None:
    good, nan = modules(2)
    torch.save(good.state_dict(), tmp_path / "good.pt")
    nan.state_dict()["module_list.3.bias"][0] = torch.nan
    torch.save(nan.state_dict(), tmp_path / "nan.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "good.pt").read_bytes()[:900])
    torch.save({"module_list.0.weight": torch.zeros(2, 2, 2)}, tmp_path / "other.pt")
    (tmp_path / "large.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    pd.DataFrame({"file": ["good.pt", "gone.pt"]}).to_csv(tmp_path / "t.csv", index=False)
    zoo = zs.import_zoo(tmp_path, activation="tanh")
    assert zoo.models["model_id"].tolist() == ["good"]
    found = reasons(zoo)
    assert set(found) == {"nan", "cut", "other", "gone.pt", "large"}
    assert "git lfs pull" in found["large"] and "--allow-nan" in found["nan"]
    assert "'module_list.3.bias' holds NaN" in found["nan"]
    assert "no such checkpoint" in found["gone.pt"]
    with pytest.raises(zs.StoreError):
        zs.import_zoo(tmp_path, activation="tanh", strict=True)


def test_a_table_that_names_files_outside_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "zoo"
    folder.mkdir()
    torch.save(modules(1)[0].state_dict(), folder / "a.pt")
    pd.DataFrame({"file": ["../secret.pt"]}).to_csv(folder / "t.csv", index=False)
    with pytest.raises(zs.StoreError, match=r"t\.csv names files that are elsewhere: \.\./secret"):
        zs.import_zoo(folder, activation="tanh")


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "zoo"
    folder.mkdir()
    first, second = modules(2)
    torch.save(first.state_dict(), folder / "a.pt")
    torch.save(second.state_dict(), tmp_path / "outside.pt")
    (folder / "b.pt").symlink_to(tmp_path / "outside.pt")
    zoo = zs.import_zoo(folder, activation="tanh")
    assert zoo.models["model_id"].tolist() == ["a"] and "b" in reasons(zoo)


def test_a_pickle_that_would_run_something_is_not_run(tmp_path: Path) -> None:
    torch.save(modules(1)[0].state_dict(), tmp_path / "a.pt")
    torch.save({"x": Payload(tmp_path / "written")}, tmp_path / "trap.pt")
    zoo = zs.import_zoo(tmp_path, activation="tanh")
    assert zoo.models["model_id"].tolist() == ["a"]
    assert "trap" in reasons(zoo) and not (tmp_path / "written").exists()


class Payload:
    """Unpickling it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)
