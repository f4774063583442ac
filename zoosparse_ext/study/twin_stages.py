"""The twins of a study: which populations it makes, how, and in which order.

`control → magnitude → variational dropout → matched`, each section with its variants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pandas as pd

from zoosparse_ext.errors import InputError
from zoosparse_ext.options import taken
from zoosparse_ext.population.optimizers import Optimizer
from zoosparse_ext.sparsify.methods import LearnedMethod
from zoosparse_ext.sparsify.pruning import Pruning
from zoosparse_ext.sparsify.series import Series
from zoosparse_ext.study.config import StudyConfig
from zoosparse_ext.study.grid import ModelGroup
from zoosparse_ext.study.inheritance import SourceOptimizer
from zoosparse_ext.study.method_config import RankingConfig, matched_epochs
from zoosparse_ext.study.naming import control_series, learned_series, magnitude_series
from zoosparse_ext.study.populations import at_epoch, ratios_of
from zoosparse_ext.study.stages import (
    add_control_twins,
    add_learned_twins,
    add_magnitude_twins,
    add_matched_twins,
)
from zoosparse_ext.study.twin_config import TwinConfig
from zoosparse_ext.zoo import Zoo
from zoosparse_ext.zoo.provenance import TASK, task_record


@dataclass(frozen=True)
class Stage:
    """One population of twins that a study makes.

    Args:
        population: its name in the zoo.
        title: for people.
        add: makes the twins; takes the zoo and the data, and how to run it.
        training: how they are trained: arguments of `add`.
        needs: the population that it starts from.
        ratios: of sparsity; none where they are not chosen.
        learned: the method, if it learns what to keep.
    """

    population: str
    title: str
    add: Callable[..., Zoo]
    training: dict[str, Any] = field(repr=False)
    needs: str = "original"
    ratios: tuple[float, ...] = ()
    learned: LearnedMethod | None = None

    @property
    def optimizer(self) -> Optimizer | SourceOptimizer:
        """That the twins are trained with."""
        found: Optimizer | SourceOptimizer = self.training["optimizer"]
        return found

    @property
    def pruning(self) -> Pruning:
        """How weights are pruned; as usual where none are."""
        return taken(Pruning, self.training)[0]

    @property
    def epochs(self) -> int:
        """How many there are, in all rounds."""
        return self.pruning.all_epochs(self.training["epochs"])

    @property
    def keep(self) -> Sequence[int]:
        """The earlier epochs at which the twins are kept."""
        return tuple(self.training.get("keep", ()))

    def is_done(self, zoo: Zoo) -> bool:
        """Whether the zoo has all these twins."""
        return self.population in zoo.populations and {*self.ratios} <= {*ratios_of(zoo, self.population)}


def twin_stages(config: StudyConfig, zoo: Zoo) -> list[Stage]:
    """The twins of a study, in the order in which they are made.

    Args:
        zoo: of the study, or that of `planned_zoo`: series are named by what differs from what its settings say.

    Raises:
        InputError: two of them are the same twins, for variants do not differ in what decides them.
    """
    stages = [*_controls(config, zoo), *_pruned(config, zoo)]
    dropped = list(_dropped(config, zoo))
    stages += [*dropped, *_matched(config, zoo, dropped)]
    names = [stage.population for stage in stages]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(
            f"two parts of the study make the same twins, {twice[0]!r}: variants must differ from their section and "
            "from each other in what decides the twins"
        )
    return stages


def planned_zoo(config: StudyConfig, groups: Sequence[ModelGroup]) -> Zoo:
    """What is known of the zoo of a study before there is one: its models, and what its twins inherit."""
    tables = [group.models.assign(architecture=group.architecture.name) for group in groups]
    models = pd.concat(tables, ignore_index=True)
    settings = config.model_dump(mode="json")
    return Zoo({}, models, provenance={"settings": settings, TASK: task_record(**config.zoo.task())})


def _controls(config: StudyConfig, zoo: Zoo) -> Iterator[Stage]:
    """The models trained on as twins are, once for every training."""
    known: list[dict[str, str]] = []
    for section in (part for twins in config.twins for part in twins.each() if part.has_control):
        training = {**_training(config, section), "keep": _kept(config, section)}
        series, settings = control_series(zoo, **training)
        if settings not in known:
            known.append(settings)
            yield _stage("train on without pruning", (), series, add_control_twins, training)


def _pruned(config: StudyConfig, zoo: Zoo) -> Iterator[Stage]:
    """Twins by methods that rank weights, in every scope."""
    for section in _each_ranking(config):
        training = _ranked(config, section, section.pruning())
        for scope in section.scopes:
            series, _ = magnitude_series(zoo, scope, **training)
            add = partial(add_magnitude_twins, ratios=section.ratios, scope=scope)
            yield _stage("prune", (scope,), series, add, training, ratios=tuple(section.ratios))


def _each_ranking(config: StudyConfig) -> Iterator[RankingConfig]:
    """The sections of these methods, each with its variants."""
    for section in config.rankings:
        yield from section.each()


def _ranked(config: StudyConfig, section: RankingConfig, pruning: Pruning) -> dict[str, Any]:
    """How twins of such a section are made."""
    return {**_training(config, section), "score": section.ranking(), **vars(pruning)}


def _dropped(config: StudyConfig, zoo: Zoo) -> Iterator[Stage]:
    """Twins by methods that learn what to keep."""
    for section in (part for learned in config.learned for part in learned.each()):
        method, ratios = section.learned(), section.asked()
        training = {**_training(config, section), "method": method, "keep": _kept(config, section)}
        series, _ = learned_series(zoo, **training)
        add = add_learned_twins if ratios is None else partial(add_learned_twins, ratios=ratios)
        yield _stage(method.phrase, (), series, add, training, ratios=tuple(ratios or ()), learned=method)


def _matched(config: StudyConfig, zoo: Zoo, dropped: Sequence[Stage]) -> Iterator[Stage]:
    """Twins by magnitude with the sparsity of those by variational dropout, at earlier epochs and in the end."""
    for section in _each_ranking(config):
        training = _ranked(config, section, section.pruning().at_once())
        for stage in (stage for stage in dropped if not stage.ratios):
            epochs = matched_epochs(section, stage.training["epochs"])
            for scope in section.matched_scopes:
                for epoch in [*epochs, None]:
                    budget = section.epochs if epoch is None else epoch
                    how = {**training, "epochs": budget}
                    series, _ = magnitude_series(zoo, scope, stage.population, epoch, **how)
                    add = partial(add_matched_twins, scope=scope, to=stage.population, epoch=epoch)
                    needs = stage.population if epoch is None else at_epoch(stage.population, epoch)
                    yield _stage("prune", ("matched", scope), series, add, how, needs=needs)


def _stage(
    title: str,
    words: tuple[str, ...],
    series: Series,
    add: Callable[..., Zoo],
    training: dict[str, Any],
    **more: Any,
) -> Stage:
    """A stage of a series, whose title says what differs from the recipe."""
    words = (*words, *([] if series.schedule is None else [series.schedule]), *series.options)
    told = f"{title} ({', '.join(words)})" if words else title
    return Stage(series.key, told, partial(add, **training), training, **more)


def _training(config: StudyConfig, section: TwinConfig) -> dict[str, Any]:
    """How the twins of a section are trained."""
    return {**section.options(config.seed), **config.zoo.task()}


def _kept(config: StudyConfig, section: TwinConfig) -> tuple[int, ...]:
    """The earlier epochs at which twins are compared, and so kept: those at which others are matched."""
    if not config.learned:
        return ()
    parts = [part for part in _each_ranking(config) if part.matched_scopes]
    return tuple(sorted({epoch for part in parts for epoch in matched_epochs(part, section.epochs)}))
