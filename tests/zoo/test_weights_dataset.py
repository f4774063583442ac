"""Rows of a zoo as samples: splits, permutations, tokens, standardisation, properties."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import zoosparse_ext as zs
from tests.zoo.formats import small_zoos
from tests.zoo.made_up import cut
from zoosparse_ext.population.permutations import HiddenPermutations
from zoosparse_ext.zoo import stored
from zoosparse_ext.zoo.tokens import Tokens
from zoosparse_ext.zoo.weights_dataset import WeightsDataset, split_of

TINY = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
CHAINS = {
    "conv, flatten, linear": (zs.architecture("cnn-s"), (1, 28, 28)),
    "with dropout layers": (zs.architecture("cnn-s", dropout=0.5), (1, 28, 28)),
    "wide": (zs.architecture("cnn-l", channels=3), (3, 32, 32)),
    "linear": (zs.Architecture.from_module(TINY), (1, 2, 2)),
    "no biases, padding and stride": (
        zs.Architecture.from_module(
            nn.Sequential(
                nn.Conv2d(2, 4, 3, padding=1, stride=2, bias=False),
                nn.Tanh(),
                nn.AvgPool2d(2),
                nn.Flatten(),
                nn.Linear(4 * 2 * 2, 6, bias=False),
                nn.GELU(),
                nn.Linear(6, 3),
            )
        ),
        (2, 8, 8),
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zoo of two architectures with an earlier epoch and twins by both methods."""
    folder = tmp_path_factory.mktemp("weights") / "zoo"
    small_zoos.full_zoo().save(folder)
    return folder


def tiny_zoo(rows: int = 40) -> zs.Zoo:
    population = zs.Population.initialise(zs.Architecture.from_module(TINY), seeds=range(rows))
    population.models["accuracy"] = np.arange(rows) / rows
    return zs.Zoo({"original": [population]}, population.models)


@pytest.mark.parametrize("name", CHAINS)
def test_permuted_networks_compute_the_same(name: str) -> None:
    architecture, size = CHAINS[name]
    population = zs.Population.initialise(architecture, seeds=range(3))
    images = torch.randn(4, *size, generator=torch.Generator().manual_seed(0))
    permutations = HiddenPermutations(architecture)
    index = permutations.random(torch.Generator().manual_seed(1))
    assert sorted(index.tolist()) == list(range(architecture.n_parameters))
    permuted = population.weights[:, index]
    assert not torch.equal(permuted, population.weights)
    torch.testing.assert_close(population.scores(permuted, images), population(images), rtol=1e-4, atol=1e-5)
    shifted = index.roll(1)  # any other order of columns is another function
    assert not torch.allclose(population.scores(population.weights[:, shifted], images), population(images))


def test_masks_take_the_same_permutation() -> None:
    twins = zs.magnitude_prune(tiny_zoo(3).population(), sparsity=0.5)
    index = HiddenPermutations(twins.architecture).random()
    assert torch.equal(twins.masks[:, index], (twins.weights[:, index] != 0) | twins.masks[:, index])


def test_an_order_that_is_no_permutation_is_refused() -> None:
    permutations = HiddenPermutations(zs.Architecture.from_module(TINY))
    with pytest.raises(zs.InputError, match="permutation of each of"):
        permutations.index([torch.tensor([0, 0, 1, 2, 3])])


def test_a_module_that_is_no_chain_cannot_be_augmented() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.second(self.first(x))

    population = zs.Population.from_modules([Residual() for _ in range(9)])
    zoo = zs.Zoo({"original": [population]}, population.models)
    assert len(WeightsDataset(zoo, "all")) == 9
    with pytest.raises(zs.InputError, match="no chain"):
        WeightsDataset(zoo, "all", augment=True)


def test_augmented_samples_are_permutations_of_the_row_and_differ_each_time() -> None:
    zoo = tiny_zoo()
    plain = WeightsDataset(zoo, standardise=False)
    augmented = WeightsDataset(zoo, standardise=False, augment=True)
    torch.manual_seed(0)
    draws = [augmented[0][0] for _ in range(5)]
    assert len({tuple(draw.tolist()) for draw in draws}) > 1
    assert all(torch.equal(draw.sort().values, plain[0][0].sort().values) for draw in draws)
    torch.manual_seed(0)
    assert torch.equal(augmented[0][0], draws[0])


