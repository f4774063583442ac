"""What a method of making networks sparse is, and the registry of them all.

A method is a frozen dataclass in a file of this folder, under `@register`. Its fields are its options: the command
line, the keys of studies, the names of series and the documentation are made of them. Tables name a method by `name`,
people read its `label` and `phrase`, figures have its `color`.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar

from torch import Tensor

from zoosparse_ext.data import Split
from zoosparse_ext.errors import InputError
from zoosparse_ext.options import check_options, options_of
from zoosparse_ext.population.population import Population
from zoosparse_ext.words import number_text


@dataclass(frozen=True)
class Method:
    """A way to make networks sparse. Fields are options; what holds for every instance stands in class variables.

    Class variables:
        name: in tables, on disk, on the command line: ``"magnitude"``.
        label: in figures and tables of the report, as short as possible: ``"MP"``.
        phrase: in sentences: ``"magnitude pruning"``.
        color: of its figures, as ``"#0072b2"``; None: one that is free.
        source: the paper that it comes from.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    phrase: ClassVar[str]
    color: ClassVar[str | None] = None
    source: ClassVar[str] = ""

    def __post_init__(self) -> None:
        check_options(self, f"{self.name}: ")

    def texts(self) -> dict[str, str]:
        """Its options in short words, by name."""
        return {item.name: item.words(getattr(self, item.name), _text) for item in options_of(type(self))}

    @property
    def key(self) -> str:
        """What identifies it in a checkpoint: its name, and its options where it has any."""
        return " ".join([self.name, *self.texts().values()])


@dataclass(frozen=True)
class Ranking(Method):
    """A method that gives every weight a score and prunes those that score lowest, in a scope, on a schedule.

    Class variables:
        needs_images: it looks at training images.
        is_random: it depends on the seed.
    """

    needs_images: ClassVar[bool] = False
    is_random: ClassVar[bool] = False

    @property
    def rounds(self) -> int:
        """In how many rounds it prunes before any training; scores are computed anew in each, and the share of
        weights that stays shrinks by the same factor."""
        return 1

    def score(self, population: Population, images: Split | None, seed: int) -> Tensor:
        """Numbers ≥ 0 [N, P] beside the weights; the smallest are pruned. A row depends on nothing but its model.

        Args:
            population: N models, whose masks, if any, hold what is pruned already.
            images: of the training; there if `needs_images`.
            seed: second half of the key of random numbers, the first is each model's own.
        """
        raise NotImplementedError


Class = TypeVar("Class", bound=type[Method])
METHODS: dict[str, type[Method]] = {}


def register(cls: Class) -> Class:
    """Enter a method into the registry, under its name.

    Raises:
        ValueError: another method has that name, or it is not made of letters, digits and underscores.
    """
    if not cls.name.isidentifier():
        raise ValueError(
            f"{cls.name!r} cannot be the name of a method: series and keys of studies contain it"
        )
    if METHODS.setdefault(cls.name, cls) is not cls:
        raise ValueError(f"there are two methods {cls.name!r}: {METHODS[cls.name].__name__}, {cls.__name__}")
    return cls


def method_class(name: str) -> type[Method]:
    """A method by its name.

    Raises:
        InputError: there is none; suggests one.
    """
    if name not in METHODS:
        close = difflib.get_close_matches(name, METHODS, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(METHODS)}"
        raise InputError(f"unknown method {name!r}; {hint}")
    return METHODS[name]


def chosen_method(method: str | Method, **options: object) -> Method:
    """A method by name, or as it is, with these options.

    >>> chosen_method("random").key
    'random'

    Raises:
        InputError: an unknown name, an option that the method does not have, or a value that it cannot take.
    """
    cls = method_class(method) if isinstance(method, str) else type(method)
    if not issubclass(cls, Method):
        raise InputError(f"method: got {method!r}, expected one of {', '.join(METHODS)}, or an object of one")
    known = [item.name for item in options_of(cls)]
    for name in options:
        if name not in known:
            told = f"its options are {', '.join(known)}" if known else "it has none"
            raise InputError(f"method {cls.name!r} has no option {name!r}; {told}")
    return cls(**options) if isinstance(method, str) else replace(method, **options)


def _text(value: object) -> str:
    return number_text(value) if isinstance(value, int | float) else str(value)
