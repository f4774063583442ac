"""Values as strict JSON can hold them."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd


def plain(value: Any) -> Any:
    """Dictionaries, lists, strings, numbers and None; NaN and infinity, which JSON lacks, become None.

    Tables become lists of rows, arrays and tensors lists of numbers, anything else its text.

    >>> import torch
    >>> plain({"lr": torch.tensor([0.5, float("nan")]), 3: (1, "a", None)})
    {'lr': [0.5, None], '3': [1, 'a', None]}
    """
    if isinstance(value, str | bool):
        return value
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if isinstance(value, pd.DataFrame):
        return [plain(row) for row in value.to_dict("records")]
    if hasattr(value, "tolist"):  # numpy and torch
        return plain(value.tolist())
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)
