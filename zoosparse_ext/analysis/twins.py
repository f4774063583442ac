"""Twins joined with their originals, and grouped into comparable series and levels of sparsity."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from zoosparse_ext.analysis.controls import CONTROL
from zoosparse_ext.analysis.data import StudyData, remembered
from zoosparse_ext.analysis.series import is_variational, series_labels, series_order

BIN_WIDTH = 0.1  # of sparsity; 80 %, where the paper sees the methods cross, is an edge


def epochs_of_twins(data: StudyData, *, matched: bool = False) -> pd.DataFrame:
    """Every row of the twins table with what is needed to compare it.

    Added columns: `series` (its label: "MP global", "random per layer", "VD"), `level` (the asked sparsity of a
    pruned twin; NaN for a VD twin, which nobody asked), `level_label` ("80 %"; "end" for VD, which is where it
    got to), `source_accuracy`, `change` (accuracy minus the original's), `final` (the twin's last epoch), `works`
    (False where a layer is empty, or the twin answers one class for all test images); `control_accuracy` (of the
    control of the same original after as many epochs), `change_from_control`, `control_id` (its `twin_id`): NaN and
    None where there is no such control.

    Args:
        matched: False leaves out magnitude twins that were pruned to the sparsity of a VD twin; True returns
            only those. Matched twins of one series differ in the VD series that they are matched to (that of the twin
            in `matched`) and in its epoch (`matched_epoch`).

    Controls are in neither; :func:`control_twins` has them.
    """
    return _matched(data) if matched else _unmatched(data)


@remembered
def _matched(data: StudyData) -> pd.DataFrame:
    twins = _all(data)
    return twins[_is_matched(twins) & (twins["method"] != CONTROL)].reset_index(drop=True)


@remembered
def _unmatched(data: StudyData) -> pd.DataFrame:
    twins = _all(data)
    return twins[~_is_matched(twins) & (twins["method"] != CONTROL)].reset_index(drop=True)


@remembered
def control_twins(data: StudyData) -> pd.DataFrame:
    """Every row of the twins table of unpruned models that were trained on, with the columns of
    :func:`epochs_of_twins`; a control has itself as control."""
    twins = _all(data)
    return twins[twins["method"] == CONTROL].reset_index(drop=True)


def _is_matched(twins: pd.DataFrame) -> pd.Series:
    return twins["matched"].notna() & (twins["matched"] != "")


@remembered
def _all(data: StudyData) -> pd.DataFrame:
    twins = data.twins.assign(series=series_labels(data.twins))
    accuracy = data.models.set_index("model_id")["accuracy"]
    twins["source_accuracy"] = twins["source_id"].map(accuracy).astype(float)
    twins["change"] = twins["accuracy"] - twins["source_accuracy"]
    last = twins.groupby("twin_id")["epoch"].transform("max")
    twins["final"] = twins["epoch"] == last
    asked = ~each(is_variational, twins["series"]).astype(bool)
    twins["level"] = twins["target"].astype(float).round(6).where(asked)
    twins["level_label"] = each(level_label, twins["level"]).astype(object)
    twins["works"] = (twins["empty_layers"] == 0) & (twins["one_answer"] != 1)
    return _with_controls(twins, data)


def _with_controls(twins: pd.DataFrame, data: StudyData) -> pd.DataFrame:
    """Beside every row that of its control: of the same original, after as many epochs."""
    is_control = twins["method"] == CONTROL
    if not is_control.any():
        return twins.assign(control_accuracy=np.nan, change_from_control=np.nan, control_id=None)
    keys = ["control", "source_id", "epoch"]
    controls = twins[is_control].drop_duplicates(["series", "source_id", "epoch"])
    controls = controls[["series", "source_id", "epoch", "accuracy", "twin_id"]].set_axis(
        [*keys, "control_accuracy", "control_id"], axis=1
    )
    own = twins["series"].map(dict(data.controls)).where(~is_control, twins["series"])
    twins = twins.assign(control=own).merge(controls, on=keys, how="left").drop(columns="control")
    twins["change_from_control"] = twins["accuracy"] - twins["control_accuracy"]
    twins["control_id"] = twins["control_id"].astype(object).where(twins["control_id"].notna(), None)
    return twins


def final_twins(data: StudyData, *, matched: bool = False) -> pd.DataFrame:
    """The last epoch of every twin, with the columns of :func:`epochs_of_twins`.

    >>> models = pd.DataFrame({"model_id": ["a"], "accuracy": [0.90]})
    >>> twins = pd.DataFrame({"twin_id": "a-vd", "source_id": "a", "method": "variational", "epoch": [0, 1],
    ...                       "sparsity": [0.0, 0.72], "accuracy": [0.90, 0.85]})
    >>> final = final_twins(StudyData(models, twins))
    >>> final[["series", "level_label", "sparsity"]].values.tolist(), final["change"].round(3).tolist()
    ([['VD', 'end', 0.72]], [-0.05])
    """
    return _final_matched(data) if matched else _final_unmatched(data)


@remembered
def _final_matched(data: StudyData) -> pd.DataFrame:
    twins = _matched(data)
    return twins[twins["final"]].reset_index(drop=True)


@remembered
def _final_unmatched(data: StudyData) -> pd.DataFrame:
    twins = _unmatched(data)
    return twins[twins["final"]].reset_index(drop=True)


def each(function: Callable[[Any], Any], values: pd.Series) -> pd.Series:
    """A function of every value, called once for each that differs: tables have many rows and few series.

    >>> each(level_label, pd.Series([0.5, 0.5, np.nan])).tolist()
    ['50 %', '50 %', 'end']
    """
    numbers, different = pd.factorize(values, use_na_sentinel=False)
    results = np.array([function(value) for value in different])
    return pd.Series(results[numbers] if len(numbers) else [], index=values.index)


def series_of(data: StudyData) -> list[str]:
    """Every series of a study but controls, also of matched twins, in the order in which they are shown."""
    tables = (final_twins(data), final_twins(data, matched=True))
    return sorted({name for table in tables for name in table["series"].unique()}, key=series_order)


def cells(twins: pd.DataFrame, *keys: str) -> Iterator[tuple[tuple[Any, ...], pd.DataFrame]]:
    """Groups of twins by `keys` (default: series and level), in the order in which they are shown."""
    names = list(keys or ("series", "level"))
    if twins.empty:  # of which pandas would make one group of NaN
        return iter(())
    groups: list[tuple[Any, pd.DataFrame]] = list(twins.groupby(names, dropna=False, sort=True))
    where = names.index("series") if "series" in names else None
    if where is not None:
        groups.sort(key=lambda item: series_order(item[0][where]))  # stable: other keys stay sorted
    return iter(groups)


def bin_middle(sparsity: pd.Series) -> np.ndarray:
    """The middle of the tenth that a sparsity falls into: 0.72 → 0.75; 1.0 belongs to the last one."""
    tenths = np.floor(sparsity.to_numpy(dtype=float) / BIN_WIDTH + 1e-9)
    return ((np.clip(tenths, 0, round(1 / BIN_WIDTH) - 1) + 0.5) * BIN_WIDTH).round(6)


def bin_label(middle: float) -> str:
    """0.75 → "70–80 %"."""
    return f"{100 * (middle - BIN_WIDTH / 2):.0f}–{100 * (middle + BIN_WIDTH / 2):.0f} %"


def level_label(level: float) -> str:
    """ "80 %" for an asked ratio, "end" where none was asked."""
    return "end" if np.isnan(level) else f"{100 * level:.4g} %"
