"""Series in words."""

from __future__ import annotations

_METHODS = {"MP": "magnitude pruning", "VD": "variational dropout"}
_SCOPES = {"global": "global", "per layer": "per-layer", "per output": "per-output"}


def method_name(series: str) -> str:
    """A series as it is called in a sentence.

    >>> method_name("MP global"), method_name("VD"), method_name("MP per layer, cubic, lr 0.001")
    ('global magnitude pruning', 'variational dropout', 'per-layer magnitude pruning (cubic, lr 0.001)')
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
