"""Series of twins: how tables and figures call them, in which order, and which ones stand for their method.

A series is a method in a scope, on a schedule, with options, as :class:`~zoosparse_ext.sparsify.series.Series` has it.
Twins of different series are never pooled.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import pandas as pd

from zoosparse_ext.sparsify.series import Series, series_keys

VD = "VD"  # variational dropout as its recipe has it
MP = "MP"  # magnitude pruning in a scope that is not known
PLAIN = ("MP global", "MP per layer", "MP per output", MP)  # magnitude pruning as its recipe has it
_KL_SCALE = re.compile(r",? kl [\d.]+")
_MATCHED_TO = re.compile(r"epoch \d+|to .+")
_VARIATIONAL, _MAGNITUDE = re.compile(rf"{VD}\b"), re.compile(rf"{MP}\b")


def series_labels(twins: pd.DataFrame) -> pd.Series:
    """The label of the series of every row of a twins table; matched twins have that of the series they match in,
    whichever twins and epochs they are matched to.

    >>> twins = pd.DataFrame({"method": ["magnitude", "magnitude", "random", "variational"], "matched": None,
    ...                       "scope": ["global", "2:4", "global", None], "series": [None, None, None, "variational"]})
    >>> series_labels(twins).tolist()
    ['MP global', 'MP 2:4', 'random global', 'VD']

    Args:
        twins: columns `method`, `scope`, `matched`, `series` (a key, or missing).

    Returns:
        text, one for each row. Two series never share a label: the second one of a name is called "name (2)".

    Raises:
        InputError: text in `series` that is no key of a series.
    """
    is_matched = twins["matched"].notna() & (twins["matched"] != "")
    kinds = twins[["method", "scope", Series.column]].assign(matched=is_matched)
    number = kinds.groupby(list(kinds), dropna=False, sort=False).ngroup().to_numpy()  # [rows]
    _, first = np.unique(number, return_index=True)
    labels = _labels(series_keys(twins.iloc[first]))
    return pd.Series(np.array(labels, dtype=object)[number], index=twins.index, dtype=object)


def _labels(keys: Iterable[str]) -> list[str]:
    """A label for each key; keys that differ in no more than what they are matched to share theirs."""
    taken: dict[str, str] = {}  # label → key without "matched"
    labels = {}
    for key in sorted(set(keys), key=lambda key: (Series.parse(key).method != "variational", key)):
        series = Series.parse(key)
        options = series.options
        if series.matched:  # to which twins, and to which epoch of theirs, is in columns of their own
            options = tuple(option for option in options if not _MATCHED_TO.fullmatch(option))
        plain = Series(series.method, series.scope, series.schedule, options)
        label, count = plain.label, 1
        while taken.setdefault(label, plain.key) != plain.key:
            count += 1
            label = f"{plain.label} ({count})"
        labels[key] = label
    return [labels[key] for key in keys]


def is_variational(label: str) -> bool:
    """Whether a series is one of variational dropout.

    >>> is_variational("VD molchanov"), is_variational("MP global")
    (True, False)
    """
    return _VARIATIONAL.match(label) is not None


def is_magnitude(label: str) -> bool:
    """Whether a series prunes the smallest weights.

    >>> is_magnitude("MP global, cubic"), is_magnitude("random global")
    (True, False)
    """
    return _MAGNITUDE.match(label) is not None


def series_order(label: str) -> tuple[int, int, str]:
    """Sort key: magnitude pruning, other scores, variational dropout; of each the plain ones first.

    >>> sorted(["VD", "random global", "MP 2:4", "MP per layer", "MP global"], key=series_order)
    ['MP global', 'MP per layer', 'MP 2:4', 'random global', 'VD']
    """
    kind = 2 if is_variational(label) else 0 if is_magnitude(label) else 1
    plain = (*PLAIN, VD)
    return kind, plain.index(label) if label in plain else len(plain), label


def magnitude_series(labels: Iterable[str]) -> list[str]:
    """The series that stand for magnitude pruning where it is compared with variational dropout, in order.

    The plain ones (:data:`PLAIN`); where there are none, all whose score is the magnitude. Other scores never are.

    >>> magnitude_series(["random global", "MP global, cubic", "MP global", "VD"])
    ['MP global']
    """
    ordered = sorted(filter(is_magnitude, set(labels)), key=series_order)
    return [label for label in ordered if label in PLAIN] or ordered


def variational_series(labels: Iterable[str]) -> str:
    """The series that stands for variational dropout: the plain one, or else the first; :data:`VD` without any."""
    return min(filter(is_variational, labels), key=series_order, default=VD)


def family(label: str) -> str:
    """The series without its KL weight, by which variational dropout is made to end at another sparsity.

    >>> family("VD, kl 30"), family("VD molchanov, kl 0.5, lr 0.01"), family("MP global")
    ('VD', 'VD molchanov, lr 0.01', 'MP global')
    """
    return _KL_SCALE.sub("", label) if is_variational(label) else label


def stands_for_its_method(labels: Iterable[str]) -> set[str]:
    """All series that speak for magnitude pruning or variational dropout; the others stand beside them."""
    known = list(labels)
    return {*magnitude_series(known), variational_series(known)}
