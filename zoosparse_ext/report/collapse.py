"""What is empty, in words: how many twins have layers, outputs or answers missing."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from zoosparse_ext.report.format import integer, plural
from zoosparse_ext.report.names import in_words
from zoosparse_ext.report.results import Results
from zoosparse_ext.sparsify.collapse import layers_in_words

MEANING = "Collapsed: a layer without weights, or one answer for all test images."


def emptied(results: Results) -> str:
    """How many twins have an empty layer, which, or one answer; "" where none has."""
    table = results["collapse"]
    if not table["collapsed"].sum():
        return ""
    total = int(table["n"].sum())
    parts = [(int(table["empty_layers"].sum()), f"an empty layer{_layers(results)}", "has", "have")]
    answers, nothing = int(table["one_answer"].sum()), int(table["emptied"].sum())
    parts += [(answers, "one class for all test images", "answers", "answer")]
    parts += [(nothing, "no weight left", "has", "have")]
    return f"{_joined(parts, total)}."


def emptied_in_full(results: Results) -> str:
    """The same with outputs, and what an earlier version did not count; also where nothing is empty."""
    table = results["collapse"]
    if table.empty:
        return ""
    total, dead, answers = int(table["n"].sum()), table["dead_outputs"], table["one_answer"]
    none = f"None of {plural(total, 'twin')} has an empty layer{'' if answers.isna().all() else ' or only one answer'}."
    sentences = [emptied(results) or none]
    if dead.sum():
        verb = "has" if dead.sum() == 1 else "have"
        sentences.append(
            f"{integer(dead.sum())} of {integer(total)} {verb} outputs without incoming weights."
        )
    for what, counts in (("outputs without incoming weights", dead), ("networks with one answer", answers)):
        if counts.isna().any():
            unknown = plural(table.loc[counts.isna(), "n"].sum(), "twin")
            sentences.append(f"In {unknown} {what} were not counted.")
    return " ".join(sentences)


def without_collapsed(collapsed: int, n: int, working: str) -> str:
    """The median of those that work, beside that of all."""
    if collapsed == n:
        return "every twin collapsed" if n > 1 else "the twin collapsed"
    return f"{working} without the {collapsed} of {n} that collapsed"


def layers_of(results: Results, cell: Mapping[Hashable, object]) -> str:
    """Which layers are empty in how many twins of one series and level."""
    table = results["emptied_layers"]
    rows = table[(table["series"] == cell["series"]) & (table["level_label"] == cell["level_label"])]
    named = [in_words(results.data, str(layer)) for layer in rows["layer"]]
    return layers_in_words(dict(zip(named, map(int, rows["twins"]), strict=True)))


def _layers(results: Results) -> str:
    twins = results["emptied_layers"].groupby("layer", sort=False)["twins"].sum()
    counts = {in_words(results.data, str(layer)): int(count) for layer, count in twins.items()}
    return f" ({layers_in_words(counts)})" if counts else ""


def _joined(parts: list[tuple[int, str, str, str]], total: int) -> str:
    """ "3 of 40 twins have an empty layer (fc), 1 answers one class"."""
    told = [
        f"{integer(count)} {one if count == 1 else many} {what}" for count, what, one, many in parts if count
    ]
    first, _, rest = told[0].partition(" ")
    return ", ".join([f"{first} of {plural(total, 'twin')} {rest}", *told[1:]])
