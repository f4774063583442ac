"""Methods that train something beside the weights and read the mask off it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.forward import StepNoise
from zoosparse_ext.population.learning import Learned, Matrices, Moments, Perturbed
from zoosparse_ext.population.optimizers import Adam, Optimizer
from zoosparse_ext.population.population import Population
from zoosparse_ext.sparsify.methods.base import Method
from zoosparse_ext.sparsify.settings import differences


@dataclass(frozen=True)
class LearnedMethod(Method):
    """A method that learns matrices [N, P] beside the weights, by gradients, and reads masks and weights off them.

    The engines know it as a :class:`~zoosparse_ext.population.learning.Learner`. Random numbers come from the
    `StepNoise` alone, and no row depends on another, so that results depend neither on the chunk nor on the place of a
    model.

    Class variables:
        optimizer: the usual one of its twins.
        asks_sparsity: twins are made at sparsities that are asked for, else the training finds them by itself.
    """

    optimizer: ClassVar[Optimizer] = Adam(lr=1e-3)
    asks_sparsity: ClassVar[bool] = False

    @property
    def start(self) -> dict[str, float]:
        """The matrices by name, and the value that each begins with."""
        raise NotImplementedError

    @property
    def rate(self) -> float:
        """Learning rate of the matrices, as a multiple of that of the weights."""
        return 1.0

    def perturb(
        self, architecture: Architecture, weights: Tensor, matrices: Matrices, noise: StepNoise
    ) -> Perturbed:
        """What the forward pass of a training step uses: the weights [N, P] under noise, or variances of them."""
        raise NotImplementedError

    def penalty(self, architecture: Architecture, weights: Tensor, matrices: Matrices) -> Tensor:
        """What is added to the loss of each model, times `penalty_weight`: [N]."""
        raise NotImplementedError

    def penalty_weight(self, epoch: int, epochs: int, images: int) -> float:
        """Factor of the penalty beside the mean loss of a batch.

        Args:
            epoch: counted from 0.
            epochs: of the training.
            images: of the training.
        """
        raise NotImplementedError

    def keep(self, trained: Population, ratios: Tensor | None) -> tuple[Tensor, Tensor]:
        """The sparse networks inside trained ones.

        Args:
            trained: N models, with what they learned in `learned`; what their masks prune stays pruned.
            ratios: float64 [N], the sparsity of each, if `asks_sparsity`.

        Returns:
            The mask bool [N, P], True = kept, and the weights [N, P]; those outside of the mask do not matter.
        """
        raise NotImplementedError

    def why_not_native(self, architecture: Architecture) -> str:
        """Why the native engine cannot run it on a chain; empty if it can."""
        return f"it has no kernel for {self.phrase}"

    def native_arguments(
        self, architecture: Architecture, learned: Learned, moments: Moments
    ) -> dict[str, Any]:
        """Its arguments of :func:`zoosparse_ext.ops.train.train_steps_`, where `why_not_native` is empty."""
        raise NotImplementedError

    def series_options(self, epochs: int, images: int) -> tuple[str, ...]:
        """What is unusual about it, in short words, for the name of a series."""
        return differences(self.texts(), type(self)().texts())

    def training_key(self, epochs: int, images: int) -> str:
        """What identifies it in a checkpoint."""
        return self.key

    def earlier(self, epochs: int) -> tuple[LearnedMethod, str] | None:
        """What an earlier version did in its place, with a checkpoint of its own, and that in words."""
        return None
