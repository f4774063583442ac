"""Populations at earlier epochs of a training: kept in memory, through a kill, and for the rows that are asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import zoosparse_ext as zs
from tests.population import tiny
from zoosparse_ext.errors import InputError, StoreError
from zoosparse_ext.ops import train as native_engine
from zoosparse_ext.population.batch_norm import recalibrate
from zoosparse_ext.sparsify.variational import PRESETS

ENGINES = ["reference", "native"] if native_engine.available() else ["reference"]
every_engine = pytest.mark.parametrize("engine", ENGINES)
EPOCHS = 4
HOW: dict[str, Any] = {"batch_size": 5, "seed": 2, "optimizer": zs.Adam(lr=[1e-2, 3e-3, 1e-3])}
# Of weights that do not depend on the epochs of the run, and drop weights from the first epoch on.
EAGER = dataclasses.replace(
    PRESETS["modelzoos"], initial_log_sigma2=-3.0, kl_weight=lambda epoch, *_: 0.01 * (epoch + 1)
)


def trained(population: zs.Population, data: zs.Dataset, **options: Any) -> zs.Population:
    zs.train(population, data, **options)
    return population


Work = Callable[..., zs.Population]
WORK: dict[str, Work] = {
    "train": trained,
    "control": zs.continue_training,
    "prune": lambda population, data, **o: zs.magnitude_prune(population, [0.3, 0.6], data=data, **o),
    "vardrop": lambda population, data, **o: zs.variational_dropout(
        population, data, preset=EAGER, series="variational-eager", **o
    ),
}
every_work = pytest.mark.parametrize("work", WORK.values(), ids=WORK)


def assert_same(one: zs.Population, other: zs.Population) -> None:
    for name in ("weights", "packed_masks", "log_sigma2", "predictions", "counts"):
        first, second = getattr(one, name), getattr(other, name)
        assert (first is None) == (second is None), name
        assert first is None or torch.equal(first, second), name
    assert one.ids == other.ids and one.models.equals(other.models)
    assert one.architecture == other.architecture


@every_engine
@every_work
def test_kept_epochs_are_those_of_shorter_runs(work: Work, engine: str, data: zs.Dataset) -> None:
    """With a constant learning rate and weights of the KL that do not depend on the epochs of the run."""
    how = {**HOW, "engine": engine}
    result = work(tiny.population(), data, epochs=EPOCHS, keep=(0, 1, 3, 4), **how)
    assert list(result.kept) == [0, 1, 3]  # the last is the population itself
    plain = work(tiny.population(), data, epochs=EPOCHS, **how)
    assert_same(result, plain)
    assert plain.kept == {}
    for epoch, then in result.kept.items():
        assert_same(then, work(tiny.population(), data, epochs=epoch, **how))
        assert torch.equal(then.predictions, zs.evaluate(then, data).predictions)
        assert then.history is None and then.kept == {} and then.optimizer_state is None
        assert result.history is not None
        rows, is_twins = result.history[result.history.epoch == epoch], "twin_id" in result.models
        accuracy = rows.accuracy if is_twins else rows.test_accuracy
        assert accuracy.tolist() == zs.evaluate(then, data).accuracy.tolist()
        assert not is_twins or rows.sparsity.tolist() == then.sparsity().tolist()


@pytest.mark.parametrize("preset", ["modelzoos", "molchanov"])
def test_variational_twins_as_they_were_evaluated(preset: str, data: zs.Dataset) -> None:
    """Dropped weights are zero and masked; weights of the KL are those of the whole run."""
    options = {"epochs": EPOCHS, "preset": preset, "kl_scale": 50, **HOW, "optimizer": zs.Adam(lr=0.05)}
    twins = zs.variational_dropout(tiny.population(), data, keep=[2, 3], **options)
    for epoch, then in twins.kept.items():
        rows = twins.history[twins.history.epoch == epoch]
        assert rows.sparsity.tolist() == then.sparsity().tolist() and rows.sparsity.max() > 0
        assert rows.agreement.notna().all() and then.masks is not None and then.log_sigma2 is not None
        assert bool((then.weights[~then.masks] == 0).all())
        assert rows.accuracy.tolist() == zs.evaluate(then, data).accuracy.tolist()
        assert not torch.equal(then.log_sigma2, twins.log_sigma2)


def test_recalibrated_twins_with_batch_norm(data: zs.Dataset) -> None:
    twins = zs.variational_dropout(
        tiny.population(tiny.batch_normed),
        data,
        epochs=3,
        preset=EAGER,
        recalibrate=data.train,
        keep=[1, 2],
        **HOW,
    )
    for epoch, then in twins.kept.items():
        assert torch.equal(recalibrate(then, data.train).weights, then.weights)
        accuracy = zs.evaluate(then, data).accuracy.tolist()
        assert twins.history[twins.history.epoch == epoch].accuracy.tolist() == accuracy
        assert then.counts.unique().tolist() == [5 * epoch]


def test_schedules_change_masks_between_epochs(data: zs.Dataset) -> None:
    twins = zs.magnitude_prune(
        tiny.population(), 0.9, data=data, epochs=EPOCHS, schedule="cubic", keep=range(EPOCHS), **HOW
    )
    medians = [float(then.sparsity().median()) for then in twins.kept.values()]
    assert medians == sorted(medians) and medians[0] < medians[-1] < 0.91
    assert all(bool((then.weights[~then.masks] == 0).all()) for then in twins.kept.values())


@every_work
@pytest.mark.parametrize("stopped", [1, 2, 3, 4])
def test_through_a_kill(work: Work, stopped: int, data: zs.Dataset, tmp_path: Path) -> None:
    def interrupt(progress: zs.Progress) -> None:
        if progress.epoch == stopped:
            raise KeyboardInterrupt

    options = {"epochs": EPOCHS, "keep": (0, 2, 3), **HOW}
    file = tmp_path / "stage" / "0-rows-0-3.safetensors"
    with pytest.raises(KeyboardInterrupt):
        work(tiny.population(), data, checkpoint=file, progress=interrupt, **options)
    assert list(file.parent.glob("*.safetensors")) == [file]  # what a study resumes from
    beside = {path.name.removeprefix(file.name) for path in file.parent.iterdir()} - {""}
    assert beside == {f".epoch-{epoch}" for epoch in (0, 2, 3) if epoch < stopped}
    again = work(tiny.population(), data, checkpoint=file, **options)
    expected = work(tiny.population(), data, **options)
    assert_same(again, expected)
    assert list(again.kept) == [0, 2, 3]
    for epoch, then in expected.kept.items():
        assert_same(again.kept[epoch], then)
    finished = work(tiny.population(), data, checkpoint=file, **options)  # of which nothing is left to do
    for epoch, then in expected.kept.items():
        assert_same(finished.kept[epoch], then)


def test_a_kill_between_the_kept_epoch_and_the_checkpoint(
    data: zs.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoosparse_ext.population import checkpoint

    file, save = tmp_path / "run", checkpoint.Checkpoint.save

    def killed(self: Any, epoch: int, *rest: Any) -> None:
        if epoch == 2:
            raise KeyboardInterrupt
        save(self, epoch, *rest)

    monkeypatch.setattr(checkpoint.Checkpoint, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        trained(tiny.population(), data, epochs=3, keep=(1, 2), checkpoint=file, **HOW)
    monkeypatch.undo()
    again = trained(tiny.population(), data, epochs=3, keep=(1, 2), checkpoint=file, **HOW)
    expected = trained(tiny.population(), data, epochs=3, keep=(1, 2), **HOW)
    for epoch in (1, 2):
        assert_same(again.kept[epoch], expected.kept[epoch])


def test_what_an_unfinished_run_did_not_keep_is_refused(data: zs.Dataset, tmp_path: Path) -> None:
    """Epochs to come can still be kept, and others left out: they do not decide what is trained."""

    def interrupt(progress: zs.Progress) -> None:
        if progress.epoch == 3:
            raise KeyboardInterrupt

    file = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        trained(tiny.population(), data, epochs=4, keep=(2,), checkpoint=file, progress=interrupt, **HOW)
    population = tiny.population()
    with pytest.raises(InputError, match=r"epoch 1 cannot be kept any more.*run is past it.*leave it out"):
        trained(population, data, epochs=4, keep=(1, 2), checkpoint=file, **HOW)
    assert torch.equal(population.weights, tiny.population().weights)
    again = trained(tiny.population(), data, epochs=4, keep=(3,), checkpoint=file, **HOW)
    expected = trained(tiny.population(), data, epochs=4, keep=(3,), **HOW)
    assert list(again.kept) == [3]
    assert_same(again.kept[3], expected.kept[3])


def test_a_file_of_another_run_is_not_taken(data: zs.Dataset, tmp_path: Path) -> None:
    file = tmp_path / "run"
    trained(tiny.population(), data, epochs=2, keep=(1,), checkpoint=file, **HOW)
    file.unlink()
    trained(tiny.population(), data, epochs=2, checkpoint=file, **{**HOW, "seed": 9})
    with pytest.raises(InputError, match="epoch 1 cannot be kept"):
        trained(tiny.population(), data, epochs=2, keep=(1,), checkpoint=file, **{**HOW, "seed": 9})


def test_a_damaged_file_is_named(data: zs.Dataset, tmp_path: Path) -> None:
    file = tmp_path / "run"
    trained(tiny.population(), data, epochs=2, keep=(1,), checkpoint=file, **HOW)
    kept = file.with_name("run.epoch-1")
    kept.write_bytes(kept.read_bytes()[:200])
    with pytest.raises(StoreError, match=r"run\.epoch-1"):
        trained(tiny.population(), data, epochs=2, keep=(1,), checkpoint=file, **HOW)


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ((5,), r"epoch 5 is not one of this run, which has 0 … 4"),
        ((-1,), r"epoch -1 is not one of this run"),
        ((1, 2, 1), r"epoch 1 was given more than once"),
        ((1.5,), r"keep: got float 1.5, expected epochs to keep, such as \(5, 10\)"),
        ((True,), r"keep: got bool"),
        (("1",), r"keep: got str '1'"),
        ("12", r"keep: got str '12'"),
        (3, r"keep: got int 3"),
        (None, r"keep: got NoneType"),
    ],
)
@every_work
def test_bad_epochs_are_refused(work: Work, keep: Any, message: str, data: zs.Dataset) -> None:
    population = tiny.population()
    before = population.weights.clone()
    with pytest.raises(InputError, match=message):
        work(population, data, epochs=4, keep=keep, **HOW)
    assert torch.equal(population.weights, before)


def test_pruning_without_data_has_epoch_0_alone() -> None:
    assert zs.magnitude_prune(tiny.population(), 0.5, keep=(0,)).kept == {}
    with pytest.raises(InputError, match="epoch 1 is not one of this run, which has 0 … 0"):
        zs.magnitude_prune(tiny.population(), 0.5, keep=(1,))


def test_other_numbers_are_epochs_too(data: zs.Dataset) -> None:
    for keep in ([1], np.array([1]), torch.tensor([1]).tolist(), range(1, 2), {1}):
        assert list(trained(tiny.population(), data, epochs=2, keep=keep, **HOW).kept) == [1]


def test_a_further_training_keeps_its_own(data: zs.Dataset) -> None:
    population = trained(tiny.population(), data, epochs=2, keep=(1,), **HOW)
    then = population.kept[1].weights.clone()
    zs.train(population, data, epochs=0)
    assert torch.equal(population.kept[1].weights, then)
    zs.train(population, data, epochs=2, **HOW)
    assert population.kept == {}


def test_rows(data: zs.Dataset) -> None:
    whole = trained(tiny.population(), data, epochs=3, keep=(0, 2), **HOW)
    for rows in (slice(1, 3), [2, 0], torch.tensor([True, False, True]), 1):
        part = whole[rows]
        assert list(part.kept) == [0, 2]
        for epoch, then in part.kept.items():
            assert_same(then, whole.kept[epoch][rows])
            assert then.ids == part.ids
    copy = whole.clone()
    copy.kept[0].weights.zero_()
    assert bool((whole.kept[0].weights != 0).any())
    assert list(whole.to("cpu").kept) == [0, 2]
    assert list(recalibrate(whole, data.train).kept) == [0, 2]
    with pytest.raises(InputError, match="kept epoch 2 has 3 rows for a population of 2 models"):
        zs.Population(whole.weights[:2], whole.architecture, kept={2: whole.kept[2]})
