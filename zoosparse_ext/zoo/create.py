"""A zoo out of populations in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from zoosparse_ext.data import Dataset
from zoosparse_ext.errors import InputError, require_kind
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.augment import Augment
from zoosparse_ext.population.evaluate import check_split, evaluate
from zoosparse_ext.population.population import Population
from zoosparse_ext.population.tensors import as_arguments, tensors_of
from zoosparse_ext.zoo.provenance import TASK, task_record
from zoosparse_ext.zoo.provenance import provenance as made_here
from zoosparse_ext.zoo.store import Zoo

ORIGINAL = "original"
_OF_OPTIMIZER = ("lr", "weight_decay", "momentum")  # columns of the models that twins inherit
_OF_TRAINING = ("batch_size", "epochs")


def create_zoo(
    path: Path,
    populations: Population | Sequence[Population],
    data: Dataset,
    *,
    history: pd.DataFrame | None = None,
    provenance: Mapping[str, Any] | None = None,
    device: torch.device | str | None = None,
) -> Zoo:
    """What :meth:`Zoo.create` does."""
    given = [populations] if isinstance(populations, Population) else populations
    require_kind("populations", given, Sequence, "a zs.Population, or a list of them")
    for population in given:
        require_kind("populations", population, Population, "a zs.Population, or a list of them")
    require_kind("data", data, Dataset, "a zs.Dataset, from zs.load_dataset or zs.Dataset.from_tensors")
    require_kind("history", history, (pd.DataFrame, type(None)), "the table that zs.train returns")
    Zoo.require_new(path)
    models = [population for population in given if "twin_id" not in population.models]
    twins = [population for population in given if "twin_id" in population.models]
    if not any(len(population) for population in models):
        raise InputError("a zoo needs at least one original model, a population that holds no twins")
    originals = [_with_metrics(population, data, device) for population in models]
    table = pd.concat([population.models for population in originals], ignore_index=True)
    zoo = Zoo(
        {ORIGINAL: originals, **_kept(ORIGINAL, models), **_of_twins(twins)},
        table,
        history=_history(models, table) if history is None else _known(history, table, "history"),
        twins=_twin_rows(twins, table),
        labels=data.test.labels,
        dataset=data.describe(),
        provenance=_provenance(models, provenance or {}),
    )
    zoo.save(path)
    return with_modules(Zoo.open(path), [population.architecture for population in originals])


def with_modules(zoo: Zoo, architectures: Sequence[Architecture]) -> Zoo:
    """The zoo, as opened from disk, with the modules of its originals, where they are the user's own and run them.

    Chains and ready networks need none, and their matrices stay unread.

    Args:
        architectures: of the originals, in their order; those without a module change nothing.
    """
    own = [
        known.program is None and known.network is None and known.template is not None
        for known in architectures
    ]
    if any(own):
        for group, known, is_own in zip(zoo.populations[ORIGINAL], architectures, own, strict=True):
            if is_own:
                group.architecture = known
    return zoo


def _with_metrics(population: Population, data: Dataset, device: torch.device | str | None) -> Population:
    """The population with predictions on the test images, and a table that says accuracy, loss and optimizer.

    What it has already stays; matrices are shared with it.

    Raises:
        InputError: an accuracy in the table that is not that of the predictions.
    """
    check_split(population, data.test)
    tensors, table = tensors_of(population), _with_training(population)
    predictions = population.predictions
    fits = predictions is not None and predictions.shape[1] == len(data.test)
    if not fits or not {"accuracy", "loss"} <= set(table):
        result = evaluate(population, data.test, device=device)
        tensors["predictions"] = result.predictions
        measured = {"accuracy": result.accuracy.numpy(), "loss": result.loss.numpy()}
        table = table.assign(**{name: values for name, values in measured.items() if name not in table})
    right = tensors["predictions"].to(torch.int64) == data.test.labels
    accuracy = right.to(torch.float64).mean(1).numpy()
    told = pd.to_numeric(table["accuracy"], errors="coerce").to_numpy(dtype="float64")
    if len(table) and bool((wrong := ~(abs(told - accuracy) <= 1e-6)).any()):
        row = int(wrong.argmax())
        raise InputError(
            f"the table says that model {population.ids[row]!r} has accuracy {told[row]:g}, its predictions on the "
            f"test images have {accuracy[row]:g}; drop the column 'accuracy', or pass the data that it was measured on"
        )
    return Population.from_rows(
        architecture=population.architecture,
        models=table,
        optimizer_state=population.optimizer_state,
        **as_arguments(tensors),
    )


def _with_training(population: Population) -> pd.DataFrame:
    """The table with what `trained_by` says of each model, in columns that it does not have."""
    told, n = population.trained_by, len(population)
    if told is None:
        return population.models.copy()
    optimizer = told["optimizer"]
    values = {"optimizer": optimizer["name"], **{name: optimizer.get(name, 0.0) for name in _OF_OPTIMIZER}}
    values |= {name: told[name] for name in _OF_TRAINING}
    table = population.models.copy()
    for name, value in values.items():
        if name not in table:
            each = value if isinstance(value, list) else [value]
            table[name] = each * n if len(each) == 1 else each
    return table


def _kept(name: str, populations: Iterable[Population]) -> dict[str, list[Population]]:
    """Earlier epochs as populations of their own: `original@5`."""
    found: dict[str, list[Population]] = {}
    for population in populations:
        for epoch, then in population.kept.items():
            found.setdefault(f"{name}@{epoch}", []).append(then)
    return {at: found[at] for at in sorted(found, key=lambda key: int(key.rpartition("@")[2]))}


def _of_twins(twins: Sequence[Population]) -> dict[str, list[Population]]:
    """Twins by the series that their tables name, which is what their population is called."""
    by_series: dict[str, list[Population]] = {}
    for number, population in enumerate(twins):
        if "source_id" not in population.models or population.history is None:
            raise InputError(
                f"population {number} of twins has no {'source_id' if population.history is not None else 'history'}: "
                "twins are what zs.sparsify and its like return, as they are"
            )
        series = population.models["series"] if "series" in population.models else pd.Series(dtype=object)
        names = list(series.dropna().unique())
        if len(names) != 1:
            raise InputError(
                f"population {number} of twins is of {len(names)} series {names[:3]}; pass one for each series"
            )
        by_series.setdefault(str(names[0]), []).append(population)
    found: dict[str, list[Population]] = {}
    for name, populations in by_series.items():
        found |= {name: populations, **_kept(name, populations)}
    return found


def _twin_rows(twins: Sequence[Population], models: pd.DataFrame) -> pd.DataFrame | None:
    rows = [population.history for population in twins if population.history is not None]
    if not rows:
        return None
    table = pd.concat(rows, ignore_index=True)
    return _known(table, models, "the table of twins", "source_id")


def _history(populations: Sequence[Population], models: pd.DataFrame) -> pd.DataFrame | None:
    known = [population.history for population in populations if population.history is not None]
    return _known(pd.concat(known, ignore_index=True), models, "history") if known else None


def _known(table: pd.DataFrame, models: pd.DataFrame, what: str, column: str = "model_id") -> pd.DataFrame:
    """The table, if all its rows are of models of the zoo."""
    if column not in table:
        raise InputError(f"{what} has no column {column!r}; it has {', '.join(map(str, table.columns))}")
    unknown = table.loc[~table[column].isin(models["model_id"]), column]
    if len(unknown):
        raise InputError(
            f"{what} names {unknown.iloc[0]!r}, which is none of the {len(models)} models ({column})"
        )
    return table


def _provenance(populations: Sequence[Population], further: Mapping[str, Any]) -> dict[str, Any]:
    """Versions and machine; how the models were trained, as far as they know; and what the caller adds."""
    known = [population.trained_by for population in populations]
    tasks = [_task(told) for told in known if told is not None]
    told: dict[str, Any] = {}
    if any(record is not None for record in known):
        told["training"] = known[0] if len(known) == 1 else known
    if len(tasks) == len(known) and all(task == tasks[0] for task in tasks):
        told[TASK] = tasks[0]
    return {**made_here(), **told, **further}


def _task(told: dict[str, Any]) -> dict[str, Any]:
    augment = told["augment"]
    return task_record(told["loss"], None if augment is None else Augment(**augment))
