"""Options: fields of frozen dataclasses that say what they are for, so that the command line, the keys of studies and
the documentation are made of them.

>>> from dataclasses import dataclass
>>> @dataclass(frozen=True)
... class Rounds:
...     rounds: int = option(100, "How often scores are computed anew.", low=1)
>>> [(item.name, item.kind.__name__, item.default, item.said.low) for item in options_of(Rounds)]
[('rounds', 'int', 100, 1)]
"""

from __future__ import annotations

import math
import typing
from collections.abc import Callable, Collection
from dataclasses import MISSING, dataclass, field, fields
from numbers import Integral, Real
from typing import Any

from zoosparse_ext.errors import InputError

_KEY = "option"


@dataclass(frozen=True)
class Said:
    """What a field says about itself.

    Args:
        help: one sentence, for `--help`, schemas and documentation.
        choices: the names that it may be.
        low, high: bounds of a number, both allowed; `above` and `below` are not allowed themselves.
        words: how series are named by a value, in short words. Default: the name of the option and the value.
        flag: on the command line. Default: the name with hyphens.
    """

    help: str
    choices: Collection[str] | None = None
    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    words: Callable[[Any], str] | None = None
    flag: str | None = None


@dataclass(frozen=True)
class Option:
    """A field of a class of options.

    Args:
        name: of the field.
        kind: its type, `int`, `float`, `str`, `bool` or whatever else stands there, without a `None` beside it.
        optional: it may be None.
        default: its value where none is given; `MISSING` where one must be.
        said: what it says about itself.
    """

    name: str
    kind: Any
    optional: bool
    default: Any
    said: Said

    @property
    def flag(self) -> str:
        """On the command line."""
        return self.said.flag or "--" + self.name.replace("_", "-")

    def words(self, value: Any, text: Callable[[Any], str] = str) -> str:
        """A value in the short words that series are named by."""
        if self.said.words is not None:
            return self.said.words(value)
        name = self.name.replace("_", " ")
        if isinstance(value, bool):
            return name if value else f"no {name}"
        return f"{name} {text(value)}"

    def check(self, value: Any, owner: str = "") -> None:
        """Raise InputError unless a value is what the option may be."""
        what = f"{owner}{self.name}"
        if value is None and self.optional:
            return
        _check_kind(what, value, self.kind)
        said = self.said
        if said.choices is not None and value not in said.choices:
            raise InputError(f"{what} must be one of {', '.join(said.choices)}; got {value!r}")
        if isinstance(value, Real) and not isinstance(value, bool):
            _check_number(what, float(value), said)


def option(default: Any = MISSING, help: str = "", **said: Any) -> Any:
    """A field of a dataclass of options; see `Said`."""
    metadata = {_KEY: Said(help, **said)}
    return field(metadata=metadata) if default is MISSING else field(default=default, metadata=metadata)


def options_of(cls: type) -> list[Option]:
    """The options of a class, in the order of its fields."""
    kinds = typing.get_type_hints(cls)
    found = []
    for item in fields(cls):
        said = item.metadata.get(_KEY)
        if said is not None:
            kind, optional = _without_none(kinds[item.name])
            found.append(Option(item.name, kind, optional, item.default, said))
    return found


def check_options(options: Any, owner: str = "") -> None:
    """Raise InputError unless every option of an object is what it may be: for `__post_init__`."""
    for item in options_of(type(options)):
        item.check(getattr(options, item.name), owner)


def _without_none(kind: Any) -> tuple[Any, bool]:
    """A type without the `None` beside it, and whether there was one."""
    parts = typing.get_args(kind)
    if type(None) not in parts:
        return kind, False
    others = tuple(part for part in parts if part is not type(None))
    return (others[0] if len(others) == 1 else typing.Union[others]), True  # noqa: UP007


def _check_kind(what: str, value: Any, kind: Any) -> None:
    kinds = {int: (Integral, "a whole number"), float: (Real, "a number"), bool: (bool, "True or False"),
             str: (str, "text")}  # fmt: skip
    if kind not in kinds:
        return
    wanted, expected = kinds[kind]
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool):
        shown = f" {value!r}" if isinstance(value, str | int | float) else ""
        raise InputError(f"{what}: got {type(value).__name__}{shown}, expected {expected}")


def _check_number(what: str, value: float, said: Said) -> None:
    bounds = [
        (said.low, value >= (said.low or 0.0), f"{said.low} or more"),
        (said.high, value <= (said.high or 0.0), f"{said.high} or less"),
        (said.above, value > (said.above or 0.0), f"more than {said.above}"),
        (said.below, value < (said.below or 0.0), f"less than {said.below}"),
    ]
    limits = [(fine, text) for bound, fine, text in bounds if bound is not None]
    if math.isnan(value) or not all(fine for fine, _ in limits):
        raise InputError(
            f"{what} must be {' and '.join(text for _, text in limits) or 'a number'}, got {value:g}"
        )
