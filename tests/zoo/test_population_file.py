"""`zs.save_population` and `zs.open_population`: every kind of population comes back bit by bit, from one file."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import zoosparse_ext as zs
from tests.population import tiny
from tests.test_zoo_of_0_1 import FOLDER, POPULATIONS
from tests.zoo import made_up
from tests.zoo.failing_disk import Disk, PowerLoss
from zoosparse_ext.population.tensors import tensors_of

DATA = zs.load_dataset("digits").limit(40)


def originals() -> zs.Population:
    population = zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(2))
    zs.train(
        population, DATA, epochs=2, optimizer=zs.Adam(lr=[1e-3, 1e-4]), keep=(0, 1), keep_optimizer_state=True
    )
    return population


def learned() -> zs.Population:
    return zs.sparsify(originals(), "l0", data=DATA, epochs=1)


KINDS: dict[str, Callable[[], zs.Population]] = {
    "trained, with kept epochs and optimizer state": originals,
    "untrained chain": lambda: tiny.population(input_shape=tiny.SHAPE),
    "batch norm": lambda: tiny.population(tiny.batch_normed),
    "residual": lambda: tiny.population(tiny.Residual),
    "ready network": lambda: zs.Population.initialise(
        zs.architecture("resnet18", channels=1, size=(32, 32)), seeds=[1]
    ),
    "magnitude twins": lambda: zs.magnitude_prune(originals(), [0.5, 0.9], data=DATA, epochs=1),
    "variational twins": lambda: zs.variational_dropout(originals(), DATA, epochs=2, keep=(1,)),
    "another learned method": learned,
    "float64": lambda: zs.Population(torch.rand(2, 8, dtype=torch.float64), made_up.architecture()),
    "many classes": lambda: made_up.population(masks=True, log_sigma2=True, predictions=torch.uint16),
    "no rows": lambda: made_up.population(0),
    "odd numbers": lambda: zs.Population(
        torch.tensor([[float("nan"), -0.0, float("inf"), 1e-40, 0, 0, 0, 1]]), made_up.architecture()
    ),
}


def assert_same(ours: zs.Population, theirs: zs.Population) -> None:
    ours_, theirs_ = tensors_of(ours), tensors_of(theirs)
    assert list(ours_) == list(theirs_)
    for name, tensor in theirs_.items():
        assert ours_[name].dtype == tensor.dtype and ours_[name].shape == tensor.shape
        assert ours_[name].numpy().tobytes() == tensor.contiguous().numpy().tobytes(), name
    pd.testing.assert_frame_equal(ours.models, theirs.models, check_dtype=False)
    assert (ours.history is None) == (theirs.history is None)
    if ours.history is not None and theirs.history is not None:
        pd.testing.assert_frame_equal(ours.history, theirs.history, check_dtype=False)
    assert ours.trained_by == theirs.trained_by
    assert ours.architecture.to_dict() == theirs.architecture.to_dict()
    state, its = ours.optimizer_state, theirs.optimizer_state
    assert (state is None) == (its is None)
    if state is not None and its is not None:
        assert (state.kind, state.step, state.epochs) == (its.kind, its.step, its.epochs)
        assert torch.equal(state.first, its.first) and torch.equal(state.second, its.second)
    assert list(ours.kept) == list(theirs.kept)
    for epoch, then in theirs.kept.items():
        assert_same(ours.kept[epoch], then)


@pytest.mark.parametrize("kind", KINDS)
def test_it_comes_back(kind: str, tmp_path: Path) -> None:
    population = KINDS[kind]()
    path = zs.save_population(population, tmp_path / "made" / "here.safetensors")
    assert [file.name for file in path.parent.iterdir()] == ["here.safetensors"]
    assert_same(zs.open_population(path), population)


@pytest.mark.parametrize("name", ["chain", "batch_norm"])
@pytest.mark.parametrize("population", POPULATIONS)
def test_zoos_of_0_1_go_through_it(name: str, population: str, tmp_path: Path) -> None:
    group = zs.Zoo.open(FOLDER / name).population(population)
    assert_same(zs.open_population(zs.save_population(group, tmp_path / "file")), group)


def test_it_computes_and_trains_on_as_before(tmp_path: Path) -> None:
    population = originals()
    again = zs.open_population(zs.save_population(population, tmp_path / "file"))
    images = DATA.test.normalized()
    assert torch.equal(again(images), population(images))
    for one in (population, again):
        zs.train(one, DATA, epochs=1, optimizer=zs.Adam(lr=1e-3), optimizer_state="source")
    assert torch.equal(again.weights, population.weights)


class Own(nn.Module):
    """No chain, and no graph of known operations."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.head = nn.Linear(16, width)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.norm(self.head(images.flatten(1))).cumsum(1)


