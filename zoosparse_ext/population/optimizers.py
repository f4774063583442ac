"""Optimizers over matrices: PyTorch's update rules with one hyperparameter per model.

Every hyperparameter is a number, or one number per model (a sequence or a tensor `[N]`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from zoosparse_ext.errors import InputError, require_kind
from zoosparse_ext.words import Texts, text_of

PerModel = float | Sequence[float] | Tensor

# Columns of the table of hyperparameters that engines read, float64 [N, 6].
COLUMNS = ("lr", "weight_decay", "beta1", "beta2", "eps", "nesterov")


@dataclass(frozen=True)
class Optimizer:
    """Base: turns hyperparameters into a table with one row per model."""

    kind: ClassVar[str]
    number: ClassVar[int]
    lr: PerModel

    def _values(self) -> dict[str, PerModel]:
        return {name: getattr(self, name) for name in COLUMNS if hasattr(self, name)}

    def table(self, n: int) -> Tensor:
        """float64 [N, 6] in the order of `COLUMNS`.

        Raises:
            InputError: a vector whose length is not N, or a value that is negative or not finite.
        """
        columns = []
        values = self._values()
        for name in COLUMNS:
            column = torch.as_tensor(values.get(name, 0.0), dtype=torch.float64).reshape(-1)
            if column.numel() not in (1, n):
                raise InputError(
                    f"{self.kind}: {name} has {column.numel()} values for {n} models; give 1 or {n}"
                )
            if not bool(torch.isfinite(column).all()) or bool((column < 0).any()):
                raise InputError(
                    f"{self.kind}: {name} must be finite and not negative, got {column.tolist()[:4]}"
                )
            columns.append(column.expand(n))
        return torch.stack(columns, dim=1)

    def at_rows(self, start: int, stop: int) -> Optimizer:
        """The same optimizer for a slice of the models."""
        return self._of_models(lambda values: values[start:stop])

    def repeated(self, models: int, copies: int) -> Optimizer:
        """The same optimizer for so many copies of every model, the first of each, then the second of each, …

        >>> Adam(lr=[1e-3, 1e-4]).repeated(2, copies=2).lr
        [0.001, 0.0001, 0.001, 0.0001]
        """

        def repeat(values: Any) -> Any:
            if len(values) != models:
                return values
            return values.repeat(copies) if isinstance(values, Tensor) else [*values] * copies

        return self._of_models(repeat)

    def _of_models(self, change: Callable[[Any], Any]) -> Optimizer:
        """The optimizer with every hyperparameter that has one value per model changed."""

        def changed(value: Any) -> Any:
            several = (isinstance(value, Tensor) and value.dim() == 1) or isinstance(value, Sequence)
            return change(value) if several and not isinstance(value, str) and len(value) > 1 else value

        values = {item.name: getattr(self, item.name) for item in fields(self)}
        pair = {name: tuple(map(changed, values.pop(name))) for name in ("betas",) if name in values}
        return type(self)(**{name: changed(value) for name, value in values.items()}, **pair)

    def describe(self) -> dict[str, object]:
        """Hyperparameters as plain values, for tables and provenance."""
        plain: dict[str, object] = {"optimizer": self.kind}
        for item in fields(self):
            value = getattr(self, item.name)
            plain[item.name] = value.tolist() if isinstance(value, Tensor) else value
        return plain


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent as `torch.optim.SGD` (dampening 0)."""

    kind: ClassVar[str] = "sgd"
    number: ClassVar[int] = 0
    lr: PerModel = 1e-2
    momentum: PerModel = 0.0
    weight_decay: PerModel = 0.0
    nesterov: bool = False

    def _values(self) -> dict[str, PerModel]:
        return {
            "lr": self.lr,
            "weight_decay": self.weight_decay,
            "beta1": self.momentum,
            "nesterov": float(self.nesterov),
        }


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam as `torch.optim.Adam`; weight decay is added to the gradient.

    >>> Adam(lr=[1e-3, 1e-4]).table(2)[:, 0].tolist()
    [0.001, 0.0001]
    """

    kind: ClassVar[str] = "adam"
    number: ClassVar[int] = 1
    lr: PerModel = 1e-3
    betas: tuple[PerModel, PerModel] = (0.9, 0.999)
    eps: PerModel = 1e-8
    weight_decay: PerModel = 0.0

    def _values(self) -> dict[str, PerModel]:
        beta1, beta2 = self.betas
        return {
            "lr": self.lr,
            "weight_decay": self.weight_decay,
            "beta1": beta1,
            "beta2": beta2,
            "eps": self.eps,
        }


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay, as `torch.optim.AdamW`."""

    kind: ClassVar[str] = "adamw"
    number: ClassVar[int] = 2
    weight_decay: PerModel = 1e-2


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """RMSprop as `torch.optim.RMSprop` (not centred, without momentum)."""

    kind: ClassVar[str] = "rmsprop"
    number: ClassVar[int] = 3
    lr: PerModel = 1e-2
    alpha: PerModel = 0.99
    eps: PerModel = 1e-8
    weight_decay: PerModel = 0.0

    def _values(self) -> dict[str, PerModel]:
        return {"lr": self.lr, "weight_decay": self.weight_decay, "beta2": self.alpha, "eps": self.eps}


