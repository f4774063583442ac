"""The table of a population: one row per network, with an id of its own."""

from __future__ import annotations

import pandas as pd

from zoosparse_ext.errors import InputError, require_kind
from zoosparse_ext.population.architecture import Architecture


def number_rows(models: pd.DataFrame | None, n: int, architecture: Architecture) -> pd.DataFrame:
    """The table with the columns that every row has; those that are missing are numbered.

    Raises:
        InputError: no table, or one of another number of rows.
    """
    require_kind(
        "the table of models", models, (pd.DataFrame, type(None)), "a pandas.DataFrame with one row per model"
    )
    table = pd.DataFrame(index=range(n)) if models is None else models.reset_index(drop=True)
    if len(table) != n:
        raise InputError(f"the table has {len(table)} rows for {n} models")
    if "seed" not in table:
        table = table.assign(seed=range(n))
    if "model_id" not in table:
        table = table.assign(model_id=[f"{row:04d}" for row in range(n)])
    if "architecture" not in table:
        table = table.assign(architecture=architecture.name)
    return table


def require_own_ids(table: pd.DataFrame) -> None:
    """Raise InputError if two rows name one network, which no zoo could hold."""
    key = "twin_id" if "twin_id" in table else "model_id"
    ids = table[key].dropna()
    try:
        if ids.is_unique:
            return
    except TypeError as error:
        raise InputError(f"the column {key!r} of the models must hold text: {error}") from None
    repeated = ids.duplicated()
    twice = ids[repeated].iloc[0]
    rows = [int(row) for row in (ids == twice).to_numpy().nonzero()[0][:2]]
    number = ids[repeated].nunique()
    raise InputError(
        f"the table of models calls rows {rows[0]} and {rows[1]} both {twice!r} ({key}; {number} ids stand there more "
        "than once); give every network an id of its own"
    )
