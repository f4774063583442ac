"""What a training tells while it runs, and what a method built on it may change."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
from torch import Tensor

from zoosparse_ext.population.evaluate import Evaluation
from zoosparse_ext.population.population import Population
from zoosparse_ext.population.rounds import Rounds


@dataclass(frozen=True)
class Progress:
    """Where a training stands, for progress bars; sent after every chunk of models."""

    epoch: int  # counted from 1
    epochs: int
    models: int  # of this epoch done
    population: int
    accuracy: float  # mean training accuracy of the models of this epoch done so far
    seconds: float  # since the start of this training

    @property
    def done(self) -> int:
        """Networks × epochs behind."""
        return (self.epoch - 1) * self.population + self.models

    @property
    def total(self) -> int:
        """Networks × epochs in all."""
        return self.epochs * self.population


@dataclass(frozen=True)
class EpochResult:
    """What is known after an epoch (0: before the first)."""

    epoch: int
    population: Population  # as it was evaluated
    train_loss: Tensor  # float64 [N]; NaN at epoch 0
    train_accuracy: Tensor
    evaluations: dict[str, Evaluation]  # by split name

    def rows(self) -> pd.DataFrame:
        """One row per model, columns of the `history` table."""
        frame = {
            "model_id": self.population.ids,
            "epoch": self.epoch,
            "train_loss": self.train_loss.numpy(),
            "train_accuracy": self.train_accuracy.numpy(),
        }
        for split in ("val", "test"):
            evaluation = self.evaluations.get(split)
            frame[f"{split}_loss"] = math.nan if evaluation is None else evaluation.loss.numpy()
            frame[f"{split}_accuracy"] = math.nan if evaluation is None else evaluation.accuracy.numpy()
        return pd.DataFrame(frame)


@dataclass(frozen=True)
class Hooks:
    """What a method built on training changes.

    Args:
        rows: the rows of the history for an epoch.
        before_epoch: called with the epoch (from 1) and the population; may change its masks.
        evaluated: the population to evaluate in place of the one that is trained.
        models: its table; None: that of the one that is trained.
        penalty_weight: of an epoch counted from 0, where something is learned beside the weights.
        rounds: in which the epochs come. None: one training, whose schedule is that of all its epochs.
        key: what identifies these hooks in a checkpoint.
        earlier: what an earlier version did in place of these; a checkpoint that began with them goes on with them.
        told: what these hooks do, for the log where they are the earlier ones.
    """

    rows: Callable[[EpochResult], pd.DataFrame] = EpochResult.rows
    before_epoch: Callable[[int, Population], None] = lambda epoch, population: None
    evaluated: Callable[[Population], Population] = lambda population: population
    models: pd.DataFrame | None = None
    penalty_weight: Callable[[int], float] = lambda epoch: 1.0
    rounds: Rounds | None = None
    key: str = ""
    earlier: Hooks | None = None
    told: str = ""
