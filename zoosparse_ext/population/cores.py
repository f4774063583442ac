"""The reference executor of programs on several cores: some of the models on each, every one of them with one thread.

What PyTorch adds up over a batch with two threads it adds up in another order than with one, and a single model goes
through other convolutions than two. So each core has two models or more, one thread, and a copy of a model that is
alone: the bits of a model then depend on neither threads nor neighbors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from zoosparse_ext.data import Split
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.devices import full_float32
from zoosparse_ext.population.steps import Engine, Steps, StepsResult

Result = TypeVar("Result")


class OnCores:
    """An engine that trains some models on each core."""

    def __init__(self, run: Engine) -> None:
        self.run = run

    def __call__(self, architecture: Architecture, split: Split, steps: Steps) -> StepsResult:
        n = len(steps.weights)
        if n == 1:
            return self._alone(architecture, split, steps)
        parts = [
            at_rows(steps, slice(int(rows[0]), int(rows[-1]) + 1))
            for rows in torch.arange(n).tensor_split(max(1, min(torch.get_num_threads(), n // 2)))
        ]
        results = on_cores([partial(self.run, architecture, split, part) for part in parts])
        losses, correct = zip(*((result.loss, result.correct) for result in results), strict=True)
        return StepsResult(torch.cat(losses), torch.cat(correct), results[0].samples)

    def _alone(self, architecture: Architecture, split: Split, steps: Steps) -> StepsResult:
        """One model, trained twice, of which one is kept."""
        both = at_rows(steps, torch.tensor([0, 0]))
        (result,) = on_cores([partial(self.run, architecture, split, both)])
        for here, trained in zip(changed(steps), changed(both), strict=True):
            here.copy_(trained[:1])
        if steps.counts is not None and both.counts is not None:
            steps.counts.copy_(both.counts[:1])
        return replace(result, loss=result.loss[:1], correct=result.correct[:1])


def at_rows(steps: Steps, rows: slice | Tensor) -> Steps:
    """The work on some of the models: on views of a slice, on copies of others; each has an order of its own."""

    def take(tensor: Tensor) -> Tensor:
        return tensor.data[
            rows
        ]  # of a version of its own for autograd, whatever other cores change beside it

    def taken(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else take(tensor)

    return replace(
        steps,
        weights=take(steps.weights),
        state=steps.state.map(take),
        order=take(steps.order.expand(len(steps.weights), -1)),
        table=take(steps.table),
        seeds=take(steps.seeds),
        packed_masks=taken(steps.packed_masks),
        dropout=taken(steps.dropout),
        learned=None if steps.learned is None else steps.learned.map(take),
        counts=taken(steps.counts),
    )


def changed(steps: Steps) -> Iterator[Tensor]:
    """The tensors that training changes, but for counts."""
    yield steps.weights
    yield from steps.state.tensors()
    if steps.learned is not None:
        yield from steps.learned.matrices.values()


def on_cores(work: list[Callable[[], Result]]) -> list[Result]:
    """The results of some work, each done by one core."""
    before = torch.get_num_threads()

    def alone(piece: Callable[[], Result]) -> Result:
        torch.set_num_threads(1)  # of this thread, and of those that begin later
        with torch.enable_grad(), full_float32():  # every thread has its own
            return piece()

    try:
        with ThreadPoolExecutor(len(work)) as pool:
            return list(pool.map(alone, work))
    finally:
        torch.set_num_threads(before)
