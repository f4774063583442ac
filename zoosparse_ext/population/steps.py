"""What an engine is asked to do, and the reference engine in plain PyTorch autograd."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from zoosparse_ext import ops
from zoosparse_ext.data import Split
from zoosparse_ext.population import optimizers
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.augment import Augment
from zoosparse_ext.population.forward import StepNoise, forward
from zoosparse_ext.population.learning import Learned, Perturbed
from zoosparse_ext.population.modules import forward_modules


@dataclass
class TrainState:
    """Optimizer state of a population: with the weights, all that a resumed training needs.

    Args:
        step: steps done so far, the same for all models.
        first, second: moments of the weights [N, P].
        learned: the two moments of every matrix that is learned beside the weights, by its name.
    """

    step: int
    first: Tensor
    second: Tensor
    learned: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @classmethod
    def fresh(cls, weights: Tensor, learned: Iterable[str] = ()) -> TrainState:
        """The state before the first step of weights [N, P], and of matrices beside them."""

        def moments() -> tuple[Tensor, Tensor]:
            return torch.zeros_like(weights), torch.zeros_like(weights)

        return cls(0, *moments(), {name: moments() for name in learned})

    def map(self, change: Callable[[Tensor], Tensor]) -> TrainState:
        """The state with all moments changed in one way: some of their rows, a copy, another device."""
        learned = {name: (change(first), change(second)) for name, (first, second) in self.learned.items()}
        return TrainState(self.step, change(self.first), change(self.second), learned)

    def restart_(self) -> None:
        """Go back to the state before the first step, in place."""
        self.step = 0
        for moments in self.tensors():
            moments.zero_()

    def at_rows(self, rows: slice) -> TrainState:
        """Views of some rows."""
        return self.map(lambda moments: moments[rows])

    def tensors(self) -> Iterator[Tensor]:
        """All moments, those of the weights first."""
        yield from (self.first, self.second)
        for moments in self.learned.values():
            yield from moments


@dataclass
class Steps:
    """Arguments of a run of training steps over some rows; weights, state and what is learned beside them are changed
    in place.

    Args:
        weights: [N, P].
        state: moments of the same rows; `state.step` counts the steps done before this run.
        order: int32 [N, T] sample indices per model, or [1, T] for all; consecutive batches, the last may be short.
        optimizer: kind and per-model table float64 [N, 6].
        factors: float64 [steps], of the learning rate.
        packed_masks: uint8 [N, ceil(P/8)]; pruned weights and their state are exactly 0 after every step.
        seeds, seed: keys of the random numbers, see :mod:`zoosparse_ext.random`.
        dropout: rate of each model [N], or None for the rates of the program.
        learned: what is learned beside the weights.
        loss: one of `LOSSES`.
        augment: what happens to the images.
        counts: int64 [N, counters], see `Population.counts`; go up in place.
    """

    weights: Tensor
    state: TrainState
    order: Tensor
    batch_size: int
    optimizer: str
    table: Tensor
    factors: Tensor
    seeds: Tensor
    seed: int
    packed_masks: Tensor | None = None
    dropout: Tensor | None = None
    learned: Learned | None = None
    loss: str = "cross_entropy"
    augment: Augment | None = None
    counts: Tensor | None = None


@dataclass
class StepsResult:
    """Sums over the samples seen in training mode: loss (without penalties) float64 [N] and correct int64 [N]."""

    loss: Tensor
    correct: Tensor
    samples: int = field(default=0)


Engine = Callable[[Architecture, Split, Steps], StepsResult]


def reference_steps(architecture: Architecture, split: Split, steps: Steps) -> StepsResult:
    """The oracle: any architecture, device and floating-point type.

    The bits of a model do not depend on its neighbours where every model has its own order and there are two or more
    of them. A model alone, and models that share their images, go through matrix products of other shapes: the same
    up to rounding.
    """
    weights = steps.weights
    n, device = weights.shape[0], weights.device
    result = StepsResult(
        torch.zeros(n, dtype=torch.float64), torch.zeros(n, dtype=torch.int64), steps.order.shape[1]
    )
    kept = None if steps.packed_masks is None else ops.unpack_mask(steps.packed_masks, weights.shape[1])
    table = steps.table.to(device)
    for index, batch in enumerate(steps.order.to(torch.int64).split(steps.batch_size, dim=1)):
        step = steps.state.step + index
        images, labels = _batch(split, batch, steps, step)
        noise = StepNoise(steps.seeds.to(device), steps.seed, step, steps.dropout)
        loss, correct, gradients = _gradients(architecture, steps, images, labels, noise)
        result.loss += loss.to("cpu", torch.float64) * batch.shape[1]
        result.correct += correct.cpu()
        _update(architecture, steps, gradients, table, step + 1, float(steps.factors[index]), kept)
    return result


def _batch(split: Split, batch: Tensor, steps: Steps, step: int) -> tuple[Tensor, Tensor]:
    """Images [B, C, H, W] or [N, B, C, H, W] and labels [N or 1, B]."""
    images = split.normalized(batch[0] if batch.shape[0] == 1 else batch.reshape(-1))
    if batch.shape[0] > 1:
        images = images.unflatten(0, tuple(batch.shape))
    if steps.augment is not None:
        stacked = images if batch.shape[0] > 1 else images.unsqueeze(0)
        images = steps.augment(stacked, -split.mean / split.std, steps.seeds, steps.seed, step)
    like = steps.weights
    return images.to(like.device, like.dtype), split.labels[batch].to(like.device)


def _gradients(
    architecture: Architecture, steps: Steps, images: Tensor, labels: Tensor, noise: StepNoise
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Mean loss [N], correct [N], and the gradients of weights and of each matrix beside them."""
    weights = steps.weights.detach().requires_grad_()
    matrices: dict[str, Tensor] = {}
    used, learned = Perturbed(weights), steps.learned
    if learned is not None:
        matrices = {name: matrix.detach().requires_grad_() for name, matrix in learned.matrices.items()}
        used = learned.learner.perturb(architecture, weights, matrices, noise)
    leaves = [weights, *matrices.values()]
    runs_program = architecture.runs_program(training=True, noisy=used.variances is not None)
    logits = (forward if runs_program else forward_modules)(
        architecture,
        used.weights,
        images,
        each=steps.order.shape[0] > 1 or steps.augment is not None,
        counts=steps.counts,
        noise=noise,
        variances=used.variances,
    )
    if used.weights is not weights:
        _copy_buffers_(architecture, used.weights.detach(), steps.weights)
    n, batch, _ = logits.shape
    labels = labels.expand(n, batch)
    loss = _losses(steps.loss, logits, labels).mean(1)
    objective = loss.sum()
    if learned is not None:
        penalty = learned.learner.penalty(architecture, weights, matrices)
        objective = objective + learned.weight * penalty.sum()
    if not objective.requires_grad:  # all is frozen
        gradients: Sequence[Tensor] = [torch.zeros_like(leaf) for leaf in leaves]
    else:
        gradients = torch.autograd.grad(objective, leaves, materialize_grads=True)
    return loss.detach(), (logits.argmax(2) == labels).sum(1), list(gradients)


