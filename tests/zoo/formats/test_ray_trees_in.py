"""Importing trees of modelzoos.cc, with everything that is odd about them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch.nn.utils import prune

import zoosparse_ext as zs
from tests.zoo.formats import ray_trees as trees
from zoosparse_ext import ops


def row_of(state: trees.State) -> torch.Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in state.values()])


def skipped(zoo: zs.Zoo) -> dict[str, str]:
    return {entry["name"]: entry["reason"] for entry in zoo.provenance["import"]["skipped"]}


def test_the_last_epoch_of_every_model_becomes_a_row(tmp_path: Path) -> None:
    written = trees.write_zoo(tmp_path / "zoo")
    zoo = zs.import_zoo(tmp_path / "zoo")
    population = zoo.population("original")
    assert torch.equal(population.weights, torch.stack([row_of(states[2]) for states in written]))
    assert list(zoo.populations) == ["original"]
    assert zoo.models["seed"].tolist() == [1, 2, 3]
    assert zoo.models["model_id"].tolist() == [trees.trial_name(number) for number in range(3)]
    assert set(zoo.models["optimizer"]) == {"adam"} and set(zoo.models["init"]) == {"uniform"}
    assert zoo.models["accuracy"].tolist() == pytest.approx([0.11] * 3)
    assert not skipped(zoo)


def test_rows_compute_what_the_published_network_computes(tmp_path: Path) -> None:
    network = trees.cnn_small("leakyrelu", channels=3, seed=4)
    given = trees.params(model__nlin="leakyrelu", model__channels_in=1)
    trees.write_trial(tmp_path / "zoo" / trees.trial_name(0), {1: trees.state_of(network)}, given)
    population = zs.import_zoo(tmp_path / "zoo").population()
    images = torch.rand(5, 3, 28, 28)
    assert torch.allclose(population(images)[0], trees.run_through(network, images), atol=1e-5)
    assert population.architecture.classes == 10  # o_dim says 4
    assert population.architecture.input_shape == (3, 28, 28)  # channels_in says 1


def test_epochs_become_populations_of_their_own(tmp_path: Path) -> None:
    written = trees.write_zoo(tmp_path / "zoo")
    zoo = zs.import_zoo(tmp_path / "zoo", epochs="all")
    assert list(zoo.populations) == ["original", "original@0", "original@1"]
    for epoch in (0, 1):
        expected = torch.stack([row_of(states[epoch]) for states in written])
        assert torch.equal(zoo.population(f"original@{epoch}").weights, expected)
    some = zs.import_zoo(tmp_path / "zoo", epochs=[0, 1])
    assert list(some.populations) == ["original", "original@0"]
    assert torch.equal(some.population().weights, zoo.population("original@1").weights)


def test_pruned_modules_keep_their_masks_at_every_epoch(tmp_path: Path) -> None:
    dense = trees.cnn_small()
    before = trees.state_of(dense)
    for layer in (dense[0], dense[9]):
        prune.l1_unstructured(layer, "weight", amount=0.5)
    states = {1: before, 2: trees.state_of(dense)}
    trees.write_trial(tmp_path / "zoo" / trees.trial_name(0), states)
    trees.write_trial(tmp_path / "zoo" / trees.trial_name(1), {2: before})
    zoo = zs.import_zoo(tmp_path / "zoo", epochs="all")
    pruned, kept = zoo.populations["original"]
    assert kept.packed_masks is None and torch.equal(kept.weights[0], row_of(before))
    expected = torch.cat([getattr(dense[i], name).reshape(-1) for i, name in WEIGHTS_AND_BIASES])
    assert torch.equal(pruned.weights[0], expected)
    assert torch.equal(ops.unpack_mask(pruned.packed_masks, 2464)[0], expected != 0)
    (earlier,) = zoo.populations["original@1"]
    assert torch.equal(earlier.weights[0], row_of(before))
    assert bool(ops.unpack_mask(earlier.packed_masks, 2464).all())  # not pruned yet
    zoo.save(tmp_path / "store")
    assert torch.equal(
        zs.Zoo.open(tmp_path / "store").populations["original"][0].packed_masks, pruned.packed_masks
    )


WEIGHTS_AND_BIASES = [(layer, name) for layer in (0, 3, 6, 9, 11) for name in ("weight", "bias")]


def test_a_chosen_epoch_that_a_model_lacks_is_a_reason_to_skip_it(tmp_path: Path) -> None:
    trees.write_zoo(tmp_path / "zoo", 2)
    trees.write_trial(tmp_path / "zoo" / trees.trial_name(9), {2: trees.state_of(trees.cnn_small())})
    zoo = zs.import_zoo(tmp_path / "zoo", epochs=[1, 2])
    assert len(zoo.population()) == 2
    assert "no checkpoint of epoch 1" in skipped(zoo)[trees.trial_name(9)]


def test_lines_are_matched_by_training_iteration_never_by_position(tmp_path: Path) -> None:
    state = trees.state_of(trees.cnn_small())
    lines = [trees.result(0), trees.result(2), trees.result(5, test_acc=0.8), trees.result(2, test_acc=0.33)]
    trees.write_trial(tmp_path / "zoo" / trees.trial_name(0), {2: state, 5: state}, results=lines)
    zoo = zs.import_zoo(tmp_path / "zoo", epochs="all")
    assert zoo.models["accuracy"].tolist() == [0.8]
    assert zoo.population("original@2").models["accuracy"].tolist() == [0.33]  # the line of the restored run
    assert zoo.history["epoch"].tolist() == [0, 2, 5]


def test_line_zero_is_the_untrained_model(tmp_path: Path) -> None:
    trees.write_zoo(tmp_path / "zoo", 1)
    history = zs.import_zoo(tmp_path / "zoo").history
    assert history["epoch"].tolist() == [0, 1, 2]
    assert history["test_accuracy"].tolist() == pytest.approx([0.09, 0.10, 0.11])
    assert all(math.isnan(value) for value in history["val_loss"])


@pytest.mark.parametrize("checkpoint", ["checkpoint_{:06d}", "checkpoint_{}"])
@pytest.mark.parametrize("params_file", ["params.json", "config.json"])
def test_old_and_new_layouts_of_ray(tmp_path: Path, checkpoint: str, params_file: str) -> None:
    state = trees.state_of(trees.cnn_small())
    folder = tmp_path / "zoo" / trees.trial_name(0)
    trees.write_trial(folder, {9: state, 50: state}, checkpoint=checkpoint, params_file=params_file)
    zoo = zs.import_zoo(tmp_path / "zoo")
    assert zoo.models["epoch"].tolist() == [50] and zoo.models["activation"].tolist() == ["tanh"]


def test_the_number_of_a_checkpoint_folder_is_not_always_the_epoch(tmp_path: Path) -> None:
    state = trees.state_of(trees.cnn_small())
    folder = tmp_path / "zoo" / trees.trial_name(0)
    lines = [trees.result(0), trees.result(1), trees.result(2)]
    trees.write_trial(folder, {1: state, 3: state}, results=lines, iterations={1: 0, 3: 2})
    zoo = zs.import_zoo(tmp_path / "zoo", epochs="all")
    assert list(zoo.populations) == ["original", "original@0"]
    assert zoo.models["epoch"].tolist() == [2] and zoo.models["accuracy"].tolist() == pytest.approx([0.11])


def test_trials_nested_deeper_are_found_and_names_told_apart(tmp_path: Path) -> None:
    for part in ("from-cifar", "from-svhn"):
        state = trees.state_of(trees.cnn_small())
        trees.write_trial(tmp_path / "zoo" / part / trees.trial_name(0), {1: state})
    ids = zs.import_zoo(tmp_path / "zoo").models["model_id"].tolist()
    assert ids == [f"from-cifar/{trees.trial_name(0)}", f"from-svhn/{trees.trial_name(0)}"]


def test_a_hyperparameter_zoo_is_grouped_by_layout_and_activation(tmp_path: Path) -> None:
    settings = [
        ("tanh", True, 0.5),
        ("tanh", False, 0),
        ("relu", False, 0),
        ("tanh", True, 0.3),
        ("tanh", False, 0),
    ]
    for number, (nlin, dropout, rate) in enumerate(settings):
        state = trees.state_of(trees.cnn_small(nlin, dropout=dropout, seed=number))
        given = trees.params(model__nlin=nlin, model__dropout=rate, seed=number)
        trees.write_trial(tmp_path / "zoo" / trees.trial_name(number), {1: state}, given)
    zoo = zs.import_zoo(tmp_path / "zoo")
    groups = {group.architecture.name: group for group in zoo.populations["original"]}
    assert {name: len(group) for name, group in groups.items()} == {
        "cnn-s-tanh-dropout": 2,
        "cnn-s-tanh": 2,
        "cnn-s-relu": 1,
    }
    assert groups["cnn-s-tanh-dropout"].dropout.tolist() == pytest.approx([0.5, 0.3])
    layers = [segment.layer for segment in groups["cnn-s-tanh-dropout"].layers() if segment.prunable]
    assert layers == [f"module_list.{i}" for i in (0, 4, 8, 11, 14)]
    assert len(zoo.models) == 5


@pytest.mark.parametrize("name", ["cnn-s", "cnn-m", "cnn-l"])
@pytest.mark.parametrize("dropout", [None, 0.5])
def test_published_networks_are_known_by_their_tensors(
    tmp_path: Path, name: str, dropout: float | None
) -> None:
    architecture = zs.architecture(name, activation="relu", dropout=dropout)
    population = zs.Population.initialise(architecture, [1])
    state = population.to_modules()[0].state_dict()
    given = trees.params(model__nlin="relu", model__dropout=dropout or 0.0)
    trees.write_trial(tmp_path / "zoo" / trees.trial_name(0), {1: state}, given)
    found = zs.import_zoo(tmp_path / "zoo").population()
    assert found.architecture.program == architecture.program
    assert torch.equal(found.weights, population.weights)


def test_networks_that_tensors_do_not_tell_are_refused_unless_they_are_given(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 3), torch.nn.Flatten(), torch.nn.Linear(27, 2))
    trees.write_trial(tmp_path / "zoo" / trees.trial_name(0), {1: module.state_dict()})
    with pytest.raises(zs.StoreError, match=r"fit none of cnn-s.*architecture="):
        zs.import_zoo(tmp_path / "zoo")
    population = zs.import_zoo(tmp_path / "zoo", architecture=module).population()
    images = torch.rand(2, 1, 5, 5)
    assert torch.allclose(population(images)[0], module(images), atol=1e-6)


def test_without_params_the_activation_must_be_said(tmp_path: Path) -> None:
    folder = trees.write_trial(tmp_path / "zoo" / trees.trial_name(0), {1: trees.state_of(trees.cnn_small())})
    (folder / "params.json").unlink()
    with pytest.raises(zs.StoreError, match="activation"):
        zs.import_zoo(tmp_path / "zoo")
    assert zs.import_zoo(tmp_path / "zoo", activation="relu").models["activation"].tolist() == ["relu"]


def _truncate(folder: Path) -> None:
    file = folder / "checkpoint_000002/checkpoints"
    file.write_bytes(file.read_bytes()[:-500])


def _flip(folder: Path) -> None:
    file = folder / "checkpoint_000002/checkpoints"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(content)


def _nan(folder: Path) -> None:
    state = torch.load(folder / "checkpoint_000002/checkpoints", weights_only=True)
    state["module_list.3.weight"][0, 0, 0, 0] = math.nan
    torch.save(state, folder / "checkpoint_000002/checkpoints")


def _reshape(folder: Path) -> None:
    state = torch.load(folder / "checkpoint_000002/checkpoints", weights_only=True)
    state["module_list.3.weight"] = state["module_list.3.weight"][:, :4]
    torch.save(state, folder / "checkpoint_000002/checkpoints")


BROKEN = {
    "no checkpoint file": (lambda f: (f / "checkpoint_000002/checkpoints").unlink(), "cannot read"),
    "empty": (lambda f: (f / "checkpoint_000002/checkpoints").write_bytes(b""), "empty"),
    "truncated": (_truncate, "truncated"),
    "one byte changed": (_flip, "checksum"),
    "NaN": (_nan, "module_list.3.weight.*NaN"),
    "another shape": (_reshape, "fit none"),
    "params are no JSON": (lambda f: (f / "params.json").write_text("{"), "not JSON"),
    "params are a list": (lambda f: (f / "params.json").write_text("[]"), "no JSON object"),
    "a line in the middle": (lambda f: (f / "result.json").write_text("{\n{}\n{}\n"), "line 0"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_trials_are_skipped_with_the_reason(tmp_path: Path, case: str) -> None:
    damage, reason = BROKEN[case]
    written = trees.write_zoo(tmp_path / "zoo")
    damage(tmp_path / "zoo" / trees.trial_name(1))
    zoo = zs.import_zoo(tmp_path / "zoo")
    assert torch.equal(zoo.population().weights, torch.stack([row_of(written[n][2]) for n in (0, 2)]))
    assert zoo.models["seed"].tolist() == [1, 3] and set(zoo.history["model_id"]) == set(
        zoo.models["model_id"]
    )
    (name,) = skipped(zoo)
    assert name == trees.trial_name(1)
    with pytest.raises(zs.StoreError, match=reason):
        zs.import_zoo(tmp_path / "zoo", strict=True)


@pytest.mark.parametrize("epochs", ["last", "all"])
def test_an_epoch_that_a_restored_trial_wrote_again_counts_once(tmp_path: Path, epochs: str) -> None:
    states = {number: trees.state_of(trees.cnn_small(seed=number)) for number in (1, 2, 3)}
    trees.write_trial(tmp_path / trees.trial_name(0), states, iterations={1: 1, 2: 2, 3: 2})
    found = zs.import_zoo(tmp_path, epochs=epochs).population("original")
    assert torch.equal(found.weights[0], found.architecture.flatten(states[3])) and len(found) == 1


def test_a_folder_without_checkpoints_is_listed(tmp_path: Path) -> None:
    trees.write_zoo(tmp_path / "zoo", 1)
    folder = trees.write_trial(tmp_path / "zoo" / trees.trial_name(5), {})
    reason = f"it has no checkpoint: {folder} holds no folder checkpoint_…"
    assert skipped(zs.import_zoo(tmp_path / "zoo")) == {trees.trial_name(5): reason}


def test_a_run_killed_within_its_last_line_is_no_broken_trial(tmp_path: Path) -> None:
    trees.write_zoo(tmp_path / "zoo", 1)
    with open(tmp_path / "zoo" / trees.trial_name(0) / "result.json", "a") as file:
        file.write(json.dumps(trees.result(3))[:40])
    zoo = zs.import_zoo(tmp_path / "zoo")
    assert zoo.history["epoch"].tolist() == [0, 1, 2] and not skipped(zoo)


def test_nothing_but_broken_trials_is_an_error_never_an_empty_zoo(tmp_path: Path) -> None:
    trees.write_zoo(tmp_path / "zoo", 1)
    _truncate(tmp_path / "zoo" / trees.trial_name(0))
    with pytest.raises(zs.StoreError, match=r"no model could be imported.*truncated"):
        zs.import_zoo(tmp_path / "zoo")


def test_nan_is_kept_when_asked_for(tmp_path: Path) -> None:
    trees.write_zoo(tmp_path / "zoo", 1)
    _nan(tmp_path / "zoo" / trees.trial_name(0))
    assert zs.import_zoo(tmp_path / "zoo", allow_nan=True).population().weights.isnan().sum() == 1


def test_half_precision_and_pickles_of_old_pytorch_are_read(tmp_path: Path) -> None:
    state = trees.state_of(trees.cnn_small())
    folder = trees.write_trial(tmp_path / "zoo" / trees.trial_name(0), {1: state})
    torch.save(state, folder / "checkpoint_000001/checkpoints", _use_new_zipfile_serialization=False)
    half = {name: tensor.half() for name, tensor in state.items()}
    trees.write_trial(tmp_path / "zoo" / trees.trial_name(1), {1: half})
    weights = zs.import_zoo(tmp_path / "zoo").population().weights
    assert torch.equal(weights[0], row_of(state)) and torch.equal(weights[1], row_of(half).float())
