"""What a study made, on a terminal: one line a population."""

from __future__ import annotations

import pandas as pd

from zoosparse_ext.cli.console import print_table
from zoosparse_ext.zoo import Zoo


def print_summary(zoo: Zoo, title: str) -> None:
    """Networks of every population with their median sparsity, accuracy and change, over all ratios."""
    rows = []
    accuracy = zoo.models.set_index("model_id")["accuracy"]
    final = zoo.twins.drop_duplicates("twin_id", keep="last").set_index("twin_id")
    for name, groups in zoo.populations.items():
        ids = [identity for group in groups for identity in group.ids]
        row = {"population": name, "networks": len(ids), "sparsity": 0.0, "accuracy": accuracy.median()}
        if name != "original":
            twins = final.loc[ids]
            change = 100 * (twins.accuracy - twins.source_id.map(accuracy))
            row |= {"sparsity": twins.sparsity.median(), "accuracy": twins.accuracy.median()}
            row |= {"change, points": round(change.median(), 2)}
        rows.append(row)
    print_table(pd.DataFrame(rows), f"{title}: medians on the test images", ("sparsity", "accuracy"))
