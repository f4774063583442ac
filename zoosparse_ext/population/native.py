"""The native training engine, where it can be used."""

from __future__ import annotations

from typing import Any

import torch

from zoosparse_ext.data import Split
from zoosparse_ext.ops import train as engine
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.forward import Variational
from zoosparse_ext.population.population import Population
from zoosparse_ext.population.program import Conv2d, Linear
from zoosparse_ext.population.steps import Steps, StepsResult


def why_not(population: Population, variational: Variational | None) -> str:
    """The reason why the native engine cannot train this population; empty if it can."""
    if not engine.available():
        return "the native training engine is not part of this build"
    if population.architecture.program is None:
        return f"the network is no chain: {population.architecture.reason}"
    weights = population.weights
    if weights.device.type != "cpu" or weights.dtype != torch.float32:
        return f"it trains float32 on the CPU, and the weights are {weights.dtype} on {weights.device}"
    return ""


def native_steps(architecture: Architecture, split: Split, steps: Steps) -> StepsResult:
    """As :func:`zoosparse_ext.population.steps.reference_steps`, on :func:`zoosparse_ext.ops.train.train_steps_`."""
    program, images = architecture.program, split.images
    assert program is not None
    table, values = program.encode((images.shape[1], images.shape[2], images.shape[3]), architecture.offsets)
    loss, correct = engine.train_steps_(
        steps.weights,
        program=table,
        values=values,
        images=images.contiguous(),
        mean=split.mean,
        std=split.std,
        labels=split.labels.contiguous(),
        order=steps.order.contiguous(),
        batch_size=steps.batch_size,
        optimizer=steps.optimizer,
        hyper=steps.table.contiguous(),
        lr_factor=steps.factors.contiguous(),
        seeds=steps.seeds.contiguous(),
        seed=steps.seed,
        first_step=steps.state.step,
        moment1=steps.state.first,
        moment2=steps.state.second,
        packed_masks=None if steps.packed_masks is None else steps.packed_masks.contiguous(),
        dropout=None if steps.dropout is None else steps.dropout.to(torch.float32).contiguous(),
        **_variational(architecture, steps),
    )
    return StepsResult(loss, correct, steps.order.shape[1])


def _variational(architecture: Architecture, steps: Steps) -> dict[str, Any]:
    variational, program = steps.variational, architecture.program
    if variational is None or program is None:
        return {}
    clamps = [variational.clamp(op) if isinstance(op, Conv2d | Linear) else 1.0 for op in program.operations]
    return {
        "log_sigma2": variational.log_sigma2,
        "sigma_moment1": steps.state.sigma_first,
        "sigma_moment2": steps.state.sigma_second,
        "clamp": torch.tensor(clamps, dtype=torch.float64),
        "kl_weight": variational.kl_weight,
        "variational_bias": variational.conv_biases,
    }
