"""Keys and labels of series."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from zoosparse_ext.errors import InputError
from zoosparse_ext.sparsify.series import Series, series_keys


@pytest.mark.parametrize(
    ("series", "key", "label"),
    [
        (Series("magnitude", "global"), "magnitude-global", "MP global"),
        (Series("magnitude", "layer"), "magnitude-layer", "MP per layer"),
        (Series("magnitude", "layer", matched=True), "magnitude-matched-layer", "MP per layer"),
        (Series("variational"), "variational", "VD"),
        (Series("variational", options=("molchanov",)), "variational-molchanov", "VD molchanov"),
        (Series("variational", options=("50 epochs",)), "variational-50_epochs", "VD, 50 epochs"),
        (Series("magnitude", "layer", "cubic"), "magnitude-layer-cubic", "MP per layer, cubic"),
        (
            Series("magnitude", "global", "iterative 5", ("biases", "25 epochs", "lr 0.001")),
            "magnitude-global-iterative_5-biases-25_epochs-lr_0.001",
            "MP global, iterative 5, biases, 25 epochs, lr 0.001",
        ),
        (Series("magnitude", "global", "one-shot"), "magnitude-global-one_shot", "MP global, one shot"),
        (Series("magnitude", "2:4"), "magnitude-2:4", "MP 2:4"),
        (Series("wanda", "output"), "wanda-output", "Wanda per output"),
        (Series("random", "global"), "random-global", "random global"),
        (Series("gradient", "global"), "gradient-global", "gradient global"),
    ],
)
def test_key_and_label(series: Series, key: str, label: str) -> None:
    assert (series.key, series.label) == (key, label)
    assert Series.parse(key) == series


def test_parts_that_are_no_names_are_refused() -> None:
    for parts in ({"options": ("",)}, {"options": ("a/b",)}, {"scope": "per layer"}, {"schedule": "  "}):
        with pytest.raises(InputError, match="name of a series"):
            Series("magnitude", **parts)


def test_rows_without_a_series_are_named_as_ever() -> None:
    twins = pd.DataFrame(
        {
            "method": ["magnitude", "magnitude", "magnitude", "variational", "wanda"],
            "scope": ["global", "layer", "layer", None, "output"],
            "matched": [None, np.nan, "a/variational", None, ""],
        }
    )
    names = ["magnitude-global", "magnitude-layer", "magnitude-matched-layer", "variational", "wanda-output"]
    assert series_keys(twins).tolist() == names
    named = twins.assign(series=["magnitude-global-cubic", None, np.nan, "variational-molchanov", ""])
    expected = ["magnitude-global-cubic", *names[1:3], "variational-molchanov", names[4]]
    assert series_keys(named).tolist() == expected


def test_any_name_of_a_population_can_be_read() -> None:
    """Populations and methods of imported zoos are called as their makers liked."""
    for name, label in [
        ("my twins", "my twins"),
        ("a/b", "a b"),
        ("", "unknown"),
        ("--", "unknown"),
        ("x--y", "x y"),
    ]:
        assert Series.parse(name).label == label
    odd = pd.DataFrame(
        {"method": ["my method", "a/b", np.nan], "scope": ["per unit", None, None], "matched": None}
    )
    assert series_keys(odd).tolist() == ["my_method-per_unit", "a_b", "unknown"]


def test_an_empty_table_has_no_series() -> None:
    assert series_keys(pd.DataFrame({"method": [], "scope": [], "matched": []})).tolist() == []
