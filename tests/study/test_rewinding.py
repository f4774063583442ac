"""Studies with rewinding: models kept at early epochs, series, a lottery from a file to its report, and resuming."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

import zoosparse_ext as zs
from tests.cli.command import succeed, zoosparse
from tests.study.test_run import Stages
from zoosparse_ext.analysis import StudyData
from zoosparse_ext.analysis.series import series_labels
from zoosparse_ext.errors import InputError, StoreError
from zoosparse_ext.sparsify.schedules import Lottery
from zoosparse_ext.study import plan, reporting
from zoosparse_ext.study.config import StudyConfig, make_config
from zoosparse_ext.study.grid import model_groups
from zoosparse_ext.study.plan import plan_study
from zoosparse_ext.study.rewound import with_rewound
from zoosparse_ext.study.run import load_data, run_study
from zoosparse_ext.study.runner import LocalRunner
from zoosparse_ext.study.stages import add_magnitude_twins, train_zoo
from zoosparse_ext.zoo import Zoo

EPOCHS = 3


@pytest.fixture(scope="module")
def data() -> zs.Dataset:
    return zs.load_dataset("digits").limit(40)


@pytest.fixture(scope="module")
def zoo(data: zs.Dataset) -> Zoo:
    """Two models of each of two architectures."""
    config = make_config({"zoo": {"seeds": 2, "vary": {"activation": ["relu", "tanh"]}}})
    return train_zoo(data, model_groups(config.zoo, data), epochs=EPOCHS, keep=(0, 1))


def config(**changes: object) -> StudyConfig:
    """Lottery tickets of four models, beside plain twins and twins by SNIP at initialization."""
    values = {
        "data": {"limit": 40},
        "zoo": {"seeds": 4, "epochs": EPOCHS},
        "magnitude": {
            "ratios": [0.5, 0.8],
            "epochs": 2,
            "scopes": ["global"],
            "matched_scopes": [],
            "variants": [
                {"rewind_to": 1, "schedule": "lottery", "schedule_rounds": 3},
                {"rewind_to": 1, "rewind": "lr"},
            ],
        },
        "snip": {
            "ratios": [0.8], "epochs": EPOCHS, "scopes": ["global"], "rewind_to": 0, "score_at": "rewound",
        },
        "variational": False,
    }  # fmt: skip
    return make_config(values, changes)


TICKETS = "magnitude-global-lottery_3-rewound_to_1"
RATE = "magnitude-global-lr_rewound_to_1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a study with its report."""
    path = tmp_path_factory.mktemp("lottery")
    zoo = run_study(config(), path / "zoo", path / "resume", Stages().bar)
    reporting.write(zoo, path, "Lottery tickets")
    return path


def test_a_lottery_from_its_file_to_its_report(folder: Path, data: zs.Dataset) -> None:
    zoo = Zoo.open(folder / "zoo")
    assert list(zoo.populations) == [
        *("original", "original@0", "original@1", "control"),  # of the plain twins alone
        *("magnitude-global", TICKETS, RATE, "snip-global"),
    ]
    models, then = zoo.population("original"), zoo.population("original@1")
    fresh = zs.Population.initialise(models.architecture, seeds=range(1, 5))
    assert torch.equal(zoo.population("original@0").weights, fresh.weights)
    rows = zoo.history[zoo.history.epoch == 1].set_index("model_id").test_accuracy
    assert rows[then.ids].tolist() == then.models.accuracy.tolist()
    assert torch.equal(zs.evaluate(then, data).predictions, then.predictions)
    models.kept = {1: then}
    tickets = zs.magnitude_prune(
        models,
        [0.5, 0.8],
        data=data,
        epochs=2,
        optimizer=zs.Adam(lr=1e-3),
        rewind_to=1,
        schedule=Lottery(3),
        recalibrate=data.train,
    )
    there = zoo.population(TICKETS)
    assert torch.equal(there.weights, tickets.weights)
    lines = zoo.twins[zoo.twins.series == TICKETS]
    assert lines.epoch.max() == 3 * 2 and there.ids[0].endswith(f"/{TICKETS}-0.5")
    assert {
        "MP global, lottery 3, rewound to 1",
        "MP global, lr rewound to 1",
        "SNIP global",  # what the section says is usual
    } <= {*series_labels(zoo.twins)}
    assert StudyData.from_zoo(zoo).controls == {"MP global": "control"}
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "MP global, lottery 3, rewound to 1" in page


