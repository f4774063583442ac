"""Which weights of a twin go: what is compared with what, and how many are pruned of each lot."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from zoosparse_ext import ops
from zoosparse_ext.errors import InputError
from zoosparse_ext.population.architecture import Architecture, Segment
from zoosparse_ext.population.population import Population

SCOPES = ("global", "layer", "output")


@dataclass(frozen=True)
class Pattern:
    """N:M sparsity: of every `m` consecutive inputs of an output, the `n` largest are kept.

    A shorter group at the end of an output's weights loses its share, rounded down.

    >>> Pattern.parse("2:4")
    Pattern(n=2, m=4)

    Source: Zhou et al., "Learning N:M Fine-grained Structured Sparse Neural Networks from Scratch", ICLR 2021.
    """

    n: int
    m: int

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """From ``"2:4"``.

        Raises:
            InputError: anything but N:M with 0 < N ≤ M.
        """
        found = re.fullmatch(r"(\d+):(\d+)", text)
        pattern = cls(int(found[1]), int(found[2])) if found else None
        if pattern is None or not 0 < pattern.n <= pattern.m:
            raise InputError(f"a pattern is written N:M with 0 < N ≤ M, as in '2:4', got {text!r}")
        return pattern

    def __str__(self) -> str:
        return f"{self.n}:{self.m}"

    def pruned(self, size: int) -> int:
        """How many go of a group of at most `m`."""
        return size * (self.m - self.n) // self.m


def candidates(architecture: Architecture, biases: bool) -> list[Segment]:
    """The tensors that may be pruned, in the order of their columns."""
    layers = {segment.layer for segment in architecture.prunable_segments}
    return [s for s in architecture.segments if s.prunable or (biases and s.trainable and s.layer in layers)]


def prune_(
    twins: Population, scores: Tensor, ratios: Tensor | Pattern, scope: str = "global", biases: bool = False
) -> None:
    """Prune in place to the given ratios, smallest scores first, and set the masks.

    What is zero already goes first, so that a later phase of a schedule keeps what an earlier one pruned.

    Args:
        twins: N models.
        scores: [N, P], ≥ 0.
        ratios: float64 [N], or [N, S] per prunable layer (scopes ``"layer"`` and ``"output"``), or a pattern.
        scope: ``"global"``, ``"layer"`` or ``"output"``: what is compared with what.
        biases: prune biases as well.
    """
    chosen = candidates(twins.architecture, biases)
    columns = torch.cat([torch.arange(s.slice.start, s.slice.stop) for s in chosen])
    scores = torch.where(twins.weights == 0, 0.0, scores.clamp(min=torch.finfo(scores.dtype).tiny))
    compared = scores[:, columns]  # [N, candidates]
    if isinstance(ratios, Pattern):
        sizes = list(_groups(chosen, ratios.m))
        kept = ops.magnitude_mask(compared, [ratios.pruned(size) for size in sizes], segments=_starts(sizes))
    elif scope == "global":
        kept = ops.magnitude_mask(compared, (ratios * columns.numel()).round().to(torch.int64))
    else:
        lots = [_lots(segment, scope) for segment in chosen]  # equal lots of each tensor
        sizes = [
            size
            for segment, count in zip(chosen, lots, strict=True)
            for size in [segment.size // count] * count
        ]
        if ratios.dim() == 2:  # one per layer; a bias goes with the weights of its layer
            layers = [segment.layer for segment in twins.architecture.prunable_segments]
            of_tensor = ratios[:, [layers.index(segment.layer) for segment in chosen]]
            ratios = of_tensor.repeat_interleave(torch.tensor(lots), dim=1)
        k = (ratios.view(len(twins), -1) * torch.tensor(sizes, dtype=torch.float64)).round().to(torch.int64)
        kept = ops.magnitude_mask(compared, k, segments=_starts(sizes))
    masks = torch.ones_like(twins.weights, dtype=torch.bool)
    masks[:, columns] = kept
    twins.packed_masks = ops.pack_mask(masks)
    ops.apply_mask_(twins.weights, twins.packed_masks)


def pattern_sparsity(architecture: Architecture, pattern: Pattern) -> float:
    """The share of prunable weights that a pattern prunes."""
    sizes = list(_groups(architecture.prunable_segments, pattern.m))
    return sum(map(pattern.pruned, sizes)) / sum(sizes)


def _lots(segment: Segment, scope: str) -> int:
    """How many selections there are in a tensor; a bias is one."""
    return segment.shape[0] if scope == "output" and segment.prunable else 1


def _groups(segments: list[Segment] | tuple[Segment, ...], m: int) -> Iterator[int]:
    """Sizes of the groups of at most `m` consecutive inputs, output by output."""
    for segment in segments:
        outputs = _lots(segment, "output")
        full, rest = divmod(segment.size // outputs, m)
        for _ in range(outputs):
            yield from [m] * full + [rest] * (rest > 0)


def _starts(sizes: list[int]) -> list[int]:
    return list(accumulate(sizes, initial=0))
