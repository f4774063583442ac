"""The scopes: one file each. A file that is added here is known everywhere."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from zoosparse_ext.sparsify.scopes.base import SCOPES, Scope, chosen_scope, outputs, register
from zoosparse_ext.sparsify.scopes.pattern import Pattern, pattern_sparsity

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["SCOPES", "Pattern", "Scope", "chosen_scope", "outputs", "pattern_sparsity", "register"]
