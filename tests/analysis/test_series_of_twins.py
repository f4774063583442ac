"""Every series of twins (method, scope, schedule, options) is its own in every table."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from tests.analysis.synthetic_zoo import FURTHER_SERIES, many_series_zoo
from zoosparse_ext.analysis import (
    StudyData,
    check_claims,
    compare_measured,
    final_twins,
    mask_overlaps,
    operating_twins,
    performance_by_sparsity,
    sparsest_affordable,
)
from zoosparse_ext.analysis.series import (
    is_magnitude,
    is_variational,
    magnitude_series,
    series_labels,
    series_order,
    stands_for_its_method,
    variational_series,
)
from zoosparse_ext.analysis.twins import series_of
from zoosparse_ext.report.questions import analyzed

LABELS = [
    "MP global", "MP per layer", "MP per output", "MP 2:4", "MP global, 50 epochs, lr 0.001", "MP global, cubic",
    "Wanda per output", "gradient per layer", "random global", "VD", "VD molchanov",
]  # fmt: skip
PLAIN = ["MP global", "MP per layer", "VD"]


@pytest.fixture(scope="module")
def many() -> StudyData:
    return StudyData.from_zoo(many_series_zoo(8, images=100))


@pytest.fixture(scope="module")
def plain(many: StudyData) -> StudyData:
    """The same study without what was added to it."""
    further = {key for _, _, key, _ in FURTHER_SERIES} | {"variational-molchanov"}
    kept = {name: groups for name, groups in many.populations.items() if name not in further}
    twins = many.twins[~many.twins["series"].isin(further)].drop(columns="series")
    return dataclasses.replace(many, twins=twins, populations=kept)


def test_all_series_are_there_once(many: StudyData) -> None:
    assert series_of(many) == LABELS
    table = performance_by_sparsity(many)
    assert list(table["series"].unique()) == LABELS
    assert (table["n"] == many.n_models).all()  # nothing is pooled, nothing counts twice
    assert not table.duplicated(["series", "level"]).any()


def test_more_series_change_nothing_of_the_others(many: StudyData, plain: StudyData) -> None:
    """Of every table the rows of a series are the same with and without others; only p-values know their family."""
    before, after = analyzed(plain), analyzed(many)
    assert series_of(plain) == PLAIN
    for name, rows in before.items():
        table = after[name]
        for column in ("series", "first_series", "second_series"):
            if column in table:
                table = table[table[column].isin([*PLAIN, "original"])]
        if "against" in table and name not in ("claims", "losers"):
            table = table[table["against"] == "VD"]
        if name == "claims":
            rows, table = (
                of[of["stands"] & ~of["series"].str.contains("per output")] for of in (rows, table)
            )
        family = (
            ["p_adjusted", "verdict", "why"]
            if name in ("robustness", "claims", "methods_measured")
            else ["p_adjusted"]
        )
        dropped = [column for column in family if column in rows]
        if name == "weight_histograms":
            continue  # its bins are shared by all series
        if name == "mask_overlaps":  # sampled pairs are those of each cell
            keys = ["relation", "first_series", "first_label", "second_series", "second_label"]
            rows, table = (frame.sort_values(keys, kind="stable") for frame in (rows, table))
        pd.testing.assert_frame_equal(
            rows.drop(columns=dropped).reset_index(drop=True),
            table.drop(columns=dropped).reset_index(drop=True),
            obj=name,
            check_dtype=False,
        )


def test_older_zoos_name_their_series_by_method_scope_and_matched() -> None:
    twins = pd.DataFrame(
        {
            "method": ["magnitude", "magnitude", "magnitude", "magnitude", "variational", "random", "wanda"],
            "scope": ["global", "layer", None, "2:4", None, "global", "output"],
            "matched": [None, "a/vd", "", None, None, None, None],
            "series": None,
        }
    )
    assert series_labels(twins).tolist() == [
        "MP global", "MP per layer", "MP", "MP 2:4", "VD", "random global", "Wanda per output",
    ]  # fmt: skip


def test_a_key_that_is_there_wins_over_method_and_scope() -> None:
    twins = pd.DataFrame({"method": "magnitude", "scope": "global", "matched": [None, "a/vd", None]})
    keys = [None, "magnitude-matched-global-cubic", "magnitude-global-cubic"]
    assert series_labels(twins.assign(series=keys)).tolist() == [
        "MP global",
        "MP global, cubic",
        "MP global, cubic",
    ]


@pytest.mark.parametrize(
    ("method", "label"),
    [
        ("my method", "my method global"),
        ("x/y", "x y global"),
        ("L1-norm", "L1 norm, global"),
        (None, "unknown global"),
    ],
)
def test_methods_of_other_tools_are_series_of_their_own(method: str | None, label: str) -> None:
    models = pd.DataFrame({"model_id": ["a"], "accuracy": [0.9]})
    twins = pd.DataFrame(
        {"twin_id": ["a1", "a2"], "source_id": "a", "method": ["magnitude", method], "scope": "global", "target": 0.5,
         "epoch": 0, "sparsity": 0.5, "accuracy": [0.8, 0.7]}
    )  # fmt: skip
    table = performance_by_sparsity(StudyData(models, twins))
    assert table["series"].tolist() == ["MP global", label] and table["n"].tolist() == [1, 1]


def test_two_series_never_share_a_label() -> None:
    twins = pd.DataFrame(
        {"method": ["variational", "VD"], "scope": None, "matched": None, "series": None}, index=[5, 3]
    )
    labels = series_labels(twins)
    assert labels.tolist() == ["VD", "VD (2)"] and labels.index.tolist() == [5, 3]


def test_any_text_in_the_column_is_a_series() -> None:
    """Keys of other tools, which are not made of method, scope and settings."""
    keys = ["a b/c", "magnitude-global", "-", "x" * 200]
    twins = pd.DataFrame({"method": "magnitude", "scope": "global", "matched": None, "series": keys})
    assert series_labels(twins).nunique() == 4


def test_no_rows_have_no_labels() -> None:
    twins = pd.DataFrame(columns=["method", "scope", "matched", "series"])
    assert series_labels(twins).empty


def test_kinds_and_order() -> None:
    backwards = LABELS[::-1]
    assert sorted(backwards, key=series_order) == LABELS
    assert [name for name in LABELS if is_variational(name)] == ["VD", "VD molchanov"]
    assert [name for name in LABELS if is_magnitude(name)] == LABELS[:6]
    assert not is_variational("VDX global") and not is_magnitude("MPX")


def test_which_series_stand_for_their_method() -> None:
    assert stands_for_its_method(LABELS) == {"MP global", "MP per layer", "MP per output", "VD"}
    assert magnitude_series(["MP 2:4", "MP global, cubic", "random global"]) == ["MP 2:4", "MP global, cubic"]
    assert magnitude_series(["random global", "VD"]) == []
    assert variational_series(["MP global", "VD, 50 epochs", "VD molchanov"]) == "VD molchanov"
    assert variational_series(["MP global"]) == "VD"


def test_every_series_of_magnitude_pruning_is_compared_with_every_variational_dropout(
    many: StudyData,
) -> None:
    table = compare_measured(many)
    ratios, matched = (table[table["pairs"] == kind] for kind in ("ratio", "matched"))
    assert set(ratios["series"]) == {name for name in LABELS if name.startswith("MP") and name != "MP 2:4"}
    assert set(ratios["against"]) == {"VD", "VD molchanov"}  # each on its own
    assert set(matched["series"]) == {"MP global", "MP per layer"} and set(matched["against"]) == {"VD"}
    assert (table["n"] <= many.n_models).all()
    claims = check_claims(many)
    standing = claims[claims["stands"] & (claims["statement"] == 2) & (claims["level"] == 0.8)]
    assert standing["series"].tolist() == ["MP global", "MP per layer", "MP per output"]
    assert set(standing["against"]) == {"VD"}


def test_without_plain_twins_the_series_that_are_there_are_compared_by_name(many: StudyData) -> None:
    wanted = ["magnitude-global-cubic", "random-global", "variational-molchanov"]
    twins = many.twins[many.twins["series"].isin(wanted)]
    data = dataclasses.replace(many, twins=twins, populations={})
    pairs = compare_measured(data)[["series", "against"]].drop_duplicates().to_numpy().tolist()
    assert pairs == [["MP global, cubic", "VD molchanov"]]
    claims = check_claims(data)
    assert set(claims.loc[claims["stands"], "subject"].str.replace(r", [\d.]+ %$", "", regex=True)) == {
        "MP global, cubic", "VD molchanov", "MP global, cubic − VD molchanov",
    }  # fmt: skip
    assert set(claims.loc[~claims["stands"], "series"]) == {"random global"}


def test_matched_twins_of_another_variational_dropout_are_not_averaged_with_the_first(
    many: StudyData,
) -> None:
    matched = many.twins[many.twins["matched"].notna() & (many.twins["scope"] == "global")]
    reached = final_twins(many).set_index("twin_id")["sparsity"]
    other = matched.assign(
        sparsity=(matched["matched"] + "-molchanov").map(reached),
        twin_id=matched["twin_id"] + "-m", matched=matched["matched"] + "-molchanov",
        accuracy=matched["accuracy"] - 0.2, series="magnitude-matched-global",
    )  # fmt: skip
    table = compare_measured(
        dataclasses.replace(many, twins=pd.concat([many.twins, other], ignore_index=True))
    )
    both = [
        table[(table["pairs"] == "matched") & (table["series"] == "MP global")]
        for table in (table, compare_measured(many))
    ]
    after, before = (table.set_index("against") for table in both)
    assert list(after.index) == ["VD", "VD molchanov"] and (after["n"] == many.n_models).all()
    assert after.loc["VD", "difference_median"] == before.loc["VD", "difference_median"]
    assert after.loc["VD molchanov", "difference_median"] < before.loc["VD", "difference_median"] - 0.1


def test_scores_that_are_no_magnitude_are_never_called_magnitude_pruning(many: StudyData) -> None:
    twins = many.twins[many.twins["series"].isin(["random-global", "variational-molchanov"])]
    data = dataclasses.replace(many, twins=twins, populations={})
    assert compare_measured(data).empty
    assert list(operating_twins(data)) == ["MP", "random global", "VD molchanov"]  # MP: without rows
    methods = check_claims(data).query("statement == 2")
    assert set(methods["series"]) == {"MP"} and set(methods["n"]) == {0}
    assert set(methods["why"]) == {"no twins by magnitude pruning"}


def test_operating_points_of_every_series(many: StudyData) -> None:
    points = sparsest_affordable(performance_by_sparsity(many))
    assert sorted(point.series for point in points) == sorted(LABELS)
    assert {point.n for point in points} == {many.n_models}
    levels = {name: twins["level"].iloc[0] for name, twins in operating_twins(many).items()}
    assert levels["MP 2:4"] == 0.5 and levels["random global"] == 0.8 and np.isnan(levels["VD molchanov"])


def test_masks_are_compared_series_by_series(many: StudyData) -> None:
    table = mask_overlaps(many)
    methods = table[table["relation"] == "methods"]
    assert set(methods["second_series"]) == {"VD", "VD molchanov"}
    assert set(methods["first_series"]) == set(LABELS) - {"VD", "VD molchanov"}
    assert (methods["pairs"] == many.n_models).all()
    random = methods[methods["first_series"] == "random global"]
    np.testing.assert_allclose(random["jaccard"], random["expected"].astype(float), atol=0.05)


def test_matched_twins_stay_out_of_the_pools(many: StudyData) -> None:
    matched = set(final_twins(many, matched=True)["twin_id"])
    assert matched and not matched & set(final_twins(many)["twin_id"])
