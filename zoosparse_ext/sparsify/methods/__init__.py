"""The methods: one file each. A file that is added here is known everywhere."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from zoosparse_ext.sparsify.methods.base import (
    METHODS,
    Method,
    Ranking,
    chosen_method,
    method_class,
    register,
)
from zoosparse_ext.sparsify.methods.learned import LearnedMethod

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = [
    "METHODS",
    "LearnedMethod",
    "Method",
    "Ranking",
    "chosen_method",
    "method_class",
    "methods",
    "register",
]


def methods() -> dict[str, type[Method]]:
    """Every method of making networks sparse, by its name: what :func:`zoosparse_ext.sparsify` takes.

    >>> {name: cls.phrase for name, cls in methods().items()}["lamp"]
    'LAMP pruning'
    >>> from zoosparse_ext.options import options_of
    >>> [item.name for item in options_of(methods()["synflow"])]
    ['rounds']

    Returns:
        A dictionary of classes, in alphabetical order. Fields of a class are options of the method, `label`, `phrase`
        and `source` say what it is. Changing the dictionary registers nothing; :func:`register` does.
    """
    return dict(sorted(METHODS.items()))
