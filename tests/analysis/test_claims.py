"""The four statements of the paper: all of them, at every sparsity, with a verdict and a reason."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from tests.analysis.simulated import Simulation, Truth
from tests.analysis.synthetic_zoo import synthetic_zoo
from zoosparse_ext.analysis import StudyData, check_claims
from zoosparse_ext.analysis.claims import COLUMNS
from zoosparse_ext.analysis.measures import LEVELS
from zoosparse_ext.analysis.statements import _compared

CLAIMS = [
    "Both methods are robust",
    "Magnitude pruning is ahead up to 80 % sparsity",
    "Variational dropout is ahead above 80 % sparsity",
    "The methods cross at about 80 % sparsity",
    "Twins agree with their originals to a high degree",
    "Performance of original and twin is highly correlated",
]
GAINS = {0.5: 0.0, 0.8: -0.01, 0.9: -0.05}


@pytest.fixture(scope="module")
def study() -> StudyData:
    """40 models at three sparsities; magnitude pruning is ahead by 3 points at 80 % and behind by 5 at 90 %."""
    return Simulation(
        Truth(spread=0.03, magnitude=GAINS, variational={0.5: -0.03, 0.8: -0.04, 0.9: 0.0}), 40, 1000
    ).study()


def check(table: pd.DataFrame) -> None:
    """What is so of every table of claims, whatever the study."""
    assert list(table.columns) == COLUMNS
    assert list(dict.fromkeys(table["claim"])) == CLAIMS and set(table["statement"]) == {1, 2, 3, 4}
    assert table["verdict"].isin(["holds", "does not hold", "undecided"]).all()
    assert (table["why"].str.len() > 0).all() and not table["why"].str.contains("nan|inf").any()
    for statement in (1, 2, 3, 4):
        primary = table[(table["statement"] == statement) & table["primary"]]
        assert set(primary["level"]) == set(LEVELS)
    known = table["low"].notna() & table["value"].notna()
    assert ((table["low"] <= table["value"] + 1e-9) & (table["value"] <= table["high"] + 1e-9))[known].all()
    decided = table["verdict"] != "undecided"
    assert (table.loc[decided, "n"] >= 6).all() and not np.isinf(table[["value", "low", "high"]]).any(
        axis=None
    )
    with_p = decided & table["p"].notna()
    assert (table.loc[with_p, "p_adjusted"] < 0.05).all()
    assert (table["p_adjusted"] >= table["p"])[table["p"].notna()].all()


def primary(table: pd.DataFrame, statement: int, series: str, level: float) -> pd.Series:
    rows = table[(table["statement"] == statement) & table["primary"] & (table["level"] == level)]
    return rows[rows["series"].str.startswith(series)].iloc[0]


def test_every_statement_is_measured_at_every_sparsity(study: StudyData) -> None:
    table = check_claims(study)
    check(table)
    verdicts = {
        (row.statement, row.level): row.verdict
        for row in table[table["primary"] & (table["series"] == "MP global")].itertuples()
    }
    assert verdicts[2, 0.5] == verdicts[2, 0.8] == verdicts[2, 0.9] == "holds"
    ahead = primary(table, 2, "MP global", 0.8)
    assert ahead["why"].startswith("ahead by ") and ahead["against"] == "VD" and ahead["images"] == 1000
    assert primary(table, 2, "MP global", 0.9)["against"] == "VD, kl 0.9"
    assert set(table.loc[table["statement"] == 1, "against"]) == {"control"}
    bracket = table[table["claim"] == CLAIMS[3]].iloc[0]
    assert (bracket["low"], bracket["high"], bracket["verdict"]) == (0.8, 0.9, "holds") and np.isnan(
        bracket["value"]
    )
    assert not bracket["primary"] and set(table.loc[table["primary"], "stands"]) == {True}


def test_a_level_without_twins_says_which_is_nearest() -> None:
    table = check_claims(Simulation(Truth(), 8, 200).study())
    check(table)
    assert primary(table, 1, "VD", 0.5)["why"] == "no twin ends between 47.5 and 52.5 %, the nearest at 80 %"
    assert primary(table, 2, "MP", 0.9)["why"] == "no two twins of equal sparsity between 87.5 and 92.5 %"
    assert table.loc[table["level"] != 0.8, "n"].drop(table.index[table["level"].isna()]).eq(0).all()


def test_unequal_budgets_decide_nothing(data: StudyData) -> None:
    table = check_claims(data)
    check(table)
    row = primary(table, 2, "MP global", 0.8)
    assert (row["verdict"], row["why"], row["n"]) == ("undecided", "3 epochs against 25", 12)


def test_without_a_control_the_original_is_named(data: StudyData) -> None:
    robust = check_claims(data).query("statement == 1")
    assert set(robust.loc[robust["n"] > 0, "against"]) == {"original"}
    assert robust.loc[robust["n"] > 0, "why"].str.contains("against the original").all()


def test_more_training_is_not_mistaken_for_robustness() -> None:
    """Twins equal their originals, but are 8 points below their controls."""
    truth = Truth(original=0.75, control=0.08, scatter=0.0, spread=0.0)
    row = primary(check_claims(Simulation(truth, 40, 2000).study()), 1, "MP", 0.8)
    assert row["verdict"] == "does not hold" and row["value"] > 0.8


def test_what_chance_gives_among_so_many_is_undecided(study: StudyData) -> None:
    table = check_claims(study)
    alone = table["primary"] & (table["p"] < 0.05) & (table["p_adjusted"] >= 0.05)
    for why in table.loc[alone, "why"]:
        assert "adjusted for" in why or "crosses" in why or "differ" in why


@pytest.mark.parametrize("method", ["magnitude", "variational"])
def test_every_claim_is_listed_when_a_method_is_missing(data: StudyData, method: str) -> None:
    table = check_claims(dataclasses.replace(data, twins=data.twins[data.twins["method"] == method]))
    check(table)
    missing = "variational dropout" if method == "magnitude" else "magnitude pruning"
    rows = table[table["statement"] == 2]
    assert set(rows["why"]) == {f"no twins by {missing}"} and set(rows["n"]) == {0}


def no_models_differ(study: StudyData) -> StudyData:
    groups = {
        name: tuple(
            dataclasses.replace(g, predictions=np.tile(g.predictions[:1], (len(g.rows), 1))) for g in of
        )
        for name, of in study.populations.items()
    }
    first = study.twins.groupby("series")["accuracy"].transform("first")
    models = study.models.assign(accuracy=study.models["accuracy"].iloc[0])
    return dataclasses.replace(
        study, models=models, twins=study.twins.assign(accuracy=first), populations=groups
    )


def first_models(study: StudyData, n: int) -> StudyData:
    names = study.models["model_id"][:n]
    return dataclasses.replace(
        study, models=study.models[:n], twins=study.twins[study.twins["source_id"].isin(names)]
    )


def half_nan(study: StudyData) -> StudyData:
    rows = np.arange(len(study.twins)) % 2 == 0
    return dataclasses.replace(study, twins=study.twins.assign(accuracy=study.twins["accuracy"].mask(rows)))


def without_predictions(study: StudyData) -> StudyData:
    return StudyData(study.models, study.twins)


BAD = {
    "one model": lambda study: first_models(study, 1),
    "five models": lambda study: first_models(study, 5),
    "all equal": no_models_differ,
    "no VD": lambda study: dataclasses.replace(
        study, twins=study.twins[study.twins["method"] != "variational"]
    ),
    "no MP": lambda study: dataclasses.replace(
        study, twins=study.twins[study.twins["method"] != "magnitude"]
    ),
    "no twins": lambda study: dataclasses.replace(study, twins=study.twins[:0]),
    "a grid with gaps": lambda study: dataclasses.replace(study, twins=study.twins.iloc[::3]),
    "twins without a number": half_nan,
    "no twin with a number": lambda study: dataclasses.replace(
        study, twins=study.twins.assign(accuracy=np.nan)
    ),
    "tables alone": without_predictions,
    "no labels": lambda study: dataclasses.replace(study, labels=None),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_undecided_for_a_reason(study: StudyData, kind: str) -> None:
    table = check_claims(BAD[kind](study))
    check(table)
    if kind in ("one model", "five models", "no twins"):
        assert set(table["verdict"]) == {"undecided"}
    if kind == "no twin with a number":  # all of them are lost; what they answer can be compared
        assert set(table.loc[table["statement"].isin([2, 4]), "verdict"]) == {"undecided"}
    if kind in ("tables alone", "no labels"):  # whether predictions are equal can be told without labels
        rows = table if kind == "tables alone" else table[table["statement"] != 3]
        assert set(rows["resampled"]) == {"models"} and set(rows["images"]) == {0}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "truth", [Truth(original=0.1, spread=0.0, scatter=0.0), Truth(original=0.1, spread=0.01)]
)
def test_a_zoo_at_chance_has_no_correlation(truth: Truth) -> None:
    table = check_claims(Simulation(truth, 12, 300).study())
    check(table)
    assert set(table.loc[(table["statement"] == 4) & table["primary"], "verdict"]) == {"undecided"}


@pytest.mark.filterwarnings("error")
def test_twenty_test_images_decide_little() -> None:
    table = check_claims(Simulation(Truth(scatter=0.0, spread=0.0), 24, 20).study())
    check(table)
    assert set(table.loc[table["statement"].isin([1, 2]), "verdict"]) == {"undecided"}


@pytest.mark.filterwarnings("error")
def test_identical_twins_on_few_images_are_not_called_equivalent(study: StudyData) -> None:
    """Where 20 images show no difference at all, up to three may."""
    few = Simulation(Truth(original=0.995, spread=0.0, scatter=0.0), 24, 20).study()
    row = primary(check_claims(few), 2, "MP", 0.8)
    assert row["verdict"] == "undecided"


def test_three_series_of_one_method_are_beside_the_one_that_stands() -> None:
    zoo = synthetic_zoo(8, images=100, ratios=(0.5, 0.8), fine_tuning=1)
    twins = zoo.twins
    for name in ("cubic", "lr_0.001"):
        again = twins[
            (twins["method"] == "magnitude") & (twins["scope"] == "global") & twins["matched"].isna()
        ]
        again = again.assign(twin_id=again["twin_id"] + name, series=f"magnitude-global-{name}")
        zoo.twins = pd.concat([zoo.twins, again], ignore_index=True)
    table = check_claims(StudyData.from_zoo(zoo))
    check(table)
    assert set(table.loc[table["primary"], "series"]) == {"MP global", "MP per layer", "VD"}
    assert set(table.loc[~table["stands"], "series"]) == {"MP global, cubic", "MP global, lr 0.001"}


def test_originals_that_do_not_differ_are_the_reason(study: StudyData) -> None:
    table = check_claims(Simulation(Truth(spread=0.0, scatter=0.0), 24, 500).study())
    row = primary(table, 4, "MP", 0.8)
    assert row["verdict"] == "undecided" and row["why"].startswith("originals do not differ enough: ")
    assert (
        not table.query("statement == 4")["verdict"].eq("does not hold").any()
    )  # on the same images neither


def test_two_pairs_at_the_end_do_not_hide_the_many_at_an_earlier_epoch() -> None:
    def pairs(**own: object) -> dict[str, object]:
        usual = {"series": "MP global", "against": "VD", "pairs": "matched", "epochs": 15, "against_epochs": 15,
                 "at_end": False, "sparsity": 0.782, "n": 12, "images": 100, "resampled": "models and images",
                 "difference_median": 0.042, "difference_low": 0.026, "difference_high": 0.075, "verdict": "ahead",
                 "why": "ahead by 4.2 points (2.6 to 7.5)", "p": 0.001}  # fmt: skip
        return usual | own

    at_end = {"pairs": "80 %", "epochs": 25, "against_epochs": 25, "at_end": True, "sparsity": 0.8}
    few = pairs(**at_end, n=2, verdict="undecided", why="2 models, 6 are needed", p=np.nan)
    claim = _compared(pd.DataFrame([few, pairs()]), "MP global", "VD", 0.8, True, "")
    assert (claim.n, claim.decision.verdict) == (12, "holds")
    enough = pairs(**at_end, verdict="undecided", why="the interval crosses half a point")
    claim = _compared(pd.DataFrame([pairs(), enough]), "MP global", "VD", 0.8, True, "")
    assert (claim.epochs, claim.decision.verdict) == (25, "undecided")
