"""Which engine trains a population, and where: native or reference, beside the weights or on another device."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from zoosparse_ext.data import Split
from zoosparse_ext.errors import InputError
from zoosparse_ext.population import native
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.cores import OnCores, changed
from zoosparse_ext.population.learning import Learner
from zoosparse_ext.population.population import Population
from zoosparse_ext.population.steps import Engine, Steps, StepsResult, reference_steps

log = logging.getLogger(__name__)

ENGINES = ("auto", "native", "reference")

# Models in one call, which bounds memory; results do not depend on it. A GPU has a model in each of hundreds of blocks.
_NATIVE_MODELS = {"cpu": 64, "cuda": 1024}
_REFERENCE_MODELS = 16
_LARGE = 2**20  # parameters; networks beyond are enough work one by one, and their activations take gigabytes


@dataclass(frozen=True)
class ChosenEngine:
    """An engine, and how many models it takes in one call."""

    run: Engine
    models_per_call: int


def choose_engine(
    name: str, population: Population, device: torch.device, learner: Learner | None = None
) -> ChosenEngine:
    """The engine of this name for a population on a device, and for a method that learns something beside the weights.

    Raises:
        InputError: no such engine, or the native one was asked for and cannot run this population.
    """
    if name not in ENGINES:
        raise InputError(f"engine must be 'auto', 'native' or 'reference', got {name!r}")
    missing = native.why_not(population, device, learner)
    if name != "reference" and not missing:
        run, models = native.native_steps, _NATIVE_MODELS[device.type]
    elif name == "native":
        raise InputError(f"the native training engine cannot run {population.architecture.name!r}: {missing}")
    else:
        why = missing or "asked for"
        log.info("training %s on the PyTorch reference: %s", population.architecture.name, why)
        large = population.architecture.n_parameters > _LARGE
        run, models = reference_steps, 1 if large else _REFERENCE_MODELS
        program = population.architecture.program
        if device.type == "cpu" and not large and program is not None and program.has_own_streams:
            run = OnCores(run)
    in_place = device.type == "cpu" and population.weights.is_contiguous()
    return ChosenEngine(run if in_place else OnDevice(run, device), models)


class OnDevice:
    """Another engine on a device, or on rows that do not lie one after the other: a copy of them is trained there.

    They come back when they are done. So a call whose memory ends leaves the rows as they were, and can be repeated
    with fewer of them. Images are sent once for all calls.
    """

    def __init__(self, run: Engine, device: torch.device) -> None:
        self.run, self.device = run, device
        self._images: tuple[Split, Split] | None = None  # here, and there

    def __call__(self, architecture: Architecture, split: Split, steps: Steps) -> StepsResult:
        if self._images is None or self._images[0] is not split:
            there = {
                name: getattr(split, name).to(self.device) for name in ("images", "labels", "mean", "std")
            }
            self._images = (split, replace(split, **there))
        moved = copy_to(steps, self.device)
        result = self.run(architecture, self._images[1], moved)
        for here, trained in zip(changed(steps), changed(moved), strict=True):
            here.copy_(trained)
        return replace(result, loss=result.loss.cpu(), correct=result.correct.cpu())


def copy_to(steps: Steps, device: torch.device) -> Steps:
    """The same work with a copy of everything that it changes, and what belongs to that, on a device."""

    def copy(tensor: Tensor) -> Tensor:
        return tensor.to(device, copy=True, memory_format=torch.contiguous_format)

    def copied(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else copy(tensor)

    learned = steps.learned
    if learned is not None:
        learned = learned.map(copy)
    return replace(
        steps,
        weights=copy(steps.weights),
        state=steps.state.map(copy),
        packed_masks=copied(steps.packed_masks),
        dropout=copied(steps.dropout),
        learned=learned,
    )
