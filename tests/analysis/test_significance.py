"""Effects and p-values, and what becomes of them when many are asked at once."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from zoosparse_ext.analysis import (
    adjusted,
    compare_measured,
    equal_spread,
    holm,
    performance_by_sparsity,
    robustness,
    signed_rank,
)


def test_effects_reach_their_ends_and_nothing_is_no_evidence():
    assert signed_rank(np.array([0.1, 0.2, np.nan, 0.3]))["effect"] == 1
    assert signed_rank(np.array([-0.1, -0.2, 0.0]))["effect"] == -1
    assert all(np.isnan(value) for value in signed_rank(np.array([0.0, np.nan])).values())
    assert np.isnan(equal_spread(np.ones(5), np.ones(5))) and np.isnan(equal_spread(np.ones(2), np.ones(2)))


@pytest.mark.parametrize("n", [1, 2, 5, 8, 13, 14, 30])
@pytest.mark.parametrize("ties", [False, True])
def test_signed_rank_equals_scipy(n, ties):
    generator = np.random.default_rng(n)
    for _ in range(3 if n < 13 else 1):
        differences = generator.integers(1, 5, n) * generator.choice([-1.0, 1.0], n)
        differences = differences if ties else generator.normal(0.3, 1, n)
        assert signed_rank(differences)["p"] == pytest.approx(stats.wilcoxon(differences).pvalue, rel=1e-12)


def test_chance_alone_is_rarely_called_a_difference():
    generator = np.random.default_rng(0)
    p = [signed_rank(generator.normal(size=30))["p"] for _ in range(200)]
    assert sum(value < 0.05 for value in p) > 3  # as many as 10 of them are expected
    assert (adjusted(p) > 0.05).all()
    spreads = [equal_spread(*generator.normal(size=(2, 30))) for _ in range(200)]
    assert stats.kstest(spreads, "uniform").pvalue > 0.01


def test_every_family_is_adjusted_as_a_whole(data):
    table = performance_by_sparsity(data)
    changes = table[table["n"] > 1]
    assert (np.sign(changes["effect"]) == np.sign(changes["change_median"].round(12))).mean() > 0.8
    for family in (table, compare_measured(data), robustness(data)):
        assert family["p_adjusted"].dropna().between(0, 1).all()


def test_a_spread_that_chance_could_give_decides_nothing(data):
    table = robustness(data)
    wider = table[table["verdict"] == "wider"]
    assert (wider["p_adjusted"] < 0.05).all() and (wider["ratio_low"] > 1).all()
    assert set(table["verdict"]) <= {"wider", "narrower", "undecided"}


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("adjust", [adjusted, holm])
def test_a_family_of_none_or_one(adjust, count):
    assert adjust([0.04] * count).tolist() == [0.04] * count


def test_holm_is_that_of_a_textbook_and_never_below_the_other():
    p = [0.01, 0.02, 0.03, 0.005, np.nan]
    assert holm(p)[:4].tolist() == pytest.approx([0.03, 0.04, 0.04, 0.02]) and np.isnan(holm(p)[4])
    assert holm([0.6, 0.9]).tolist() == [1.0, 1.0] and (holm(p)[:4] >= adjusted(p)[:4]).all()
