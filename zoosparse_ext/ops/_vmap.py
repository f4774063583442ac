"""`torch.vmap` over operators on rows: a batch of matrices is one matrix with more rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoosparse_ext.errors import InputError

from ._autograd import Operator, changed_arguments


class Rows(NamedTuple):
    """Which dimension of each tensor argument, in order, and of the result counts the rows."""

    arguments: tuple[int, ...]
    result: int | None = None


def batching_rule(operator: Operator, rows: Rows) -> Callable[..., Any]:
    """The rule of an operator whose rows do not depend on each other, for `torch.library.register_vmap`."""
    changed = changed_arguments(operator)
    names = [argument.name for argument in operator._schema.arguments]

    def rule(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
        batch = info.batch_size
        for i in range(len(rows.arguments), len(args)):
            if isinstance(args[i], Tensor) and in_dims[i] is not None:
                raise InputError(
                    f"{operator._opname}: {names[i]} must be the same for all that vmap goes over"
                )
        moved = list(args)
        for i, axis in enumerate(rows.arguments):
            if in_dims[i] is not None:
                moved[i] = args[i].movedim(in_dims[i], axis)
            elif i in changed:
                raise InputError(
                    f"{operator._opname} under vmap: {names[i]} are the same for all, but what they depend on is not; "
                    f"pass {names[i]} that vmap goes over as well"
                )
            else:
                shape = args[i].shape
                moved[i] = args[i].unsqueeze(axis).expand(*shape[:axis], batch, *shape[axis:])
        folded = list(moved)
        for i, axis in enumerate(rows.arguments):
            folded[i] = moved[i].flatten(axis, axis + 1)
        result = operator(*folded)
        for i in changed:  # rows that could not be folded without a copy come back
            if not torch._C._is_alias_of(folded[i], moved[i]):  # type: ignore[attr-defined]
                moved[i].copy_(folded[i].view_as(moved[i]))
        if rows.result is None:
            return result, None
        n = moved[0].shape[rows.arguments[0] + 1]
        return result.unflatten(rows.result, (batch, n)), rows.result

    return rule
