"""The stages of a study. Each takes a zoo and gives a zoo; its chunks keep their progress below `checkpoint`.

`train_zoo → add_control_twins → add_magnitude_twins → add_variational_twins → add_matched_twins → report`
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from zoosparse_ext.data import Dataset
from zoosparse_ext.errors import InputError
from zoosparse_ext.population.evaluate import evaluate
from zoosparse_ext.population.optimizers import Optimizer
from zoosparse_ext.population.population import Population
from zoosparse_ext.population.training import TRAINING, Training
from zoosparse_ext.sparsify.methods import LearnedMethod
from zoosparse_ext.sparsify.series import Series
from zoosparse_ext.study.chunks import cut, join, reordered
from zoosparse_ext.study.grid import ModelGroup
from zoosparse_ext.study.inheritance import SourceOptimizer, inherited, warn_if_unknown
from zoosparse_ext.study.method_config import RATIOS
from zoosparse_ext.study.naming import (
    VARIATIONAL,
    control_series,
    learned_method,
    learned_series,
    magnitude_series,
    variational_population,
)
from zoosparse_ext.study.populations import (
    at_epoch,
    earlier_epoch,
    missing_ratios,
    reached_sparsity,
    require_alike,
    require_missing,
    with_twins,
)
from zoosparse_ext.study.rewound import ORIGINAL, earlier_originals, with_rewound
from zoosparse_ext.study.runner import LocalRunner, Runner
from zoosparse_ext.study.unfinished import begun as begun_in
from zoosparse_ext.study.unfinished import noted, place
from zoosparse_ext.study.work import Continuing, Dropping, Learning, OnProgress, Pruning, Work
from zoosparse_ext.words import Texts, number_text
from zoosparse_ext.zoo import Zoo
from zoosparse_ext.zoo.provenance import TASK, provenance, task_record
from zoosparse_ext.zoo.stored_rows import StoredGroup

LOCAL = LocalRunner()


def train_zoo(
    data: Dataset,
    groups: Sequence[ModelGroup],
    *,
    checkpoint: Path | None = None,
    progress: OnProgress | None = None,
    settings: dict[str, Any] | None = None,
    runner: Runner = LOCAL,
    **options: Any,
) -> Zoo:
    """Train the models of every group and make a zoo of them.

    Args:
        settings: go into the provenance of the zoo.
        options: as of :func:`zoosparse_ext.train`; the optimizer is that of each group. Epochs to `keep` become
            populations: `original@2`.
    """
    works = [Learning(options, group) for group in groups]
    training = {name: value for name, value in options.items() if name in TRAINING}
    texts = Training(**training, optimizer=groups[0].optimizer).texts() if groups else {}
    populations = _run(ORIGINAL, works, data, runner, checkpoint, progress, texts)
    return Zoo(
        populations={ORIGINAL: populations, **earlier_originals(populations)},
        models=pd.concat([population.models for population in populations], ignore_index=True),
        history=pd.concat([population.history for population in populations], ignore_index=True),
        labels=data.test.labels,
        dataset=data.describe(),
        provenance={**provenance(**(settings or {})), TASK: task_record(**options)},
    )


def add_control_twins(
    zoo: Zoo,
    data: Dataset,
    *,
    replace: bool = False,
    checkpoint: Path | None = None,
    progress: OnProgress | None = None,
    runner: Runner = LOCAL,
    begun: Mapping[str, Texts] | None = None,
    **options: Any,
) -> Zoo:
    """Every model trained on without being pruned, as population `control`, or beside it if trained in another way.

    Args:
        replace: make anew the population that is there.
        begun: settings of unfinished series, see :func:`zoosparse_ext.study.unfinished.begun`. Default: of those below
            `checkpoint`.
        options: as of `continue_training`, `recalibrate` a bool; loss and augmentation are by default those of the
            zoo's models, `optimizer` may be a `SourceOptimizer`. Epochs to `keep` become populations: `control@5`.

    Raises:
        InputError: the population is there already (unless `replace`).
    """
    begun = begun_in(checkpoint) if begun is None else begun
    series, settings = control_series(zoo, begun, **options)
    require_missing(zoo, series.key, replacing=replace)
    stage = _TwinStage(zoo, data, series, settings, begun, checkpoint, progress, runner)
    return with_twins(zoo, series, stage.run(Continuing, options), settings)


def add_magnitude_twins(
    zoo: Zoo,
    data: Dataset,
    ratios: Sequence[float] | str = RATIOS,
    scope: str = "global",
    *,
    replace: bool = False,
    checkpoint: Path | None = None,
    progress: OnProgress | None = None,
    runner: Runner = LOCAL,
    begun: Mapping[str, Texts] | None = None,
    **options: Any,
) -> Zoo:
    """Twins by magnitude pruning at every ratio, or of an N:M pattern, as the population of their series.

    That is `magnitude-<scope>`. Twins at other ratios are added to it; twins that are made in another way become a
    population beside it, whose name says what is different (:mod:`zoosparse_ext.study.naming`).

    Args:
        replace: make anew what the population has at these ratios.
        begun: as of `add_control_twins`.
        options: as of `magnitude_prune`, otherwise as of `add_control_twins`.

    Raises:
        InputError: the population has twins at all these ratios already (unless `replace`); those that stay there are
            of other networks, or were evaluated on another number of images.
    """
    begun = begun_in(checkpoint) if begun is None else begun
    pattern = isinstance(ratios, str)
    series, settings = magnitude_series(zoo, str(ratios) if pattern else scope, begun=begun, **options)
    if isinstance(ratios, str):
        require_missing(zoo, series.key, replacing=replace)
    else:
        ratios = missing_ratios(zoo, series.key, ratios, replacing=replace)
        networks = [group.architecture.name for group in _stored_originals(zoo)]
        require_alike(zoo, series.key, networks, ratios, len(data.test))
    texts = {**settings, "ratios": ratios_text(ratios)}
    stage = _TwinStage(zoo, data, series, texts, begun, checkpoint, progress, runner)
    twins = stage.run(lambda how, models: Pruning(how, models, ratios, scope), options)
    return with_twins(zoo, series, twins, settings, adding=not pattern)


def add_learned_twins(
    zoo: Zoo,
    data: Dataset,
    method: str | LearnedMethod = VARIATIONAL,
    ratios: Sequence[float] | None = None,
    *,
    replace: bool = False,
    checkpoint: Path | None = None,
    progress: OnProgress | None = None,
    runner: Runner = LOCAL,
    begun: Mapping[str, Texts] | None = None,
    **options: Any,
) -> Zoo:
    """Twins by a method that learns what to keep, as the population of its name, or beside it if they are made in
    another way.

    Args:
        ratios: of a method that is told how much to keep.
        replace: make anew the population that is there.
        begun: as of `add_control_twins`.
        options: of the method and of :func:`zoosparse_ext.learn`, otherwise as of `add_control_twins`.

    Raises:
        InputError: the population is there already (unless `replace`).
    """
    chosen, options = learned_method(method, options)
    begun = begun_in(checkpoint) if begun is None else begun
    series, settings = learned_series(zoo, chosen, begun, **options)
    require_missing(zoo, series.key, replacing=replace)
    texts = settings if ratios is None else {**settings, "ratios": ratios_text(ratios)}
    stage = _TwinStage(zoo, data, series, texts, begun, checkpoint, progress, runner)
    twins = stage.run(lambda how, models: Dropping(how, models, chosen, ratios), options)
    return with_twins(zoo, series, twins, settings)


def add_variational_twins(zoo: Zoo, data: Dataset, **options: Any) -> Zoo:
    """Twins by variational dropout, see `add_learned_twins`."""
    return add_learned_twins(zoo, data, VARIATIONAL, **options)


def add_matched_twins(
    zoo: Zoo,
    data: Dataset,
    scope: str = "global",
    *,
    to: str | None = None,
    epoch: int | None = None,
    replace: bool = False,
    checkpoint: Path | None = None,
    progress: OnProgress | None = None,
    runner: Runner = LOCAL,
    begun: Mapping[str, Texts] | None = None,
    **options: Any,
) -> Zoo:
    """Every model pruned by magnitude to exactly the sparsity that its variational twin reached, in all or per layer.

    Args:
        to: the population of those twins. Default: the only one by variational dropout.
        epoch: of their training, one that was kept; these twins then have as many epochs of fine-tuning, unless
            `epochs` says otherwise. Default: the last one.
        replace: make anew the population that is there.
        begun: as of `add_control_twins`.
        options: as of `magnitude_prune`, otherwise as of `add_control_twins`.

    Raises:
        InputError: the zoo has no such twins, several populations of them and none was named, none of that epoch, or a
            model without a twin among them; the population is there already (unless `replace`).
    """
    begun = begun_in(checkpoint) if begun is None else begun
    to = variational_population(zoo, to)
    epoch = earlier_epoch(zoo, to, epoch)
    if epoch is not None:
        options = {"epochs": epoch, **options}
    series, settings = magnitude_series(zoo, scope, to, epoch, begun, **options)
    require_missing(zoo, series.key, replacing=replace)
    stage = _TwinStage(zoo, data, series, settings, begun, checkpoint, progress, runner)
    source = to if epoch is None else at_epoch(to, epoch)

    def matched(how: dict[str, Any], models: Population) -> Pruning:
        names, reached = reached_sparsity(zoo, source, models, by_layer=scope == "layer")
        # A twin that lost a whole layer stays in [0, 1) and rounds to all of it.
        return Pruning(how, models, reached.clamp(max=1 - 1e-12), scope, matched=names, matched_epoch=epoch)

    return with_twins(zoo, series, stage.run(matched, options), settings)


def ratios_text(ratios: Sequence[float] | str) -> str:
    """What is asked for, for the settings of an unfinished stage."""
    return ratios if isinstance(ratios, str) else f"ratios {', '.join(map(number_text, ratios))}"


@dataclass(frozen=True)
class _TwinStage:
    """One population of twins that is made from the original models of a zoo.

    Args:
        settings: of the series, in words.
        begun: settings of unfinished series.
    """

    zoo: Zoo
    data: Dataset
    series: Series
    settings: Texts
    begun: Mapping[str, Texts]
    checkpoint: Path | None
    progress: OnProgress | None
    runner: Runner

    def run(
        self, work: Callable[[dict[str, Any], Population], Work], options: dict[str, Any]
    ) -> list[Population]:
        """The twins of every group of models; `work` says what is done with some of them, by options of the library."""
        warn_if_unknown(self.zoo, options)
        options = {**inherited(self.zoo), **options, "series": self.series}
        groups = with_rewound(self.zoo, _originals(self.zoo, self.data), options)
        parts = [
            (number, rows, work({**options, **optimizer}, models if rows is None else models[rows]))
            for number, models in enumerate(groups)
            for rows, optimizer in self._optimizers(models, options.get("optimizer"))
        ]
        name = place(self.series.key, self.settings, self.begun)
        works = [part for _, _, part in parts]
        done = _run(name, works, self.data, self.runner, self.checkpoint, self.progress, self.settings)
        return [
            self._together(
                [
                    (rows, twins, part.copies)
                    for (g, rows, part), twins in zip(parts, done, strict=True)
                    if g == number
                ]
            )
            for number in range(len(groups))
        ]

    def _optimizers(
        self, models: Population, wanted: Optimizer | SourceOptimizer | None
    ) -> list[tuple[list[int] | None, dict[str, Any]]]:
        """Rows of models that train together, None for all of them, and their optimizer as an option."""
        if not isinstance(wanted, SourceOptimizer):
            return [(None, {})]
        told = self.zoo.models.set_index("model_id")
        known = set(models.ids) <= set(told.index)
        table = told.loc[models.ids].reset_index() if known else models.models
        found = wanted.of(table)
        return [(None if len(found) == 1 else rows, {"optimizer": optimizer}) for rows, optimizer in found]

    @staticmethod
    def _together(parts: Sequence[tuple[list[int] | None, Population, int]]) -> Population:
        """The twins of one group out of those of its parts, in the order of its models."""
        (rows, twins, copies), *others = parts
        if rows is None:
            return twins
        places = [row for some, _, _ in parts for row in some or ()]
        return reordered(join([twins, *(part for _, part, _ in others)], copies), places, copies)


def _run(
    stage: str,
    works: Sequence[Work],
    data: Dataset,
    runner: Runner,
    checkpoint: Path | None,
    progress: OnProgress | None,
    settings: Texts,
) -> list[Population]:
    """One population for each work, however it was cut; the settings are told if they do not fit."""
    chunks = cut(stage, works, runner.chunk_size(sum(work.models for work in works)))
    folder, texts = None, settings
    if checkpoint is not None:
        folder = checkpoint / stage
        of_data = f"data {data.spec} {data.fingerprint[:6]}"
        texts = {**settings, "models": f"{sum(work.models for work in works)} models", "data": of_data}
    with noted(folder, texts):
        done = list(zip(chunks, runner.run(chunks, data, checkpoint, progress), strict=True))
    return [
        join([part for chunk, part in done if chunk.group == group], work.copies)
        for group, work in enumerate(works)
    ]


def evaluate_zoo(zoo: Zoo, data: Dataset, device: str | None = None) -> pd.DataFrame:
    """Accuracy and loss of every model and twin on the test images, evaluated anew; `target` is the ratio asked for."""
    frames = []
    for name, groups in zoo.populations.items():
        for group in groups:
            result = evaluate(group, data.test, device=device)
            frames.append(
                pd.DataFrame(
                    {
                        "population": name,
                        "id": group.ids,
                        "target": group.models.get("target", math.nan),
                        "sparsity": group.sparsity().numpy(),
                        "accuracy": result.accuracy.numpy(),
                        "loss": result.loss.numpy(),
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


def _stored_originals(zoo: Zoo) -> Sequence[Population | StoredGroup]:
    """The original models, left on disk where they were not read before."""
    if "original" not in zoo.populations:
        raise InputError(
            f"the zoo has no population 'original' to make twins of; it has {', '.join(zoo.populations)}"
        )
    return zoo.groups("original")


def _originals(zoo: Zoo, data: Dataset) -> list[Population]:
    """The original models, with predictions on the test images."""
    _stored_originals(zoo)
    groups = zoo.populations["original"]
    for group in groups:
        if group.predictions is None or group.predictions.shape[1] != len(data.test):
            group.predictions = evaluate(group, data.test).predictions
    return groups
