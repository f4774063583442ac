"""A study from its config to its zoo: what decided it is recorded, and every stage is done once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from zoosparse_ext.analysis import StudyData, compare_measured
from zoosparse_ext.errors import InputError, StoreError
from zoosparse_ext.population import residual
from zoosparse_ext.population.augment import Augment
from zoosparse_ext.population.hooks import Progress
from zoosparse_ext.study import reporting
from zoosparse_ext.study.config import StudyConfig, apply_preset, make_config
from zoosparse_ext.study.grid import model_groups
from zoosparse_ext.study.run import load_data, run_study
from zoosparse_ext.study.twin_stages import Stage, planned_zoo, twin_stages
from zoosparse_ext.study.work import OnProgress
from zoosparse_ext.zoo import Zoo


class Stages:
    """Instead of progress bars: which stages ran; the stage named in `fails_in` breaks after an epoch."""

    def __init__(self, fails_in: str = "none") -> None:
        self.titles: list[str] = []
        self.fails_in = fails_in

    @contextmanager
    def bar(self, title: str) -> Iterator[OnProgress]:
        self.titles.append(title)

        def update(progress: Progress) -> None:
            assert 0 < progress.models <= progress.population
            if self.fails_in in title and progress.epoch > 1:
                raise StoreError("the disk is full")

        yield update


def config(**changes: object) -> StudyConfig:
    values = {
        "data": {"limit": 40},
        "zoo": {"seeds": 2, "epochs": 2, "vary": {"activation": ["relu", "tanh"]}},
        "magnitude": {
            "ratios": [0.5],
            "epochs": 2,
            "scopes": ["global", "layer"],
            "matched_scopes": ["global"],
            "matched_epochs": [1, 2],
        },
        "variational": {"epochs": 2},
    }
    return make_config(values, changes)


def test_what_a_stage_made_stays_on_disk(tmp_path: Path) -> None:
    zoo = run(config(), tmp_path, Stages())
    assert all(zoo.populations.is_unread(name) for name in zoo.populations)
    again = run(config(), tmp_path, Stages())
    assert all(again.populations.is_unread(name) for name in zoo.populations)


def run(settings: StudyConfig, folder: Path, stages: Stages) -> Zoo:
    return run_study(settings, folder / "zoo", folder / "resume", stages.bar)


ALL = [
    "train",
    "train on without pruning",
    "prune (global)",
    "prune (layer)",
    "variational dropout",
    "prune (matched, global, epoch 1)",
    "prune (matched, global)",
]
KINDS = [
    "original",
    *("control", "control@1"),
    *("magnitude-global", "magnitude-layer"),
    *("variational", "variational@1"),
    *("magnitude-matched-global-epoch_1", "magnitude-matched-global"),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Zoo, Stages]:
    """A study that nothing interrupted, read again, and its stages."""
    folder, stages = tmp_path_factory.mktemp("whole"), Stages()
    run(config(), folder, stages)
    return Zoo.open(folder / "zoo"), stages


def test_every_stage_runs_and_is_saved(whole: tuple[Zoo, Stages]) -> None:
    zoo, stages = whole
    titles = [title for index, title in enumerate(stages.titles) if title not in stages.titles[:index]]
    assert titles == ALL
    assert list(zoo.populations) == KINDS
    assert all(len(zoo.populations[kind]) == 2 for kind in KINDS)  # one matrix per activation
    assert zoo.models.model_id.is_unique and len(zoo.models) == 4
    epochs = zoo.twins.groupby("twin_id").size()
    assert epochs[epochs.index.str.contains("epoch_1")].eq(2).all()  # epochs 0, 1
    assert epochs[~epochs.index.str.contains("epoch_1")].eq(3).all()  # epochs 0, 1, 2


def test_what_decided_the_result_is_recorded(tmp_path: Path) -> None:
    settings = config(**{"zoo.epochs": 0, "magnitude": False, "variational": False})
    recorded = run(settings, tmp_path, Stages()).provenance
    assert make_config(recorded["settings"]) == settings
    assert {"created", "zoosparse_ext", "revision", "python", "torch", "machine", "kernels"} <= set(recorded)


@pytest.mark.parametrize("fails_in", ["layer", "matched"])
def test_a_stage_that_broke_is_gone_on_with(whole: tuple[Zoo, Stages], tmp_path: Path, fails_in: str) -> None:
    with pytest.raises(StoreError):
        run(config(), tmp_path, Stages(fails_in))
    again = Stages()
    resumed = run(config(), tmp_path, again)
    assert len(again.titles) < len(ALL)  # what was finished is not done again
    for kind, groups in whole[0].populations.items():
        for theirs, ours in zip(groups, resumed.populations[kind], strict=True):
            assert torch.equal(theirs.weights, ours.weights)


def test_a_zoo_of_other_settings_is_left_alone(tmp_path: Path) -> None:
    small = {"magnitude": False, "variational": False, "zoo.epochs": 0}
    run(config(**small), tmp_path, Stages())
    with pytest.raises(InputError, match=r"settings \(zoo.epochs is 0 there, 1 was asked for\).*--set"):
        run(config(**{**small, "zoo.epochs": 1}), tmp_path, Stages())
    run(config(**small, title="Another title"), tmp_path, Stages())  # which decides nothing


def test_a_study_in_phases_is_repeated_and_compares_its_matched_twins(tmp_path: Path) -> None:
    """Matched twins are pruned at once whatever the schedule of the others, and are called as in every study."""
    phased = config(**{"magnitude.schedule": "iterative", "zoo.vary": {}})
    zoo = run(phased, tmp_path, Stages())
    assert list(zoo.populations)[-2:] == KINDS[-2:]
    assert "magnitude-matched-global" in zoo.provenance["twins"]
    again = Stages()
    assert list(run(phased, tmp_path, again).populations) == list(zoo.populations) and not again.titles
    compared = compare_measured(StudyData.from_zoo(zoo))
    exact = compared[(compared["pairs"] == "matched") & compared["at_end"]]
    assert exact[["series", "against"]].values.tolist() == [["MP global", "VD"]]


def stages_of(settings: StudyConfig) -> dict[str, Stage]:
    groups = model_groups(settings.zoo, load_data(settings.data))
    return {stage.population: stage for stage in twin_stages(settings, planned_zoo(settings, groups))}


def test_every_variant_is_a_series_with_a_control_of_its_training() -> None:
    stages = stages_of(apply_preset(config(**{"variational.variants": [{"kl_scale": 4}]}), "full"))
    controls = ["control", "control-lr_0.01", "control-seed_1"]
    scopes = [f"magnitude-{scope}" for scope in ("global", "layer")]
    pruned = [f"{scope}{more}" for more in ("", "-cubic", "-lr_0.01", "-seed_1") for scope in scopes]
    dropped = [f"variational{more}" for more in ("", "-kl_4", "-lr_0.01", "-seed_1")]
    to = ["", "-to_VD_kl_4", "-to_VD_lr_0.01", "-to_VD_seed_1"]
    matched = [f"magnitude-matched-global{source}{end}" for source in to for end in ("-epoch_1", "")]
    assert list(stages) == [*controls, *pruned, *dropped, *matched]
    shown = ("control-seed_1", "magnitude-layer-cubic", "variational-kl_4", matched[2])
    assert [stages[name].title for name in shown] == [
        "train on without pruning (seed 1)",
        "prune (layer, cubic)",
        "variational dropout (kl 4)",
        "prune (matched, global, to VD kl 4, epoch 1)",
    ]
    assert [stages[name].needs for name in matched[2:4]] == ["variational-kl_4@1", "variational-kl_4"]
    assert [stages[name].training["epochs"] for name in matched[2:4]] == [1, 2]


def test_a_variational_control_only_where_the_training_differs() -> None:
    assert "control-batch_5" in stages_of(config(**{"variational.batch_size": 5}))
    same = stages_of(config(**{"variational.kl_scale": 5}))
    assert [name for name in same if name.startswith("control")] == ["control"]
    assert "control" not in stages_of(config(**{"magnitude.control": False, "variational.control": False}))


def test_variants_that_make_the_same_twins_are_refused_before_anything_runs(tmp_path: Path) -> None:
    stages = Stages()
    with pytest.raises(InputError, match="make the same twins, 'magnitude-global': variants must differ"):
        run(config(**{"magnitude.variants": [{"control": False}]}), tmp_path, stages)
    assert stages.titles == [] and not (tmp_path / "zoo").exists()


def test_earlier_epochs_are_those_of_the_training(whole: tuple[Zoo, Stages]) -> None:
    """Kept twins have the sparsity and the predictions that the table says, and the matched ones their sparsity."""
    zoo, _ = whole
    for name in ("control", "variational"):
        for last, earlier in zip(zoo.populations[name], zoo.populations[f"{name}@1"], strict=True):
            assert earlier.ids == last.ids
            rows = zoo.twins[zoo.twins["epoch"] == 1].set_index("twin_id").loc[earlier.ids]
            assert earlier.sparsity().tolist() == pytest.approx(rows["sparsity"].tolist())
            assert earlier.predictions is not None and zoo.labels is not None
            right = (earlier.predictions == zoo.labels).double().mean(1)
            assert right.tolist() == pytest.approx(rows["accuracy"].tolist())
    pairs = zip(
        zoo.populations["variational@1"], zoo.populations["magnitude-matched-global-epoch_1"], strict=True
    )
    for source, matched in pairs:
        assert torch.equal(source.sparsity(), matched.sparsity())
        assert matched.models["matched"].tolist() == source.ids
    epochs = zoo.twins.set_index("series")["matched_epoch"]
    assert epochs.loc["magnitude-matched-global-epoch_1"].eq(1).all()
    assert epochs.loc["magnitude-matched-global"].isna().all()


def test_recalibration_can_be_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(residual, "WIDTHS", (4, 4, 8, 8))
    images = np.random.default_rng(0).integers(0, 256, (12, 3, 4, 4), dtype=np.uint8)
    labels = np.arange(12) % 3
    np.savez(tmp_path / "tiny.npz", x_train=images, y_train=labels, x_test=images[:6], y_test=labels[:6])
    pruning = {"ratios": [0.5], "epochs": 0, "batch_size": 4, "scopes": ["global"], "control": False}
    values = {
        "data": {"spec": f"npz:{tmp_path / 'tiny.npz'}"},
        "zoo": {"architecture": "resnet18", "seeds": 2, "epochs": 1, "batch_size": 4},
        "magnitude": {**pruning, "variants": [{"recalibrate": False}]},
        "variational": False,
    }
    zoo = run(make_config(values), tmp_path, Stages())
    original, stale = zoo.population(), zoo.population("magnitude-global-not_recalibrated").weights
    statistics = [s.slice for s in original.layers() if s.name.endswith("running_mean")]
    for columns in statistics:
        assert torch.equal(stale[:, columns], original.weights[:, columns])
    new = zoo.population("magnitude-global").weights
    assert any(not torch.equal(new[:, columns], original.weights[:, columns]) for columns in statistics)


def test_a_method_left_out_is_not_run(tmp_path: Path) -> None:
    stages = Stages()
    run(config(magnitude=False), tmp_path, stages)
    assert sorted(set(stages.titles)) == ["train", "train on without pruning", "variational dropout"]


RESNET = {
    "zoo": {"architecture": "resnet18", "seeds": 2, "epochs": 2, "batch_size": 4, "crop": 1, "flip": True},
    "magnitude": {
        "ratios": [0.5],
        "scopes": ["global"],
        "epochs": 2,
        "batch_size": 4,
        "matched_scopes": ["layer"],
        "control": False,
    },
    "variational": {"epochs": 1, "batch_size": 4, "control": False},
}


def test_residual_networks_go_through_every_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their modules come back with the zoo when a study goes on, and batch norm keeps its statistics."""
    monkeypatch.setattr(residual, "WIDTHS", (4, 4, 8, 8))  # ResNet-18 in all but width: a second, not minutes
    images = np.random.default_rng(0).integers(0, 256, (12, 3, 4, 4), dtype=np.uint8)
    labels = np.arange(12) % 3
    np.savez(tmp_path / "tiny.npz", x_train=images, y_train=labels, x_test=images[:6], y_test=labels[:6])
    settings = make_config({**RESNET, "data": {"spec": f"npz:{tmp_path / 'tiny.npz'}"}})
    whole = run(settings, tmp_path / "whole", Stages())
    assert list(whole.populations) == [
        "original",
        "magnitude-global",
        "variational",
        "magnitude-matched-layer",
    ]
    with pytest.raises(StoreError):
        run(settings, tmp_path / "broken", Stages("train"))
    with pytest.raises(StoreError):
        run(settings, tmp_path / "broken", Stages("layer"))
    resumed = run(settings, tmp_path / "broken", Stages())
    for kind, (group,) in whole.populations.items():
        assert torch.equal(resumed.populations[kind][0].weights, group.weights)
    original, pruned = (whole.populations[kind][0] for kind in ("original", "magnitude-global"))
    assert set(original.models.activation) == {"relu"}
    assert torch.allclose(pruned.sparsity(), torch.tensor(0.5, dtype=torch.float64), atol=1e-6)
    statistics = [s.slice for s in original.layers() if s.name.endswith("running_var")]
    assert all((original.weights[:, columns] != 1).any() for columns in statistics)
    opened = Zoo.open(tmp_path / "whole" / "zoo").populations["variational"][0]
    assert type(opened.to_modules()[0]).__name__ == "ResNet18"


def test_twins_learn_what_their_models_learned(tmp_path: Path) -> None:
    """Loss and augmentation are those of the zoo, schedules each stage's own."""
    changes = {"zoo.loss": "mse", "zoo.crop": 2, "magnitude.lr_schedule": "cosine"}
    stages = {name: stage.training for name, stage in stages_of(config(**changes)).items()}
    assert {options["loss"] for options in stages.values()} == {"mse"}
    assert {options["augment"] for options in stages.values()} == {Augment(crop=2)}
    assert stages["magnitude-matched-global"]["lr_schedule"] == "cosine"
    assert stages["variational"]["lr_schedule"] == "constant"


def test_a_report_that_cannot_be_loaded_beside_the_epochs_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise ImportError("no memory")

    def full(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    one_stage = config(**{"magnitude": False, "variational": False, "zoo.vary": {}})
    for broken in [(reporting, "import_module", fail), (threading.Thread, "start", full)]:
        stages = Stages()
        with monkeypatch.context() as patched:
            patched.setattr(*broken)
            run_study(
                one_stage, tmp_path / broken[1], tmp_path / "resume", reporting.loaded_meanwhile(stages.bar)
            )
        assert stages.titles == ["train"]
