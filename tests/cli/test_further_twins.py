"""A second `prune` or `vardrop` adds to what is there, or replaces it when asked; twins learn what their zoo did."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from tests.cli.command import Result, beside, listing, succeed, zoosparse
from tests.cli.test_commands import KINDS
from tests.cli.test_interruption import same_bits
from tests.study.test_run import Stages
from zoosparse_ext.analysis import StudyData
from zoosparse_ext.errors import InputError
from zoosparse_ext.population.population import Population
from zoosparse_ext.report.questions import analyzed
from zoosparse_ext.sparsify.magnitude import magnitude_prune
from zoosparse_ext.study.config import make_config
from zoosparse_ext.study.run import run_study
from zoosparse_ext.zoo import Zoo

MP, VD, MATCHED = ("prune", "--epochs", 1), ("vardrop", "--epochs", 1), ("prune", "--matched", "--epochs", 0)


def again(zoo: Path, words: tuple[object, ...], *more: object) -> Result:
    """One of the commands that made the finished zoo, with further words."""
    return zoosparse(words[0], zoo, *words[1:], *more)


def rows(zoo: Zoo, name: str) -> pd.DataFrame:
    ids = {id for group in zoo.populations[name] for id in group.ids}
    return zoo.twins[zoo.twins.twin_id.isin(ids)].reset_index(drop=True)


def same(first: Zoo, second: Zoo, name: str) -> bool:
    """Whether a population and its rows are the same, bit for bit."""
    pd.testing.assert_frame_equal(rows(first, name), rows(second, name), check_exact=True)
    pairs = zip(first.populations[name], second.populations[name], strict=True)
    return all(torch.equal(a.weights, b.weights) and a.ids == b.ids for a, b in pairs)


@pytest.mark.parametrize(
    ("words", "more", "name"),
    [
        (MP, ("--ratios", "0.5", "--lr", "0.01"), "magnitude-global-lr_0.01"),
        (MP, ("--ratios", "0.5", "--seed", 7), "magnitude-global-seed_7"),
        (MP, ("--ratios", "0.5", "--epochs", 2), "magnitude-global-2_epochs"),
        (MP, ("--ratios", "0.5", "--optimizer", "sgd"), "magnitude-global-sgd-lr_0.001"),
        (MP, ("--ratios", "0.5", "--batch-size", 5), "magnitude-global-batch_5"),
        (MP, ("--ratios", "0.5", "--lr-schedule", "cosine"), "magnitude-global-cosine_lr"),
        (MP, ("--ratios", "0.5", "--loss", "mse"), "magnitude-global-mse"),
        (MP, ("--ratios", "0.5", "--crop", 1, "--flip"), "magnitude-global-crop_1-flip"),
        (MP, ("--ratios", "0.5", "--schedule", "cubic"), "magnitude-global-cubic"),
        (MP, ("--ratios", "0.5", "--biases"), "magnitude-global-biases"),
        (MP, ("--ratios", "0.5", "--min-kept", "1"), "magnitude-global-min_kept_1"),
        (MP, ("--ratios", "0.5", "--scope", "layer"), "magnitude-layer"),
        (VD, ("--threshold", "2"), "variational-threshold_2"),
        (VD, ("--preset", "molchanov"), "variational-molchanov"),
        (VD, ("--preset", "molchanov", "--epochs", 2), "variational-molchanov"),
        (VD, ("--lr", "0.01"), "variational-lr_0.01"),
        (MATCHED, ("--epochs", 1), "magnitude-matched-global-1_epoch"),
        (MATCHED, ("--scope", "layer"), "magnitude-matched-layer"),
    ],
    ids=str,
)
def test_other_settings_make_a_population_beside(
    finished: Path, zoo: Path, words: tuple[object, ...], more: tuple[object, ...], name: str
) -> None:
    assert again(zoo, words, *more, "--json").json()["population"] == name
    before, after = Zoo.open(finished), Zoo.open(zoo)
    assert list(after.populations) == [*KINDS, name]
    assert all(same(before, after, kind) for kind in KINDS)
    assert set(rows(after, name).series) == {name} and len(rows(after, name)) > 0
    assert after.twins.groupby(["twin_id", "epoch"]).size().max() == 1
    assert not zoo.with_name("zoo.resume").exists()
    refused = again(zoo, words, *more)
    assert refused.code == 2 and repr(name) in refused.message and "--replace" in refused.message


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((*MP, "--ratios", "0.5,0.9"), "finished twins 'magnitude-global' at 0.5, 0.9 already"),
        ((*MP, "--ratios", "0.9"), "finished twins 'magnitude-global' at 0.9 already"),
        (VD, "finished twins 'variational' already"),
        (MATCHED, "finished twins 'magnitude-matched-global' already"),
    ],
    ids=str,
)
def test_what_is_finished_is_replaced_only_when_asked(
    finished: Path, zoo: Path, words: Any, told: str
) -> None:
    before = listing(zoo)
    refused = again(zoo, words)
    assert refused.code == 2 and told in refused.message and "--replace" in refused.message
    assert listing(zoo) == before
    assert again(zoo, words, "--replace").code == 0
    replaced = Zoo.open(zoo)
    assert list(replaced.populations) == list(KINDS)
    for kind in KINDS:
        one, other = Zoo.open(finished).population(kind), replaced.population(kind)
        assert sorted(one.ids) == sorted(other.ids)
        order = [other.ids.index(id) for id in one.ids]
        assert torch.equal(one.weights, other.weights[order])  # the same settings give the same bits
    assert len(replaced.twins) == len(Zoo.open(finished).twins)


def test_other_ratios_are_added(finished: Path, zoo: Path, caplog: pytest.LogCaptureFixture) -> None:
    result = again(zoo, MP, "--ratios", "0.5,0.7", "--json")
    assert "has 'magnitude-global' at 0.5 already: these stay" in caplog.text
    assert result.json()["twins"] == 9
    before, after = Zoo.open(finished), Zoo.open(zoo)
    population = after.population("magnitude-global")
    assert population.models.target.tolist() == [0.5] * 3 + [0.9] * 3 + [0.7] * 3
    assert torch.equal(population.weights[:6], before.population("magnitude-global").weights)
    assert population.predictions is not None and len(population.predictions) == 9
    assert population.sparsity()[6:].tolist() == pytest.approx([0.7] * 3, abs=1e-3)
    assert rows(after, "magnitude-global").groupby("twin_id").size().eq(2).all()
    assert list(after.populations) == list(KINDS)


def test_replacing_some_ratios_leaves_the_others(finished: Path, zoo: Path) -> None:
    kept = Zoo.open(finished).population("magnitude-global")[3:]
    assert again(zoo, MP, "--ratios", "0.5,0.6", "--replace").code == 0
    after = Zoo.open(zoo)
    population = after.population("magnitude-global")
    assert population.models.target.tolist() == [0.9] * 3 + [0.5] * 3 + [0.6] * 3
    assert torch.equal(population.weights[:3], kept.weights)
    assert len(rows(after, "magnitude-global")) == 9 * 2


def test_replacing_what_others_were_matched_to_says_so(zoo: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert again(zoo, VD, "--replace").code == 0
    assert (
        "'magnitude-matched-global' was pruned to the sparsity of twins that are replaced now" in caplog.text
    )


def test_matched_to_one_of_several(zoo: Path) -> None:
    name = "variational-threshold_2"
    assert again(zoo, VD, "--threshold", 2).code == 0
    refused = again(zoo, MATCHED, "--scope", "layer")
    assert refused.code == 2 and f"variational, {name}" in refused.message and "--to" in refused.message
    made = again(zoo, MATCHED, "--to", name, "--json").json()["population"]
    assert made == "magnitude-matched-global-to_VD_threshold_2"
    matched, source = Zoo.open(zoo).population(made), Zoo.open(zoo).population(name)
    assert list(matched.models.matched) == source.ids
    assert torch.equal(matched.sparsity(), source.sparsity())


@pytest.mark.parametrize("words", [MP, VD, MATCHED], ids=lambda words: " ".join(map(str, words)))
@pytest.mark.parametrize("replacing", [False, True])
def test_a_killed_run_goes_on(finished: Path, zoo: Path, words: Any, replacing: bool) -> None:
    """With the same settings, to the same bits; with others it is left for the command that began it."""
    more = ("--epochs", 3, *(("--ratios", "0.5") if words == MP else ()))
    if replacing:
        assert again(zoo, words, *more).code == 0
        more = (*more, "--replace")
    base = {MP: "magnitude-global", VD: "variational", MATCHED: "magnitude-matched-global"}[words]
    name = f"{base}-3_epochs"
    epochs = zoo.with_name("zoo.resume") / name / name / "0-rows-0-3.safetensors"
    with beside(words[0], zoo, *words[1:], *more, send=signal.SIGKILL, after=epochs) as process:
        process.communicate()
    assert epochs.exists() and (name in Zoo.open(zoo).populations) == replacing
    other = again(zoo, words, *more, "--lr", "0.5")
    assert other.code == 0 and f"{name}-lr_0.5" in Zoo.open(zoo).populations  # does not touch it
    assert epochs.exists()
    assert again(zoo, words, *more).code == 0
    assert not epochs.parents[1].exists()
    whole = zoo.with_name("whole")
    Zoo.open(finished).save(whole)
    assert again(whole, words, *[word for word in more if word != "--replace"]).code == 0
    assert same(Zoo.open(whole), Zoo.open(zoo), name)


TASK = ("--loss", "mse", "--crop", 1, "--flip")


@pytest.mark.parametrize("task", [TASK, (), ("--crop", 2), ("--loss", "mse", "--flip")], ids=str)
def test_the_command_line_makes_the_zoo_of_the_study(
    tmp_path: Path, task: tuple[object, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """`train`, `prune` and `vardrop`, each with its own settings, and the loss and the augmentation said once."""
    words = list(map(str, task))
    values = {
        "data": {"limit": 40},
        "zoo": {
            "seeds": 3,
            "epochs": 2,
            "optimizer": {"lr": 3e-3},
            "lr_schedule": "step",
            "loss": "mse" if "mse" in words else "cross_entropy",
            "crop": int(words[words.index("--crop") + 1]) if "--crop" in words else 0,
            "flip": "--flip" in words,
        },
        "magnitude": {
            "ratios": [0.5, 0.9],
            "scopes": ["global", "layer"],
            "matched_scopes": ["global", "layer"],
            "matched_epochs": [1],
            "epochs": 2,
            "schedule": "one-shot",
            "optimizer": {"name": "sgd", "lr": 1e-2, "momentum": 0.9},
            "lr_schedule": "cosine",
            "variants": [{"seed": 1, "scopes": ["global"], "control": False}],
        },
        "variational": {
            "epochs": 2,
            "optimizer": {"name": "source", "lr": 1e-2},
            "lr_schedule": "onecycle",
            "variants": [{"kl_scale": 30}],
        },
    }
    run_study(make_config(values), tmp_path / "study", tmp_path / "resume", Stages().bar)
    zoo = tmp_path / "zoo"
    schedule = ("--lr", "0.003", "--lr-schedule", "step")
    succeed("train", "--out", zoo, "--models", 3, "--limit", 40, "--epochs", 2, *schedule, *task)
    tuning = (
        "--epochs",
        2,
        "--optimizer",
        "sgd",
        "--lr",
        "0.01",
        "--momentum",
        "0.9",
        "--lr-schedule",
        "cosine",
    )
    dropping = ("--epochs", 2, "--lr", "0.01", "--lr-schedule", "onecycle")
    for training in (tuning, dropping):
        succeed("control", zoo, "--keep", "1", *training)
    for scope, more in (("global", ()), ("layer", ()), ("global", ("--seed", 1))):
        succeed("prune", zoo, "--ratios", "0.5,0.9", "--scope", scope, *tuning, *more)
    for more in ((), ("--kl-scale", 30)):
        succeed("vardrop", zoo, "--keep", "1", *dropping, *more)
    for to in ("variational", "variational-kl_30"):
        for scope in ("global", "layer"):
            matched = ("--matched", "--to", to, "--scope", scope)
            succeed("prune", zoo, *matched, "--at-epoch", 1, *tuning[2:])
            succeed("prune", zoo, *matched, *tuning)
    assert "does not say" not in caplog.text
    same_bits(zoo, tmp_path / "study")


def test_loss_and_augmentation_can_be_given(zoo: Path) -> None:
    """What is given overrides what is inherited, each on its own."""
    stored = Zoo.open(zoo)
    stored.provenance = {**stored.provenance, "task": {"loss": "mse", "crop": 1, "flip": True}}
    stored.save(zoo)
    for more, name in [
        ((), "magnitude-layer"),
        (("--loss", "cross_entropy"), "magnitude-layer-cross_entropy"),
        (("--no-flip",), "magnitude-layer-no_flip"),
        (("--crop", 0), "magnitude-layer-no_crop"),
        (("--crop", 0, "--no-flip"), "magnitude-layer-no_crop-no_flip"),
    ]:
        shown = again(zoo, MP, "--ratios", "0.5", "--scope", "layer", *more, "--json")
        assert shown.json()["population"] == name
    settings = Zoo.open(zoo).provenance["twins"]
    assert [settings["magnitude-layer"][key] for key in ("loss", "crop", "flip")] == ["mse", "crop 1", "flip"]
    weights = [Zoo.open(zoo).population(name).weights for name in list(settings)[-5:]]
    assert all(not torch.equal(a, b) for row, a in enumerate(weights) for b in weights[:row])


def test_zoos_that_do_not_say_what_they_learned(zoo: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Cross entropy on images as they are, said once; not where it was given, nor where an earlier version noted it."""
    stored = Zoo.open(zoo)
    unknown = {key: value for key, value in stored.provenance.items() if key not in ("task", "settings")}
    stored.provenance = unknown
    stored.save(zoo)
    assert again(zoo, MP, "--ratios", "0.5", "--lr", "0.01").code == 0
    assert caplog.text.count("does not say with which loss and augmentation its models were trained") == 1
    caplog.clear()
    assert again(zoo, MP, "--ratios", "0.6", "--lr", "0.01", "--loss", "mse", "--crop", 0).code == 0
    stored = Zoo.open(zoo)
    stored.provenance = {**unknown, "settings": {"command": "zoosparse train", "zoo": {"loss": "mse"}}}
    stored.save(zoo)
    assert again(zoo, VD, "--lr", "0.01").code == 0
    assert "does not say" not in caplog.text
    assert Zoo.open(zoo).provenance["twins"]["variational-lr_0.01-mse"]["loss"] == "mse"


