"""Methods by name, their options, and what both say of themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest

from zoosparse_ext.errors import InputError
from zoosparse_ext.options import option, options_of
from zoosparse_ext.sparsify.methods import METHODS, Method, chosen_method, register


@dataclass(frozen=True)
class Loud(Method):
    """A method for these tests, which is in no registry."""

    name: ClassVar[str] = "loud"
    label: ClassVar[str] = "loud"
    phrase: ClassVar[str] = "loud pruning"
    rounds: int = option(3, "How often.", low=1)
    rate: float = option(0.5, "How much.", above=0, below=1)
    mode: str = option("fast", "Which way.", choices=("fast", "slow"), words=str)
    extra: bool = option(False, "Whether there is more.")
    seed: int | None = option(None, "Of its own.", low=0)


@pytest.mark.parametrize("cls", METHODS.values(), ids=list(METHODS))
def test_every_method_says_what_it_is(cls: type[Method]) -> None:
    assert cls.name and cls.label and cls.phrase
    assert cls.__doc__ and ("Source:" in cls.__doc__) == bool(cls.source)
    assert all(item.said.help.endswith(".") for item in options_of(cls))
    assert chosen_method(cls.name).key.startswith(cls.name)


def test_options_in_words() -> None:
    assert Loud(rounds=5, mode="slow").texts() == {
        "rounds": "rounds 5",
        "rate": "rate 0.5",
        "mode": "slow",
        "extra": "no extra",
        "seed": "seed None",
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 0}, "loud: rounds must be 1 or more, got 0"),
        ({"rounds": 2.5}, "loud: rounds: got float 2.5, expected a whole number, 1 or more"),
        ({"rounds": True}, "loud: rounds: got bool True, expected a whole number, 1 or more"),
        ({"rate": 1.0}, "loud: rate must be more than 0 and less than 1, got 1.0"),
        ({"rate": float("nan")}, "loud: rate must be more than 0 and less than 1, got nan"),
        ({"mode": "medium"}, "loud: mode must be one of fast, slow; got 'medium'"),
        ({"extra": 1}, "loud: extra: got int 1, expected True or False"),
        ({"seed": -1}, "loud: seed must be 0 or more, got -1"),
        (
            {"volume": 3},
            "method 'loud' has no option 'volume'; its options are rounds, rate, mode, extra, seed",
        ),
    ],
)
def test_options_that_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as raised:
        chosen_method(Loud(), **options)
    assert str(raised.value) == message


def test_an_unknown_name() -> None:
    with pytest.raises(InputError, match="unknown method 'magnitud'; did you mean 'magnitude'"):
        chosen_method("magnitud")


def test_a_name_is_taken_once() -> None:
    @dataclass(frozen=True)
    class Magnitude(Method):
        name: ClassVar[str] = "magnitude"
        label: ClassVar[str] = "MP"
        phrase: ClassVar[str] = "magnitude pruning"

    with pytest.raises(ValueError, match="two methods"):
        register(Magnitude)