@pytest.mark.parametrize("size", [None, 1, 3, 64])
@pytest.mark.parametrize("name", CHAINS)
def test_tokens_hold_every_weight_once(name: str, size: int | None) -> None:
    architecture, _ = CHAINS[name]
    rows = torch.arange(1.0, 1.0 + 2 * architecture.n_parameters).view(2, -1)
    tokens = Tokens(architecture, size)
    encoded = tokens.of(rows)
    assert encoded.shape == (2, len(tokens), tokens.size) and tokens.mask.sum() == architecture.n_parameters
    assert torch.equal(encoded != 0, tokens.mask.expand_as(encoded))
    assert torch.equal(tokens.rows(encoded), rows)
    assert tokens.positions[:, 0].tolist() == list(range(len(tokens)))


def test_splits_are_fixed_disjoint_and_complete() -> None:
    zoo = tiny_zoo()
    ids = {
        split: list(WeightsDataset(zoo, split).table["model_id"]) for split in ("train", "val", "test", "all")
    }
    assert (
        sorted(ids["train"] + ids["val"] + ids["test"])
        == sorted(ids["all"])
        == sorted(zoo.models["model_id"])
    )
    grown = pd.Series([f"{row:04d}" for row in range(500)])
    before = split_of(grown[:100])
    assert (split_of(grown)[:100] == before).all() and (split_of(grown[::-1])[::-1][:100] == before).all()
    shares = pd.Series(split_of(grown)).value_counts(normalize=True)
    assert shares[["train", "val", "test"]].tolist() == pytest.approx([0.7, 0.15, 0.15], abs=0.05)
    assert (split_of(grown, seed=1) != split_of(grown)).any()
    assert set(split_of(grown, (0.7, 0.3, 0.0))) == {"train", "val"}


def test_a_model_its_epochs_and_its_twins_share_a_split(folder: Path) -> None:
    found: dict[str, set[str]] = {}
    for split in ("train", "val", "test"):
        try:
            table = WeightsDataset(folder, split, "all", populations="all", standardise=False).table
        except zs.InputError:
            continue
        for model in table["model_id"]:
            found.setdefault(model, set()).add(split)
        assert table.groupby("model_id").size().eq(5).all()  # original, epoch 1, two ratios, variational
    assert len(found) == 5 and all(len(splits) == 1 for splits in found.values())


def test_twins_of_twins_go_with_the_first_original() -> None:
    zoo = tiny_zoo(12)
    first = zs.magnitude_prune(zoo.population(), sparsity=0.5)
    second = zs.magnitude_prune(first, sparsity=0.8)
    rows = [
        pd.DataFrame({"twin_id": t.ids, "source_id": t.models["source_id"], "epoch": 0})
        for t in (first, second)
    ]
    numbers = ["target", "sparsity", "loss", "accuracy", "agreement", "kappa", "agreement_on_errors"]
    twins = pd.concat(rows, ignore_index=True).assign(method="magnitude", scope="global", matched=None)
    twins[numbers] = np.nan
    zoo = zs.Zoo({**zoo.populations, "first": [first], "second": [second]}, zoo.models, twins=twins)
    dataset = WeightsDataset(zoo, "all", populations="all")
    assert dataset.table["model_id"].tolist() == 3 * zoo.population().ids


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        ("last", ["original"] * 3),
        ("all", ["original"] * 3 + ["original@1"] * 3),
        ([1], ["original@1"] * 3),
        ([2], ["original"] * 3),
    ],
)
def test_epochs(folder: Path, epochs: str | list[int], expected: list[str]) -> None:
    dataset = WeightsDataset(folder, "all", epochs, architecture="cnn-s-tanh", properties=["epoch"])
    assert dataset.table["population"].tolist() == expected
    assert [int(y) for _, y in dataset] == [1 if "@" in name else 2 for name in expected]


