"""The stages of a study. Each takes a zoo and gives a zoo; each keeps its progress in a checkpoint until it is done.

`train_zoo → add_magnitude_twins → add_variational_twins → add_matched_twins → report`
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from zoosparse_ext.data import Dataset
from zoosparse_ext.errors import InputError
from zoosparse_ext.population.evaluate import evaluate
from zoosparse_ext.population.hooks import Progress
from zoosparse_ext.population.population import Population
from zoosparse_ext.population.train import train
from zoosparse_ext.sparsify.magnitude import magnitude_prune
from zoosparse_ext.sparsify.variational import variational_dropout
from zoosparse_ext.study.grid import ModelGroup
from zoosparse_ext.study.provenance import provenance
from zoosparse_ext.zoo import Zoo

OnProgress = Callable[[Progress], None]
RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def train_zoo(
    data: Dataset,
    groups: Sequence[ModelGroup],
    *,
    epochs: int,
    batch_size: int = 10,
    order: str = "per-model",
    seed: int = 0,
    checkpoint: Path | None = None,
    progress: OnProgress | None = None,
    settings: dict[str, Any] | None = None,
    **how: Any,
) -> Zoo:
    """Train the models of every group and make a zoo of them.

    `settings` go into its provenance; `how` to :func:`zoosparse_ext.train`: schedule, loss, augmentation.
    """
    populations, histories = [], []
    for index, group in enumerate(groups):
        models = group.models
        population = Population.initialise(
            group.architecture, models.seed.tolist(), models.init.tolist(), models
        )
        history = train(
            population,
            data,
            epochs=epochs,
            batch_size=batch_size,
            optimizer=group.optimizer,
            order=order,
            seed=seed,
            checkpoint=_part(checkpoint, "train", index),
            progress=progress,
            **how,
        )
        final = history[history.epoch == epochs]
        population.models["loss"] = final.test_loss.to_numpy()
        population.models["accuracy"] = final.test_accuracy.to_numpy()
        populations.append(population)
        histories.append(history)
    return Zoo(
        populations={"original": populations},
        models=pd.concat([population.models for population in populations], ignore_index=True),
        history=pd.concat(histories, ignore_index=True),
        labels=data.test.labels,
        dataset=data.describe(),
        provenance=provenance(**(settings or {})),
    )


def add_magnitude_twins(
    zoo: Zoo,
    data: Dataset,
    ratios: Sequence[float] = RATIOS,
    scope: str = "global",
    *,
    checkpoint: Path | None = None,
    **options: Any,
) -> Zoo:
    """Twins by magnitude pruning at every ratio, as population `magnitude-<scope>`; options as `magnitude_prune`."""
    name = f"magnitude-{scope}"
    groups = [
        magnitude_prune(
            group, list(ratios), scope, data=data, checkpoint=_part(checkpoint, name, index), **options
        )
        for index, group in enumerate(_originals(zoo, data))
    ]
    return _with_twins(zoo, name, groups)


def add_variational_twins(zoo: Zoo, data: Dataset, *, checkpoint: Path | None = None, **options: Any) -> Zoo:
    """Twins by variational dropout, as population `variational`; options as `variational_dropout`."""
    groups = [
        variational_dropout(group, data, checkpoint=_part(checkpoint, "variational", index), **options)
        for index, group in enumerate(_originals(zoo, data))
    ]
    return _with_twins(zoo, "variational", groups)


def add_matched_twins(
    zoo: Zoo, data: Dataset, scope: str = "global", *, checkpoint: Path | None = None, **options: Any
) -> Zoo:
    """Every model pruned by magnitude to exactly the sparsity that its variational twin reached, in all or per layer.

    Raises:
        InputError: the zoo has no variational twins yet.
    """
    if "variational" not in zoo.populations:
        raise InputError("matched twins need variational twins first; run `zoosparse vardrop`")
    name = f"magnitude-matched-{scope}"
    groups = []
    pairs = zip(_originals(zoo, data), zoo.populations["variational"], strict=True)
    for index, (group, twins) in enumerate(pairs):
        reached = twins.sparsity(by_layer=scope == "layer")
        groups.append(
            magnitude_prune(
                group,
                reached.clamp(
                    max=1 - 1e-12
                ),  # a twin that lost a whole layer stays in [0, 1) and rounds to all of it
                scope,
                data=data,
                matched=twins.ids,
                checkpoint=_part(checkpoint, name, index),
                **options,
            )
        )
    return _with_twins(zoo, name, groups)


def evaluate_zoo(zoo: Zoo, data: Dataset) -> pd.DataFrame:
    """Accuracy and loss of every model and twin on the test images, evaluated anew."""
    frames = []
    for name, groups in zoo.populations.items():
        for group in groups:
            result = evaluate(group, data.test)
            frames.append(
                pd.DataFrame(
                    {
                        "population": name,
                        "id": group.ids,
                        "sparsity": group.sparsity().numpy(),
                        "accuracy": result.accuracy.numpy(),
                        "loss": result.loss.numpy(),
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


def _originals(zoo: Zoo, data: Dataset) -> list[Population]:
    """The original models, with predictions on the test images."""
    groups = zoo.populations["original"]
    for group in groups:
        if group.predictions is None or group.predictions.shape[1] != len(data.test):
            group.predictions = evaluate(group, data.test).predictions
    return groups


def _with_twins(zoo: Zoo, name: str, groups: list[Population]) -> Zoo:
    """The zoo with a population of twins added, or replaced if it was there."""
    rows = pd.concat([group.history for group in groups], ignore_index=True)
    kept = zoo.twins[_kind(zoo.twins) != _kind(rows)[0]]
    twins = pd.concat([kept, rows], ignore_index=True) if len(kept) else rows
    return replace(zoo.with_population(name, groups), twins=twins)


def _kind(twins: pd.DataFrame) -> pd.Series:
    """What tells the rows of one population of twins from those of another: method, scope, matched or not."""
    return twins.method + " " + twins.scope.fillna("") + " " + twins.matched.notna().map(str)


def _part(checkpoint: Path | None, stage: str, group: int) -> Path | None:
    return None if checkpoint is None else checkpoint / f"{stage}-{group}.safetensors"
