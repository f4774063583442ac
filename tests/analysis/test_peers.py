"""The rank of the own original among originals that are as accurate."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.analysis.drawn_study import drawn_study
from zoosparse_ext.analysis import (
    Group,
    agreement_by_sparsity,
    agreement_with_peers,
    peers,
    ranks_among_peers,
)
from zoosparse_ext.errors import InputError


@pytest.mark.parametrize("images", [1, 2, 20, 39, 40, 41, 300, 2561])
@pytest.mark.parametrize("classes", [2, 11, 300])
def test_equals_comparing_one_by_one(images, classes):
    generator = np.random.default_rng(images)
    twins = generator.integers(0, classes, (4, images)).astype(np.uint16)
    originals = np.concatenate([generator.integers(0, 2, (5, images)), twins[1:2]]).astype(np.uint16)
    ranks = agreement_with_peers(twins, originals[0], originals[1:])
    equal = (twins[:, None] == originals[None]).sum(axis=2)  # [4, 6]
    best = equal == equal.max(axis=1, keepdims=True)
    assert ranks.first.tolist() == pytest.approx((best[:, 0] / best.sum(axis=1)).tolist())
    expected = (equal[:, 0] - equal[:, 1:].mean(axis=1)) / images
    assert ranks.own_minus_other == pytest.approx(expected)
    sizes = np.bincount(np.arange(images) % ranks.by_set.shape[1])
    assert (ranks.by_set * sizes).sum(axis=1) / images == pytest.approx(expected)
    if images > 1:
        kept = np.arange(images) % len(sizes) != 1
        without = agreement_with_peers(twins[:, kept], originals[0, kept], originals[1:, kept])
        assert ranks.first_without[:, 1].tolist() == pytest.approx(without.first.tolist())


def test_golden():
    own, others = np.array([0, 1, 2, 0]), np.array([[0, 1, 2, 1], [2, 2, 2, 2]])
    twins = np.array([[0, 1, 2, 0], [0, 1, 2, 2], [2, 2, 2, 1]])
    ranks = agreement_with_peers(twins, own, others)
    assert ranks.first.tolist() == [1.0, 0.5, 0.0]  # first; first together with one other; behind
    assert ranks.own_minus_other.tolist() == [1 - 0.5, 0.75 - 0.625, 0.25 - 0.625]


def test_nothing_to_compare_with():
    alone = agreement_with_peers(np.zeros((2, 4), int), np.zeros(4, int), np.zeros((0, 4), int))
    assert np.isnan(alone.first).all()
    none = agreement_with_peers(np.zeros((2, 0), int), np.zeros(0, int), np.zeros((3, 0), int))
    assert np.isnan(none.own_minus_other).all()
    with pytest.raises(InputError, match="predictions of 3, 4 and 4 images; they must be of the same ones"):
        agreement_with_peers(np.zeros((1, 3), int), np.zeros(4, int), np.zeros((2, 4), int))


def test_peers_of_a_study():
    data = drawn_study(30, 300, spread=0.1)
    ranks = ranks_among_peers(data).set_index("twin_id")
    accuracy = data.models.set_index("model_id")["accuracy"]
    original = dict(zip(data.models["model_id"], data.originals[0].predictions, strict=True))
    twins = data.populations["magnitude-0.8"][0]
    for name, predictions in list(zip(twins.rows.to_dict("records"), twins.predictions, strict=True))[:10]:
        own = name["source_id"]
        near = [other for other in accuracy.index if abs(accuracy[other] - accuracy[own]) <= 0.01 + 1e-9]
        equal = {other: (original[other] == predictions).sum() for other in near}
        row = ranks.loc[name["twin_id"]]
        assert row["peers"] == len(near)
        if len(near) == 1:
            assert np.isnan(row["own_first"])
            continue
        best = [other for other in near if equal[other] == max(equal.values())]
        assert row["own_first"] == (own in best) / len(best)
        others = np.mean([equal[other] for other in near if other != own])
        assert row["own_minus_other"] == pytest.approx((equal[own] - others) / 300)


def test_many_peers_are_sampled(monkeypatch):
    monkeypatch.setattr(peers, "MAX_PEERS", 4)
    monkeypatch.setattr(peers, "_TWINS", 7)
    data = drawn_study(20, 100, spread=0.0)
    ranks = ranks_among_peers(data)
    assert ranks["peers"].max() == 5 and len(ranks) == 40
    table = agreement_by_sparsity(data)
    assert (table["peers"] == 5).all() and table["own_rank_chance"].between(0.2, 0.3).all()


def test_twins_that_answer_beyond_the_classes_of_originals():
    data = drawn_study(8, 60, spread=0.0)
    (twins,) = data.populations["magnitude-0.8"]
    wild = dataclasses.replace(twins, predictions=twins.predictions + np.uint8(64))
    ranks = ranks_among_peers(
        dataclasses.replace(data, populations={**data.populations, "magnitude-0.8": (wild,)})
    )
    by_level = ranks.set_index("twin_id").filter(like="0.8", axis=0)
    ranked = by_level.dropna(subset=["own_first"])
    assert (
        len(ranked) and (ranked["own_first"] == 1 / ranked["peers"]).all()
    )  # all agree on nothing, and share
    assert (ranked["own_minus_other"] == 0).all()


def test_table_of_agreement():
    data = drawn_study(40, 400, spread=0.1)
    table = agreement_by_sparsity(data)
    ranks = ranks_among_peers(data)
    for level, row in table.set_index("level").iterrows():
        of_level = ranks[ranks["twin_id"].str.endswith(f"-{level}")].dropna(subset=["own_first"])
        assert row["own_rank_first"] == pytest.approx(of_level["own_first"].mean())
        assert row["own_rank_n"] == len(of_level)
        assert row["own_rank_chance"] == pytest.approx((1 / of_level["peers"]).mean())
        assert row["own_minus_other"] == pytest.approx(of_level["own_minus_other"].median())
        assert row["own_rank_first_low"] <= row["own_rank_first"] <= row["own_rank_first_high"]
        assert 0 < row["own_minus_other_low"] < row["own_minus_other"] < row["own_minus_other_high"]
        assert row["own_rank_first"] > 0.9 > row["own_rank_chance"]
    control = data.twins[(data.twins["method"] == "control") & (data.twins["epoch"] == 2)]
    assert table["control_agreement"].tolist() == [pytest.approx(control["agreement"].median())] * 2
    assert (table["resampled"] == "models and images").all()


def test_twins_of_another_model_rank_by_chance():
    """Twins that kept nothing of their own original but its skill."""
    table = agreement_by_sparsity(drawn_study(100, 200, spread=0.0, alike=0.0, levels=(0.8,), costs=(0.0,)))
    row = table.iloc[0]
    assert row["own_rank_first_low"] < row["own_rank_chance"] < row["own_rank_first_high"]
    assert row["own_minus_other_low"] < 0 < row["own_minus_other_high"]


def test_without_predictions_or_peers():
    data = drawn_study(8, 100)
    table = agreement_by_sparsity(dataclasses.replace(data, populations={}))
    assert table["own_rank_first"].isna().all() and (table["own_rank_n"] == 0).all()
    assert (table["resampled"] == "models").all() and table["agreement"].notna().all()
    apart = data.models.assign(accuracy=np.linspace(0.1, 0.9, 8))  # no two within a point
    table = agreement_by_sparsity(dataclasses.replace(data, models=apart))
    assert table["own_rank_first"].isna().all() and (table["own_rank_n"] == 0).all()
    assert table["own_minus_other"].isna().all()
    some = data.populations["original"][0]
    half = Group(some.rows[:4], predictions=some.predictions[:4])
    ranks = ranks_among_peers(
        dataclasses.replace(data, populations={**data.populations, "original": (half,)})
    )
    assert set(ranks["twin_id"].str[:2]) == {"m0", "m1", "m2", "m3"}


def test_twins_that_are_not_a_number_are_not_ranked():
    data = drawn_study(8, 100, spread=0.0)
    twins = data.twins.copy()
    twins.loc[twins["source_id"] == "m0", "accuracy"] = np.nan
    ranks = ranks_among_peers(dataclasses.replace(data, twins=twins))
    assert len(ranks) == 14 and not ranks["twin_id"].str.startswith("m0/").any()


def test_intervals_cover():
    """Of the share that ranks first and of own minus other, over other models and other images."""
    options = {"spread": 0.0, "levels": (0.8,), "costs": (0.3,), "control": False, "epochs": (1,), "kept": ()}
    tables = [ranks_among_peers(drawn_study(60, 60, alike=0.4, seed=seed, **options)) for seed in range(100)]
    ranks = [table.dropna(subset=["own_first"]) for table in tables]
    firsts = [peers.share_first(table) for table in ranks]
    others = [peers.median_own_minus_other(table, 60) for table in ranks]
    truth = np.mean([first.estimate for first in firsts]), np.mean([other.value for other in others])
    for intervals, value in zip((firsts, others), truth, strict=True):
        assert np.mean([interval.low <= value <= interval.high for interval in intervals]) >= 0.93
