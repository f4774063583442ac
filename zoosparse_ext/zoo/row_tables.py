"""Which rows of a zoo a data set takes, where they lie, and what they are rows of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import Tensor

from zoosparse_ext.errors import InputError
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.zoo.epochs import base_epochs, row_epochs
from zoosparse_ext.zoo.shards import MappedGroup
from zoosparse_ext.zoo.store import Zoo
from zoosparse_ext.zoo.stored import StoredPopulations, mapped


@dataclass
class Rows:
    """Rows of networks whose layers have one shape.

    Args:
        parts: matrices [n, P], mapped into memory where they lie on disk.
        places: int64 [rows, 2], the part of every row and its number within it.
        table: `population`, `model_id` (of a twin, that of its original), `twin_id`, `epoch`, `row`.
        masked: of every part, whether its networks have masks.
    """

    architecture: Architecture
    parts: list[Tensor]
    places: np.ndarray
    table: pd.DataFrame
    masked: list[bool]

    @property
    def width(self) -> int:
        return self.architecture.n_parameters

    def sparsity(self, rows: np.ndarray) -> np.ndarray:
        """Share of zeros among the prunable weights, float64 [len(rows)]; 0 without a look where nothing was pruned."""
        result = np.zeros(len(rows))
        for index, (part, row) in enumerate(self.places[rows]):
            if self.masked[part]:
                weights = self.parts[part][row][self.architecture.prunable_columns]
                result[index] = float((weights == 0).double().mean())
        return result


def choose_rows(
    zoo: Zoo, populations: str | Sequence[str], epochs: str | Sequence[int], architecture: str | None
) -> Rows:
    """The rows of some populations at some epochs; tables are read, weights are not.

    Raises:
        InputError: an unknown population or epoch, or layers of several shapes.
    """
    chosen = [
        (name, group)
        for name in _names(zoo, populations, epochs)
        for group in _groups(zoo, name)
        if architecture in (None, group.architecture.name)
    ]
    parts: list[Tensor] = []
    masked: list[bool] = []
    places, tables = [], []
    for name, group in chosen:
        table = _table(zoo, name, group)
        wanted = slice(None) if isinstance(epochs, str) else table["epoch"].isin(list(epochs)).to_numpy()
        lengths = [len(part) for part in group.weights]
        part = np.repeat(np.arange(len(lengths)) + len(parts), lengths)
        within = np.concatenate([np.arange(length) for length in lengths])
        places.append(np.stack([part, within], axis=1)[wanted])
        tables.append(table[wanted])
        parts += group.weights
        masked += [group.masked] * len(group.weights)
    if not sum(map(len, tables)):
        names = sorted({group.architecture.name for name in zoo.populations for group in _groups(zoo, name)})
        raise InputError(
            f"no rows of {populations!r} at epochs {epochs!r} with architecture {architecture or 'any'}; the zoo has "
            f"{', '.join(zoo.populations)} with {', '.join(names)}"
        )
    shapes = {tuple(segment.shape for segment in group.architecture.segments) for _, group in chosen}
    if len(shapes) > 1:
        names = sorted({group.architecture.name for _, group in chosen})
        raise InputError(
            f"the networks have layers of {len(shapes)} shapes; say architecture=…, one of {', '.join(names)}"
        )
    table = pd.concat(tables, ignore_index=True)
    return Rows(chosen[0][1].architecture, parts, np.concatenate(places), table, masked)


def _names(zoo: Zoo, populations: str | Sequence[str], epochs: str | Sequence[int]) -> list[str]:
    """Populations with their earlier epochs, as far as they are asked for."""
    if isinstance(epochs, str) and epochs not in ("last", "all"):
        raise InputError(f"epochs is {epochs!r}, expected 'last', 'all' or numbers")
    bases = base_epochs(zoo)
    chosen = [populations] if isinstance(populations, str) else list(populations)
    if populations == "all":
        chosen = list(bases)
    names = []
    for name in chosen:
        if name in zoo.populations and (epochs == "last" or "@" in name):
            names.append(name)
        elif name in bases:
            names += bases[name]
        else:
            raise InputError(f"the zoo has no population {name!r}; it has {', '.join(zoo.populations)}")
    return names


def _groups(zoo: Zoo, name: str) -> list[MappedGroup]:
    if isinstance(zoo.populations, StoredPopulations):
        return zoo.populations.mapped(name)
    return mapped(zoo.populations[name])


def _table(zoo: Zoo, name: str, group: MappedGroup) -> pd.DataFrame:
    """What the rows of a matrix are: a twin counts as the model it came from in the end."""
    models = group.models
    twins = "twin_id" in models and "source_id" in models
    ids = list(models["source_id" if twins else "model_id"])
    if twins and len(zoo.twins):
        origin = dict(zip(zoo.twins["twin_id"], zoo.twins["source_id"], strict=True))
        ids = [_origin(id, origin) for id in ids]
    return pd.DataFrame(
        {
            "population": name,
            "model_id": ids,
            "twin_id": models["twin_id"] if twins else None,
            "epoch": row_epochs(zoo, name, group),
            "row": np.arange(len(models)),
        }
    ).join(models.drop(columns=["model_id", "twin_id", "epoch"], errors="ignore").reset_index(drop=True))


def _origin(id: str, sources: dict[str, str]) -> str:
    """The original of a twin, also of a twin of a twin."""
    seen = set()
    while id in sources and id not in seen:
        seen.add(id)
        id = sources[id]
    return id
