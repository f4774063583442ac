"""What a zoo holds, on a terminal: one line a population and ratio."""

from __future__ import annotations

import pandas as pd
from pandas.api.typing import DataFrameGroupBy

from zoosparse_ext.cli.console import percent, print_table
from zoosparse_ext.sparsify.series import Series
from zoosparse_ext.zoo import Zoo


def print_summary(zoo: Zoo, title: str) -> None:
    """Networks of every population and ratio with their median sparsity, accuracy and change in accuracy.

    Populations at earlier epochs are the same networks, and left out.
    """
    accuracy = zoo.models.set_index("model_id")["accuracy"]
    final = zoo.twins.drop_duplicates("twin_id", keep="last").set_index("twin_id")
    rows = []
    for name in (name for name in zoo.populations if "@" not in name):
        ids = [identity for part in zoo.groups(name) for identity in part.ids]
        if name == "original":
            table = pd.DataFrame({"sparsity": 0.0, "accuracy": accuracy.loc[ids]})
        else:
            table = final.loc[ids, ["target", "sparsity", "accuracy", "source_id"]]
            table["change"] = table["accuracy"] - table["source_id"].map(accuracy)
        rows.append(table.assign(population=name))
    columns = ["population", "target", "sparsity", "accuracy", "change"]
    table, groups = medians(pd.concat(rows).reindex(columns=columns))
    table["change, points"] = (100 * groups["change"].median()).round(2).to_numpy()
    print_table(table, f"{title}: medians on the test images", ("sparsity", "accuracy"))


def print_evaluation(rows: pd.DataFrame, title: str) -> None:
    """Medians and ranges of networks by population and ratio; columns population, target, sparsity, accuracy."""
    table, groups = medians(rows)
    lowest, highest = groups["accuracy"].min(), groups["accuracy"].max()
    table["from – to"] = [f"{percent(a)} – {percent(b)}" for a, b in zip(lowest, highest, strict=True)]
    print_table(table, f"{title}: medians on the test images", ("sparsity", "accuracy"))


def medians(rows: pd.DataFrame) -> tuple[pd.DataFrame, DataFrameGroupBy]:
    """Number, median sparsity and accuracy of the networks of every population and ratio, and the groups themselves."""
    # Matched twins have a ratio each.
    matched = rows["population"].map(
        {name: Series.parse(name).matched for name in rows["population"].unique()}
    )
    ratio = rows["target"].round(6).where(~matched)
    groups = rows.groupby(["population", ratio], sort=False, dropna=False)
    table = groups[["sparsity", "accuracy"]].median().reset_index().drop(columns="target")
    table.insert(1, "networks", groups.size().to_numpy())
    return table, groups
