"""Which control belongs to which series: the unpruned models, trained on in the same way.

Change, losers and correlation of twins are read against their control, so that more training is not mistaken for an
effect of sparsity.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from zoosparse_ext.analysis.series import series_labels
from zoosparse_ext.sparsify.pruning import Pruning
from zoosparse_ext.sparsify.series import series_keys

CONTROL = "control"  # method of the twins table
SETTINGS = "twins"  # in the provenance of a zoo: the settings of every series, in words
# What decides which weights go, and the seed: a control may differ in these.
_FREE = {"schedule", "biases", "preset", "threshold", "kl_scale", "recalibrate", "seed"}


def controls_of(twins: pd.DataFrame, settings: Mapping[str, Mapping[str, str]] | None) -> dict[str, str]:
    """The label of the control series of every series that has one.

    >>> twins = pd.DataFrame({"method": ["magnitude", "control"], "scope": ["global", None], "matched": None,
    ...                       "series": ["magnitude-global", "control"]})
    >>> controls_of(twins, None)
    {'MP global': 'control'}
    >>> controls_of(twins, {"magnitude-global": {"lr": "lr 0.001"}, "control": {"lr": "lr 0.01"}})
    {}

    Args:
        twins: columns `method`, `scope`, `matched`, `series`.
        settings: by key of a series, its settings in words; None where they are not known. Then a single control is
            that of all series.

    Returns:
        label of a series → label of the control trained in the same way, of the same seed if there is one.
    """
    if not (twins["method"] == CONTROL).any():
        return {}
    is_matched = twins["matched"].notna() & (twins["matched"] != "")
    kinds = twins.assign(is_matched=is_matched).drop_duplicates(["method", "scope", "series", "is_matched"])
    keys = list(series_keys(kinds))
    labels = dict(zip(keys, series_labels(kinds), strict=True))  # key → label
    is_control = dict(zip(keys, kinds["method"] == CONTROL, strict=True))
    controls = [key for key in labels if is_control[key]]
    others = [key for key in labels if not is_control[key]]
    if not settings:
        return {labels[key]: labels[controls[0]] for key in others} if len(controls) == 1 else {}
    found: dict[str, str] = {}
    for key in sorted(
        others, key=lambda key: "-matched" in key
    ):  # a label is first of all that of unmatched twins
        of_key = settings.get(key, {})
        equal = [name for name in controls if _trained_alike(of_key, settings.get(name, {}))]
        equal.sort(key=lambda name: settings[name].get("seed") != of_key.get("seed"))
        if equal:
            found.setdefault(labels[key], labels[equal[0]])
    return found


def _trained_alike(series: Mapping[str, str], control: Mapping[str, str]) -> bool:
    """Whether all settings that both tell, and leave no room, are equal; without any it is not known.

    What is rewound, or trained in every round anew, has no control.
    """
    common = (series.keys() & control.keys()) - _FREE
    return (
        bool(common)
        and Pruning.have_control(series)
        and all(series[name] == control[name] for name in common)
    )
