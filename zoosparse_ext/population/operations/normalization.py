"""Normalization: by the batch, by the sample, by groups of channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoosparse_ext.errors import InputError
from zoosparse_ext.population.operations.base import (
    MODULES,
    VECTOR,
    Operation,
    Run,
    Shape,
    flat_models,
    register,
    require_rank,
    shown,
)

_COUNTER = "num_batches_tracked"


class _Norm(Operation):
    """What the columns of a normalization have in common."""

    name: str
    affine: bool

    def _columns(self, run: Run, *names: str) -> list[Tensor | None]:
        """Tensors of all models, [N·C]; None for those it has none of."""
        found = (run.tensors.get(f"{self.name}.{name}") for name in names)
        return [None if tensor is None else flat_models(tensor) for tensor in found]


@dataclass(frozen=True)
class BatchNorm(_Norm):
    """Batch norm over all axes but the channels: by statistics of the batch in training, by running ones else.

    Args:
        dims: axes of each channel: 0 or 1 for `BatchNorm1d` (features or signals), 2 for `BatchNorm2d`; 1 stands for
            both.
        momentum: None averages over all batches.
        track: without running statistics, those of the batch are used in evaluation too.
    """

    kind = "batch_norm"
    name: str
    channels: int
    dims: int = 2
    eps: float = 1e-5
    momentum: float | None = 0.1
    affine: bool = True
    track: bool = True

    def output_shape(self, *sizes: Shape) -> Shape:
        (size,) = sizes
        require_rank(f"batch norm {self.name!r}", size, *((3,) if self.dims == 2 else (1, 2)))
        if size[0] != self.channels:
            raise InputError(f"batch norm {self.name!r} expects {self.channels} channels, got {size[0]}")
        return size

    def tensors(self) -> dict[str, Shape]:
        return _columns_of(self)

    def counters(self) -> tuple[str, ...]:
        return (f"{self.name}.{_COUNTER}",) if self.track else ()

    def reference(self, run: Run, *values: Tensor) -> Tensor:
        x = run.of_each(values[0])
        weight, bias = self._columns(run, "weight", "bias")
        running = [f"{self.name}.{name}" for name in ("running_mean", "running_var")] if self.track else []
        statistics = [run.tensors[name].detach() for name in running]  # [N, C]
        planes = x.flatten(1, 2)
        if not run.training and self.track:
            mean, var = map(flat_models, statistics)
            return F.batch_norm(planes, mean, var, weight, bias, False, 0.0, self.eps).unflatten(
                1, x.shape[1:3]
            )
        # With a momentum of 1 the buffers become the statistics of the batch.
        own = self.momentum is not None
        buffers = [flat_models(s).clone() if own else torch.zeros_like(flat_models(s)) for s in statistics]
        own_mean, own_var = buffers or (None, None)
        factor = 0.0 if not self.track else 1.0 if self.momentum is None else self.momentum
        if (
            planes.dim() == 2
        ):  # vectors of channels: there are whole ones, else the bits of a model depend on N
            planes = _in_whole_vectors(planes)
            weight, bias, own_mean, own_var = (
                None if tensor is None else _in_whole_vectors(tensor)
                for tensor in (weight, bias, own_mean, own_var)
            )
        result = F.batch_norm(planes, own_mean, own_var, weight, bias, True, factor, self.eps)
        channels = x.shape[1:3].numel()
        after = [
            statistic[:channels].view(x.shape[1:3])
            for statistic in (own_mean, own_var)
            if statistic is not None
        ]
        self._keep(run, running, statistics, after)
        return result[:, :channels].unflatten(1, x.shape[1:3])

    def _keep(self, run: Run, names: list[str], before: list[Tensor], after: list[Tensor]) -> None:
        """Write the running statistics, and count the batch."""
        counts = run.counted(self.counters()[0]) if self.track else None
        if counts is not None:
            counts += 1
        if self.momentum is None and self.track:
            if counts is None:
                raise InputError(f"batch norm {self.name!r} averages over batches that nobody counts")
            share = (1.0 / counts.to(before[0])).unsqueeze(1)  # [N, 1]
            after = [(1.0 - share) * old + share * new for old, new in zip(before, after, strict=True)]
        for name, value in zip(names, after, strict=True):
            run.write(name, value)

    def module(self) -> nn.Module:
        kind = nn.BatchNorm2d if self.dims == 2 else nn.BatchNorm1d
        return kind(self.channels, self.eps, self.momentum, self.affine, self.track)


@dataclass(frozen=True)
class InstanceNorm(_Norm):
    """Normalization of each channel of each sample."""

    kind = "instance_norm"
    name: str
    channels: int
    dims: int = 2
    eps: float = 1e-5
    momentum: float = 0.1
    affine: bool = False
    track: bool = False

    def output_shape(self, *sizes: Shape) -> Shape:
        (size,) = sizes
        require_rank(f"instance norm {self.name!r}", size, self.dims + 1)
        if self.affine and size[0] != self.channels:
            raise InputError(f"instance norm {self.name!r} expects {self.channels} channels, got {size[0]}")
        if self.track and size[0] != self.channels:
            raise InputError(
                f"instance norm {self.name!r} has statistics of {self.channels} channels, got {size[0]}"
            )
        return size

    def tensors(self) -> dict[str, Shape]:
        return _columns_of(self)

    def reference(self, run: Run, *values: Tensor) -> Tensor:
        x = run.of_each(values[0])
        weight, bias = self._columns(run, "weight", "bias")
        running = [f"{self.name}.{name}" for name in ("running_mean", "running_var")] if self.track else []
        buffers = [flat_models(run.tensors[name].detach()).clone() for name in running]
        mean, var = buffers or (None, None)
        of_batch = run.training or not self.track
        result = F.instance_norm(x.flatten(1, 2), mean, var, weight, bias, of_batch, self.momentum, self.eps)
        if run.training:
            for name, buffer in zip(running, buffers, strict=True):
                run.write(name, buffer.view(x.shape[1:3]))
        return result.unflatten(1, x.shape[1:3])

    def module(self) -> nn.Module:
        kind = nn.InstanceNorm2d if self.dims == 2 else nn.InstanceNorm1d
        return kind(self.channels, self.eps, self.momentum, self.affine, self.track)


@dataclass(frozen=True)
class GroupNorm(_Norm):
    """Normalization of groups of channels of each sample."""

    kind = "group_norm"
    name: str
    groups: int
    channels: int
    eps: float = 1e-5
    affine: bool = True

    def output_shape(self, *sizes: Shape) -> Shape:
        (size,) = sizes
        if not size or size[0] != self.channels:
            raise InputError(f"group norm {self.name!r} expects {self.channels} channels, got {shown(size)}")
        return size

    def tensors(self) -> dict[str, Shape]:
        return {f"{self.name}.{name}": (self.channels,) for name in ("weight", "bias") if self.affine}

    def reference(self, run: Run, *values: Tensor) -> Tensor:
        x = run.of_each(values[0])
        weight, bias = self._columns(run, "weight", "bias")
        groups = run.models * self.groups
        return F.group_norm(x.flatten(1, 2), groups, weight, bias, self.eps).unflatten(1, x.shape[1:3])

    def module(self) -> nn.Module:
        return nn.GroupNorm(self.groups, self.channels, self.eps, self.affine)


@dataclass(frozen=True)
class LayerNorm(_Norm):
    """Normalization over the last axes of each sample; `centered` is False for `RMSNorm`, which keeps the mean."""

    kind = "layer_norm"
    name: str
    shape: tuple[int, ...]
    eps: float | None = 1e-5
    affine: bool = True
    bias: bool = True
    centered: bool = True

    def output_shape(self, *sizes: Shape) -> Shape:
        (size,) = sizes
        if size[len(size) - len(self.shape) :] != self.shape or len(size) < len(self.shape):
            raise InputError(
                f"layer norm {self.name!r} expects {shown(self.shape)} at the end, got {shown(size)}"
            )
        return size

    def tensors(self) -> dict[str, Shape]:
        names = [
            name for name, there in (("weight", self.affine), ("bias", self.affine and self.bias)) if there
        ]
        return {f"{self.name}.{name}": self.shape for name in names}

    def reference(self, run: Run, *values: Tensor) -> Tensor:
        x = values[0]
        if self.centered:
            result = F.layer_norm(x, self.shape, None, None, self.eps or 0.0)
        else:
            result = F.rms_norm(x, self.shape, None, self.eps)
        for name in self.tensors():
            column = run.tensors[name]
            column = column.view(1, run.models, *[1] * (x.dim() - 2 - len(self.shape)), *self.shape)
            result = result * column if name.endswith("weight") else result + column
        return result

    def module(self) -> nn.Module:
        if not self.centered:
            return nn.RMSNorm(self.shape, self.eps, self.affine)
        assert self.eps is not None
        return nn.LayerNorm(self.shape, self.eps, self.affine, self.bias)


def _in_whole_vectors(tensor: Tensor) -> Tensor:
    """A tensor [..., channels] with as many channels as fill vectors."""
    return F.pad(tensor, (0, -tensor.shape[-1] % VECTOR))


def _columns_of(norm: BatchNorm | InstanceNorm) -> dict[str, Shape]:
    names = [("weight", "bias")] * norm.affine + [("running_mean", "running_var")] * norm.track
    return {f"{norm.name}.{name}": (norm.channels,) for both in names for name in both}


def _batch(dims: int) -> Callable[[str, Any], list[Operation]]:
    return lambda name, m: [
        BatchNorm(name, m.num_features, dims, m.eps, m.momentum, m.affine, m.track_running_stats)
    ]


def _instance(dims: int) -> Callable[[str, Any], list[Operation]]:
    return lambda name, m: [
        InstanceNorm(name, m.num_features, dims, m.eps, m.momentum, m.affine, m.track_running_stats)
    ]


register(BatchNorm, InstanceNorm, GroupNorm, LayerNorm)
MODULES[nn.BatchNorm2d], MODULES[nn.BatchNorm1d] = _batch(2), _batch(1)
MODULES[nn.InstanceNorm2d], MODULES[nn.InstanceNorm1d] = _instance(2), _instance(1)
MODULES[nn.GroupNorm] = lambda name, m: [GroupNorm(name, m.num_groups, m.num_channels, m.eps, m.affine)]
MODULES[nn.LayerNorm] = lambda name, m: [
    LayerNorm(name, tuple(m.normalized_shape), m.eps, m.elementwise_affine, m.bias is not None)
]
MODULES[nn.RMSNorm] = lambda name, m: [
    LayerNorm(name, tuple(m.normalized_shape), m.eps, m.elementwise_affine, False, False)
]
