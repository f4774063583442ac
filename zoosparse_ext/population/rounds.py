"""Trainings in rounds, each of which starts from one epoch of an earlier training."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from zoosparse_ext.population.schedules import Constant


@dataclass(frozen=True)
class Rounds:
    """Rounds of a training. Each has a new optimizer, and continues an earlier training after one of its epochs.

    The images come in the order of the epochs that followed there. The schedule of the learning rate stretches over the
    epochs before and those of the round, of which the first are left out.

    >>> rounds = Rounds(start=2, epochs=(3, 3))
    >>> [rounds.before(epoch) for epoch in range(1, 7)], [rounds.begins(epoch) for epoch in range(1, 7)]
    ([2, 3, 4, 2, 3, 4], [True, False, False, True, False, False])

    Args:
        start: the epoch of the earlier training, 0 being what was there before its first step.
        epochs: of every round.
    """

    start: int
    epochs: tuple[int, ...]

    def before(self, epoch: int) -> int:
        """How many epochs of the earlier training and of its round an epoch follows; counted from 1."""
        first = max((done for done in accumulate(self.epochs, initial=0) if done < epoch), default=0)
        return self.start + epoch - 1 - first

    def begins(self, epoch: int) -> bool:
        """Whether a round begins with an epoch."""
        return self.before(epoch) == self.start

    def factors(self, schedule: Constant, steps: int) -> Tensor:
        """float64 [steps of all epochs], of the learning rate; `steps` are those of an epoch."""
        of_rounds = [
            schedule.factors((self.start + epochs) * steps)[self.start * steps :] for epochs in self.epochs
        ]
        return torch.cat(of_rounds)
