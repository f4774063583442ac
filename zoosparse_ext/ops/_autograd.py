"""What operators do where PyTorch records gradients: none is ever left out without a word.

An operator that changes tensors in place raises their version counter, as PyTorch's own do, also under `no_grad` and
`inference_mode`: otherwise a backward that still needs the old numbers would go on with the new ones. The kernels of
`csrc` know nothing of it, since torch's stable ABI does not: these few microseconds of Python come before them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

Operator = torch._ops.OpOverload
Kernel = Callable[..., Any]


def changed_arguments(operator: Operator) -> list[int]:
    """Positions of the arguments that an operator changes in place."""
    infos = [argument.alias_info for argument in operator._schema.arguments]
    return [i for i, info in enumerate(infos) if info is not None and info.is_write]


def in_place(operator: Operator, recorded: Kernel | None = None) -> Kernel:
    """The Autograd kernel of an operator that changes tensors; `recorded` runs in its place where gradients are.

    It does the work of the ADInplaceOrView kernel, the next one, as well. Without `recorded` it is that kernel, for
    calls that meet no Autograd, as under `inference_mode`.
    """
    change = _changing(operator)
    redispatch, below = operator._handle.redispatch_boxed, torch._C._after_ADInplaceOrView_keyset

    def kernel(keyset: Any, *args: Any) -> Any:
        if recorded is not None and _is_recorded(args):
            return recorded(*args)
        return change(redispatch, args, keyset & below)

    return kernel


def shortcut(operator: Operator) -> Kernel:
    """An operator that changes tensors, called without the detour through the dispatcher to :func:`in_place`.

    It is taken where that kernel would be reached at once and would record nothing: by plain tensors, outside of
    transforms. Elsewhere the operator is called as it is.
    """
    change = _changing(operator)
    no_transforms, call = torch._C._functorch.peek_interpreter_stack, operator._op

    def run(*args: Any) -> Any:
        plain = type(args[0]) in _PLAIN and no_transforms() is None and not _is_recorded(args)
        return change(call, args) if plain else operator(*args)

    return run


_PLAIN = (Tensor, torch.nn.Parameter)


def _changing(operator: Operator) -> Callable[..., Any]:
    """A function (run, args, *first) that runs an operator and raises the versions of what it changes, by one each."""
    changed = changed_arguments(operator)
    once, increment_version = (
        torch._C._AutoDispatchBelowADInplaceOrView,
        torch.autograd.graph.increment_version,
    )

    def change(run: Kernel, args: tuple[Any, ...], *first: Any) -> Any:
        for i in changed:
            if args[i].is_inference() and not torch.is_inference_mode_enabled():
                raise RuntimeError(
                    f"{operator._schema.name}: {operator._schema.arguments[i].name}: Inplace update to inference "
                    "tensor outside InferenceMode is not allowed; pass a clone"
                )
        with once():  # below Autograd; what the operator calls raises no version again
            results = run(*first, *args)
        for i in changed:
            if not args[i].is_inference():  # which have no version
                increment_version(args[i])
        return results

    return change


def without_derivative(operator: Operator) -> Kernel:
    """The Autograd kernel of an operator whose results are numbers: a backward that reaches them raises."""
    below = torch._C._after_autograd_keyset
    error = f"the derivative of {operator} is not implemented; detach its inputs, or compute it in PyTorch"

    def kernel(keyset: Any, *args: Any) -> Any:
        def run(*inputs: Any) -> Any:
            return operator.redispatch(keyset & below, *inputs)

        if not _is_recorded(args):
            return run(*args)
        if forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active():
            raise NotImplementedError(
                error
            )  # torch.func takes derivatives without a backward that could raise
        return _WithoutDerivative.apply(error, run, *args)

    return kernel


class _WithoutDerivative(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, error: str, run: Kernel, *args: Any) -> Any:
        ctx.error = error
        return run(*args)

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise NotImplementedError(ctx.error)


def _is_recorded(args: tuple[Any, ...]) -> bool:
    if torch.is_grad_enabled() and torch._C._any_requires_grad(*args):
        return True
    if forward_ad._current_level < 0:
        return False
    tensors = (arg for arg in args if isinstance(arg, Tensor))
    return any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors)