class TestModules:
    def make(self, **options: object) -> zs.Population:
        return zs.Population.from_modules(
            tiny.make(Own, 2),
            input_shape=(1, 4, 4),
            **options,  # type: ignore[arg-type]
        )

    def test_the_module_is_given_again(self, tmp_path: Path) -> None:
        population = self.make()
        assert population.architecture.program is None
        population.kept = {1: population.clone()}
        path = zs.save_population(population, tmp_path / "file")
        images = torch.randn(3, 1, 4, 4)
        again = zs.open_population(path, module=Own())
        assert torch.equal(again(images), population(images))
        assert torch.equal(again.kept[1](images), population(images))
        assert isinstance(again.to_modules()[0], Own)

    def test_without_it_weights_are_there_and_running_asks_for_it(self, tmp_path: Path) -> None:
        again = zs.open_population(zs.save_population(self.make(), tmp_path / "file"))
        assert again.weights.shape[0] == 2 and again.sparsity().tolist() == [0.0, 0.0]
        with pytest.raises(zs.InputError) as error:
            again(torch.zeros(1, 1, 4, 4))
        assert "with_module" in str(error.value)

    def test_prunable_weights_are_as_they_were_saved(self, tmp_path: Path) -> None:
        path = zs.save_population(self.make(prunable=()), tmp_path / "file")
        assert zs.open_population(path, module=Own()).architecture.n_prunable == 0

    def test_another_module_is_refused(self, tmp_path: Path) -> None:
        path = zs.save_population(self.make(), tmp_path / "file")
        for module in (Own(width=5), nn.Linear(2, 2), "Own"):
            with pytest.raises(zs.InputError):
                zs.open_population(path, module=module)  # type: ignore[arg-type]


