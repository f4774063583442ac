"""Our store → every format → our store."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import zoosparse_ext as zs
from tests.zoo.formats.small_zoos import assert_same, originals
from zoosparse_ext.zoo import Zoo

PACKED = ("safetensors", "huggingface", "npz")


@pytest.mark.parametrize("format", [*PACKED, "modules"])
def test_bits_and_tables_come_back(zoo: Zoo, tmp_path: Path, format: str) -> None:
    zs.export_zoo(zoo, tmp_path / "out", format=format)
    assert_same(zoo, zs.import_zoo(tmp_path / "out", epochs="all"))
    zs.import_zoo(tmp_path / "out", out=tmp_path / "back", epochs="all")
    assert_same(zoo, Zoo.open(tmp_path / "back"))


@pytest.mark.parametrize("format", ["modelzoos", "safetensors", "modules"])
def test_earlier_epochs_come_back_when_asked_for(zoo: Zoo, tmp_path: Path, format: str) -> None:
    zs.export_zoo(zoo, tmp_path / "out", format=format)
    assert "original@1" not in zs.import_zoo(tmp_path / "out").populations
    assert "original@1" in zs.import_zoo(tmp_path / "out", epochs=[1]).populations


@pytest.mark.parametrize("format", ["modelzoos", "npz", "modules"])
def test_nan_and_negative_zero_are_bits_like_others(tmp_path: Path, format: str) -> None:
    population = originals(zs.architecture("cnn-s"))
    population.weights[0, :3] = torch.tensor([float("nan"), -0.0, float("inf")])
    Zoo({"original": [population]}, population.models).save(tmp_path / "zoo")
    zoo = Zoo.open(tmp_path / "zoo")
    zs.export_zoo(zoo, tmp_path / "out", format=format)
    found = zs.import_zoo(tmp_path / "out").population()
    assert torch.equal(found.weights.view(torch.int32), population.weights.view(torch.int32))


def test_architectures_that_tensors_do_not_tell_come_back(tmp_path: Path) -> None:
    modules = [torch.nn.Sequential(torch.nn.Conv2d(1, 3, 3), torch.nn.Flatten(), torch.nn.Linear(27, 2))] * 2
    population = zs.Population.from_modules(modules, input_shape=(1, 5, 5))
    for format in ("modelzoos", "modules", "safetensors"):
        zs.export_zoo(Zoo({"original": [population]}, population.models), tmp_path / format, format=format)
        found = zs.import_zoo(tmp_path / format).population()
        assert found.architecture == population.architecture and torch.equal(
            found.weights, population.weights
        )


def test_packed_files_are_read_without_the_package(zoo: Zoo, tmp_path: Path) -> None:
    zs.export_zoo(zoo, tmp_path / "s", format="safetensors")
    zs.export_zoo(zoo, tmp_path / "n", format="npz")
    expected = zoo.populations["variational"][1]
    tensors = load_file(tmp_path / "s/weights/variational-1-0.safetensors")
    arrays = np.load(tmp_path / "n/weights/variational-1-0.npz", allow_pickle=False)
    assert torch.equal(tensors["weights"], expected.weights)
    kept = np.unpackbits(arrays["packed_masks"], axis=1, bitorder="little", count=expected.weights.shape[1])
    assert np.array_equal(kept.astype(bool), expected.masks.numpy())
    assert pd.read_parquet(tmp_path / "s/tables/variational-1.parquet")["twin_id"].tolist() == expected.ids
    index = json.loads((tmp_path / "s/index_dict.json").read_text())
    assert index["cnn-s-tanh"]["idx_start"] == [0, 208, 1414, 1514, 2254]


def test_state_dicts_of_modules_load_into_modules(zoo: Zoo, tmp_path: Path) -> None:
    zs.export_zoo(zoo, tmp_path / "out", format="modules")
    group = zoo.populations["magnitude-global"][0]
    module = group.architecture.module()
    (path,) = (tmp_path / "out/magnitude-global").glob("*-0-00004.pt")
    module.load_state_dict(torch.load(path, weights_only=True))
    images = torch.rand(2, 1, 28, 28)
    assert torch.allclose(module.eval()(images), group[[4]](images)[0], atol=1e-5)


def test_the_card_says_what_is_there_and_how_to_load_it(zoo: Zoo, tmp_path: Path) -> None:
    zs.export_zoo(zoo, tmp_path / "out", format="huggingface", license="cc-by-4.0")
    card = (tmp_path / "out/README.md").read_text()
    assert card.startswith('---\nlicense: "cc-by-4.0"\n')
    for expected in (
        "A zoo of 5 models",
        "| original (and 1 earlier epoch) | 3 | cnn-s-tanh | 2,464 |",
        "80.0%",
        "Licence: cc-by-4.0",
    ):
        assert expected in card
    assert "](figures/accuracy.svg)" in card and (
        tmp_path / "out/figures/accuracy.svg"
    ).read_text().startswith("<svg")
    for file in (tmp_path / "out").rglob("*.json"):
        json.loads(file.read_text(), parse_constant=pytest.fail)
    for line in card.splitlines():
        if "data_files:" in line:
            assert (tmp_path / "out" / line.split()[-1]).is_file()


@pytest.mark.parametrize("name", ["original", "variational"])
@pytest.mark.parametrize("groups", [1, 2])
def test_what_the_card_says_about_loading_can_be_run(
    zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, groups: int
) -> None:
    """Whatever the zoo holds: several architectures, or no originals."""
    part = Zoo({name: zoo.populations[name][:groups]}, zoo.models)
    zs.export_zoo(part, tmp_path / "out", format="huggingface")
    monkeypatch.chdir(tmp_path / "out")
    codes = Path("README.md").read_text().replace("path/of/this/folder", ".").split("```")[1::2]
    assert len(codes) == 2
    for code in codes:
        exec(code.removeprefix("python"), {})


@pytest.mark.parametrize("format", [*PACKED, "modules", "modelzoos"])
def test_others_may_read_what_was_exported(zoo: Zoo, tmp_path: Path, format: str) -> None:
    """As far as the umask lets them."""
    zs.export_zoo(zoo, tmp_path / "out", format=format)
    (tmp_path / "any").touch()
    modes = {path.stat().st_mode for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert modes == {(tmp_path / "any").stat().st_mode}


def test_few_files_however_many_models(tmp_path: Path) -> None:
    architecture = zs.architecture("mlp", size=2)
    population = originals(architecture, range(500))
    zs.export_zoo(Zoo({"original": [population]}, population.models), tmp_path / "out", format="huggingface")
    assert sum(path.is_file() for path in (tmp_path / "out").rglob("*")) < 15


def test_large_populations_are_several_files(
    zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoosparse_ext.zoo.formats.packed.FILE_BYTES", 25_000)
    for format in PACKED:
        zs.export_zoo(zoo, tmp_path / format, format=format)
        assert len(list((tmp_path / format / "weights").glob("original-0-*"))) == 2
        assert_same(zoo, zs.import_zoo(tmp_path / format, epochs="all"))


def test_twins_matched_to_others_are_one_line_of_the_card(tmp_path: Path) -> None:
    population = zs.Population.initialise(zs.architecture("cnn-s"), range(2))
    twins = [
        {"twin_id": f"a{n}", "source_id": f"m{n}", "method": "magnitude", "scope": "layer"} for n in range(4)
    ]
    table = pd.DataFrame(twins).assign(
        epoch=1, target=[0.5, 0.5, 0.41, 0.43], sparsity=[0.5, 0.5, 0.41, 0.43]
    )
    table = table.assign(matched=[None, None, "v0", "v1"], accuracy=[0.9, 0.8, 0.7, 0.6])
    table = table.assign(loss=0.1, agreement=0.9, kappa=0.9, agreement_on_errors=0.5)
    for name, rows in (("with", table), ("without", None)):
        zs.export_zoo(
            zs.Zoo({"original": [population]}, population.models, twins=rows), tmp_path / name, "huggingface"
        )
    card = (tmp_path / "with/README.md").read_text()
    assert "| magnitude, layer | 50% (asked 50%) | 85.0% | 80.0% | 90.0% |" in card
    assert (
        "| magnitude, layer, matched | 42% | 65.0% | 60.0% | 70.0% |" in card and card.count("matched") == 1
    )
    assert "No accuracies are recorded." in (tmp_path / "without/README.md").read_text()


@pytest.mark.parametrize("format", ["safetensors", "modelzoos", "huggingface", "npz", "modules"])
def test_counts_of_batches_come_back(format: str, tmp_path: Path) -> None:
    norm = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3))
    population = zs.Population.from_modules([norm, norm], input_shape=(1, 2, 2))
    population.counts = torch.tensor([[3], [14]])
    models = population.models.assign(accuracy=0.5)
    history = pd.DataFrame({"model_id": list(models.model_id), "epoch": 0})
    for split in ("train", "val", "test"):
        history[f"{split}_loss"] = history[f"{split}_accuracy"] = 0.5
    zoo = Zoo({"original": [population]}, models, history, labels=torch.arange(4) % 3)
    zs.export_zoo(zoo, tmp_path / "exported", format=format)
    back = zs.import_zoo(tmp_path / "exported").population()
    assert torch.equal(back.counts, population.counts) and torch.equal(back.weights, population.weights)
    assert back.architecture.counters == ("2.num_batches_tracked",)
