"""Magnitude pruning against variational dropout: at equal sparsity, after equal epochs, where it was measured."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from zoosparse_ext.analysis import StudyData, compare_measured, crossover_bracket, measured_pairs
from zoosparse_ext.analysis.groups import Group

NAMES = [f"m{i}" for i in range(12)]
MODELS = pd.DataFrame({"model_id": NAMES, "accuracy": 0.9})


def twins(
    name: str, epoch: int, sparsity: float, accuracy: float | list[float], **columns: object
) -> pd.DataFrame:
    """A twin of every model at one epoch."""
    ids = {"twin_id": [f"{model}/{name}" for model in NAMES], "source_id": NAMES}
    return pd.DataFrame({**ids, "epoch": epoch, "sparsity": sparsity, "accuracy": accuracy, **columns})


def vd(
    epoch: int, sparsity: float, accuracy: float | list[float], series: str = "variational"
) -> pd.DataFrame:
    return twins(series, epoch, sparsity, accuracy, method="variational", series=series)


def mp(
    epochs: int,
    sparsity: float,
    accuracy: float | list[float],
    target: float,
    series: str = "magnitude-global",
) -> pd.DataFrame:
    columns = {"method": "magnitude", "scope": "global", "target": target, "series": series}
    return twins(f"{series}-{target}", epochs, sparsity, accuracy, **columns)


def matched(
    epochs: int, sparsity: float, accuracy: float | list[float], to: str = "variational", at: float = np.nan
) -> pd.DataFrame:
    key = "magnitude-matched-global" + ("" if np.isnan(at) else f"-epoch_{at:g}")
    columns = {
        "method": "magnitude",
        "scope": "global",
        "target": sparsity,
        "series": key,
        "matched_epoch": at,
    }
    return twins(
        key + to, epochs, sparsity, accuracy, matched=[f"{model}/{to}" for model in NAMES], **columns
    )


def compare(*parts: pd.DataFrame) -> pd.DataFrame:
    return compare_measured(StudyData(MODELS, pd.concat(parts)))


def test_twins_matched_along_the_trajectory_meet_the_epoch_they_were_matched_to() -> None:
    table = compare(
        vd(5, 0.56, 0.80), vd(10, 0.66, 0.82), vd(25, 0.79, 0.85),
        matched(5, 0.56, 0.85, at=5), matched(10, 0.66, 0.822, at=10), matched(25, 0.79, 0.80),
    )  # fmt: skip
    assert table["level_label"].tolist() == ["epoch 5", "epoch 10", "end"] and not table["at_end"][0]
    assert table["epochs"].tolist() == table["against_epochs"].tolist() == [5, 10, 25]
    assert table["sparsity"].tolist() == [0.56, 0.66, 0.79]
    assert table["difference_median"].tolist() == pytest.approx([0.05, 0.002, -0.05])
    assert table["verdict"].tolist() == ["ahead", "equivalent", "behind"]
    assert set(table["series"]) == {"MP global"} and set(table["pairs"]) == {"matched"}


def test_unequal_budgets_are_not_compared() -> None:
    table = compare(vd(25, 0.79, 0.85), matched(5, 0.79, 0.10), mp(5, 0.8, 0.10, 0.8))
    assert table["verdict"].tolist() == ["undecided"] * 2 and set(table["why"]) == {"5 epochs against 25"}
    assert table["p"].isna().all() and crossover_bracket(StudyData(MODELS, pd.DataFrame())).empty


@pytest.mark.parametrize(("ends", "compared"), [(0.775, True), (0.825, True), (0.774, False), (0.75, False)])
def test_ratios_are_compared_within_two_and_a_half_points_and_nothing_between_is_invented(
    ends: float, compared: bool
) -> None:
    table = compare(vd(25, ends, 0.85), mp(25, 0.8, 0.87, 0.8), mp(25, 0.7, 0.88, 0.7))
    assert table["level_label"].tolist() == ["80 %"] * compared
    if compared:
        assert table["difference_median"].item() == pytest.approx(0.02) and table["pairs"].item() == "ratio"


def test_each_series_of_variational_dropout_is_its_own() -> None:
    parts = [
        vd(25, 0.79, 0.85),
        vd(25, 0.9, 0.80, "variational-kl_30"),
        matched(25, 0.79, 0.87),
        matched(25, 0.9, 0.70, "variational-kl_30"),
    ]
    table = compare(*parts)
    assert table["against"].tolist() == ["VD", "VD, kl 30"] and table["verdict"].tolist() == [
        "ahead",
        "behind",
    ]
    bracket = crossover_bracket(StudyData(MODELS, pd.concat(parts))).iloc[0]
    assert (bracket["against"], bracket["low"], bracket["high"]) == ("VD", 0.79, 0.9)
    assert bracket["why"] == "MP global is ahead at 79 %, VD at 90 %"


def test_the_bracket_is_open_where_one_method_is_nowhere_ahead() -> None:
    bracket = crossover_bracket(
        StudyData(MODELS, pd.concat([vd(25, 0.79, 0.85), matched(25, 0.79, 0.87)]))
    ).iloc[0]
    assert (
        bracket["low"] == 0.79 and np.isnan(bracket["high"]) and bracket["why"].endswith("VD at no sparsity")
    )


def test_a_twin_without_a_number_counts_as_wrong_and_as_collapsed() -> None:
    accuracy = [np.nan] * 7 + [0.9] * 5
    row = compare(vd(25, 0.8, 0.85), matched(25, 0.8, [np.nan] * 10 + [0.9] * 2)).iloc[0]
    assert (row["n"], row["collapsed"], row["verdict"]) == (12, 10, "behind")
    assert row["difference_working"] == pytest.approx(0.05) and row["magnitude"] == 0.9
    both = compare(vd(25, 0.8, accuracy), matched(25, 0.8, accuracy)).iloc[0]
    assert both["n"] == 5 and both["verdict"] == "undecided" and both["why"] == "5 models, 6 are needed"


def test_a_collapse_is_counted_and_the_others_are_told_beside() -> None:
    empty = [1] * 4 + [0] * 8
    row = compare(vd(25, 0.8, 0.85), matched(25, 0.8, [0.1] * 4 + [0.9] * 8).assign(empty_layers=empty)).iloc[
        0
    ]
    assert row["collapsed"] == 4 and row["difference_working"] == pytest.approx(0.05)


def test_several_pairs_of_a_model_count_once() -> None:
    second = vd(25, 0.8, 0.81).assign(twin_id=[f"{name}/again" for name in NAMES])
    row = compare(vd(25, 0.8, 0.85), second, mp(25, 0.8, 0.85, 0.8)).iloc[0]
    assert row["n"] == 12 and row["difference_median"] == pytest.approx(0.02)


def test_a_tie_is_half_a_win() -> None:
    row = compare(vd(25, 0.8, 0.85), matched(25, 0.8, [0.85] * 10 + [0.8, 0.9])).iloc[0]
    assert row["wins_share"] == 0.5 and row["verdict"] == "equivalent"


def with_predictions(*, at_epoch: bool) -> StudyData:
    """VD right on 80 % of 500 images after 5 epochs, MP matched to that on 90 %; VD answers all wrong at its end."""
    right = np.arange(500) % 10
    stored = {
        "variational": np.full((12, 500), 9),
        "magnitude-matched-global-epoch_5": np.tile(np.where(right < 9, 0, 1), (12, 1)),
    }
    if at_epoch:
        stored["variational@5"] = np.tile(np.where(right < 8, 0, 1), (12, 1))
    parts = {
        "variational": pd.concat([vd(5, 0.56, 0.8), vd(25, 0.79, 0.0)]),
        "magnitude-matched-global-epoch_5": matched(5, 0.56, 0.9, at=5),
    }
    groups = {}
    for name, predictions in stored.items():
        base, _, epoch = name.partition("@")
        rows = parts[base].drop_duplicates("twin_id")[["twin_id", "source_id"]]
        groups[name] = (Group(rows, predictions=predictions, epoch=int(epoch) if epoch else None),)
    return StudyData(MODELS, pd.concat(parts.values()), labels=np.zeros(500, int), populations=groups)


def test_predictions_of_the_epoch_are_resampled_where_they_are_stored() -> None:
    row = compare_measured(with_predictions(at_epoch=True)).iloc[0]
    assert row["difference_median"] == pytest.approx(0.1) and row["resampled"] == "models and images"
    assert row["images"] == 500 and row["difference_low"] < 0.1 < row["difference_high"]
    row = compare_measured(with_predictions(at_epoch=False)).iloc[0]
    assert row["difference_median"] == pytest.approx(0.1) and row["resampled"] == "models"
    assert row["images"] == 0 and row["difference_low"] == pytest.approx(row["difference_high"])


def test_matched_twins_of_a_zoo(data: StudyData) -> None:
    """Three epochs of fine-tuning against 25 of variational dropout."""
    table = compare_measured(data)
    exact = table[table["pairs"] == "matched"]
    assert exact["series"].tolist() == ["MP global", "MP per layer"] and (exact["n"] == 12).all()
    assert (table["why"] == "3 epochs against 25").all()
    pairs = measured_pairs(data)
    assert ((pairs["sparsity"] - pairs["against_sparsity"]).abs() <= 0.025 + 1e-9).all()


def test_a_missing_method_leaves_an_empty_table() -> None:
    for parts in ([vd(25, 0.8, 0.8)], [mp(25, 0.8, 0.8, 0.8)]):
        assert compare(*parts).empty and crossover_bracket(StudyData(MODELS, pd.concat(parts))).empty
