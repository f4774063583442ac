"""Series, layers and networks in words."""

from __future__ import annotations

from collections import Counter
from math import prod

import pandas as pd

from zoosparse_ext.analysis import Layer, StudyData
from zoosparse_ext.analysis.data import remembered
from zoosparse_ext.sparsify.methods import METHODS
from zoosparse_ext.sparsify.scopes import SCOPES

_METHODS = {cls.label: cls.phrase for cls in METHODS.values()}
_SCOPES = {scope.label: scope.phrase for scope in SCOPES.values()}


def method_name(series: str) -> str:
    """A series as it is called in a sentence.

    >>> method_name("MP global"), method_name("VD"), method_name("MP per layer, cubic, lr 0.001")
    ('global magnitude pruning', 'variational dropout', 'per-layer magnitude pruning (cubic, lr 0.001)')
    >>> method_name("log α global"), method_name("SNIP ERK")
    ('global log α pruning', 'ERK SNIP pruning')
    >>> method_name("random global"), method_name("MP 2:4"), method_name("VD molchanov")
    ('global random pruning', '2:4 magnitude pruning', 'variational dropout (molchanov)')
    """
    head, _, further = series.partition(", ")
    method, _, scope = head.partition(" ")
    if method not in _METHODS:  # another score, whose name may have several words
        scope = next((known for known in _SCOPES if head.endswith(f" {known}")), "")
        method = head.removesuffix(f" {scope}") if scope else head
    name = _METHODS.get(method, f"{method} pruning")
    if method == "VD" and scope:
        scope, further = "", ", ".join(filter(None, (scope, further)))
    scope = _SCOPES.get(scope, scope)
    return f"{scope} {name}".strip() + (f" ({further})" if further else "")


@remembered
def layer_names(data: StudyData) -> dict[str, str]:
    """What the layers of the tables are: "module_list.0" → "conv1 5×5, 1→8".

    Sizes are left out where networks of one zoo differ in them, and a layer whose shape is not known keeps its name.
    """
    described: dict[str, list[str]] = {}
    for group in data.originals or data.twin_groups:
        for name, words in _described(group.layers).items():
            if words not in described.setdefault(name, []):
                described[name].append(words)
    names = {}
    for name, found in described.items():
        kinds = {words.split()[0] for words in found}
        names[name] = found[0] if len(found) == 1 else kinds.pop() if len(kinds) == 1 else name
    repeated = Counter(names.values())
    return {name: words if repeated[words] == 1 else name for name, words in names.items()}


def in_words(data: StudyData, layer: str) -> str:
    """One layer as the report calls it."""
    return layer_names(data).get(layer, layer)


def with_layers_in_words(data: StudyData, table: pd.DataFrame) -> pd.DataFrame:
    """A table with a column `layer`, whose layers are called as the report calls them."""
    return table.assign(layer=[in_words(data, str(layer)) for layer in table["layer"]])


def _described(layers: tuple[Layer, ...]) -> dict[str, str]:
    """The prunable layers of one network, numbered within their kind.

    >>> shapes = {"a": (8, 1, 5, 5), "b": (20, 36), "c": (10, 20)}
    >>> _described(tuple(Layer(name, 0, 0, True, shape) for name, shape in shapes.items()))
    {'a': 'conv1 5×5, 1→8', 'b': 'linear1 36→20', 'c': 'linear2 20→10'}
    """
    numbers: Counter[str] = Counter()
    words = {}
    for layer in layers:
        if not layer.prunable or len(layer.shape) < 2:
            continue
        outputs, inputs, *kernel = layer.shape
        kind = "conv" if kernel else "linear"
        numbers[kind] += 1
        size = f" {'×'.join(map(str, kernel))}, {inputs}→{outputs}" if kernel else f" {inputs}→{outputs}"
        words[layer.name] = f"{kind}{numbers[kind]}{size}"
    return words


def networks(data: StudyData) -> list[str]:
    """The networks of a zoo in words: "cnn-s (3 convolutions, 2 linear layers)"; at most three.

    Names are those of the models table; where it has none, the layers alone speak.
    """
    found = []
    for group in data.originals:
        shapes = [layer.shape for layer in group.layers if layer.prunable and prod(layer.shape) > 0]
        convolutions = sum(len(shape) > 2 for shape in shapes)
        linear = sum(len(shape) == 2 for shape in shapes)
        parts = [
            f"{count} {noun}{'' if count == 1 else 's'}"
            for count, noun in ((convolutions, "convolution"), (linear, "linear layer"))
            if count
        ]
        names = sorted({str(name) for name in group.rows.get("architecture", [])})
        layers = ", ".join(parts)
        text = f"{'/'.join(names)} ({layers})" if names and layers else layers or "/".join(names)
        if text and text not in found:
            found.append(text)
    if not found and "architecture" in data.models:
        found = sorted(map(str, data.models["architecture"].dropna().unique()))
    return found if len(found) <= 3 else [f"{len(found)} kinds of networks"]
