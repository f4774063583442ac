"""Sparsity schedules: how much is pruned before which epoch of fine-tuning."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar

from zoosparse_ext.errors import InputError


@dataclass(frozen=True)
class Phase:
    """Prune to `fraction` of the final sparsity, then train `epochs` epochs.

    Args:
        fraction: of the way from what is pruned already to the sparsity asked for.
        epochs: of training that follow.
        compound: the way is that of the density, which is multiplied with the same factor for equal fractions; else
            that of the sparsity.
    """

    fraction: float
    epochs: int
    compound: bool = field(default=False, repr=False)


@dataclass(frozen=True)
class OneShot:
    """Prune once, then fine-tune.

    >>> OneShot().phases(15)
    [Phase(fraction=1.0, epochs=15)]
    """

    name: ClassVar[str] = "one-shot"

    def phases(self, epochs: int) -> list[Phase]:
        return [Phase(1.0, epochs)]


@dataclass(frozen=True)
class Iterative:
    """Prune in equal steps of sparsity, each followed by an equal share of the epochs.

    Source: Han, Pool, Tran, Dally, "Learning both Weights and Connections for Efficient Neural Networks", 2015.

    >>> Iterative(rounds=2).phases(5)
    [Phase(fraction=0.5, epochs=2), Phase(fraction=1.0, epochs=3)]
    """

    name: ClassVar[str] = "iterative"
    rounds: int = 3

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise InputError(f"iterative pruning takes at least one round, got rounds={self.rounds}")

    def phases(self, epochs: int) -> list[Phase]:
        rounds = min(self.rounds, max(1, epochs))
        ends = [round_ * epochs // rounds for round_ in range(rounds + 1)]
        return [Phase((index + 1) / rounds, ends[index + 1] - ends[index]) for index in range(rounds)]


@dataclass(frozen=True)
class Cubic:
    """s(t) = s·(1 − (1 − t/T)³): fast at first, then ever slower, over the first `ramp` share of the epochs.

    Source: Zhu, Gupta, "To prune, or not to prune", 2017, with initial sparsity 0.

    >>> [round(phase.fraction, 3) for phase in Cubic(ramp=1.0).phases(3)]
    [0.704, 0.963, 1.0]
    """

    name: ClassVar[str] = "cubic"
    ramp: float = 2 / 3

    def __post_init__(self) -> None:
        if not 0 < self.ramp <= 1:
            raise InputError(f"the ramp is a share of the epochs in (0, 1], got {self.ramp}")

    def phases(self, epochs: int) -> list[Phase]:
        steps = max(1, math.ceil(self.ramp * epochs))
        fractions = [1 - (1 - (t + 1) / steps) ** 3 for t in range(steps)]
        phases = [Phase(fraction, min(1, epochs)) for fraction in fractions[:-1]]
        return [*phases, Phase(1.0, epochs - len(phases))]


@dataclass(frozen=True)
class Lottery:
    """Rounds that each prune the same share of what is left, and then train for all epochs: `rounds` times as many.

    With weights that are rewound after every round this is the iterative magnitude pruning of lottery tickets. n rounds
    to a sparsity s prune 1 − (1 − s)^(1/n) of what is left: a fifth, as in the source, in 5 rounds to 0.672, and in 10
    rounds to 0.893.

    Source: Frankle, Carbin, "The Lottery Ticket Hypothesis", ICLR 2019.

    >>> Lottery(rounds=2).phases(5)
    [Phase(fraction=0.5, epochs=5), Phase(fraction=1.0, epochs=5)]
    """

    name: ClassVar[str] = "lottery"
    rounds: int = 5

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise InputError(f"pruning takes at least one round, got rounds={self.rounds}")

    def phases(self, epochs: int) -> list[Phase]:
        if epochs == 0:
            return [Phase(1.0, 0)]
        return [Phase((index + 1) / self.rounds, epochs, compound=True) for index in range(self.rounds)]


Schedule = OneShot | Iterative | Cubic | Lottery
SCHEDULES: dict[str, type[Schedule]] = {cls.name: cls for cls in (OneShot, Iterative, Cubic, Lottery)}


def sparsity_schedule(schedule: str | Schedule, rounds: int | None = None) -> Schedule:
    """A schedule by name (`one-shot`, `iterative`, `cubic`, `lottery`) or as it is.

    Args:
        rounds: of a schedule that is named. Default: its own.

    Raises:
        InputError: neither; rounds of a schedule that has none, or that says its own.
    """
    chosen = _named(schedule)
    if rounds is None:
        return chosen
    if not isinstance(schedule, str):
        raise InputError(
            f"schedule_rounds is {rounds}, and the schedule says its own: {schedule!r}; leave one of them out"
        )
    if not isinstance(chosen, Iterative | Lottery):
        raise InputError(
            f"schedule_rounds is {rounds}, and the schedule {schedule!r} has no rounds; take one that has "
            f"({Iterative.name}, {Lottery.name}), or leave schedule_rounds out"
        )
    return replace(chosen, rounds=rounds)


def _named(schedule: str | Schedule) -> Schedule:
    if not isinstance(schedule, str):
        if isinstance(schedule, type) or not callable(getattr(schedule, "phases", None)):
            raise InputError(
                f"a sparsity schedule is one of {', '.join(SCHEDULES)}, or an object such as Cubic(), got {schedule!r}"
            )
        return schedule
    if schedule not in SCHEDULES:
        raise InputError(f"unknown sparsity schedule {schedule!r}; known: {', '.join(SCHEDULES)}")
    return SCHEDULES[schedule]()
