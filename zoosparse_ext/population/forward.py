"""The reference executor: a program over many rows of weights at once, in plain PyTorch with autograd.

Chains on images run here, to the same bits in every version; others in :mod:`zoosparse_ext.population.graph`. Values of
a chain are `[N, C, B, H, W]`: with the batch inside the channels, a convolution of all models is one batched matrix
product on the windows of the image, and no axis has to be moved between layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from zoosparse_ext import random
from zoosparse_ext.ops import vardrop
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.graph import Watch, forward_graph
from zoosparse_ext.population.learning import Variances
from zoosparse_ext.population.operations.pooling import Pool
from zoosparse_ext.population.program import Activation, Conv2d, Dropout, Flatten, Linear


@dataclass(frozen=True)
class StepNoise:
    """Where the random numbers of one training step come from: see :mod:`zoosparse_ext.random`."""

    seeds: Tensor  # int64 [N]
    seed: int
    step: int
    dropout: Tensor | None = None  # float [N]: rate of each model; None: the rates of the program

    def draw(self, kind: Callable[..., Tensor], purpose: int, layer: int, like: Tensor) -> Tensor:
        """Numbers of the shape of activations [N, C, B, H, W]; elements are counted in [C, H, W] of each sample."""
        _, channels, batch, height, width = like.shape
        stream = random.stream_id(purpose, layer)
        count = channels * height * width
        values = kind(
            self.seeds, self.seed, count, step=self.step, stream=stream, samples=batch
        )  # [N, B, C·H·W]
        values = values.to(like.dtype).unflatten(-1, (channels, height, width))
        return values.movedim(1, 2)


def forward(
    architecture: Architecture,
    weights: Tensor,  # [N, P]
    images: Tensor,  # [B, C, H, W] for all models, or [N, B, C, H, W]; others as the program takes them
    *,
    each: bool | None = None,
    counts: Tensor | None = None,
    noise: StepNoise | None = None,
    variances: Variances | None = None,
    watch: Watch | None = None,
) -> Tensor:
    """Class scores [N, B, classes]; in training mode (dropout, noise, statistics of the batch) if there is `noise`.

    `each` says that the images are every model's own; None: if they have five axes. `counts`, int64 [N, counters], go
    up in place when training, and running statistics among the columns change. `watch` is shown what each layer
    multiplies with its weights: [N or 1, in·kh·kw, B·h·w].
    """
    assert architecture.program is not None
    each = images.dim() == 5 if each is None else each
    if not architecture.program.is_chain or images.dim() != 4 + each:
        return forward_graph(
            architecture,
            weights,
            images,
            each=each,
            counts=counts,
            noise=noise,
            variances=variances,
            watch=watch,
        )
    tensors = architecture.unflatten(weights)
    hidden = (images if each else images.unsqueeze(0)).movedim(1, 2)  # [N or 1, C, B, H, W]
    for index, op in enumerate(architecture.program.operations):
        if isinstance(op, Conv2d | Linear):
            weight = tensors[f"{op.name}.weight"].flatten(2)  # [N, out, in·kh·kw]
            bias = tensors[f"{op.name}.bias"] if op.bias else None  # [N, out]
            windows, size = _windows(hidden, op)
            if watch is not None:
                watch(op, windows)
            mean = _affine(windows, weight, bias, size)
            if variances is not None and noise is not None:
                std = _deviation(op, windows, size, weight, bias, variances)
                if std is not None:
                    mean = mean + std * noise.draw(random.normal, random.VARIATIONAL_NOISE, index, mean)
            hidden = mean
        elif isinstance(op, Dropout):
            if noise is not None:
                hidden = _dropout(op, index, hidden, noise)
        else:
            hidden = _pointwise_or_pool(op, hidden)
    return hidden.flatten(3).squeeze(3).movedim(1, 2)


def _windows(hidden: Tensor, op: Conv2d | Linear) -> tuple[Tensor, tuple[int, int, int]]:
    """What each output sees: [N, in·kh·kw, B·h·w], and (B, h, w)."""
    batch = hidden.shape[2]
    if isinstance(op, Linear):
        return hidden.flatten(2), (batch, 1, 1)
    (kh, kw), (sh, sw), (ph, pw) = op.kernel_size, op.stride, op.padding
    if ph or pw:
        hidden = F.pad(hidden, (pw, pw, ph, ph))
    view = hidden.unfold(3, kh, sh).unfold(4, kw, sw)  # [N, C, B, h, w, kh, kw]
    size = (batch, view.shape[3], view.shape[4])
    return view.permute(0, 1, 5, 6, 2, 3, 4).reshape(hidden.shape[0], -1, math.prod(size)), size


def _affine(windows: Tensor, weight: Tensor, bias: Tensor | None, size: tuple[int, int, int]) -> Tensor:
    n, out = weight.shape[:2]
    if windows.shape[0] == 1 and n > 1:  # all models see the same input: one matrix product
        product = (weight.reshape(n * out, -1) @ windows[0]).unflatten(0, (n, out))
    elif bias is not None:
        return torch.baddbmm(bias.unsqueeze(2), weight, windows).unflatten(2, size)
    else:
        product = torch.bmm(weight, windows)
    if bias is not None:
        product = product + bias.unsqueeze(2)
    return product.unflatten(2, size)


def _deviation(
    op: Conv2d | Linear,
    windows: Tensor,
    size: tuple[int, int, int],
    weight: Tensor,
    bias: Tensor | None,
    variances: Variances,
) -> Tensor | None:
    """Standard deviation of the pre-activations: sqrt(Σ Var(w)·x² + 1e-15); None without noise."""
    variance = variances.of(f"{op.name}.weight", weight)
    if variance is None:
        return None
    of_bias = None if bias is None else variances.of(f"{op.name}.bias", bias)
    return (_affine(windows.square(), variance, of_bias, size) + vardrop.EPSILON).sqrt()


def _dropout(op: Dropout, index: int, hidden: Tensor, noise: StepNoise) -> Tensor:
    rate: float | Tensor = op.rate
    if noise.dropout is not None:
        rate = noise.dropout.to(hidden.dtype).view(-1, 1, 1, 1, 1)
    elif op.rate == 0.0:
        return hidden
    kept = noise.draw(random.uniform, random.DROPOUT, index, hidden) >= rate
    return torch.where(kept, hidden / (1.0 - rate), torch.zeros_like(hidden))


def _pointwise_or_pool(op: object, hidden: Tensor) -> Tensor:
    if isinstance(op, Activation):
        return op.apply(hidden)
    if isinstance(op, Pool):
        return op.pooled(hidden.flatten(0, 1)).unflatten(0, hidden.shape[:2])
    assert isinstance(op, Flatten)
    return hidden.movedim(2, 4).flatten(1, 3)[..., None, None]  # [N, C·H·W, B, 1, 1]
