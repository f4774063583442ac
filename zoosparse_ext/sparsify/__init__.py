"""From a zoo to its sparse twins: methods that rank weights, and methods that learn what to keep.

The package is the verb as well: `zs.sparsify(population, method, …)` is
:func:`zoosparse_ext.sparsify.dispatch.sparsify`, and `zoosparse_ext.sparsify.methods` stays its module.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Verb(ModuleType):
    """A package that can be called: a function of its name would hide its modules from `import … as`."""

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        from zoosparse_ext.sparsify.dispatch import sparsify

        return sparsify(*args, **keywords)


sys.modules[__name__].__class__ = _Verb