def test_twins_of_twins_are_left_out_of_the_analysis(
    finished: Path, zoo: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They are kept and counted; what is said of the others stays as it was."""
    opened = Zoo.open(zoo)
    twins = opened.population("magnitude-global")[:3]
    further = magnitude_prune(twins, 0.7, series="magnitude-global-further")
    whole = opened.with_population("magnitude-global-further", [further])
    whole.twins = pd.concat([opened.twins, further.history], ignore_index=True)
    whole.save(zoo)
    for command in ("analyze", "report"):
        caplog.clear()
        succeed(command, zoo, "--out", tmp_path / command)
        assert "twins of twins are left out of the analysis" in caplog.text
        assert f"; 3 of them: {', '.join(map(repr, further.ids))}" in caplog.text
    assert Zoo.open(zoo).population("magnitude-global-further").ids == further.ids
    ours, theirs = (analyzed(StudyData.from_zoo(Zoo.open(path))) for path in (zoo, finished))
    for name, table in theirs.items():
        pd.testing.assert_frame_equal(ours[name], table)
    assert succeed("info", zoo).code == 0 and succeed("evaluate", zoo).code == 0


def test_zoos_of_earlier_versions_are_added_to(zoo: Path) -> None:
    """Their tables name no series and their provenance no settings of twins: as many epochs as the table has count."""
    stored = Zoo.open(zoo)
    old = {name: [_unnamed(group) for group in stored.populations[name]] for name in KINDS}
    provenance = {key: value for key, value in stored.provenance.items() if key not in ("twins", "task")}
    Zoo(old, stored.models, stored.history, stored.twins.drop(columns="series"), stored.labels, stored.dataset,
        provenance).save(zoo, overwrite=True)  # fmt: skip
    assert "magnitude-global' at 0.5, 0.9 already" in again(zoo, MP, "--ratios", "0.5,0.9").message
    assert "'variational' already" in again(zoo, VD, "--lr", "0.0003").message  # which was the default
    assert again(zoo, MP, "--ratios", "0.7", "--json").json()["twins"] == 9
    assert again(zoo, MP, "--ratios", "0.7", "--epochs", 2, "--json").json()["twins"] == 3
    after = Zoo.open(zoo)
    assert set(after.twins.series) == {*KINDS, "magnitude-global-2_epochs"} - {"original"}
    assert after.population("magnitude-global").models["series"].tolist() == ["magnitude-global"] * 9


def _unnamed(group: Population) -> Population:
    copy = group[:]
    copy.models = copy.models.drop(columns="series", errors="ignore")
    return copy


def test_a_zoo_without_originals(zoo: Path) -> None:
    stored = Zoo.open(zoo)
    twins = {"variational": stored.populations["variational"]}
    Zoo(twins, stored.models, None, stored.twins, stored.labels, stored.dataset).save(zoo, overwrite=True)
    for words in (MP, MATCHED):
        assert "no population 'original' to make twins of" in again(zoo, words, "--lr", "0.5").message


def test_ratios_of_a_study_stand_there_once() -> None:
    with pytest.raises(InputError, match=r"magnitude.ratios: ratio 0.5 is there more than once"):
        make_config({"magnitude": {"ratios": [0.5, 0.8, 0.5]}})
