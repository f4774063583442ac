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

__all__ = ["METHODS", "LearnedMethod", "Method", "Ranking", "chosen_method", "method_class", "register"]
