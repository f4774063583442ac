"""Which weights of a twin go: what is compared with what, and how many are pruned of each lot."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from zoosparse_ext import ops
from zoosparse_ext.errors import InputError
from zoosparse_ext.population.architecture import Architecture, Segment
from zoosparse_ext.population.population import Population
from zoosparse_ext.sparsify.floors import Floor, starts, sums
from zoosparse_ext.sparsify.schedules import Phase
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
        floor: what stays at least; None where nothing must.
    """

    segments: list[Segment]
    sizes: list[int]
    ratios: Tensor | None
    counts: Tensor
    pruned: Tensor | None
    floor: Floor | None = None

    @classmethod
    def of(
        cls,
        twins: Population,
        ratios: Tensor | Pattern,
        scope: str = "global",
        biases: bool = False,
        min_kept: int = 0,
    ) -> Lots:
        """The lots of a scope, or of a pattern.

        Args:
            twins: N models; what their masks prune stays pruned.
            ratios: float64 [N], or [N, S] per prunable layer (scopes that take it), or a pattern.
            scope: the name of one; a pattern takes its place.
            biases: prune biases as well.
            min_kept: how many weights of every layer and output stay at least, see :class:`.Floor`.

        Raises:
            InputError: fewer are to go of a lot than its masks prune already; names model, layer and both shares. More
                are to go than `min_kept` allows, or are gone already; names model and layer or output. A scope that is
                not known, or cannot prune a tensor or reach a sparsity.
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
        gone = _gone(twins, segments)
        floor = Floor.of(segments, min_kept) if min_kept else None
        lots = cls(segments, sizes, wanted, counts, None if gone is None else sums(gone, sizes), floor)
        lots._refuse_fewer(twins, ratios if isinstance(ratios, Pattern) else None)
        lots._refuse_below_floor(twins, gone)
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

    def at_phase(self, phase: Phase) -> Tensor:
        """How many go in a phase of a schedule: int64 [N, L]."""
        if phase.compound and phase.fraction != 1.0:
            return self.at_density(phase.fraction, self.counts)
        return self.at(phase.fraction)

    def at_density(self, exponent: float, counts: Tensor) -> Tensor:
        """How many go on the way to `counts` [N, L], the share that stays being multiplied with the same factor in each
        of several rounds: (what stays in the end) ** exponent of what is there; int64 [N, L]."""
        sizes = torch.tensor(self.sizes, dtype=torch.float64)
        there = torch.zeros_like(self.counts) if self.pruned is None else self.pruned
        left = sizes - there
        share = (sizes - counts) / left.clamp(min=1)
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

    def _refuse_below_floor(self, twins: Population, gone: Tensor | None) -> None:
        if self.floor is None:
            return
        models = twins.models.get("source_id", pd.Series(twins.ids))
        least = f"min_kept = {self.floor.least}"
        if gone is not None and (lacking := self.floor.lacking(gone)):
            row, words = lacking
            raise InputError(
                f"model {models[row]!r}, {least}: {words}; pruned weights stay pruned: take a smaller min_kept, or the "
                "model that it came from"
            )
        if found := self.floor.contradiction(self.sizes, self.counts):
            row, lot, words = found
            where = f" in {self._name(lot)}" if len(self.sizes) > 1 else ""
            raise InputError(
                f"model {models[row]!r}, {least}{where}: {words}; ask for less sparsity, or take a smaller min_kept"
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

    What the masks prune stays pruned, and goes into the count; what is zero besides goes next. Of equal scores the
    lower column goes first. Where there is a floor, the largest scores of every output stay, and others go instead.

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
    if lots.floor is not None:
        kept = lots.floor.mask(scores[:, columns], counts, lots.sizes)
    elif len(lots.sizes) == 1:
        kept = ops.magnitude_mask(scores[:, columns], counts[:, 0])
    else:
        kept = ops.magnitude_mask(scores[:, columns], counts, segments=starts(lots.sizes))
    masks[:, columns] = kept
    twins.packed_masks = ops.pack_mask(masks)
    ops.apply_mask_(twins.weights, twins.packed_masks)


def _gone(twins: Population, segments: list[Segment]) -> Tensor | None:
    """What the masks prune of the weights that may be pruned: bool [N, C]."""
    if (masks := twins.masks) is None:
        return None
    return torch.cat([~masks[:, segment.slice] for segment in segments], dim=1)
