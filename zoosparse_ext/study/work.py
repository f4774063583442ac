"""What a stage does with the models of one architecture, as a value: it can be cut by rows, sent elsewhere, and run.

The rows of the result depend on nothing but the rows of the work: not on the cut, nor on where and when it runs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from zoosparse_ext.data import Dataset
from zoosparse_ext.options import taken
from zoosparse_ext.population.hooks import Progress
from zoosparse_ext.population.optimizers import Optimizer
from zoosparse_ext.population.population import Population
from zoosparse_ext.population.train import train
from zoosparse_ext.sparsify import pruning
from zoosparse_ext.sparsify.control import continue_training
from zoosparse_ext.sparsify.learned import learn
from zoosparse_ext.sparsify.magnitude import magnitude_prune
from zoosparse_ext.sparsify.methods import LearnedMethod
from zoosparse_ext.sparsify.methods.variational import VariationalDropout
from zoosparse_ext.study.grid import ModelGroup

OnProgress = Callable[[Progress], None]
Twins = TypeVar("Twins", bound="Continuing")


@dataclass(frozen=True)
class Work(ABC):
    """Work on a group of models.

    Args:
        options: of the function that does it, `epochs` among them; of twins, `recalibrate` says whether statistics of
            batch norm are measured anew.
    """

    options: dict[str, Any]

    @property
    @abstractmethod
    def models(self) -> int:
        """How many models go in."""

    @property
    def copies(self) -> int:
        """How many networks come out for each; the first of every model, then the second of every model, …"""
        return 1

    @property
    def network_epochs(self) -> int:
        """How much is to do: networks times epochs."""
        return self.models * self.copies * int(self.options.get("epochs", 0))

    @abstractmethod
    def at_rows(self, start: int, stop: int) -> Work:
        """The same work on some of the models."""

    def alone(self) -> Work:
        """The same work, sharing no memory with that of other rows: a view would travel with all that it is of."""
        return self

    @abstractmethod
    def run(self, data: Dataset, checkpoint: Path | None, progress: OnProgress | None) -> Population:
        """Do it; the population that comes out, with its history."""


@dataclass(frozen=True)
class Learning(Work):
    """The original models of a group, from their seeds."""

    group: ModelGroup

    @property
    def models(self) -> int:
        return len(self.group.models)

    def at_rows(self, start: int, stop: int) -> Learning:
        models = self.group.models.iloc[start:stop].reset_index(drop=True)
        optimizer = self.group.optimizer.at_rows(start, stop)
        return replace(self, group=replace(self.group, models=models, optimizer=optimizer))

    def run(self, data: Dataset, checkpoint: Path | None, progress: OnProgress | None) -> Population:
        architecture, models = self.group.architecture, self.group.models
        population = Population.initialise(architecture, models.seed.tolist(), models.init.tolist(), models)
        history = train(
            population,
            data,
            optimizer=self.group.optimizer,
            checkpoint=checkpoint,
            progress=progress,
            **self.options,
        )
        for epoch, then in {**population.kept, self.options["epochs"]: population}.items():
            rows = history[history.epoch == epoch]
            then.models["loss"] = rows.test_loss.to_numpy()
            then.models["accuracy"] = rows.test_accuracy.to_numpy()
        population.history = history
        return population


@dataclass(frozen=True)
class Pruning(Work):
    """Twins by magnitude: of every model at every ratio, or, matched, at the sparsity that its other twin reached.

    Args:
        population: the originals, with predictions.
        sparsity: ratios, an N:M pattern, or float64 [N] or [N, S], one row per model.
        matched: ids of the twins that gave those rows.
        matched_epoch: the epoch of those twins at which they had it; None for their last.
    """

    population: Population
    sparsity: Sequence[float] | str | Tensor
    scope: str
    matched: Sequence[str] | None = None
    matched_epoch: int | None = None

    @property
    def models(self) -> int:
        return len(self.population)

    @property
    def copies(self) -> int:
        return 1 if self.matched is not None or isinstance(self.sparsity, str) else len(self.sparsity)

    @property
    def network_epochs(self) -> int:
        how, _ = taken(pruning.Pruning, self.options)
        return self.models * self.copies * how.all_epochs(int(self.options.get("epochs", 0)))

    def at_rows(self, start: int, stop: int) -> Pruning:
        part = replace(self, population=self.population[start:stop], options=_options_of(self, start, stop))
        if self.matched is None:
            return part
        return replace(part, sparsity=self.sparsity[start:stop], matched=self.matched[start:stop])

    def alone(self) -> Pruning:
        return replace(self, population=self.population.clone())

    def run(self, data: Dataset, checkpoint: Path | None, progress: OnProgress | None) -> Population:
        return magnitude_prune(
            self.population,
            self.sparsity,
            self.scope,
            data=data,
            matched=self.matched,
            matched_epoch=self.matched_epoch,
            checkpoint=checkpoint,
            progress=progress,
            **_with_images(self.options, data),
        )


@dataclass(frozen=True)
class Continuing(Work):
    """The models themselves, trained on without being pruned."""

    population: Population

    @property
    def models(self) -> int:
        return len(self.population)

    def at_rows(self: Twins, start: int, stop: int) -> Twins:
        return replace(self, population=self.population[start:stop], options=_options_of(self, start, stop))

    def alone(self: Twins) -> Twins:
        return replace(self, population=self.population.clone())

    def run(self, data: Dataset, checkpoint: Path | None, progress: OnProgress | None) -> Population:
        return continue_training(
            self.population,
            data,
            checkpoint=checkpoint,
            progress=progress,
            **_with_images(self.options, data),
        )


@dataclass(frozen=True)
class Dropping(Continuing):
    """Twins by a method that learns what to keep.

    Args:
        ratios: of a method that is told how much.
    """

    method: LearnedMethod = VariationalDropout()  # noqa: RUF009
    ratios: Sequence[float] | None = None

    @property
    def copies(self) -> int:
        return 1 if self.ratios is None else len(self.ratios)

    @property
    def network_epochs(self) -> int:
        """One training for all ratios."""
        return self.models * int(self.options.get("epochs", 0))

    def run(self, data: Dataset, checkpoint: Path | None, progress: OnProgress | None) -> Population:
        return learn(
            self.population,
            data,
            self.method,
            self.ratios,
            checkpoint=checkpoint,
            progress=progress,
            **_with_images(self.options, data),
        )


def _options_of(work: Work, start: int, stop: int) -> dict[str, Any]:
    """The options of some of the models: an optimizer may have values for each."""
    optimizer = work.options.get("optimizer")
    if not isinstance(optimizer, Optimizer):
        return work.options
    return {**work.options, "optimizer": optimizer.at_rows(start, stop)}


def _with_images(options: dict[str, Any], data: Dataset) -> dict[str, Any]:
    """The options as the library has them: `recalibrate` is the images that statistics are measured on."""
    recalibrate = data.train if options.get("recalibrate", True) else None
    return {**options, "recalibrate": recalibrate}
