"""Properties of rows of weights, looked up in the tables of a zoo: what weight-space learning predicts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from pandas.api import types
from torch import Tensor

from zoosparse_ext.errors import InputError
from zoosparse_ext.zoo.row_tables import Rows
from zoosparse_ext.zoo.store import Zoo

_OF_HISTORY = {"accuracy": "test_accuracy", "loss": "test_loss"}
_OF_ORIGINALS = {"method": "original", "series": "original"}


def property_values(zoo: Zoo, every: Rows, properties: Sequence[str]) -> tuple[Tensor, dict[str, list[str]]]:
    """Properties of rows, float32 [rows, properties], and the classes of those that are text.

    A property of an original is looked up in the history at the row's epoch, one of a twin in the table of twins; then
    in the table of its population, then in that of its model. An original is of method and series ``"original"``, and
    has the sparsity that its masks leave it. What is nowhere is NaN.

    Raises:
        InputError: a property is a column of none of these tables, or neither number nor text.
    """
    rows = every.table
    values, classes = torch.empty(len(rows), len(properties)), {}
    for place, name in enumerate(properties):
        column = _column(zoo, rows, name)
        if name in _OF_ORIGINALS or name == "sparsity":
            column = _with_originals(every, column, name)
        if types.is_numeric_dtype(column) or types.is_bool_dtype(column):
            values[:, place] = torch.from_numpy(column.to_numpy(np.float32, na_value=np.nan))
            continue
        known = column.dropna()
        if not all(isinstance(value, str) for value in known):
            raise InputError(f"property {name!r} is neither number nor text: {known.iloc[0]!r:.60}")
        classes[name] = sorted(set(known))
        numbers = pd.Categorical(column, classes[name]).codes.astype(np.float32)
        values[:, place] = torch.from_numpy(np.where(numbers < 0, np.float32(np.nan), numbers))
    return values, classes


def _with_originals(every: Rows, column: pd.Series, name: str) -> pd.Series:
    """The values of a property that twins have, and what it is for originals where no table says it."""
    open_ = (every.table["twin_id"].isna() & column.isna()).to_numpy()
    column = column.astype(object if name in _OF_ORIGINALS else float).copy()
    column[open_] = _OF_ORIGINALS.get(name) or every.sparsity(np.flatnonzero(open_))
    return column


def _column(zoo: Zoo, rows: pd.DataFrame, name: str) -> pd.Series:
    """The values of one property."""
    twins, earlier = rows["twin_id"].notna(), rows["population"].str.contains("@")
    measured = _OF_HISTORY.get(name, name)
    found: list[pd.Series] = []
    if name in zoo.twins and name not in ("twin_id", "source_id"):
        found.append(_at_epoch(rows, zoo.twins, "twin_id", name).where(twins))
    if measured in zoo.history and measured != "model_id":
        found.append(_at_epoch(rows, zoo.history, "model_id", measured).where(~twins))
    if name in rows:  # a twin's row repeats what was measured on its original: that is not about the twin
        found.append(rows[name].where(~twins) if name in zoo.twins else rows[name])
    if name in zoo.models:
        known = rows["model_id"].map(zoo.models.set_index("model_id", drop=False)[name])
        changing = name in zoo.twins or measured in zoo.history
        found.append(known.where(~twins & ~earlier) if changing else known)
    if not found:
        tables = {"models": zoo.models, "history": zoo.history, "twins": zoo.twins}
        there = "; ".join(f"{table} has {', '.join(map(str, frame))}" for table, frame in tables.items())
        raise InputError(f"no table has a property {name!r}: {there}")
    result = found[0]
    for values in found[1:]:
        result = result.where(result.notna(), values)
    return result.infer_objects()


def _at_epoch(rows: pd.DataFrame, table: pd.DataFrame, key: str, column: str) -> pd.Series:
    """A column of a table with a line per model (or twin) and epoch, for rows at their epochs."""
    lines = table.drop_duplicates([key, "epoch"], keep="last")
    known = pd.DataFrame(
        {key: lines[key], "epoch": lines["epoch"].astype(float), "value": lines[column].to_numpy()}
    )
    wanted = pd.DataFrame({key: rows[key].astype(object), "epoch": rows["epoch"].astype(float)})
    return pd.Series(wanted.merge(known, "left", [key, "epoch"])["value"].to_numpy(), rows.index)
