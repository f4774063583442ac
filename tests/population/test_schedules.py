"""Learning-rate schedules against `torch.optim.lr_scheduler`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from zoosparse_ext.errors import InputError
from zoosparse_ext.population.schedules import Constant, Cosine, OneCycle, Step, schedule

RIVALS: dict[str, tuple[Constant, Callable[[torch.optim.Optimizer, int], Any]]] = {
    "constant": (Constant(), lambda o, steps: lr_scheduler.ConstantLR(o, 1.0)),
    "step": (
        Step(),
        lambda o, steps: lr_scheduler.MultiStepLR(o, [-(-steps // 2), -(-3 * steps // 4)], gamma=0.1),
    ),
    "step, gamma": (
        Step((0.25,), gamma=0.5),
        lambda o, steps: lr_scheduler.MultiStepLR(o, [-(-steps // 4)], gamma=0.5),
    ),
    "cosine": (Cosine(), lambda o, steps: lr_scheduler.CosineAnnealingLR(o, steps)),
    "cosine to a tenth": (
        Cosine(final=0.1),
        lambda o, steps: lr_scheduler.CosineAnnealingLR(o, steps, eta_min=0.02),
    ),
    "one cycle": (
        OneCycle(),
        lambda o, steps: lr_scheduler.OneCycleLR(o, 0.2, total_steps=steps, cycle_momentum=False),
    ),
    "one cycle with all": (
        OneCycle(warmup=0.4, initial_divisor=10, final_divisor=100),
        lambda o, steps: lr_scheduler.OneCycleLR(
            o,
            0.2,
            total_steps=steps,
            pct_start=0.4,
            div_factor=10,
            final_div_factor=100,
            cycle_momentum=False,
        ),
    ),
}


@pytest.mark.parametrize("steps", [2, 7, 40])
@pytest.mark.parametrize("name", RIVALS)
def test_factors_are_those_of_torch(name: str, steps: int) -> None:
    ours, make = RIVALS[name]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.2)
    rival = make(optimizer, steps)
    expected = []
    for _ in range(steps):
        expected.append(optimizer.param_groups[0]["lr"] / 0.2)
        optimizer.step()
        rival.step()
    factors = ours.factors(steps)
    assert factors.dtype == torch.float64
    torch.testing.assert_close(factors, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["constant", "step", "cosine", "onecycle"])
@pytest.mark.parametrize("steps", [0, 1])
def test_hardly_any_steps(name: str, steps: int) -> None:
    factors = schedule(name).factors(steps)
    assert factors.shape == (steps,) and torch.isfinite(factors).all() and (factors > 0).all()


def test_schedules_by_name() -> None:
    own = Cosine(0.5)
    assert schedule(own) is own and schedule("onecycle") == OneCycle()
    with pytest.raises(InputError, match="unknown learning-rate schedule 'linear'; known: constant, step"):
        schedule("linear")
