"""Which weights of a twin go: what is compared with what, and how many are pruned of each lot."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import pandas as pd
import torch
from torch import Tensor

from zoosparse_ext import ops
from zoosparse_ext.errors import InputError
from zoosparse_ext.population.architecture import Architecture, Segment
from zoosparse_ext.population.population import Population
from zoosparse_ext.sparsify.scopes import Pattern, chosen_scope, outputs


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
            ratios: float64 [N], or [N, S] per prunable layer (scopes that take it), or a pattern.
            scope: the name of one; a pattern takes its place.
            biases: prune biases as well.

        Raises:
            InputError: fewer are to go of a lot than its masks prune already; names model, layer and both shares. A
                scope that is not known, or cannot prune a tensor or reach a sparsity.
        """
        segments = candidates(twins.architecture, biases)
        n = len(twins)
        wanted: Tensor | None = None
        if isinstance(ratios, Pattern):
            sizes = ratios.groups(segments)
            counts = torch.tensor([ratios.pruned(size) for size in sizes]).expand(n, -1)
        else:
            sizes, wanted = chosen_scope(scope).lots(twins.architecture, segments, ratios)
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
        if self.sizes[lot] == segment.size:
            return f"layer {segment.layer!r}"
        return f"layer {segment.layer!r}, output {start // (segment.size // outputs(segment))}"


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


def _pruned(twins: Population, segments: list[Segment], sizes: list[int]) -> Tensor | None:
    """How many weights of each lot the masks prune: int64 [N, L]."""
    if (masks := twins.masks) is None:
        return None
    gone = torch.cat([~masks[:, segment.slice] for segment in segments], dim=1).to("cpu", torch.int32)
    before = torch.nn.functional.pad(gone.cumsum(1), (1, 0))[:, _starts(sizes)]
    return before.diff(dim=1)


def _starts(sizes: list[int]) -> list[int]:
    return list(accumulate(sizes, initial=0))