def test_layers_are_standardised_over_the_training_split() -> None:
    zoo = tiny_zoo()
    train, test = WeightsDataset(zoo), WeightsDataset(zoo, "test")
    rows = torch.stack([weights for weights, _ in train])
    for columns in (slice(0, 25), slice(25, 43)):
        assert abs(float(rows[:, columns].mean())) < 1e-6
        assert float(rows[:, columns].std(correction=0)) == pytest.approx(1, abs=1e-5)
        assert len(train.std[columns].unique()) == 1
    assert torch.equal(train.mean, test.mean) and torch.equal(train.std, test.std)


def test_a_layer_of_constants_is_shifted_alone() -> None:
    population = zs.Population(torch.full((9, 43), 2.0), zs.Architecture.from_module(TINY))
    dataset = WeightsDataset(zs.Zoo({"original": [population]}, population.models), "all")
    assert torch.equal(dataset[0][0], torch.zeros(43))


@pytest.mark.parametrize("what", ["weights", "tokens", "layers"])
def test_samples_become_the_networks_they_were(what: str) -> None:
    zoo = tiny_zoo()
    dataset = WeightsDataset(zoo, "all", what=what)
    batch, _ = next(iter(DataLoader(dataset, batch_size=len(dataset))))
    population = dataset.to_population(batch)
    torch.testing.assert_close(population.weights, zoo.population().weights)
    images = torch.rand(2, 1, 2, 2)
    torch.testing.assert_close(population(images), zoo.population()(images))


def test_layers_are_named_as_in_the_state_dict() -> None:
    zoo = tiny_zoo()
    layers, _ = WeightsDataset(zoo, "all", what="layers", standardise=False)[3]
    assert isinstance(layers, dict)
    for name, tensor in zoo.population().to_modules()[3].state_dict().items():
        assert torch.equal(layers[name], tensor)


def test_properties_come_from_the_table_that_knows_the_epoch(folder: Path) -> None:
    zoo = zs.Zoo.open(folder)
    dataset = WeightsDataset(
        zoo,
        "all",
        "all",
        properties=["accuracy", "train_loss", "lr", "sparsity", "activation"],
        populations="all",
    )
    history = zoo.history.set_index(["model_id", "epoch"])
    for line, (_, values) in zip(dataset.table.itertuples(), dataset, strict=True):
        accuracy, train_loss, lr, sparsity, activation = values.tolist()
        if line.twin_id is None or line.twin_id != line.twin_id:
            assert accuracy == pytest.approx(history.loc[(line.model_id, line.epoch), "test_accuracy"])
            assert train_loss == pytest.approx(history.loc[(line.model_id, line.epoch), "train_loss"])
            assert sparsity == 0.0
        else:  # nothing was measured on these twins; what was measured on their originals is not theirs
            assert np.isnan(accuracy) and np.isnan(train_loss)
            twin = zoo.twins[(zoo.twins.twin_id == line.twin_id) & (zoo.twins.epoch == line.epoch)]
            assert sparsity == pytest.approx(float(twin.sparsity.iloc[0]))
        assert lr == pytest.approx(3e-4)
        assert dataset.classes["activation"][int(activation)] in line.model_id
    assert dataset.classes["activation"] == ["relu", "tanh"]


@pytest.mark.parametrize("files", [1, 4])
def test_weights_stay_on_disk_until_a_sample_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int
) -> None:
    zoo = tiny_zoo(10)
    zoo.save(tmp_path / "zoo")
    if files == 4:
        cut(tmp_path / "zoo", rows=3)
    assert len(list((tmp_path / "zoo" / "shards").iterdir())) == files

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the matrix was read")

    monkeypatch.setattr(stored, "read_group", refuse)
    dataset = WeightsDataset(tmp_path / "zoo", "all", standardise=False)
    for loader in (DataLoader(dataset, batch_size=10), DataLoader(dataset, batch_size=5, num_workers=2)):
        rows = torch.cat([weights for weights, _ in loader])
        assert torch.equal(rows, zoo.population().weights)


