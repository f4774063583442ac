"""Ids of models and twins: each names one network, in the whole zoo."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from zoosparse_ext.errors import StoreError
from zoosparse_ext.zoo.stored import StoredPopulations

if TYPE_CHECKING:
    from zoosparse_ext.zoo.store import Zoo


def check_ids(zoo: Zoo) -> None:
    """Raise StoreError if two networks have one id, or a table has two rows for one network and epoch.

    Populations such as `original@10` hold networks of `original` at an earlier epoch, under the same ids. What was not
    read is as it is on disk: it is looked at only where new twins must not be called as those there.

    Raises:
        StoreError: names the id, and where it stands.
    """
    stored = zoo.populations if isinstance(zoo.populations, StoredPopulations) else None
    new = [name for name in zoo.populations if stored is None or not stored.is_unread(name)]
    for name in new:
        ids = pd.Series([id for group in zoo.groups(name) for id in group.ids], dtype=object)
        if (twice := ids[ids.duplicated()]).size:
            raise StoreError(
                f"population {name!r} holds two networks called {twice.iloc[0]!r} ({twice.nunique()} ids stand there "
                "more than once); give every network an id of its own"
            )
    if any(_twin_ids(zoo, name) for name in new):
        known: dict[str, str] = {}  # populations, by twin_id
        for name in zoo.populations:
            for id in _twin_ids(zoo, name):
                if id in known:
                    raise StoreError(
                        f"twin {id!r} stands in two populations, {known[id]!r} and {name!r}; name their series when "
                        "they are made (series=…), or leave one of them out"
                    )
                known[id] = name
    for table, key in (("twins", "twin_id"), ("history", "model_id")):
        rows = vars(zoo)[table]
        if isinstance(rows, pd.DataFrame):
            _check_rows(rows, table, key)


def _twin_ids(zoo: Zoo, name: str) -> list[str]:
    """Ids of the twins in a population, none where it is one of earlier epochs."""
    groups = () if "@" in name else zoo.groups(name)
    return [id for group in groups if "twin_id" in group.models for id in group.ids]


def _check_rows(rows: pd.DataFrame, table: str, key: str) -> None:
    twice = rows[rows.duplicated([key, "epoch"]) & rows[key].notna()]
    if len(twice):
        id, epoch = twice.iloc[0][[key, "epoch"]]
        raise StoreError(
            f"table {table!r} has two rows of {id!r} at epoch {epoch:g} ({len(twice)} rows repeat another); keep one "
            "row per network and epoch"
        )
