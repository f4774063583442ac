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
import operator
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import partial
from numbers import Integral, Real
from typing import Any, TypeVar

from zoosparse_ext.errors import InputError

_KEY = "option"
Options = TypeVar("Options")


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
    def plain(self) -> Any:
        """Its type where it is written as text: `str` where names stand for objects."""
        return str if str in typing.get_args(self.kind) else self.kind

    @property
    def parts(self) -> list[Option]:
        """Its own options, where it is an object of options; else itself."""
        return (options_of(self.kind) if isinstance(self.kind, type) and is_dataclass(self.kind) else []) or [
            self
        ]

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
        bounds = _bounds(self.said)
        _check_kind(what, value, self.kind, [text for text, _ in bounds])
        choices = self.said.choices  # names, of which others may be objects
        if choices is not None and (self.kind is str or isinstance(value, str)) and value not in choices:
            raise InputError(f"{what} must be one of {', '.join(choices)}; got {value!r}")
        if isinstance(value, Real) and not isinstance(value, bool):
            number = float(value)
            if math.isnan(number) or not all(fits(number) for _, fits in bounds):
                expected = " and ".join(text for text, _ in bounds) or "a number"
                raise InputError(f"{what} must be {expected}, got {value}")


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


def taken(cls: type[Options], keywords: Mapping[str, Any]) -> tuple[Options, dict[str, Any]]:
    """The options of a class out of the keywords of a call, as an object, and the keywords that are left."""
    names = [item.name for item in options_of(cls)]
    own = {name: value for name, value in keywords.items() if name in names}
    return cls(**own), {name: value for name, value in keywords.items() if name not in own}


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


def _bounds(said: Said) -> list[tuple[str, Callable[[float], bool]]]:
    """The bounds of a number, in words and as what they ask of it."""
    found: list[tuple[str, Callable[[float], bool]]] = []
    for bound, text, compare in (
        (said.low, "{} or more", operator.ge),
        (said.high, "{} or less", operator.le),
        (said.above, "more than {}", operator.gt),
        (said.below, "less than {}", operator.lt),
    ):
        if bound is not None:
            words = "finite" if math.isinf(bound) else text.format(bound)
            found.append((words, partial(_compared, compare, bound)))
    return found


def _compared(compare: Callable[[float, float], bool], bound: float, value: float) -> bool:
    return compare(value, bound)


def _check_kind(what: str, value: Any, kind: Any, bounds: list[str]) -> None:
    kinds = {int: (Integral, "a whole number"), float: (Real, "a number"), bool: (bool, "True or False"),
             str: (str, "text")}  # fmt: skip
    if kind not in kinds:
        return
    wanted, expected = kinds[kind]
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool):
        shown = f" {value!r}" if isinstance(value, str | int | float) else ""
        raise InputError(
            f"{what}: got {type(value).__name__}{shown}, expected {', '.join([expected, *bounds])}"
        )