def _copy_buffers_(architecture: Architecture, source: Tensor, target: Tensor) -> None:
    """Running statistics, which a forward pass in training changes among the columns that it was given."""
    for segment in architecture.segments:
        if not segment.trainable and not segment.prunable:
            target.data[:, segment.slice] = source[:, segment.slice]  # a version of its own for autograd


def _losses(kind: str, logits: Tensor, labels: Tensor) -> Tensor:
    """Loss [N, B] of scores [N, B, classes] and labels [N, B]."""
    if kind == "mse":
        target = F.one_hot(labels, logits.shape[2]).to(logits.dtype)
        return (logits - target).square().mean(2)
    losses = F.cross_entropy(logits.flatten(0, 1), labels.reshape(-1), reduction="none")
    return losses.view(labels.shape)


def _update(
    architecture: Architecture,
    steps: Steps,
    gradients: list[Tensor],
    table: Tensor,
    step: int,
    factor: float,
    kept: Tensor | None,
) -> None:
    state = steps.state
    frozen = [  # buffers are columns too, but no optimizer touches them
        (tensor[:, segment.slice], tensor[:, segment.slice].clone())
        for segment in architecture.segments
        if not segment.trainable
        for tensor in (steps.weights, state.first, state.second)
    ]
    moments = (state.first, state.second)
    optimizers.update_(steps.optimizer, steps.weights, gradients[0], moments, table, step, factor)
    for columns, values in frozen:
        columns.copy_(values)
    if kept is not None:
        for tensor in (steps.weights, state.first, state.second):
            tensor.masked_fill_(~kept, 0.0)
    if steps.learned is not None:  # decayed like any parameter, as the published twins are
        factor = factor * steps.learned.learner.rate
        for (name, matrix), gradient in zip(steps.learned.matrices.items(), gradients[1:], strict=True):
            optimizers.update_(steps.optimizer, matrix, gradient, state.learned[name], table, step, factor)
