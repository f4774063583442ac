"""What an analysis works on: three tables, and optionally the matrices behind them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, wraps
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd

from zoosparse_ext.analysis.controls import SETTINGS, controls_of
from zoosparse_ext.analysis.groups import Array, Group, as_array, group_of
from zoosparse_ext.analysis.stored import StoredPredictions
from zoosparse_ext.errors import InputError

log = logging.getLogger(__name__)

ORIGINAL = "original"
MODEL_COLUMNS = ("model_id", "accuracy")
TWIN_COLUMNS = ("twin_id", "source_id", "method", "epoch", "sparsity", "accuracy")
# Columns that an imported zoo may lack, with the value that means "not known".
OPTIONAL_TWIN_COLUMNS: dict[str, object] = {
    "series": None,
    "scope": None,
    "target": np.nan,
    "matched": None,
    "matched_epoch": np.nan,
    "loss": np.nan,
    "agreement": np.nan,
    "kappa": np.nan,
    "agreement_on_errors": np.nan,
    "empty_layers": np.nan,
    "dead_outputs": np.nan,
    "one_answer": np.nan,
}


@dataclass(frozen=True, eq=False)  # compared by identity, so that results can be remembered for it
class StudyData:
    """A population and its sparsified twins, ready for analysis.

    Only `models` and `twins` are needed; what cannot be computed without the rest comes out empty or NaN.

    >>> models = pd.DataFrame({"model_id": ["a", "b"], "accuracy": [0.90, 0.80]})
    >>> twins = pd.DataFrame({
    ...     "twin_id": ["a-50", "b-50"], "source_id": ["a", "b"], "method": "magnitude", "scope": "global",
    ...     "target": 0.5, "epoch": 3, "sparsity": 0.5, "accuracy": [0.89, 0.81]})
    >>> data = StudyData(models, twins)
    >>> data.n_models, data.sources
    (2, 2)

    Args:
        models: one row per original: `model_id`, `accuracy` on the test images in [0, 1], and whatever
            describes it.
        twins: one row per twin and epoch: `twin_id`, `source_id`, `method` ("magnitude", "variational", or
            another score; "control" for unpruned models trained on), `epoch`, `sparsity`, `accuracy`; optional `series`
            (the key of its series), `scope`, `target`, `matched` (the `twin_id` whose sparsity it has),
            `matched_epoch` (of that twin; NaN: its last), `loss`, `agreement`, `kappa`, `agreement_on_errors`,
            `sparsity_layer.<layer>`, `empty_layers`, `dead_outputs`, `one_answer`.
        history: one row per original and epoch of its training.
        labels: [M] classes of the test images.
        populations: groups of rows by population name; the originals are called "original". Names with "@" hold
            earlier epochs: "variational@5".
        controls: label of a series → label of the control trained as its twins were. None: found in `twins`, where a
            single control series is that of all others.

    Raises:
        InputError: a table lacks a needed column; two models share a `model_id`; a twin's source is unknown.
    """

    models: pd.DataFrame
    twins: pd.DataFrame
    history: pd.DataFrame = field(default_factory=pd.DataFrame)
    labels: Array | None = None
    populations: Mapping[str, tuple[Group, ...]] = field(default_factory=dict)
    controls: Mapping[str, str] = None  # type: ignore[assignment]  # never None once it is there

    def __post_init__(self) -> None:
        _require_columns("models", self.models, MODEL_COLUMNS)
        if self.models["model_id"].duplicated().any():
            twice = self.models["model_id"][self.models["model_id"].duplicated()].iloc[0]
            raise InputError(f"models table: model_id {twice!r} appears twice; every model needs its own")
        twins = self.twins
        if twins.empty and not set(TWIN_COLUMNS) <= set(twins.columns):
            twins = pd.DataFrame({name: pd.Series(dtype=_dtype(name)) for name in TWIN_COLUMNS})
        _require_columns("twins", twins, TWIN_COLUMNS)
        unknown = set(twins["source_id"]) - set(self.models["model_id"])
        if unknown:
            raise InputError(f"twins table: source_id {min(map(str, unknown))!r} is not in the models table")
        twins = twins.reset_index(drop=True)  # a copy: the caller's table stays as it is
        for name, unknown_value in OPTIONAL_TWIN_COLUMNS.items():
            if name not in twins:
                twins[name] = unknown_value
        twins["empty_layers"] = twins["empty_layers"].astype(float).fillna(_empty_layers(twins))
        object.__setattr__(self, "twins", twins)
        if self.controls is None:
            object.__setattr__(self, "controls", controls_of(twins, None))

    @classmethod
    def from_zoo(cls, zoo: Any) -> StudyData:
        """Read an opened zoo: anything with `models`, `twins`, and optionally `history`, `labels`,
        `populations`.

        A population is a list of objects with `models`, `weights`, and optionally `packed_masks`,
        `predictions` and `layers()`. Tensors on the CPU are shared, not copied; those of a zoo on disk stay there, and
        some rows at a time are read. Which control belongs to which series is told by `provenance`, else as in
        `controls`.

        Twins of twins are left out, with a warning: the analysis compares twins with models.
        """
        populations = getattr(zoo, "populations", None) or {}
        groups = getattr(zoo, "groups", populations.__getitem__)
        read = {name: tuple(group_of(group, name) for group in groups(name)) for name in populations}
        data = cls(
            models=zoo.models,
            twins=_twins_of_models(zoo.models, _table(zoo, "twins"), read),
            history=_table(zoo, "history"),
            labels=as_array(getattr(zoo, "labels", None)),
            populations=read,
        )
        settings = (getattr(zoo, "provenance", None) or {}).get(SETTINGS)
        return replace(data, controls=controls_of(data.twins, settings)) if settings else data

    @property
    def n_models(self) -> int:
        return len(self.models)

    @property
    def sources(self) -> int:
        """How many originals have at least one twin."""
        return int(self.twins["source_id"].nunique())

    @property
    def n_images(self) -> int:
        """How many test images there are; 0 where neither labels nor predictions are known."""
        if self.labels is not None:
            return len(self.labels)
        stored = (group for groups in self.populations.values() for group in groups if len(group.rows))
        known = (group.predictions for group in stored if group.predictions is not None)
        return next((int(predictions[np.zeros(1, dtype=np.int64)].shape[1]) for predictions in known), 0)

    @property
    def n_classes(self) -> int | None:
        return None if self.labels is None or len(self.labels) == 0 else int(self.labels.max()) + 1

    @property
    def chance(self) -> float:
        """Accuracy of always guessing the most frequent class; NaN without labels, where it is not known."""
        if self.labels is None or len(self.labels) == 0:
            return float("nan")
        return float(np.bincount(self.labels).max() / len(self.labels))

    @property
    def originals(self) -> tuple[Group, ...]:
        return tuple(self.populations.get(ORIGINAL, ()))

    @property
    def twin_groups(self) -> tuple[Group, ...]:
        """All twins at their last epoch, also controls."""
        named = [groups for name, groups in self.populations.items() if name != ORIGINAL]
        return tuple(group for groups in named for group in groups if group.epoch is None)

    def predictions(self, ids: Iterable[str], epoch: int | None = None) -> Array | None:
        """Classes on the test images of models or twins, [n, M], at one epoch.

        Args:
            ids: `model_id` or `twin_id`, a row each.
            epoch: of every row; None: the last one, of each its own.

        Returns:
            None where predictions of one of them are not stored for this epoch, and for no ids.
        """
        names = [str(name) for name in ids]
        last = self._last_epochs
        epochs = [None if epoch is None or last.get(name) == epoch else int(epoch) for name in names]
        return self._stored.of(names, epochs)

    def correct(self, ids: Iterable[str], epoch: int | None = None) -> Array | None:
        """Whether models or twins are right on each test image, bool [n, M], with the arguments of `predictions`.

        >>> models = pd.DataFrame({"model_id": ["a"], "accuracy": [0.5]})
        >>> stored = {"original": (Group(models, predictions=np.array([[0, 1]])),)}
        >>> StudyData(models, pd.DataFrame(), labels=np.array([0, 0]), populations=stored).correct(["a"]).tolist()
        [[True, False]]

        Returns:
            None where labels or predictions are not stored.

        Raises:
            InputError: predictions on another number of images than there are labels.
        """
        predictions = None if self.labels is None else self.predictions(ids, epoch)
        if predictions is None or self.labels is None:
            return None
        if predictions.shape[1] != len(self.labels):
            raise InputError(
                f"predictions of {predictions.shape[1]} images are stored, and labels of {len(self.labels)}; "
                "both must be of the same test images"
            )
        return np.asarray(predictions == self.labels)

    @cached_property
    def _stored(self) -> StoredPredictions:
        return StoredPredictions(self.populations)

    @cached_property
    def _last_epochs(self) -> dict[str, int]:
        """Of every twin."""
        return {str(name): int(epoch) for name, epoch in self.twins.groupby("twin_id")["epoch"].max().items()}

    def denominators(self) -> list[tuple[int, int]]:
        """Prunable weights and all parameters of a model, for each architecture: what a sparsity is a share of."""
        groups = self.originals or self.twin_groups
        return sorted({(group.n_prunable, group.n_parameters) for group in groups if group.layers})

    def kept_matrices(self) -> list[str]:
        """Names of the layers with matrices that pruning may not remove, such as embeddings."""
        groups = self.originals or self.twin_groups
        layers = [layer for group in groups for layer in group.layers]
        return list(
            dict.fromkeys(layer.name for layer in layers if not layer.prunable and len(layer.shape) > 1)
        )

    def layer_names(self) -> list[str]:
        """Prunable layers in the order of the network, as far as it is known, else of the table's columns."""
        prefix = "sparsity_layer."
        columns = [name.removeprefix(prefix) for name in self.twins.columns if name.startswith(prefix)]
        known = [
            layer.name for g in (*self.originals, *self.twin_groups) for layer in g.layers if layer.prunable
        ]
        ordered = dict.fromkeys([*known, *columns])
        return [name for name in ordered if name in columns]


