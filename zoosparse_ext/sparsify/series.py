"""Series: which twins are comparable, and how they are called in names, tables and figures.

Twins of one series were pruned by one method, in one scope, on one schedule, with the same options; they differ in the
original and in the sparsity asked for. A series has a `key` (for names of populations, ids and files) and a `label`
(for people). Both name only what differs from the recipe: the settings that are usual for the method, or for the zoo.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import pandas as pd

from zoosparse_ext.errors import InputError
from zoosparse_ext.sparsify.methods import METHODS
from zoosparse_ext.sparsify.schedules import SCHEDULES
from zoosparse_ext.sparsify.scopes import SCOPES

CONTROL = "control"  # the method of twins that are trained on unpruned
_SCHEDULES = tuple(name.replace("-", " ") for name in SCHEDULES)  # as keys spell them
_PATTERN = re.compile(r"\d+:\d+")  # N:M sparsity
_UNSAFE = re.compile(r"[/\\\s\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Series:
    """What makes twins comparable.

    >>> series = Series("magnitude", "layer", schedule="cubic", options=("25 epochs", "lr 0.001"))
    >>> series.key, series.label
    ('magnitude-layer-cubic-25_epochs-lr_0.001', 'MP per layer, cubic, 25 epochs, lr 0.001')
    >>> Series.parse(series.key) == series
    True

    Args:
        method: ``"magnitude"``, ``"variational"``, or the name of another score.
        scope: of pruning: ``"global"``, ``"layer"``, ``"output"``, or an N:M pattern such as ``"2:4"``; None where the
            method has no scope.
        schedule: of pruning, with its parameters: ``"cubic"``, ``"iterative 5"``. None: that of the recipe, which is
            one-shot unless the zoo has another.
        options: what else differs from the recipe, in short words: ``"25 epochs"``, ``"lr 0.001"``, ``"biases"``.
            Hyphens and underscores become spaces.
        matched: the twins have the sparsity that other twins reached.

    Raises:
        InputError: an empty part, or one that cannot stand in the name of a file.
    """

    method: str
    scope: str | None = None
    schedule: str | None = None
    options: tuple[str, ...] = ()
    matched: bool = False

    column: ClassVar[str] = "series"  # of the twins table, holds the key

    def __post_init__(self) -> None:
        if self.schedule is not None:
            object.__setattr__(self, "schedule", _spaced(self.schedule))
        object.__setattr__(self, "options", tuple(_spaced(option) for option in self.options))
        for part in self._parts():
            if not part or _UNSAFE.search(part):
                raise InputError(
                    f"{part!r} cannot be part of the name of a series: it is empty or not safe in paths"
                )

    @classmethod
    def parse(cls, key: str) -> Series:
        """The series of a key, or of whatever else a population is called.

        >>> Series.parse("variational-molchanov").label
        'VD molchanov'
        """
        method, *rest = [part for part in _safe(key).split("-") if part] or ["unknown"]
        matched = rest[:1] == ["matched"]
        rest = rest[1:] if matched else rest
        scope = rest.pop(0) if rest and (rest[0] in SCOPES or _PATTERN.fullmatch(rest[0])) else None
        rest = [_spaced(part) for part in rest]
        schedule = rest.pop(0) if rest and rest[0].startswith(_SCHEDULES) else None
        return cls(method, scope, schedule, tuple(rest), matched)

    @property
    def key(self) -> str:
        """Text that is safe in paths: method, "matched" for matched twins, scope, then what differs from the recipe.

        >>> Series("magnitude", "global", matched=True).key, Series("wanda", "output").key
        ('magnitude-matched-global', 'wanda-output')
        """
        return "-".join(self._parts())

    @property
    def label(self) -> str:
        """How a person calls it; a matched series is called as the unmatched one of its scope.

        >>> Series("random", "global").label, Series("variational", options=("50 epochs",)).label
        ('random global', 'VD, 50 epochs')
        """
        scope = SCOPES[self.scope].label if self.scope in SCOPES else self.scope
        method = METHODS.get(self.method)
        label = _spaced(self.method) if method is None else method.label
        named = [label, *([] if scope is None else [scope])]
        further = [*([] if self.schedule is None else [self.schedule]), *self.options]
        if (
            scope is None and further and further[0].isalpha()
        ):  # one word, as in "VD molchanov", stands for a scope
            named.append(further.pop(0))
        return ", ".join([" ".join(named), *further])

    def _parts(self) -> list[str]:
        scope = [] if self.scope is None else [self.scope]
        further = [*([] if self.schedule is None else [self.schedule]), *self.options]
        matched = ["matched"] * self.matched
        return [self.method, *matched, *scope, *(part.replace(" ", "_") for part in further)]


def named(series: Series | str) -> Series:
    """A series as it is, or of a key.

    Raises:
        InputError: neither, or a key without a word.
    """
    if isinstance(series, Series):
        return series
    if not isinstance(series, str) or not series.strip("- "):
        raise InputError(
            f"series must be a Series or its key, such as 'magnitude-global-lr_0.1', got {series!r}"
        )
    return Series.parse(series)


def series_keys(twins: pd.DataFrame) -> pd.Series:
    """The key of the series of every row of a twins table.

    Rows that name no series (zoos written before there was such a column, imported ones) are told apart by method,
    scope, and whether they are matched.

    >>> twins = pd.DataFrame({"method": "magnitude", "scope": ["global", "layer"], "matched": [None, "a/variational"]})
    >>> series_keys(twins).tolist()
    ['magnitude-global', 'magnitude-matched-layer']
    """
    named = twins[Series.column] if Series.column in twins else [None] * len(twins)
    matched = twins["matched"].map(_is_text)
    rows = zip(named, twins["method"], twins["scope"], matched, strict=True)
    return pd.Series([_key(*row) for row in rows], index=twins.index, dtype=object)


@lru_cache(maxsize=4096)  # a table has few series and many rows
def _key(named: object, method: object, scope: object, matched: bool) -> str:
    if _is_text(named):
        return str(named)
    name = _safe(str(method)) if _is_text(method) else "unknown"
    return Series(name, _safe(str(scope)) if _is_text(scope) else None, matched=matched).key


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _safe(text: str) -> str:
    return _UNSAFE.sub("_", text)


def _spaced(text: str) -> str:
    return re.sub(r"[-_ ]+", " ", text).strip()
