"""The tables of a zoo: what each column means, and the check that a table has what it must have.

Accuracy, agreement and sparsity are shares in [0, 1]. Further columns are kept as they are.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
from pandas.api import types
from pyarrow import parquet

from zoosparse_ext.errors import StoreError
from zoosparse_ext.zoo.folder import FileEntry, check_file, write_file

MODELS = {
    "model_id": "text",  # unique
    "architecture": "text",
    "seed": "number",  # key of the model's random numbers
}
"""One row per model. Zoos trained here add activation, init, optimizer, lr, weight_decay, momentum, dropout,
batch_size, epochs, and the final loss and accuracy on the test images."""

HISTORY = {
    "model_id": "text",
    "epoch": "number",  # 0 = untrained
    "train_loss": "number",  # mean over the epoch, in training mode; NaN at epoch 0
    "train_accuracy": "number",
    "val_loss": "number",  # after the epoch
    "val_accuracy": "number",
    "test_loss": "number",
    "test_accuracy": "number",
}
"""One row per model and epoch."""

TWINS = {
    "twin_id": "text",
    "source_id": "text",  # model_id of the original
    "method": "text",  # "magnitude", "variational", or another score: "wanda", "gradient", "random"
    "scope": "text",  # of pruning: "global", "layer", "output", or a pattern such as "2:4"
    "target": "number",  # the ratio asked for; NaN for variational dropout
    "matched": "text",  # twin_id of the variational twin whose sparsity was the target, else missing
    "epoch": "number",  # 0 = before fine-tuning or variational training; the largest is final
    "sparsity": "number",  # zeros among prunable weights; sparsity_layer.<layer> for each layer
    "loss": "number",  # on the test images
    "accuracy": "number",
    "agreement": "number",  # share of test images on which twin and original predict the same
    "kappa": "number",  # Cohen's κ of the same; NaN where undefined
    "agreement_on_errors": "number",  # agreement on the images that the original gets wrong; NaN if none
}
"""One row per twin and epoch."""

SCHEMAS = {"models": MODELS, "history": HISTORY, "twins": TWINS}

OPTIONAL = {
    "twins": {
        "series": "text",  # key of a `sparsify.series.Series`: which twins are comparable
        "matched_epoch": "number",  # of the training of the matched twin; NaN for its last
    },
}
"""Columns that tables may lack: those of older zoos do."""


def checked(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """The table, or an empty one with the right columns if it has no rows.

    Raises:
        StoreError: a column is missing or of the wrong kind; names table and column.
    """
    if len(table) == 0:
        return empty(name)
    dtypes = dict(zip(table.columns, table.dtypes, strict=True))
    further = {column: kind for column, kind in OPTIONAL.get(name, {}).items() if column in dtypes}
    for column, kind in {**SCHEMAS[name], **further}.items():
        if column not in dtypes:
            raise StoreError(
                f"table {name!r} lacks column {column!r}; it has {', '.join(map(str, table.columns))}"
            )
        dtype = dtypes[column]
        if kind == "number" and not types.is_numeric_dtype(dtype):
            raise StoreError(f"column {column!r} of table {name!r} is {dtype}, expected numbers")
        if kind == "text" and not isinstance(dtype, pd.StringDtype):  # which holds nothing else
            check_text(name, table, column)
    if name == "models" and not table["model_id"].is_unique:
        twice = table.loc[table["model_id"].duplicated(), "model_id"].iloc[0]
        raise StoreError(f"two models are called {twice!r}; give every model a model_id of its own")
    return table.reset_index(drop=True)


def check_text(name: str, table: pd.DataFrame, column: str) -> None:
    """Raise StoreError if a column holds something else than text; values may be missing."""
    for value in table[column].dropna():
        if not isinstance(value, str):
            raise StoreError(f"column {column!r} of table {name!r} holds {value!r:.80}, expected text")


def empty(name: str) -> pd.DataFrame:
    """A table without rows."""
    kinds = {"text": "object", "number": "float64"}
    return pd.DataFrame({column: np.empty(0, kinds[kind]) for column, kind in SCHEMAS[name].items()})


def to_bytes(table: pd.DataFrame, name: str = "table") -> bytes:
    """A table as Parquet; `name` is for messages.

    Raises:
        StoreError: a column that Parquet cannot hold (values of several types, a name that is no text).
    """
    buffer = io.BytesIO()
    try:
        table.to_parquet(buffer, index=False)
    except Exception as error:  # pyarrow raises many types
        reason = " ".join(str(part) for part in error.args)
        raise StoreError(f"table {name!r} cannot be stored as Parquet: {reason}") from error
    return buffer.getvalue()


def frame_of(table: pyarrow.Table) -> pd.DataFrame:
    """A table of Parquet in pandas, which believes what the file says of text and of names.

    Raises:
        ValueError, or another error of pyarrow or pandas: text that is no UTF-8, a column whose name is no text, two of
            one name.
    """
    table.validate(full=True)
    frame = table.to_pandas(use_threads=False)
    for column in frame.columns:
        if not isinstance(column, str):
            raise ValueError(f"a column is called {column!r:.40}, expected text")
    if not frame.columns.is_unique:
        raise ValueError(f"two columns are called {frame.columns[frame.columns.duplicated()][0]!r:.40}")
    return frame


def write_table(folder: Path, name: str, table: pd.DataFrame) -> dict[str, Any]:
    """Write a table; returns its entry for the manifest."""
    return write_file(folder, f"tables/{name}", ".parquet", [to_bytes(table, name)]).to_dict()


def read_table(folder: Path, entry: dict[str, Any], *, verify: bool) -> pd.DataFrame:
    """Read a table that a manifest names.

    Raises:
        StoreError: the file is missing, truncated, altered or no Parquet.
    """
    path = check_file(folder, FileEntry.from_dict(entry), content=verify)
    try:
        with parquet.ParquetFile(path) as file:  # half the time of `pandas.read_parquet` for a small table
            return frame_of(file.read(use_threads=False))
    except Exception as error:  # pyarrow raises many types on a damaged file
        raise StoreError(f"{path} is damaged: {error}") from error