def test_snip_at_initialization(folder: Path, data: zs.Dataset) -> None:
    zoo = Zoo.open(folder / "zoo")
    fresh = zoo.population("original@0")
    alone = zs.magnitude_prune(
        fresh, 0.8, data=data, score="snip", epochs=EPOCHS, optimizer=zs.Adam(lr=1e-3), recalibrate=data.train
    )
    assert torch.equal(zoo.population("snip-global").weights, alone.weights)


@pytest.mark.parametrize("epoch", [1, 2, 5])
def test_a_study_resumes_between_and_within_rounds(epoch: int, folder: Path, tmp_path: Path) -> None:
    """Cut into other chunks, and to the same bits."""

    class Killed(Stages):
        def bar(self, title: str) -> Any:
            killed = super().bar(title)

            class Context:
                def __enter__(self) -> Any:
                    update = killed.__enter__()

                    def stop(progress: Any) -> None:
                        update(progress)
                        if "lottery" in title and progress.epoch > epoch:
                            raise StoreError("the power failed")

                    return stop

                def __exit__(self, *error: Any) -> Any:
                    return killed.__exit__(*error)

            return Context()

    runner = LocalRunner(3)
    with pytest.raises(StoreError, match="the power failed"):
        run_study(config(), tmp_path / "zoo", tmp_path / "resume", Killed().bar, runner)
    again = run_study(config(), tmp_path / "zoo", tmp_path / "resume", Stages().bar, runner)
    whole = Zoo.open(folder / "zoo")
    assert list(again.populations) == list(whole.populations)
    for name in whole.populations:
        assert torch.equal(again.population(name).weights, whole.population(name).weights), name
    assert again.twins.equals(whole.twins)


