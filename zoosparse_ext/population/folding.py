"""Batch norm folded into the layer before it: in evaluation it scales and shifts each output by fixed numbers.

A chain with batch norms then is a chain without, which native engines run; weights that are 0 stay 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.operations.base import Operation
from zoosparse_ext.population.operations.convolution import Conv2d
from zoosparse_ext.population.operations.linear import Linear
from zoosparse_ext.population.operations.normalization import BatchNorm
from zoosparse_ext.population.program import Program


@dataclass(frozen=True)
class Folded:
    """A chain that computes in evaluation what a program with batch norms does.

    Args:
        program: the chain.
        norms: of each of its layers the batch norm that went into it, or None.
        offsets: first column of each tensor in the rows of :meth:`rows`.
    """

    program: Program
    norms: tuple[BatchNorm | None, ...]
    offsets: dict[str, int]

    def rows(self, architecture: Architecture, weights: Tensor) -> Tensor:
        """The columns [N, P'] of the chain, made of those of the program [N, P]."""
        tensors = architecture.unflatten(weights)
        parts = []
        for layer, norm in zip(self.program.layers, self.norms, strict=True):
            weight = tensors[f"{layer.name}.weight"].flatten(2)  # [N, out, in·kernel]
            bias = tensors.get(f"{layer.name}.bias")
            if norm is not None:
                scale = (tensors[f"{norm.name}.running_var"] + norm.eps).rsqrt()
                if norm.affine:
                    scale = scale * tensors[f"{norm.name}.weight"]
                shift = -tensors[f"{norm.name}.running_mean"] * scale
                weight = weight * scale.unsqueeze(2)
                bias = shift if bias is None else bias * scale + shift
                if norm.affine:
                    bias = bias + tensors[f"{norm.name}.bias"]
            parts.append(weight.flatten(1))
            if bias is not None:
                parts.append(bias)
        return torch.cat(parts, dim=1)


@lru_cache(maxsize=64)
def fold(program: Program) -> Folded | str:
    """The chain of a program whose batch norms all follow a convolution or linear layer; else what stands against it.

    >>> from torch import nn
    >>> from zoosparse_ext.population.trace import trace
    >>> program = trace(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU()))
    >>> [op.kind for op in fold(program).program.operations]
    ['conv2d', 'activation']
    """
    operations: list[Operation] = []
    norms: list[BatchNorm | None] = []
    for place, (op, taken) in enumerate(zip(program.operations, program.inputs, strict=True)):
        if not isinstance(op, BatchNorm) and (lacks := op.why_not_native()):
            return lacks
        if taken != (place,):
            return f"{op.told} on a result that is not the last"
        if not isinstance(op, BatchNorm):
            operations.append(op)
            norms += [None] if isinstance(op, Conv2d | Linear) else []
            continue
        before = operations[-1] if operations else None
        if not isinstance(before, Conv2d | Linear) or norms[-1] is not None or not op.track:
            place_of = (
                "without running statistics"
                if not op.track
                else "that follows no convolution or linear layer"
            )
            return f"{op.told} {place_of}"
        operations[-1], norms[-1] = replace(before, bias=True), op
    folded = Program(tuple(operations))
    if folded.why_not_chain:
        return folded.why_not_chain
    offsets, column = {}, 0
    for layer in folded.layers:
        for name, shape in layer.tensors().items():
            offsets[name] = column
            column += torch.Size(shape).numel()
    return Folded(folded, tuple(norms), offsets)
