"""The stages of a study. Each takes a zoo and gives a zoo; its chunks keep their progress below `checkpoint`.

`train_zoo → add_magnitude_twins → add_variational_twins → add_matched_twins → report`
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from zoosparse_ext.data import Dataset
from zoosparse_ext.errors import InputError
from zoosparse_ext.population.evaluate import evaluate
from zoosparse_ext.population.population import Population
from zoosparse_ext.study.chunks import cut, join
from zoosparse_ext.study.grid import ModelGroup
from zoosparse_ext.study.provenance import provenance
from zoosparse_ext.study.runner import LocalRunner, Runner
from zoosparse_ext.study.work import Dropping, OnProgress, Pruning, Training, Work
from zoosparse_ext.zoo import Zoo

LOCAL = LocalRunner()
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
    runner: Runner = LOCAL,
    **how: Any,
) -> Zoo:
    """Train the models of every group and make a zoo of them.

    `settings` go into its provenance; `how` to :func:`zoosparse_ext.train`: schedule, loss, augmentation.
    """
    options = {"epochs": epochs, "batch_size": batch_size, "order": order, "seed": seed, **how}
    works = [Training(options, group) for group in groups]
    populations = _run("original", works, data, runner, checkpoint, progress)
    return Zoo(
        populations={"original": populations},
        models=pd.concat([population.models for population in populations], ignore_index=True),
        history=pd.concat([population.history for population in populations], ignore_index=True),
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
    progress: OnProgress | None = None,
    runner: Runner = LOCAL,
    **options: Any,
) -> Zoo:
    """Twins by magnitude pruning at every ratio, as population `magnitude-<scope>`; options as `magnitude_prune`."""
    name = f"magnitude-{scope}"
    works = [Pruning(options, group, list(ratios), scope) for group in _originals(zoo, data)]
    return _with_twins(zoo, name, _run(name, works, data, runner, checkpoint, progress))


def add_variational_twins(
    zoo: Zoo,
    data: Dataset,
    *,
    checkpoint: Path | None = None,
    progress: OnProgress | None = None,
    runner: Runner = LOCAL,
    **options: Any,
) -> Zoo:
    """Twins by variational dropout, as population `variational`; options as `variational_dropout`."""
    works = [Dropping(options, group) for group in _originals(zoo, data)]
    return _with_twins(zoo, "variational", _run("variational", works, data, runner, checkpoint, progress))


def add_matched_twins(
    zoo: Zoo,
    data: Dataset,
    scope: str = "global",
    *,
    checkpoint: Path | None = None,
    progress: OnProgress | None = None,
    runner: Runner = LOCAL,
    **options: Any,
) -> Zoo:
    """Every model pruned by magnitude to exactly the sparsity that its variational twin reached, in all or per layer.

    Raises:
        InputError: the zoo has no variational twins yet.
    """
    if "variational" not in zoo.populations:
        raise InputError("matched twins need variational twins first; run `zoosparse vardrop`")
    name = f"magnitude-matched-{scope}"
    works = []
    for group, twins in zip(_originals(zoo, data), zoo.populations["variational"], strict=True):
        reached = twins.sparsity(by_layer=scope == "layer")
        # A twin that lost a whole layer stays in [0, 1) and rounds to all of it.
        works.append(Pruning(options, group, reached.clamp(max=1 - 1e-12), scope, matched=twins.ids))
    return _with_twins(zoo, name, _run(name, works, data, runner, checkpoint, progress))


def _run(
    stage: str,
    works: Sequence[Work],
    data: Dataset,
    runner: Runner,
    checkpoint: Path | None,
    progress: OnProgress | None,
) -> list[Population]:
    """One population for each group, however the work on it was cut."""
    chunks = cut(stage, works, runner.chunk_size(sum(work.models for work in works)))
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
    kept = zoo.twins[_population_of(zoo.twins) != name]
    twins = pd.concat([kept, rows], ignore_index=True) if len(kept) else rows
    return replace(zoo.with_population(name, groups), twins=twins)


def in_order(zoo: Zoo, names: Sequence[str]) -> Zoo:
    """The zoo with its populations, and their rows in the table of twins, in another order."""
    rank = _population_of(zoo.twins).map({name: place for place, name in enumerate(names)})
    return replace(
        zoo,
        populations={name: zoo.populations[name] for name in names},
        twins=zoo.twins.iloc[rank.argsort(kind="stable")].reset_index(drop=True),
    )


def _population_of(twins: pd.DataFrame) -> pd.Series:
    """Name of the population that each row belongs to, out of method, scope, and whether it was matched."""
    matched = twins.matched.notna().map({True: "-matched", False: ""})
    return twins.method + matched + ("-" + twins.scope).fillna("")
