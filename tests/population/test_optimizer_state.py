"""The state of an optimizer at the end of a training, from which twins can start."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import zoosparse_ext as zs
from tests.population import tiny
from zoosparse_ext.errors import InputError, StoreError
from zoosparse_ext.ops import train as native_engine
from zoosparse_ext.sparsify.variational import PRESETS

ENGINES = ["reference", "native"] if native_engine.available() else ["reference"]
every_engine = pytest.mark.parametrize("engine", ENGINES)
OPTIMIZERS: dict[str, Any] = {
    "adam": zs.Adam(lr=[1e-2, 3e-3, 1e-3], weight_decay=1e-3),
    "adamw": zs.AdamW(lr=3e-3),
    "momentum": zs.SGD(lr=0.05, momentum=0.9),
    "nesterov": zs.SGD(lr=0.05, momentum=[0.9, 0.5, 0.0], nesterov=True),
    "sgd": zs.SGD(lr=0.05),
    "rmsprop": zs.RMSprop(lr=1e-3),
}
every_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)
SOURCE = {"optimizer_state": "source"}


def trained(epochs: int, data: zs.Dataset, *, build: Any = tiny.chain, **options: Any) -> zs.Population:
    """A population after some epochs, with the state of its optimizer."""
    population = tiny.population(build)
    zs.train(population, data, epochs=epochs, keep_optimizer_state=True, **options)
    return population


Work = Callable[..., zs.Population]
WORK: dict[str, Work] = {
    "control": zs.continue_training,
    "prune": lambda population, data, **o: zs.magnitude_prune(population, [0.3, 0.6], data=data, **o),
    "vardrop": zs.variational_dropout,
}
every_work = pytest.mark.parametrize("work", WORK.values(), ids=WORK)


@every_engine
@every_optimizer
@pytest.mark.parametrize("order", ["per-model", "shared"])
def test_three_epochs_and_two_are_five(name: str, order: str, engine: str, data: zs.Dataset) -> None:
    how = {"batch_size": 5, "seed": 3, "order": order, "engine": engine, "optimizer": OPTIMIZERS[name]}
    whole, part = trained(5, data, **how), trained(3, data, **how)
    state = part.optimizer_state
    assert state is not None and (state.kind, state.step, state.epochs) == (how["optimizer"].kind, 15, 3)
    control = zs.continue_training(part, data, epochs=2, optimizer_state="source", **how)
    assert torch.equal(control.weights, whole.weights)
    assert torch.equal(control.predictions, whole.predictions)
    assert part.optimizer_state is state and control.optimizer_state is None
    zs.train(part, data, epochs=2, optimizer_state="source", keep_optimizer_state=True, **how)
    assert torch.equal(part.weights, whole.weights)
    assert (part.optimizer_state.step, part.optimizer_state.epochs) == (25, 5)
    for moment in ("first", "second"):
        kept, expected = (getattr(p.optimizer_state, moment) for p in (part, whole))
        assert torch.equal(kept, expected)


@pytest.mark.parametrize("build", [lambda: tiny.chain(dropout=0.5), tiny.batch_normed], ids=["dropout", "bn"])
def test_random_numbers_and_statistics_go_on_as_well(build: Any, data: zs.Dataset) -> None:
    how = {"batch_size": 5, "seed": 3, "augment": zs.Augment(crop=1, flip=True)}
    whole, part = trained(5, data, build=build, **how), trained(3, data, build=build, **how)
    control = zs.continue_training(part, data, epochs=2, optimizer_state="source", **how)
    assert torch.equal(control.weights, whole.weights)


def test_a_new_state_is_the_default(data: zs.Dataset) -> None:
    how = {"batch_size": 5, "epochs": 2}
    with_state, without = trained(3, data, batch_size=5), tiny.population()
    zs.train(without, data, epochs=3, batch_size=5)
    assert without.optimizer_state is None
    for work in WORK.values():
        one, other = (work(population, data, **how) for population in (with_state, without))
        assert torch.equal(one.weights, other.weights) and one.optimizer_state is None
        assert not torch.equal(
            work(with_state, data, **how, **SOURCE, optimizer=zs.Adam()).weights, one.weights
        )


def test_pruned_twins_have_the_state_of_their_model(data: zs.Dataset) -> None:
    """As one would train on by hand: the moments of what is left, those of pruned weights 0."""
    how = {"batch_size": 5, "seed": 3, "optimizer": OPTIMIZERS["adam"]}
    source = trained(3, data, **how)
    twins = zs.magnitude_prune(source, [0.3, 0.6], data=data, epochs=2, **SOURCE, **how)
    for copy, ratio in enumerate((0.3, 0.6)):
        by_hand = source.clone()
        pruned = zs.magnitude_prune(source, ratio)
        by_hand.weights.copy_(pruned.weights)
        zs.train(by_hand, data, epochs=2, masks=pruned.masks, **SOURCE, **how)
        assert torch.equal(twins.weights[3 * copy : 3 * copy + 3], by_hand.weights)
        assert bool((by_hand.weights[~pruned.masks] == 0).all())


@every_engine
def test_variational_twins_as_with_torch_optim(engine: str, data: zs.Dataset) -> None:
    """Moments of log σ² are 0 and have the steps of the source behind them, as if its gradients had been 0."""
    how = {"batch_size": 23, "seed": 3, "optimizer": zs.Adam(lr=1e-2)}
    source = trained(3, data, **how)
    quiet = dataclasses.replace(PRESETS["modelzoos"], kl_weight=lambda *_: 0.01, initial_log_sigma2=-3.0)
    twins = zs.variational_dropout(source, data, preset=quiet, epochs=1, engine=engine, **SOURCE, **how)
    fresh = zs.variational_dropout(source, data, preset=quiet, epochs=1, engine=engine, **how)
    # One step: log σ² moves by lr · m̂ / √v̂, which is ± lr where the count is new, and less by eps / √v̂.
    correction1, correction2 = 1 - 0.9**4, 1 - 0.999**4
    size = 1e-2 * (0.1 / correction1) / (0.001 / correction2) ** 0.5
    columns = source.architecture.prunable_columns
    moved, usual = ((t.log_sigma2[:, columns] + 3).abs() for t in (twins, fresh))
    sure = usual > 9.99e-3
    torch.testing.assert_close(moved[sure], torch.full_like(moved[sure], size), rtol=4e-3, atol=0)
    assert bool(sure.float().mean() > 0.8)
    again = zs.variational_dropout(source, data, preset=quiet, epochs=1, engine=engine, **SOURCE, **how)
    assert torch.equal(again.weights, twins.weights) and not torch.equal(fresh.weights, twins.weights)


@every_work
def test_through_a_kill(work: Work, data: zs.Dataset, tmp_path: Path) -> None:
    def interrupt(progress: zs.Progress) -> None:
        if progress.epoch == 2:
            raise KeyboardInterrupt

    how = {"batch_size": 5, "optimizer": zs.Adam(lr=1e-2)}
    source, file = trained(2, data, **how), tmp_path / "run"
    zs.train(tiny.population(), data, epochs=1, checkpoint=tmp_path / "other")
    with pytest.raises(InputError, match="other settings"):
        zs.train(source, data, epochs=1, checkpoint=tmp_path / "other", **how)
    assert source.optimizer_state is not None  # what was refused changed nothing
    with pytest.raises(KeyboardInterrupt):
        work(source, data, epochs=3, checkpoint=file, progress=interrupt, **SOURCE, **how)
    with pytest.raises(InputError, match="other settings"):
        work(source, data, epochs=3, checkpoint=file, **how)
    again = work(source, data, epochs=3, checkpoint=file, **SOURCE, **how)
    assert torch.equal(again.weights, work(source, data, epochs=3, **SOURCE, **how).weights)


def test_a_state_is_kept_through_a_kill(data: zs.Dataset, tmp_path: Path) -> None:
    def interrupt(progress: zs.Progress) -> None:
        if progress.epoch == 2:
            raise KeyboardInterrupt

    file = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        trained(3, data, batch_size=5, checkpoint=file, progress=interrupt)
    again, expected = trained(3, data, batch_size=5, checkpoint=file), trained(3, data, batch_size=5)
    assert torch.equal(again.optimizer_state.first, expected.optimizer_state.first)
    assert again.optimizer_state.step == expected.optimizer_state.step == 15


@every_work
def test_errors(work: Work, data: zs.Dataset) -> None:
    source = trained(1, data, optimizer=zs.SGD(lr=0.1, momentum=0.9))
    with pytest.raises(InputError, match=r"state of this population is of 'sgd', the training is by 'adam'"):
        work(source, data, epochs=1, optimizer_state="source")
    with pytest.raises(InputError, match=r"optimizer_state must be one of new, source; got 'kept'"):
        work(source, data, epochs=1, optimizer_state="kept")
    with pytest.raises(InputError, match=r"no optimizer state; train it with keep_optimizer_state=True"):
        work(tiny.population(), data, epochs=1, optimizer_state="source")
    source.optimizer_state = source.optimizer_state.map(lambda moments: moments[:, :-1])
    with pytest.raises(InputError, match=r"first moments are .*\[3, 137\], the weights .*\[3, 138\]"):
        work(source, data, epochs=1, optimizer_state="source", optimizer=zs.SGD(lr=0.1))


def test_pruning_alone_asks_for_the_state_too() -> None:
    with pytest.raises(InputError, match="has no optimizer state"):
        zs.magnitude_prune(tiny.population(), 0.5, optimizer_state="source")


def test_rows(data: zs.Dataset) -> None:
    how = {"batch_size": 5, "seed": 3}
    source = trained(3, data, **how)
    whole = zs.continue_training(source, data, epochs=2, **SOURCE, **how)
    for rows in (slice(1, 3), [2, 0]):
        part = zs.continue_training(source[rows], data, epochs=2, **SOURCE, **how)
        torch.testing.assert_close(part.weights, whole.weights[rows])
    copy = source.clone()
    copy.optimizer_state.first.zero_()
    assert bool((source.optimizer_state.first != 0).any())
    assert source.to("cpu").optimizer_state.epochs == 3
    assert zs.recalibrate(source, data.train).optimizer_state is source.optimizer_state
    with pytest.raises(InputError, match="optimizer_state has 3 rows for a population of 2 models"):
        zs.Population(source.weights[:2], source.architecture, optimizer_state=source.optimizer_state)


def test_no_epochs_change_nothing(data: zs.Dataset) -> None:
    source = trained(2, data)
    state = source.optimizer_state
    zs.train(source, data, epochs=0)
    assert source.optimizer_state is state
    zs.train(source, data, epochs=1)
    assert source.optimizer_state is None


def test_on_disk(data: zs.Dataset, tmp_path: Path) -> None:
    source = trained(3, data, batch_size=5)
    zoo = zs.Zoo({"original": [source], "plain": [tiny.population()]}, source.models)
    zoo.save(tmp_path / "zoo")
    again = zs.Zoo.open(tmp_path / "zoo")
    assert again.info()["bytes"] == zoo.info()["bytes"]
    assert again.info()["bytes_on_disk"]["original"] > 3 * source.weights.nbytes
    assert zs.Zoo.verify(tmp_path / "zoo") > 3 * source.weights.nbytes
    population = again.population("original").with_module(tiny.chain())
    state, expected = population.optimizer_state, source.optimizer_state
    assert (state.kind, state.step, state.epochs) == ("adam", 15, 3)
    assert torch.equal(state.first, expected.first) and torch.equal(state.second, expected.second)
    assert again.population("plain").optimizer_state is None
    options = {"epochs": 2, "batch_size": 5, **SOURCE}
    one, other = (zs.continue_training(p, data, **options) for p in (source, population))
    assert torch.equal(one.weights, other.weights)
    elsewhere = zs.Zoo.open(tmp_path / "zoo")  # saved without being read
    elsewhere.save(tmp_path / "carried")
    carried = zs.Zoo.open(tmp_path / "carried").population("original")
    assert torch.equal(carried.optimizer_state.second, expected.second)
    shards = tmp_path / "zoo" / "shards"
    assert len(list(shards.glob("optimizer-*"))) == 1
    again.populations["original"][0].optimizer_state = None
    again.save(tmp_path / "zoo")
    assert not list(shards.glob("optimizer-*"))
    zs.Zoo.remove(tmp_path / "carried")
    assert not list((tmp_path / "carried").glob("**/optimizer-*"))


def test_damage_on_disk_is_named(data: zs.Dataset, tmp_path: Path) -> None:
    source = trained(1, data)
    zs.Zoo({"original": [source]}, source.models).save(tmp_path / "zoo")
    (file,) = (tmp_path / "zoo" / "shards").glob("optimizer-*.safetensors")
    content = file.read_bytes()
    file.write_bytes(content[:-4] + b"abcd")
    with pytest.raises(StoreError, match="optimizer-"):
        zs.Zoo.open(tmp_path / "zoo").population("original")
    file.write_bytes(content)
    path = tmp_path / "zoo" / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["populations"]["original"][0]["optimizer_state"]["step"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match=r"manifest\.json"):
        zs.Zoo.open(tmp_path / "zoo").population("original")
