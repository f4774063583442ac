"""What a training learns beside the weights: further matrices [N, P], by a method that the engines know by this alone.

A method says what the forward pass of a training step uses in place of the weights (`perturb`), and what is added to
the loss (`penalty`). The methods are in :mod:`zoosparse_ext.sparsify.methods`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from zoosparse_ext.population.architecture import Architecture

if TYPE_CHECKING:
    from zoosparse_ext.population.forward import StepNoise

Matrices = Mapping[str, Tensor]  # [N, P] each, by name


class Variances(Protocol):
    """Variances of parameters, which put noise on what layers compute ("local reparameterization").

    A layer is asked for with its tensor at hand, when it runs: [N, …] of a chain, [1, …] of a module.
    """

    def of(self, name: str, tensor: Tensor, rows: slice = slice(None)) -> Tensor | None:
        """The variance of every element of a parameter, of the shape of `tensor`; None: it has no noise.

        Args:
            name: of the parameter, as in the state dict.
            tensor: the parameter of some models [n, …], its other axes as the caller likes.
            rows: which of the models they are.
        """


@dataclass(frozen=True)
class Perturbed:
    """What the forward pass of a training step uses.

    Args:
        weights: [N, P], in place of the weights: the same, or the weights under noise.
        variances: of the parameters, where noise is put on what layers compute; None: it is not.
    """

    weights: Tensor
    variances: Variances | None = None


class Learner(Protocol):
    """A method that learns matrices beside the weights."""

    @property
    def rate(self) -> float:
        """Learning rate of the matrices, as a multiple of that of the weights."""

    def perturb(
        self, architecture: Architecture, weights: Tensor, matrices: Matrices, noise: StepNoise
    ) -> Perturbed:
        """What the forward pass of a training step uses; differentiable in weights and matrices."""

    def penalty(self, architecture: Architecture, weights: Tensor, matrices: Matrices) -> Tensor:
        """What is added to the loss of each model, before it is weighed: [N], differentiable."""

    def why_not_native(self, architecture: Architecture) -> str:
        """Why the native engine cannot run it on a chain; empty if it can."""

    def native_arguments(
        self, architecture: Architecture, learned: Learned, moments: Moments
    ) -> dict[str, Any]:
        """Its arguments of :func:`zoosparse_ext.ops.train.train_steps_`, where the native engine can run it."""


Moments = Mapping[str, tuple[Tensor, Tensor]]  # of the optimizer, two [N, P] for every matrix


@dataclass(frozen=True)
class Learned:
    """What some models learn beside their weights.

    Args:
        learner: how.
        matrices: [N, P] by name, changed in place.
        weight: factor of the penalty in the loss.
    """

    learner: Learner
    matrices: dict[str, Tensor]
    weight: float = 1.0

    def map(self, change: Callable[[Tensor], Tensor]) -> Learned:
        """The same with all matrices changed in one way: some of their rows, a copy, another device."""
        return replace(self, matrices={name: change(matrix) for name, matrix in self.matrices.items()})
