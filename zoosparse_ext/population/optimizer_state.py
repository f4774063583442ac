"""The state of an optimizer at the end of a training, kept so that another training can start from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor

from zoosparse_ext.errors import InputError

if TYPE_CHECKING:
    from zoosparse_ext.population.population import Population

START = ("new", "source")  # what `optimizer_state=` can be


@dataclass(frozen=True)
class OptimizerState:
    """Moments of the weights of a population, and how far its training was.

    Args:
        kind: of the optimizer: ``"adam"``, ``"adamw"``, ``"sgd"``, ``"rmsprop"``.
        step: steps done, which count in Adam's corrections and in the random numbers.
        epochs: done, which decide the order of the images in the next one.
        first: [N, P]: momentum, or Adam's first moment.
        second: [N, P]: second moment, or RMSprop's average of squares.
    """

    kind: str
    step: int
    epochs: int
    first: Tensor
    second: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> OptimizerState:
        """The state with both moments changed in one way: some of their rows, a copy, another device."""
        return replace(self, first=change(self.first), second=change(self.second))


def starting_state(population: Population, start: str, kind: str) -> OptimizerState | None:
    """What a training starts from: the state that the population has kept, or None for a new one.

    Args:
        start: ``"new"`` or ``"source"``.
        kind: of the optimizer of the training.

    Raises:
        InputError: `start` is something else; the population has no state, or one of another kind of optimizer or of
            other columns.
    """
    if start not in START:
        raise InputError(f"optimizer_state must be 'new' or 'source', got {start!r}")
    if start == "new":
        return None
    state, way_out = population.optimizer_state, "or pass optimizer_state='new'"
    if state is None:
        raise InputError(
            "optimizer_state='source': this population has no optimizer state; train it with "
            f"keep_optimizer_state=True, {way_out}"
        )
    if state.kind != kind:
        raise InputError(
            f"optimizer_state='source': the state of this population is of {state.kind!r}, the training is by "
            f"{kind!r}; pass an optimizer of that kind, {way_out}"
        )
    expected = list(population.weights.shape)
    for name in ("first", "second"):
        moment: Tensor = getattr(state, name)
        if list(moment.shape) != expected or moment.dtype != population.weights.dtype:
            raise InputError(
                f"optimizer_state='source': the {name} moments are {moment.dtype} {list(moment.shape)}, the weights "
                f"{population.weights.dtype} {expected}; pass the state of the same columns, {way_out}"
            )
    return state
