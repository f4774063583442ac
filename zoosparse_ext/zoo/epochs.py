"""Populations at several epochs: `original` holds the last one of every model, `original@10` an earlier one."""

from __future__ import annotations

from typing import Protocol

import pandas as pd

from zoosparse_ext.zoo.store import Zoo


class Rows(Protocol):
    """What has a table of rows: a population, in memory or mapped."""

    models: pd.DataFrame

    @property
    def ids(self) -> list[str]: ...

    def __len__(self) -> int: ...


def base_epochs(zoo: Zoo) -> dict[str, list[str]]:
    """Populations by what stands before the `@`: the last epoch first, then the earlier ones."""
    bases: dict[str, list[str]] = {}
    for name in zoo.populations:
        bases.setdefault(name.partition("@")[0], []).append(name)
    return bases


def row_epochs(zoo: Zoo, population: str, group: Rows) -> list[int]:
    """The epoch of every row: as its population or its table says, else the last one of its history."""
    _, _, earlier = population.partition("@")
    if earlier:
        return [int(earlier)] * len(group)
    if "epoch" in group.models and bool(group.models["epoch"].notna().all()):
        return [int(epoch) for epoch in group.models["epoch"]]
    twins = "twin_id" in group.models
    table, key = (zoo.twins, "twin_id") if twins else (zoo.history, "model_id")
    last: dict[str, float] = {}
    if len(table):
        last = dict(table.groupby(key)["epoch"].max())
    return [int(last.get(model, 0)) for model in group.ids]
