"""The native training engine (:mod:`zoosparse_ext.ops.train`), where it can be used."""

from __future__ import annotations

from typing import Any

import torch

from zoosparse_ext.data import Split
from zoosparse_ext.ops import train as engine
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.learning import Learner
from zoosparse_ext.population.population import Population
from zoosparse_ext.population.steps import Steps, StepsResult


def why_not(population: Population, device: torch.device, learner: Learner | None = None) -> str:
    """The reason why the native engine cannot train this population on a device, by a method; empty if it can."""
    architecture, weights = population.architecture, population.weights
    if architecture.program is None or architecture.why_not_chain:
        return f"{architecture.name!r} is not a chain for native engines: {architecture.why_not_chain}"
    if device.type not in engine.DEVICES or weights.dtype != torch.float32:
        return f"it takes float32 on the CPU or on CUDA devices, not {weights.dtype} on {device}"
    of_method = "" if learner is None else learner.why_not_native(architecture)
    return of_method or engine.why_unavailable(device.type)


def native_steps(architecture: Architecture, split: Split, steps: Steps) -> StepsResult:
    """Same contract as `reference_steps`."""
    assert architecture.program is not None
    size = tuple(split.images.shape[1:])
    program, values = architecture.program.encode(size, architecture.offsets, architecture.frozen_names)
    state, learned = steps.state, steps.learned
    options: dict[str, Any] = {}
    if learned is not None:
        options = learned.learner.native_arguments(architecture, learned, state.learned)
    loss, correct = engine.train_steps_(
        steps.weights,
        program=program,
        values=values,
        images=split.images.contiguous(),
        mean=split.mean,
        std=split.std,
        labels=split.labels.contiguous(),
        order=steps.order,
        batch_size=steps.batch_size,
        optimizer=steps.optimizer,
        hyper=steps.table,
        lr_factor=steps.factors,
        seeds=steps.seeds,
        seed=steps.seed,
        first_step=state.step,
        moment1=state.first,
        moment2=state.second,
        packed_masks=steps.packed_masks,
        dropout=steps.dropout,
        loss=steps.loss,
        crop=0 if steps.augment is None else steps.augment.crop,
        flip=steps.augment is not None and steps.augment.flip,
        **options,
    )
    return StepsResult(loss, correct, steps.order.shape[1])