class TestSaving:
    def test_what_is_there_stays_unless_it_is_said(self, tmp_path: Path) -> None:
        path = zs.save_population(tiny.population(n=1), tmp_path / "file")
        with pytest.raises(zs.StoreError):
            zs.save_population(tiny.population(n=2), path)
        assert len(zs.open_population(path)) == 1
        opened = zs.open_population(path)  # mapped, and still whole after the file is replaced
        zs.save_population(tiny.population(n=2), path, overwrite=True)
        assert len(zs.open_population(path)) == 2 and bool(torch.isfinite(opened.weights).all())

    def test_a_file_can_replace_the_one_it_was_read_from(self, tmp_path: Path) -> None:
        population = tiny.population()
        path = zs.save_population(population, tmp_path / "file")
        zs.save_population(zs.open_population(path), path, overwrite=True)
        assert_same(zs.open_population(path), population)

    @pytest.mark.parametrize("full", [True, False], ids=["full disk", "power loss"])
    def test_a_failure_at_any_step_leaves_what_was_there_or_the_new_file(
        self, full: bool, tmp_path: Path
    ) -> None:
        path = zs.save_population(tiny.population(n=1), tmp_path / "file")
        for at in range(100):
            disk = Disk(at, full)
            with pytest.MonkeyPatch.context() as patch:
                disk.attach(patch)
                try:
                    zs.save_population(tiny.population(n=2), path, overwrite=True)
                except (zs.StoreError, PowerLoss):
                    assert disk.failed
            assert len(zs.open_population(path)) in (1, 2)
            assert not full or [file.name for file in tmp_path.iterdir()] == ["file"]
            if not disk.failed:
                break
        assert at > 1 and len(zs.open_population(path)) == 2

    def test_places_and_things_that_are_none(self, tmp_path: Path) -> None:
        with pytest.raises(zs.StoreError):
            zs.save_population(tiny.population(), tmp_path)
        with pytest.raises(zs.InputError):
            zs.save_population(tiny.population().weights, tmp_path / "file")  # type: ignore[arg-type]
        odd = tiny.population()
        odd.learned["a/b"] = torch.zeros_like(odd.weights)
        with pytest.raises(zs.InputError):
            zs.save_population(odd, tmp_path / "file")
        other = tiny.population()
        other.kept = {1: made_up.population()}
        with pytest.raises(zs.InputError):
            zs.save_population(other, tmp_path / "file")
        mixed = tiny.population(n=2)
        mixed.models["note"] = [1, "text"]
        with pytest.raises(zs.StoreError):
            zs.save_population(mixed, tmp_path / "file")
        assert not (tmp_path / "file").exists()

    def test_weights_without_data(self, tmp_path: Path) -> None:
        population = tiny.population()
        population.weights = population.weights.to("meta")
        with pytest.raises(zs.InputError):
            zs.save_population(population, tmp_path / "file")


class TestOpening:
    def test_what_is_no_population(self, tmp_path: Path) -> None:
        with pytest.raises(zs.StoreError):
            zs.open_population(tmp_path / "missing")
        with pytest.raises(zs.StoreError):
            zs.open_population(tmp_path)
        (tmp_path / "empty").write_bytes(b"")
        (tmp_path / "text").write_text("no tensors" * 100)
        (tmp_path / "pickle").write_bytes(pickle.dumps({"weights": [1]}))
        save_file({"weights": torch.zeros(2, 2)}, tmp_path / "other.safetensors")
        for name in ("empty", "text", "pickle", "other.safetensors"):
            with pytest.raises(zs.StoreError):
                zs.open_population(tmp_path / name)

    @pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.6, 0.9, 1.0])
    def test_any_damage_is_found(self, share: float, tmp_path: Path) -> None:
        path = zs.save_population(tiny.population(), tmp_path / "file")
        content = bytearray(path.read_bytes())
        content[round(share * (len(content) - 1))] ^= 0x04
        path.write_bytes(content)
        with pytest.raises(zs.StoreError):
            zs.open_population(path)

    def test_a_truncated_file(self, tmp_path: Path) -> None:
        path = zs.save_population(tiny.population(), tmp_path / "file")
        path.write_bytes(path.read_bytes()[:-10])
        with pytest.raises(zs.StoreError):
            zs.open_population(path, verify=False)

    def test_a_newer_version_and_missing_parts(self, tmp_path: Path) -> None:
        path = zs.save_population(tiny.population(), tmp_path / "file")
        tensors = load_file(path)
        for told in (
            {"format": "zoosparse-population", "version": "2"},
            {"format": "zoosparse-population", "version": "one"},
            {"format": "zoosparse-population", "version": "1"},
            {"format": "zoosparse-population", "version": "1", "architecture": "{}", "population": "[]"},
        ):
            save_file(tensors, tmp_path / "changed", metadata=told)
            with pytest.raises(zs.StoreError):
                zs.open_population(tmp_path / "changed", verify=False)

    def test_it_can_be_mapped_without_reading(self, tmp_path: Path) -> None:
        population = tiny.population()
        path = zs.save_population(population, tmp_path / "file")
        assert torch.equal(zs.open_population(path, verify=False).weights, population.weights)