def _twins_of_models(
    models: pd.DataFrame, twins: pd.DataFrame, populations: Mapping[str, tuple[Group, ...]]
) -> pd.DataFrame:
    """The rows of twins whose source is a model, or nothing known; warns of those whose source is a twin."""
    if not {"twin_id", "source_id"} <= set(twins.columns) or "model_id" not in models:
        return twins  # which is told by the check of columns
    stored = [id for name, groups in populations.items() if name != ORIGINAL for g in groups for id in g.ids]
    known = {*twins["twin_id"], *stored} - {*models["model_id"]}
    further = twins["source_id"].isin(known)
    if not further.any():
        return twins
    ids = twins.loc[further, "twin_id"].drop_duplicates().tolist()
    named = ", ".join(map(repr, ids[:3])) + (f" and {len(ids) - 3} more" if len(ids) > 3 else "")
    log.warning(
        "twins of twins are left out of the analysis, which compares twins with models; %d of them: %s",
        len(ids),
        named,
    )
    return twins[~further]


def _empty_layers(twins: pd.DataFrame) -> pd.Series:
    """Prunable layers that are all zero, from the sparsity of each, for tables of before they were counted."""
    columns = [name for name in twins.columns if str(name).startswith("sparsity_layer.")]
    if not columns:
        return (twins["sparsity"] == 1).astype(float)
    return (twins[columns] == 1).sum(axis=1).astype(float)


