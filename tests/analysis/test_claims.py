from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from zoosparse_ext.analysis import Interval, check_claims
from zoosparse_ext.analysis.claims import FAILS, HOLDS, UNDECIDED, verdict

CLAIMS = [
    "Both methods are robust",
    "Magnitude pruning is ahead up to 80 % sparsity",
    "Variational dropout is ahead above 80 % sparsity",
    "The methods cross at about 80 % sparsity",
    "Twins agree with their originals to a high degree",
    "Performance of original and twin is highly correlated",
]


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((0.9, 0.8, 0.95), HOLDS),
        ((0.6, 0.5, 0.65), FAILS),
        ((0.7, 0.6, 0.8), UNDECIDED),
        ((0.9, np.nan, np.nan), UNDECIDED),
        ((np.inf, np.inf, np.inf), HOLDS),
    ],
)
def test_verdict(interval, expected):
    assert verdict(Interval(*interval, 50), low=0.7) == expected
    assert verdict(Interval(*interval, 4), low=0.7) == UNDECIDED


def test_claims_of_a_zoo(data):
    table = check_claims(data)
    assert list(dict.fromkeys(table["claim"])) == CLAIMS
    assert table["verdict"].isin([HOLDS, FAILS, UNDECIDED]).all()
    known = table["low"].notna() & (table["measure"] != "sparsity above which VD stays ahead")
    assert ((table["low"] <= table["value"]) & (table["value"] <= table["high"]))[known].all()
    robust = table[table["claim"] == CLAIMS[0]]
    assert robust["subject"].str.startswith(("MP global, 80 %", "MP per layer, 80 %", "VD, ")).all()
    assert (robust["verdict"] == HOLDS).all()
    assert (robust["value"] < 0.05).all() and set(robust["unit"]) == {"spread"}  # of shares, not in points


def test_every_claim_is_listed_when_a_method_is_missing(data):
    for method in ("magnitude", "variational"):
        table = check_claims(dataclasses.replace(data, twins=data.twins[data.twins["method"] == method]))
        assert list(dict.fromkeys(table["claim"])) == CLAIMS
        comparison = table[table["claim"].isin(CLAIMS[1:4])]
        assert (comparison["verdict"] == UNDECIDED).all() and (comparison["n"] == 0).all()


def test_few_models_decide_nothing(data):
    few = data.models[:4]
    twins = data.twins[data.twins["source_id"].isin(few["model_id"])]
    assert (check_claims(dataclasses.replace(data, models=few, twins=twins))["verdict"] == UNDECIDED).all()


def test_magnitude_that_never_falls_behind_refutes_the_crossover(data):
    twins = data.twins.copy()
    twins.loc[twins["method"] == "variational", "accuracy"] -= 0.3
    table = check_claims(dataclasses.replace(data, twins=twins))
    crossing = table[table["claim"] == CLAIMS[3]]
    assert np.isposinf(crossing["value"]).all()
    # VD reaches 80–90 % here, not 90 %: it might still get ahead.
    assert (crossing["verdict"] == UNDECIDED).all()
    assert (table.loc[table["claim"] == CLAIMS[2], "verdict"] == FAILS).any()


@pytest.mark.parametrize("crosses_at", [0.0, 0.3])
def test_variational_dropout_that_stops_early_does_not_refute_the_crossover(data, crosses_at):
    twins = data.twins[(data.twins["method"] == "magnitude") | (data.twins["epoch"] <= 3)].copy()
    vd = twins["method"] == "variational"
    twins.loc[vd, "accuracy"] += np.where(twins["sparsity"] >= crosses_at, 0.05, -0.05)[vd]
    crossing = check_claims(dataclasses.replace(data, twins=twins)).query("claim == @CLAIMS[3]")
    assert np.isneginf(crossing["value"]).all() == (crosses_at == 0.0)
    assert (crossing["high"] < 0.7).all() and (crossing["verdict"] == UNDECIDED).all()
