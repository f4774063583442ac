"""Operators that change tensors whose negation PyTorch has put off, as that of ``z.conj().imag``."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from zoosparse_ext.errors import InputError

from ._autograd import Kernel, Operator, changed_arguments


def through_negation(operator: Operator) -> Kernel:
    """The Negative kernel of an operator that changes tensors: it runs on the numbers and writes them back.

    PyTorch's own kernel refuses operators that change one tensor and return another.
    """
    changed = changed_arguments(operator)
    names = [argument.name for argument in operator._schema.arguments]

    def kernel(*args: Any) -> Any:
        for i, j in combinations(changed, 2):  # copies would hide it from the operator
            if torch._C._is_alias_of(args[i], args[j]):  # type: ignore[attr-defined]
                raise InputError(
                    f"{operator._opname}: {names[i]} and {names[j]} share memory, and both change; "
                    f"pass {names[j]}.clone()"
                )
        plain = [arg.resolve_neg() if isinstance(arg, Tensor) else arg for arg in args]
        results = operator(*plain)
        for i in changed:
            if args[i].is_neg():
                args[i].copy_(plain[i])
        return results

    return kernel
