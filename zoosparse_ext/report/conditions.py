"""Under which conditions twins were made: how long they were trained, how fast, and what they are compared with."""

from __future__ import annotations

from collections.abc import Iterable

from zoosparse_ext.analysis.series import stands_for_its_method
from zoosparse_ext.analysis.twins import final_twins, series_of
from zoosparse_ext.report.format import integer, plural
from zoosparse_ext.report.results import Results
from zoosparse_ext.sparsify.series import Series

SETTINGS = "twins"  # in the provenance of a zoo: the settings of every series, in words
SHOWN = 4  # series named one by one


def conditions(results: Results) -> str:
    """Epochs and learning rate of the series that stand for the paper's methods; "" without twins.

    >>> import pandas as pd
    >>> from zoosparse_ext.analysis import StudyData
    >>> models = pd.DataFrame({"model_id": ["a"], "accuracy": [0.9]})
    >>> twins = pd.DataFrame({"twin_id": "a1", "source_id": "a", "method": "magnitude", "scope": "global",
    ...                       "target": 0.5, "epoch": [0, 1, 2], "sparsity": 0.5, "accuracy": 0.88})
    >>> conditions(Results(StudyData(models, twins), {}))
    'Twins were trained for 2 epochs; the learning rate was not recorded.'
    """
    labels = series_of(results.data)
    labels = [label for label in labels if label in stands_for_its_method(labels)]
    if not labels:
        return ""
    epochs, rates = _epochs(results, labels), _rates(results, labels)
    told = {label: (epochs[label], rates[label]) for label in labels}
    if len(set(told.values())) == 1:
        lasting, rate = next(iter(told.values()))
        end = f", {rate}" if rate else "; the learning rate was not recorded"
        return f"Twins were trained for {lasting}{end}."
    groups: dict[tuple[str, str], list[str]] = {}
    for label, settings in told.items():
        groups.setdefault(settings, []).append(label)
    parts = [
        f"{', '.join(names)} for {lasting}{f', {rate}' if rate else ''}"
        for (lasting, rate), names in groups.items()
    ]
    end = "" if any(rates.values()) else "; learning rates were not recorded"
    return f"Twins were trained: {'; '.join(parts)}{end}."


def controlled(results: Results) -> str:
    """What change and losses are read against; "" without twins."""
    labels = [
        label for label in series_of(results.data) if label in stands_for_its_method(series_of(results.data))
    ]
    if not labels:
        return ""
    without = [label for label in labels if label not in results.data.controls]
    if not without:
        return "Costs and losses are read against controls: the same models, not pruned, trained on in the same way."
    names = "" if len(without) == len(labels) else f" for {', '.join(without)}"
    return f"There is no control{names}: costs are read against the originals, and contain what more training changed."


def _epochs(results: Results, labels: Iterable[str]) -> dict[str, str]:
    twins = final_twins(results.data)
    matched = final_twins(results.data, matched=True)
    found = {}
    for label in labels:
        rows = twins[twins["series"] == label]
        rows = rows if len(rows) else matched[matched["series"] == label]
        lowest, highest = rows["epoch"].min(), rows["epoch"].max()
        same = lowest == highest
        found[label] = (
            plural(highest, "epoch") if same else f"{integer(lowest)} to {plural(highest, 'epoch')}"
        )
    return found


def _rates(results: Results, labels: Iterable[str]) -> dict[str, str]:
    """Learning rates as the zoo has them in its provenance; "" where it has none."""
    noted = results.provenance.get(SETTINGS) or {}
    rates = dict.fromkeys(labels, "")
    for key, settings in noted.items():
        series = Series.parse(key)
        if series.matched or series.label not in rates:
            continue
        rate = str(settings.get("lr", ""))
        if "source" in f"{rate} {settings.get('optimizer', '')}":
            rates[series.label] = "at each model's own learning rate"
        elif rate:
            rates[series.label] = f"at learning rate {rate.removeprefix('lr ')}"
    return rates