def test_the_plan_counts_kept_epochs_and_rounds(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(plan, "_SECONDS", 0.02)
    settings = config()
    stages = {stage.population: stage for stage in plan_study(settings, load_data(settings.data))}
    plain = {
        stage.population: stage
        for stage in plan_study(config(**{"magnitude.variants": [], "snip": False}), load_data(settings.data))
    }
    assert stages["original"].disk == pytest.approx(3 * plain["original"].disk)
    assert stages["original"].resume > plain["original"].resume
    assert stages[TICKETS].epochs == 6 and stages[RATE].epochs == 2
    assert stages[TICKETS].memory > stages[RATE].memory
    shards = sum(path.stat().st_size for path in (folder / "zoo" / "shards").iterdir())
    assert sum(stage.disk for stage in stages.values()) == pytest.approx(shards, rel=0.15)


def test_several_architectures(zoo: Zoo, data: zs.Dataset, tmp_path: Path) -> None:
    assert list(zoo.populations) == ["original", "original@0", "original@1"]
    zoo.save(tmp_path / "zoo")
    stored = Zoo.open(tmp_path / "zoo")
    twins = add_magnitude_twins(stored, data, [0.6], epochs=1, rewind_to=1, recalibrate=False)
    for place in range(2):
        (group, made) = (
            twins.populations[name][place] for name in ("original", "magnitude-global-rewound_to_1")
        )
        group = group[:]
        group.kept = {1: zoo.populations["original@1"][place]}
        alone = zs.magnitude_prune(group, 0.6, data=data, epochs=1, rewind_to=1)
        assert torch.equal(made.weights, alone.weights)
    assert all(
        group.kept == {} for group in stored.populations["original"]
    )  # nothing of it is left in the zoo
    twins.save(tmp_path / "zoo")
    last = add_magnitude_twins(stored, data, [0.6], epochs=0, rewind_to=EPOCHS)
    plain = add_magnitude_twins(stored, data, [0.6], epochs=0)
    same = zip(
        last.populations["magnitude-global-rewound_to_3"], plain.populations["magnitude-global"], strict=True
    )
    assert all(torch.equal(one.weights, other.weights) for one, other in same)


def test_rows_of_an_earlier_epoch_are_found_by_their_models(zoo: Zoo) -> None:
    """As imported zoos may have them: in another order, or not all."""
    name = "original@1"
    groups = zoo.populations["original"]
    turned = zoo.with_population(name, [group[[1, 0]] for group in reversed(zoo.populations[name])])
    found = with_rewound(turned, groups, {"rewind_to": 1})
    for group, there, then in zip(groups, found, zoo.populations[name], strict=True):
        assert there.ids == group.ids and torch.equal(there.kept[1].weights, then.weights)
    fewer = zoo.with_population(name, [zoo.populations[name][0], zoo.populations[name][1][:1]])
    with pytest.raises(InputError, match=f"'original@1' does not have model '{groups[1].ids[1]}'"):
        with_rewound(fewer, groups, {"rewind_to": 1})
    with pytest.raises(InputError, match=r"after epoch 2, only after 0, 1, 3; .*zoo.keep = \[2\].*--keep 2"):
        with_rewound(zoo, groups, {"rewind_to": 2})
    unknown = Zoo({"original": groups}, zoo.models)
    with pytest.raises(InputError, match="after epoch 0, only after an unknown one"):
        with_rewound(unknown, groups, {"rewind_to": 0})
    assert with_rewound(unknown, groups, {"rewind_to": 0, "rewind": "lr"}) is groups


def test_another_course_than_that_of_the_models_is_told(
    zoo: Zoo, data: zs.Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"settings": {"zoo": {"epochs": EPOCHS, "lr_schedule": "cosine"}}}
    known = Zoo(zoo.populations, zoo.models, zoo.history, provenance={**zoo.provenance, **settings})

    def told(**options: Any) -> str:
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            with_rewound(known, zoo.populations["original"], options)
        return caplog.text

    assert 'epochs = 2, lr_schedule = "cosine"' in told(rewind_to=1, epochs=2)
    assert "trained for 5 epochs with a cosine" in told(
        rewind_to=1, epochs=5, lr_schedule="cosine", rewind="lr"
    )
    assert told(rewind_to=1, epochs=2, lr_schedule="cosine") == told(epochs=7) == told(rewind_to=1) == ""


def test_commands(tmp_path: Path) -> None:
    path = tmp_path / "zoo"
    succeed("train", "--out", path, "--models", 2, "--limit", 40, "--epochs", 2, "--keep", "0,1")
    assert list(Zoo.open(path).populations) == ["original", "original@0", "original@1"]
    more = ("--ratios", "0.5", "--epochs", 1)
    succeed("prune", path, *more, "--rewind-to", 1)
    lottery = ("--schedule", "lottery", "--schedule-rounds", 2)
    succeed("sparsify", path, *more, "--method", "snip", "--rewind-to", 0, "--score-at", "rewound", *lottery)
    succeed("prune", path, *more, "--rewind-to", 2, "--rewind", "lr")
    zoo = Zoo.open(path)
    assert {*zoo.populations} >= {
        "magnitude-global-rewound_to_1",
        "snip-global-lottery_2-rewound_to_0-scored_rewound",
        "magnitude-global-lr_rewound_to_2",
    }
    for words, message in (
        (("--rewind-to", 3), "as they were after epoch 3, only after 0, 1, 2; train them anew"),
        (("--rewind", "lr"), "rewind is 'lr', but nothing is rewound"),
        (("--schedule-rounds", 3), "has no rounds"),
        (("--rewind-to", 1, "--optimizer-state", "source"), "pass optimizer_state='new'"),
        (("--rewind-to", -1), "rewind_to must be 0 or more, got -1"),
    ):
        result = zoosparse("prune", path, *more, *words)
        assert result.code == 2 and message in result.message
    for words, message in (
        (("--keep", "1,x"), "--keep '1,x': write epochs"),
        (("--keep", "9"), "keep: epoch 9 is not one of the training, which has 0 … 2"),
        (("--keep", "1,1"), "keep: epoch 1 stands there more than once"),
    ):
        result = zoosparse("train", "--out", tmp_path / "other", "--limit", 40, "--epochs", 2, *words)
        assert result.code == 2 and message in result.message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"magnitude.rewind_to": 4}, "magnitude.rewind_to is 4, the models are trained for 3 epochs"),
        ({"snip.rewind_to": None}, "snip: score_at is 'rewound', but nothing is rewound"),
        (
            {"magnitude.optimizer_state": "source", "magnitude.rewind_to": 1},
            "magnitude: variant 0: optimizer_state is 'source'",
        ),
        ({"magnitude.variants": [{"rewind": "lr"}]}, "variant 0: rewind is 'lr', but nothing is rewound"),
        ({"magnitude.rewind_to": -1}, "magnitude.rewind_to must be 0 or more, got -1"),
        ({"zoo.keep": [4]}, "zoo: keep: epoch 4 is not one of the training"),
        ({"zoo.keep": [-1]}, "zoo: keep: epoch -1 is not one of the training"),
    ],
)
def test_mistakes_are_named_before_anything_runs(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        config(**changes)
    assert message in str(error.value)


def test_epochs_to_keep_are_those_that_are_needed() -> None:
    assert config().kept_epochs == (0, 1)
    assert config(**{"zoo.keep": [3, 2]}).kept_epochs == (0, 1, 2)
    assert make_config({}).kept_epochs == ()
    only_lr = {"magnitude.variants": [{"rewind_to": 2, "rewind": "lr"}], "snip": False}
    assert config(**only_lr).kept_epochs == ()