def test_populations_in_memory_are_taken_as_they_are(folder: Path) -> None:
    zoo = zs.Zoo.open(folder)
    changed = [zs.Population(2 * g.weights, g.architecture, g.models) for g in zoo.populations["original"]]
    dataset = WeightsDataset(zoo.with_population("original", changed), "all", standardise=False)
    assert torch.equal(dataset[0][0], 2 * zoo.populations["original"][0].weights[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "validation"}, "split is 'validation'"),
        ({"what": "graphs"}, "what is 'graphs'"),
        ({"epochs": "first"}, "epochs is 'first'"),
        ({"epochs": [77]}, "no rows of 'original' at epochs"),
        ({"populations": "twins"}, "no population 'twins'"),
        ({"properties": ["colour"]}, "no table has a property 'colour'"),
        ({"architecture": "resnet"}, "with architecture resnet"),
        ({"fractions": (0.5, 0.2, 0.2)}, "sum to 1"),
        ({"fractions": (0.0, 0.5, 0.5)}, "is empty"),
        ({"fractions": (0.0, 0.5, 0.5), "split": "val"}, "training split is empty"),
        ({"what": "tokens", "token_size": 0}, "token_size is 0"),
    ],
)
def test_what_cannot_be_done_is_said(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(zs.InputError, match=message):
        WeightsDataset(tiny_zoo(), **arguments)


def test_networks_of_several_shapes_need_a_choice() -> None:
    groups = []
    for channels in (1, 3):
        table = pd.DataFrame({"model_id": [f"{channels}-{seed}" for seed in range(5)]})
        network = zs.architecture("cnn-s", channels=channels)
        groups.append(zs.Population.initialise(network, range(5), table=table))
    zoo = zs.Zoo({"original": groups}, pd.concat([group.models for group in groups], ignore_index=True))
    with pytest.raises(zs.InputError, match="2 shapes"):
        WeightsDataset(zoo, "all")


@pytest.mark.parametrize("stored_first", [False, True])
def test_originals_are_labelled_as_what_they_are(folder: Path, stored_first: bool) -> None:
    """Their method is "original" and their sparsity 0.0, as far as they have no masks of their own."""
    zoo = zs.Zoo.open(folder)
    if not stored_first:
        zoo = zs.Zoo({name: zoo.populations[name] for name in zoo.populations}, zoo.models, twins=zoo.twins)
    dataset = WeightsDataset(zoo, "all", properties=["sparsity", "method"], populations="all")
    assert dataset.classes["method"] == ["magnitude", "original", "variational"]
    originals = torch.tensor(dataset.table["twin_id"].isna().tolist())
    labels = torch.stack([values for _, values in dataset])
    assert labels[originals].tolist() == [[0.0, 1.0]] * int(originals.sum()) and originals.sum() == 5
    assert not labels.isnan().any() and bool((labels[~originals, 1] != 1.0).all())
    alone = WeightsDataset(zoo, "all", properties=["sparsity", "method", "series"])
    assert alone.classes == {"method": ["original"], "series": ["original"]}
    assert torch.equal(torch.stack([values for _, values in alone]), torch.zeros(5, 3))


def test_pruned_originals_have_the_sparsity_that_they_have(tmp_path: Path) -> None:
    pruned = zs.magnitude_prune(tiny_zoo(9).population(), 0.5)
    originals = zs.Population(
        pruned.weights,
        pruned.architecture,
        pruned.models[["model_id", "seed"]],
        packed_masks=pruned.packed_masks,
    )
    zoo = zs.Zoo({"original": [originals]}, originals.models)
    zoo.save(tmp_path / "zoo")
    for source in (zoo, tmp_path / "zoo"):
        dataset = WeightsDataset(source, "all", properties=["sparsity"])
        assert [float(values) for _, values in dataset] == pytest.approx(originals.sparsity().tolist())
    stated = zs.Zoo(zoo.populations, originals.models.assign(sparsity=0.25))
    assert {float(values) for _, values in WeightsDataset(stated, "all", properties=["sparsity"])} == {0.25}