OPTIMIZERS: dict[str, type[Optimizer]] = {cls.kind: cls for cls in (SGD, Adam, AdamW, RMSprop)}


def require_optimizer(optimizer: object) -> None:
    """Raise InputError unless something is an optimizer."""
    require_kind("optimizer", optimizer, Optimizer, "zs.Adam(…), zs.AdamW(…), zs.SGD(…) or zs.RMSprop(…)")


def optimizer_texts(optimizer: Optimizer) -> Texts:
    """Kind and hyperparameters in short words, by name.

    >>> optimizer_texts(SGD(lr=0.1))["momentum"]
    'momentum 0'
    """
    named = {item.name: getattr(optimizer, item.name) for item in fields(optimizer)}
    return {
        "optimizer": optimizer.kind,
        **{name: f"{name.replace('_', ' ')} {text_of(value)}" for name, value in named.items()},
    }


def update_(
    kind: str,
    weights: Tensor,  # [N, P], changed in place
    gradient: Tensor,  # [N, P]
    moments: tuple[Tensor, Tensor],  # two [N, P], changed in place; unused ones may be empty
    table: Tensor,  # float64 [N, 6], see COLUMNS
    step: int,  # counted from 1
    factor: float = 1.0,  # of the learning rate, from the schedule
) -> None:
    """One step of every model, as `torch.optim` does it for one."""
    lr, decay, beta1, beta2, eps, nesterov = (
        column.to(weights.dtype).unsqueeze(1) for column in table.unbind(1)
    )
    lr = lr * factor
    first, second = moments
    if kind == "adamw":
        weights.mul_(1 - lr * decay)
    else:
        gradient = gradient + decay * weights
    if kind in ("adam", "adamw"):
        first.lerp_(gradient, 1 - beta1)
        second.mul_(beta2).add_((1 - beta2) * gradient.square())
        exact1, exact2 = table[:, 2:3], table[:, 3:4]
        correction1 = (1 - exact1**step).to(weights.dtype)
        correction2 = (1 - exact2**step).sqrt().to(weights.dtype)
        weights.sub_(lr / correction1 * first / (second.sqrt() / correction2 + eps))
    elif kind == "rmsprop":
        second.mul_(beta2).add_((1 - beta2) * gradient.square())
        weights.sub_(lr * gradient / (second.sqrt() + eps))
    elif kind == "sgd":
        if bool((table[:, 2] != 0).any()):
            first.mul_(beta1).add_(gradient)
            gradient = torch.where(nesterov > 0, gradient + beta1 * first, first)
        weights.sub_(lr * gradient)
    else:
        raise InputError(f"unknown optimizer {kind!r}; known: {', '.join(OPTIMIZERS)}")
