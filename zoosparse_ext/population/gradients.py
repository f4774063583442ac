"""Training works whatever the caller's gradient mode is."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

from zoosparse_ext.population.devices import full_float32
from zoosparse_ext.population.population import Population
from zoosparse_ext.population.tensors import set_tensor, tensors_of

P = ParamSpec("P")
T = TypeVar("T")


def with_gradients(function: Callable[P, T]) -> Callable[P, T]:
    """Let a function record gradients also where it is called under `no_grad` or `inference_mode`.

    >>> @with_gradients
    ... def slope(x):
    ...     x = x.clone().requires_grad_()
    ...     return torch.autograd.grad(x.square().sum(), x)[0]
    >>> with torch.inference_mode():
    ...     number = torch.tensor(3.0)
    ...     print(slope(number))
    tensor(6.)
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with torch.inference_mode(False), torch.enable_grad(), full_float32():
            return function(*args, **kwargs)

    return run


def make_trainable_(population: Population) -> None:
    """Replace tensors made in inference mode, which nothing may change outside of it, by copies."""
    for name, tensor in tensors_of(population).items():
        if name != "predictions" and tensor.is_inference():
            set_tensor(population, name, tensor.clone())
