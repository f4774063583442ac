"""Which weights of a twin go: what is compared with what, and how many are pruned of each lot."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import pandas as pd
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


@dataclass(frozen=True)
class Lots:
    """What is compared with what, and how many weights of each lot go.

    Args:
        segments: the tensors that may be pruned.
        sizes: how many weights each of the L lots has; lots follow each other in the order of the columns.
        ratios: float64 [N, L], the share of each lot to prune; None where a pattern says how many go.
        counts: int64 [N, L], how many go in the end.
        pruned: int64 [N, L], how many of them masks prune already; None where the models have no masks.
    """

    segments: list[Segment]
    sizes: list[int]
    ratios: Tensor | None
    counts: Tensor
    pruned: Tensor | None

    @classmethod
    def of(
        cls, twins: Population, ratios: Tensor | Pattern, scope: str = "global", biases: bool = False
    ) -> Lots:
        """The lots of a scope, or of a pattern.

        Args:
            twins: N models; what their masks prune stays pruned.
            ratios: float64 [N], or [N, S] per prunable layer (scopes ``"layer"`` and ``"output"``), or a pattern.
            scope: ``"global"``, ``"layer"`` or ``"output"``; a pattern takes its place.
            biases: prune biases as well.

        Raises:
            InputError: fewer are to go of a lot than its masks prune already; names model, layer and both shares.
        """
        segments = candidates(twins.architecture, biases)
        n = len(twins)
        wanted: Tensor | None = None
        if isinstance(ratios, Pattern):
            sizes = list(_groups(segments, ratios.m))
            counts = torch.tensor([ratios.pruned(size) for size in sizes]).expand(n, -1)
        else:
            sizes, wanted = _shares(twins.architecture, segments, ratios, scope)
            counts = (wanted * torch.tensor(sizes, dtype=torch.float64)).round().to(torch.int64)
        lots = cls(segments, sizes, wanted, counts, _pruned(twins, segments, sizes))
        lots._refuse_fewer(twins, ratios if isinstance(ratios, Pattern) else None)
        return lots

    @property
    def columns(self) -> Tensor:
        """int64 [C], of all weights that may be pruned."""
        return torch.cat([torch.arange(s.slice.start, s.slice.stop) for s in self.segments])

    def at(self, fraction: float) -> Tensor:
        """How many go at a fraction of the way from what is pruned already to what is asked for: int64 [N, L]."""
        if self.ratios is None or fraction == 1.0:
            return self.counts
        sizes = torch.tensor(self.sizes, dtype=torch.float64)
        there = torch.zeros_like(self.ratios) if self.pruned is None else self.pruned / sizes
        return ((there + (self.ratios - there) * fraction) * sizes).round().to(torch.int64)

    def at_density(self, exponent: float, fraction: float = 1.0) -> Tensor:
        """How many go on the way to `at(fraction)`, the share that stays being multiplied with the same factor in each
        of several rounds: (what stays in the end) ** exponent of what is there; int64 [N, L]."""
        sizes = torch.tensor(self.sizes, dtype=torch.float64)
        there = torch.zeros_like(self.counts) if self.pruned is None else self.pruned
        left = sizes - there
        share = (sizes - self.at(fraction)) / left.clamp(min=1)
        return (sizes - left * share**exponent).round().to(torch.int64)

    def _refuse_fewer(self, twins: Population, pattern: Pattern | None) -> None:
        if self.pruned is None or not bool((self.counts < self.pruned).any()):
            return
        row, lot = (int(place) for place in (self.counts < self.pruned).nonzero()[0])
        model = twins.models.get("source_id", pd.Series(twins.ids))[row]
        gone, go, size = int(self.pruned[row, lot]), int(self.counts[row, lot]), self.sizes[lot]
        if pattern is not None:
            raise InputError(
                f"model {model!r}: {gone} of {size} weights of a group in {self._name(lot)} are pruned already, "
                f"{pattern} prunes {go}; pruned weights stay pruned: take a pattern that prunes more, a ratio, or the "
                "model that it came from"
            )
        where = f" in {self._name(lot)}" if len(self.sizes) > 1 else ""
        raise InputError(
            f"model {model!r} has a sparsity of {gone / size:.4g}{where} already, more than the {go / size:.4g} asked "
            "for; pruned weights stay pruned: ask for more, or prune the model that it came from"
        )

    def _name(self, lot: int) -> str:
        """Where the weights of a lot are: the tensor, and the output where a tensor has several lots."""
        start = sum(self.sizes[:lot])
        for segment in self.segments:
            if start < segment.size:
                break
            start -= segment.size
        if not segment.prunable:
            return f"the biases of layer {segment.layer!r}"
        inputs = segment.size // _lots(segment, "output")
        output = f", output {start // inputs}" if self.sizes[lot] <= inputs else ""
        return f"layer {segment.layer!r}{output}"


def prune_(twins: Population, scores: Tensor, lots: Lots, counts: Tensor) -> None:
    """Prune in place, smallest scores of each lot first, and set the masks.

    What the masks prune stays pruned, and goes into the count; what is zero besides goes next.

    Args:
        twins: N models.
        scores: [N, P], ≥ 0.
        lots: what is compared with what.
        counts: int64 [N, L], how many go of each lot.
    """
    masks = twins.masks
    tiny = torch.finfo(scores.dtype).tiny
    if masks is None:
        masks = torch.ones_like(twins.weights, dtype=torch.bool)
        scores = torch.where(twins.weights == 0, 0.0, scores.clamp(min=tiny))
    else:
        scores = torch.where(twins.weights == 0, tiny, scores.clamp(min=2 * tiny)).where(masks, 0.0)
    columns = lots.columns
    if len(lots.sizes) == 1:
        kept = ops.magnitude_mask(scores[:, columns], counts[:, 0])
    else:
        kept = ops.magnitude_mask(scores[:, columns], counts, segments=_starts(lots.sizes))
    masks[:, columns] = kept
    twins.packed_masks = ops.pack_mask(masks)
    ops.apply_mask_(twins.weights, twins.packed_masks)


def _shares(
    architecture: Architecture, segments: list[Segment], ratios: Tensor, scope: str
) -> tuple[list[int], Tensor]:
    """Sizes of the lots of a scope, and the share of each that goes: float64 [N, L]."""
    if scope == "global":
        return [sum(segment.size for segment in segments)], ratios.view(-1, 1)
    lots = [_lots(segment, scope) for segment in segments]  # equal lots of each tensor
    sizes = [
        size
        for segment, count in zip(segments, lots, strict=True)
        for size in [segment.size // count] * count
    ]
    if ratios.dim() == 2:  # one per layer; a bias goes with the weights of its layer
        layers = [segment.layer for segment in architecture.prunable_segments]
        ratios = ratios[:, [layers.index(segment.layer) for segment in segments]]
        return sizes, ratios.repeat_interleave(torch.tensor(lots), dim=1)
    return sizes, ratios.view(-1, 1).expand(-1, len(sizes))


def _pruned(twins: Population, segments: list[Segment], sizes: list[int]) -> Tensor | None:
    """How many weights of each lot the masks prune: int64 [N, L]."""
    if (masks := twins.masks) is None:
        return None
    gone = torch.cat([~masks[:, segment.slice] for segment in segments], dim=1).to("cpu", torch.int32)
    before = torch.nn.functional.pad(gone.cumsum(1), (1, 0))[:, _starts(sizes)]
    return before.diff(dim=1)


def pattern_sparsity(architecture: Architecture, pattern: Pattern) -> float:
    """The share of prunable weights that a pattern prunes."""
    sizes = list(_groups(architecture.prunable_segments, pattern.m))
    return sum(map(pattern.pruned, sizes)) / sum(sizes)


def _lots(segment: Segment, scope: str) -> int:
    """How many selections there are in a tensor; a bias is one.

    Raises:
        InputError: selections by output in a tensor whose outputs do not lie one after the other.
    """
    if scope != "output" or not segment.prunable:
        return 1
    if segment.output_axis != 0:
        raise InputError(
            f"{segment.name!r} is of a transposed convolution, whose outputs lie apart in its weight: scope 'output' "
            "and N:M patterns cannot prune it; take scope 'layer', or leave it out with prunable=…"
        )
    return segment.shape[0]


def _groups(segments: list[Segment] | tuple[Segment, ...], m: int) -> Iterator[int]:
    """Sizes of the groups of at most `m` consecutive inputs, output by output."""
    for segment in segments:
        outputs = _lots(segment, "output")
        full, rest = divmod(segment.size // outputs, m)
        for _ in range(outputs):
            yield from [m] * full + [rest] * (rest > 0)


def _starts(sizes: list[int]) -> list[int]:
    return list(accumulate(sizes, initial=0))
