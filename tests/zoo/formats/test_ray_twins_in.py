"""Importing twins by variational dropout, and pairing them with their originals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import zoosparse_ext as zs
from tests.zoo.formats import ray_trees as trees


def write_twin(root: Path, number: int, source: str, state: trees.State, **changes: Any) -> None:
    """A twin's params.json: only `init_checkpoint_path` is to be believed, the rest is the first model's."""
    given = trees.params(
        training__init_checkpoint_path=f"/cluster/zoos/mnist/{source}", training__sample_epoch=50
    )
    lines = [trees.result(epoch, sparsity_ratio=epoch / 10) for epoch in range(3)]
    trees.write_trial(root / trees.trial_name(number), {2: state}, given | {"seed": 1} | changes, lines)


@pytest.fixture
def twin_zoo(tmp_path: Path) -> tuple[Path, Path]:
    """Three originals; twins in another order, of the second and the third."""
    originals = trees.write_zoo(tmp_path / "zoo")
    for number, which in ((0, 2), (1, 1)):
        state = trees.noisy(originals[which][2], log_alpha=torch.tensor(1.0))
        write_twin(tmp_path / "twins", number, trees.trial_name(which), state)
    return tmp_path / "zoo", tmp_path / "twins"


def test_twins_are_paired_by_the_path_they_started_from_alone(twin_zoo: tuple[Path, Path]) -> None:
    zoo = zs.import_zoo(twin_zoo)
    twins = zoo.population("variational")
    assert twins.models["source_id"].tolist() == [trees.trial_name(1), trees.trial_name(2)]
    assert twins.models["seed"].tolist() == [2, 3]  # of the originals; the twins' own files say 1
    assert torch.equal(twins.weights, zoo.population().weights[1:])
    assert len(twins.ids) == len(set(twins.ids))


def test_the_trajectory_comes_from_result_json(twin_zoo: tuple[Path, Path]) -> None:
    twins = zs.import_zoo(twin_zoo).twins
    first = twins[twins.source_id == trees.trial_name(1)]
    assert first["epoch"].tolist() == [0, 1, 2]
    assert first["sparsity"].tolist() == pytest.approx(
        [0.0, 0.1, 0.0]
    )  # the last from the tensors: nothing dropped
    assert first["accuracy"].tolist() == pytest.approx([0.09, 0.10, 0.11])
    assert set(first["method"]) == {"variational"} and first["target"].isna().all()


def test_masks_follow_from_log_alpha_and_the_threshold(tmp_path: Path) -> None:
    (states,) = trees.write_zoo(tmp_path / "zoo", 1)
    noisy = trees.noisy(states[2], log_alpha=1.0)
    dropped = torch.zeros(6, 8, 5, 5, dtype=torch.bool)
    dropped[0] = True
    weight = states[2]["module_list.3.weight"]
    noisy["module_list.3.log_sigma2"] = torch.where(dropped, 3.5, 2.5) + 2 * weight.abs().log()
    write_twin(tmp_path / "twins", 0, trees.trial_name(0), noisy)
    twins = zs.import_zoo([tmp_path / "zoo", tmp_path / "twins"]).population("variational")
    segment = next(s for s in twins.layers() if s.name == "module_list.3.weight")
    assert torch.equal(twins.masks[0, segment.slice].view(6, 8, 5, 5), ~dropped)
    assert (twins.weights[0, segment.slice].view(6, 8, 5, 5)[dropped] == 0).all()
    assert float(twins.sparsity()) == pytest.approx(200 / 2416)
    stricter = zs.import_zoo([tmp_path / "zoo", tmp_path / "twins"], threshold=2.0).population("variational")
    assert float(stricter.sparsity()) == pytest.approx(1200 / 2416)


@pytest.mark.parametrize("rubbish", [float("nan"), float("inf"), 1e38])
def test_noise_of_linear_biases_is_memory_that_was_never_written(tmp_path: Path, rubbish: float) -> None:
    (states,) = trees.write_zoo(tmp_path / "zoo", 1)
    write_twin(tmp_path / "twins", 0, trees.trial_name(0), trees.noisy(states[2], 1.0, rubbish))
    twins = zs.import_zoo([tmp_path / "zoo", tmp_path / "twins"]).population("variational")
    noise = twins.architecture.unflatten(twins.log_sigma2)
    assert (noise["module_list.9.bias"] == -10).all() and (noise["module_list.0.bias"] == -8).all()


def test_the_activation_of_a_twin_is_that_of_its_original(tmp_path: Path) -> None:
    for number, nlin in enumerate(("relu", "tanh")):
        state = trees.state_of(trees.cnn_small(nlin, seed=number))
        trees.write_trial(
            tmp_path / "zoo" / trees.trial_name(number), {2: state}, trees.params(model__nlin=nlin)
        )
        write_twin(tmp_path / "twins", number, trees.trial_name(number), trees.noisy(state, 1.0))
    groups = zs.import_zoo([tmp_path / "zoo", tmp_path / "twins"]).populations["variational"]
    assert [group.architecture.name for group in groups] == ["cnn-s-relu", "cnn-s-tanh"]


def test_a_twin_whose_original_is_missing_is_skipped(twin_zoo: tuple[Path, Path]) -> None:
    state = trees.noisy(trees.state_of(trees.cnn_small()), 1.0)
    write_twin(twin_zoo[1], 7, "NN_tune_trainable_lost", state)
    zoo = zs.import_zoo(twin_zoo)
    (entry,) = zoo.provenance["import"]["skipped"]
    assert entry["name"] == trees.trial_name(7) and "NN_tune_trainable_lost" in entry["reason"]
    assert len(zoo.population("variational")) == 2


def test_twins_alone_are_a_zoo(twin_zoo: tuple[Path, Path]) -> None:
    zoo = zs.import_zoo(twin_zoo[1])
    assert list(zoo.populations) == ["variational"]
    assert zoo.population("variational").models["source_id"].tolist() == [
        trees.trial_name(2),
        trees.trial_name(1),
    ]


def test_a_fine_tuned_model_is_no_twin(tmp_path: Path) -> None:
    state = trees.state_of(trees.cnn_small())
    given = trees.params(training__init_checkpoint_path="/zoos/a/NN_tune_trainable_x")
    trees.write_trial(tmp_path / "zoo" / "fine" / trees.trial_name(0), {1: state}, given)
    assert list(zs.import_zoo(tmp_path / "zoo").populations) == ["original"]


def test_a_twin_without_noise_in_a_layer_is_skipped(twin_zoo: tuple[Path, Path]) -> None:
    state = trees.noisy(trees.state_of(trees.cnn_small()), 1.0)
    del state["module_list.6.log_sigma2"]
    write_twin(twin_zoo[1], 7, trees.trial_name(0), state)
    (entry,) = zs.import_zoo(twin_zoo).provenance["import"]["skipped"]
    assert "lacks module_list.6.log_sigma2" in entry["reason"]
