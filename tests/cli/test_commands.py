"""Every command from beginning to end, on a few small networks."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console

import zoosparse_ext as zs
from tests.cli.command import listing, succeed
from zoosparse_ext import ops
from zoosparse_ext.analysis import claims
from zoosparse_ext.cli import console
from zoosparse_ext.cli.summary import print_summary
from zoosparse_ext.population.hooks import Progress
from zoosparse_ext.zoo import Zoo

KINDS = {"original": 3, "magnitude-global": 6, "variational": 3, "magnitude-matched-global": 3}


def test_train_prune_vardrop_make_one_zoo(finished: Path) -> None:
    zoo = Zoo.open(finished)
    assert {name: len(zoo.population(name)) for name in zoo.populations} == KINDS
    assert len(zoo.history) == 3 * 2  # models × epochs, epoch 0 among them
    assert sorted(path.name for path in finished.parent.iterdir()) == ["zoo"]  # nothing left to resume


def test_stated_sparsity_is_the_share_of_zeros(finished: Path) -> None:
    zoo = Zoo.open(finished)
    last = zoo.twins.sort_values("epoch").groupby("twin_id").last()
    for name in ("magnitude-global", "variational", "magnitude-matched-global"):
        twins = zoo.population(name)
        prunable = [layer for layer in twins.layers() if layer.prunable]
        zeros = sum((twins.weights[:, layer.slice] == 0).sum(1) for layer in prunable)
        weights = sum(layer.slice.stop - layer.slice.start for layer in prunable)
        assert np.allclose(last.loc[twins.ids].sparsity, zeros.double() / weights)


def test_matched_twins_have_the_sparsity_of_the_variational_ones(finished: Path) -> None:
    zoo = Zoo.open(finished)
    matched, variational = zoo.population("magnitude-matched-global"), zoo.population("variational")
    assert torch.equal(matched.sparsity(), variational.sparsity())
    assert list(matched.models.matched) == variational.ids


def test_layer_wise_pruning_is_a_population_of_its_own(zoo: Path) -> None:
    succeed("prune", zoo, "--scope", "layer", "--ratios", "0.5", "--epochs", 0)
    assert list(Zoo.open(zoo).populations) == [*KINDS, "magnitude-layer"]


def test_no_epochs_change_no_weight(tmp_path: Path) -> None:
    settings = ("--models", 2, "--limit", 40, "--epochs", 0)
    summary = succeed("train", "--out", tmp_path / "zoo", *settings, "--json").json()
    assert summary["epochs"] == 0
    zoo = Zoo.open(tmp_path / "zoo")
    assert list(zoo.history.epoch) == [0, 0]
    succeed("prune", tmp_path / "zoo", "--ratios", "0", "--epochs", 0)
    twins = Zoo.open(tmp_path / "zoo").population("magnitude-global")
    assert torch.equal(twins.weights, zoo.population().weights)


def test_evaluate_finds_what_training_stated(finished: Path) -> None:
    rows = pd.DataFrame(succeed("evaluate", finished, "--json").json())
    assert rows.groupby("population", sort=False).size().to_dict() == KINDS
    stated = Zoo.open(finished).models.set_index("model_id").accuracy
    originals = rows[rows.population == "original"].set_index("id")
    assert np.allclose(originals.accuracy, stated[originals.index])
    table = succeed("evaluate", finished).out
    assert "original" in table and "%" in table
    ratios = rows.target[rows.population == "magnitude-global"].nunique()
    assert table.count("magnitude-global") == ratios > 1  # a line each
    assert table.count("magnitude-matched-global") == 1


def test_summary_has_a_line_for_every_ratio(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zoo = Zoo.open(finished)
    print_summary(zoo, "A study")
    lines = capsys.readouterr().out.partition("───")[2].splitlines()[1:]  # below the head
    originals = zoo.models.accuracy.median()
    last = zoo.twins.drop_duplicates("twin_id", keep="last").query("method == 'variational'")
    assert f"{originals:.1%}"[:-1] in lines[0]
    assert (
        sum("magnitude-global" in line for line in lines)
        == zoo.twins.query("matched.isna()").target.nunique()
    )
    assert sum(f"{last.sparsity.median():.1%}"[:-1] in line for line in lines if "variational" in line) == 1


def test_analyze_writes_every_table_twice(finished: Path, tmp_path: Path) -> None:
    rows = succeed("analyze", finished, "--out", tmp_path / "tables", "--json").json()
    assert {"claim", "verdict", "measured", "interval"} <= set(rows[0])
    files = {path.name for path in (tmp_path / "tables").rglob("*.*")}
    stems = {Path(name).stem for name in files}
    assert "claims" in stems
    assert all({f"{stem}.csv", f"{stem}.parquet"} <= files for stem in stems)


def test_report_is_one_page_that_needs_no_network(finished: Path, tmp_path: Path) -> None:
    before = listing(finished)
    succeed("report", finished, "--out", tmp_path / "report", "--title", "Twins <of> mine")
    page = (tmp_path / "report" / "report.html").read_text()
    assert "Twins &lt;of&gt; mine" in page
    assert 'src="http' not in page and '<link rel="stylesheet" href="http' not in page
    assert listing(finished) == before


def test_a_report_has_the_title_of_its_study(zoo: Path, tmp_path: Path) -> None:
    for settings, title in (
        ({"title": "Twins of a study"}, "Twins of a study"),
        ({}, "Sparse twins of copy"),
    ):
        copy = Zoo.open(zoo)
        copy.provenance = {**copy.provenance, "settings": settings}
        copy.save(tmp_path / "copy", overwrite=True)
        succeed("report", tmp_path / "copy", "--out", tmp_path / "report")
        assert f"<h1>{title}</h1>" in (tmp_path / "report" / "report.html").read_text()


@pytest.mark.parametrize("format", ["modelzoos", "safetensors", "npz", "huggingface", "modules"])
def test_import_brings_back_what_export_wrote(finished: Path, tmp_path: Path, format: str) -> None:
    summary = succeed("export", finished, "--format", format, "--out", tmp_path / "theirs", "--json").json()
    assert summary["format"] == format and summary["files"] > 0
    told = succeed("import", tmp_path / "theirs", "--out", tmp_path / "back", "--workers", 1)
    assert told.message.endswith(f"Next: zoosparse prune {tmp_path / 'back'}")
    back = Zoo.open(tmp_path / "back").population().weights
    assert torch.equal(back, Zoo.open(finished).population().weights)


def test_models_that_are_left_out_are_named_with_the_whole_reason(tmp_path: Path) -> None:
    for number, network in enumerate(
        zs.Population.initialise(zs.architecture("cnn-s"), range(13)).to_modules()
    ):
        torch.save(network.state_dict(), tmp_path / f"model-{number:02d}.pt")
        if number:
            (tmp_path / f"model-{number:02d}.pt").write_bytes(b"")
    told = succeed("import", tmp_path, "--activation", "tanh", "--out", tmp_path / "zoo")
    assert f"left out model-01: {tmp_path}/model-01.pt is empty" in told.err
    assert "model-11" not in told.err and "12 in all; all of them: zoosparse info" in told.err
    lines = succeed("info", tmp_path / "zoo").out.splitlines()
    assert f"      name model-11, reason {tmp_path}/model-11.pt is empty" in lines


def test_the_card_of_an_export_has_its_licence(zoo: Path, tmp_path: Path) -> None:
    options = ("--format", "huggingface", "--license", "cc-by-4.0")
    succeed("export", zoo, *options, "--out", tmp_path / "out")
    assert 'license: "cc-by-4.0"' in (tmp_path / "out/README.md").read_text()


def test_info_describes_installation_and_zoo(finished: Path) -> None:
    installation = succeed("info", "--json").json()
    assert {"magnitude_prune_", "train_steps_"} <= {row["operator"] for row in installation["operators"]}
    assert "magnitude_prune_" in succeed("info").out
    zoo = succeed("info", finished, "--json").json()
    assert zoo["populations"] == KINDS
    assert "zoosparse train --out" in succeed("info", finished).out


@pytest.mark.skipif(not ops.infer.available(), reason="the native engine is not built")
def test_info_tunes_and_remembers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert "built in" in succeed("info").out
    assert "measured here" in succeed("info", "--tune").out
    assert "measured here" in succeed("info").out
    assert succeed("info", "--json").json()["infer_costs"]["on_planes"] >= 1


def test_demo_makes_a_zoo_and_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    correlated, checks = claims.correlated, []
    monkeypatch.setattr(claims, "correlated", lambda data: checks.append(1) or correlated(data))
    changes = ["data.limit=40", "zoo.epochs=1", "magnitude.epochs=0", "magnitude.ratios=[0.5]"]
    changes += ["magnitude.scopes=['global']", "magnitude.matched_scopes=['global']", "variational.epochs=1"]
    changes += ["magnitude.control=false", "variational.control=false", "variational.variants=[]"]
    options = [word for change in changes for word in ("--set", change)]
    shown = succeed("demo", "--out", tmp_path / "demo", "--models", 2, *options)
    assert "Claims of" in shown.out and len(checks) == 1  # for the terminal and the report
    assert (tmp_path / "demo" / "report.html").exists()
    assert list(Zoo.open(tmp_path / "demo" / "zoo").populations) == list(KINDS)
    assert not (tmp_path / "demo" / "zoo.resume").exists()
    events = [
        json.loads(line)["event"] for line in (tmp_path / "demo" / "log.jsonl").read_text().splitlines()
    ]
    assert events == ["run", "epoch", "finished", "finished", "epoch", "finished", "finished"]


def test_the_same_seed_gives_the_same_bits(finished: Path, tmp_path: Path) -> None:
    succeed("train", "--out", tmp_path / "zoo", "--models", 3, "--epochs", 1, "--limit", 40)
    succeed("vardrop", tmp_path / "zoo", "--epochs", 1)
    succeed("prune", tmp_path / "zoo", "--ratios", "0.5,0.9", "--epochs", 1)
    mine, first = Zoo.open(tmp_path / "zoo"), Zoo.open(finished)
    for name in ("original", "variational", "magnitude-global"):
        assert torch.equal(mine.population(name).weights, first.population(name).weights)
        assert torch.equal(mine.population(name).predictions, first.population(name).predictions)
    pd.testing.assert_frame_equal(mine.history, first.history)


def test_another_seed_gives_other_bits(finished: Path, tmp_path: Path) -> None:
    succeed("train", "--out", tmp_path / "zoo", "--models", 3, "--epochs", 1, "--limit", 40, "--seed", 1)
    weights = Zoo.open(tmp_path / "zoo").population().weights
    assert not torch.equal(weights, Zoo.open(finished).population().weights)


def test_a_bar_is_full_in_the_end_though_finished_chunks_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=written, width=100))
    with console.training_bar("prune") as update:
        update(Progress(epoch=1, epochs=3, models=2, population=2, accuracy=0.5, seconds=0.1))
    assert "in 0:00" in written.getvalue() and "left" not in written.getvalue().splitlines()[-1]


def test_what_an_import_proposes_works(finished: Path, tmp_path: Path) -> None:
    """A source that does not say what its models were trained on needs `--data`; twins alone are not pruned."""
    succeed("export", finished, "--format", "modelzoos", "--out", tmp_path / "tree")
    told = succeed("import", tmp_path / "tree" / "original", "--out", tmp_path / "zoo")
    assert f"zoosparse prune {tmp_path / 'zoo'} --data …, what its models were trained on" in told.message
    told = succeed("import", tmp_path / "tree" / "variational", "--out", tmp_path / "twins")
    assert told.message.endswith(f"Next: zoosparse info {tmp_path / 'twins'}")