Remembered = TypeVar("Remembered")


def remembered(function: Callable[[StudyData], Remembered]) -> Callable[[StudyData], Remembered]:
    """Compute something once for a study, and again only for another one. Data frames are handed out as copies.

    >>> @remembered
    ... def count(data):
    ...     print("counting")
    ...     return len(data.models)
    >>> data = StudyData(pd.DataFrame({"model_id": ["a"], "accuracy": [0.9]}), pd.DataFrame())
    >>> count(data) + count(data)
    counting
    2
    """
    known: WeakKeyDictionary[StudyData, Remembered] = WeakKeyDictionary()

    @wraps(function)
    def recall(data: StudyData) -> Remembered:
        if data not in known:
            known[data] = function(data)
        result = known[data]
        return result.copy() if isinstance(result, pd.DataFrame) else result

    return recall


def _require_columns(table: str, frame: pd.DataFrame, columns: tuple[str, ...]) -> None:
    missing = [name for name in columns if name not in frame]
    if missing:
        way_out = ""
        if table == "models" and "accuracy" in missing:
            way_out = "; zoo.models['accuracy'] = zs.evaluate(population, data).accuracy.numpy() adds it"
        raise InputError(
            f"{table} table lacks {', '.join(missing)}; it has {', '.join(map(str, frame.columns))}{way_out}"
        )


def _dtype(column: str) -> str:
    return {"epoch": "int64", "sparsity": "float64", "accuracy": "float64"}.get(column, "object")


def _table(zoo: Any, name: str) -> pd.DataFrame:
    table = getattr(zoo, name, None)
    return pd.DataFrame() if table is None else table
