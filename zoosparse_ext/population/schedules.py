"""Learning-rate schedules: a factor of the learning rate for every step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from zoosparse_ext.errors import InputError


@dataclass(frozen=True)
class Constant:
    """The learning rate stays as it is."""

    def factors(self, steps: int) -> Tensor:
        """float64 [steps], in (0, 1] of the optimizer's learning rate."""
        return torch.ones(steps, dtype=torch.float64)


@dataclass(frozen=True)
class Step(Constant):
    """Multiply by `gamma` at each of the given shares of the training.

    >>> Step(milestones=(0.5,), gamma=0.1).factors(4).tolist()
    [1.0, 1.0, 0.1, 0.1]
    """

    milestones: tuple[float, ...] = (0.5, 0.75)
    gamma: float = 0.1

    def factors(self, steps: int) -> Tensor:
        at = torch.arange(steps, dtype=torch.float64)
        passed = sum(
            ((at >= share * steps).to(torch.float64) for share in self.milestones), torch.zeros(steps)
        )
        return self.gamma ** torch.as_tensor(passed, dtype=torch.float64)


@dataclass(frozen=True)
class Cosine(Constant):
    """Half a cosine from the learning rate to `final` of it."""

    final: float = 0.0

    def factors(self, steps: int) -> Tensor:
        at = torch.arange(steps, dtype=torch.float64) / max(1, steps)
        return self.final + (1 - self.final) * 0.5 * (1 + torch.cos(torch.pi * at))


@dataclass(frozen=True)
class OneCycle(Constant):
    """`torch.optim.lr_scheduler.OneCycleLR` with cosine annealing; the optimizer's lr is the maximum, momentum stays.

    Source: Smith, Topin, "Super-Convergence", 2018.
    """

    warmup: float = 0.3
    initial_divisor: float = 25.0
    final_divisor: float = 1e4

    def factors(self, steps: int) -> Tensor:
        at = torch.arange(steps, dtype=torch.float64)
        peak = self.warmup * steps - 1
        start, end = 1 / self.initial_divisor, 1 / (self.initial_divisor * self.final_divisor)

        def anneal(a: float, b: float, share: Tensor) -> Tensor:
            return b + (a - b) / 2 * (1 + torch.cos(torch.pi * share.clamp(0, 1)))

        rise = anneal(start, 1.0, at / max(peak, 1e-9))
        fall = anneal(1.0, end, (at - peak) / max(steps - 1 - peak, 1e-9))
        return torch.where(at <= peak, rise, fall)


SCHEDULES: dict[str, type[Constant]] = {
    "constant": Constant,
    "step": Step,
    "cosine": Cosine,
    "onecycle": OneCycle,
}


def schedule(name: str | Constant) -> Constant:
    """A schedule by name or as it is."""
    if isinstance(name, Constant):
        return name
    if name not in SCHEDULES:
        raise InputError(f"unknown learning-rate schedule {name!r}; known: {', '.join(SCHEDULES)}")
    return SCHEDULES[name]()
