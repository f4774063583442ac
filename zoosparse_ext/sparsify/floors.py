"""Floors: how many weights of every layer and output stay at least, whatever their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from zoosparse_ext import ops
from zoosparse_ext.errors import InputError
from zoosparse_ext.population.architecture import Segment


@dataclass(frozen=True)
class Floor:
    """Groups of weights of which some stay: those of every output, and so of every layer.

    A vector, and the weight of a grouped transposed convolution, whose outputs cannot be told apart, are one group. A
    bias has no floor.

    Args:
        least: how many weights of a group stay at least; all, where it has fewer.
        order: int64 [C], the columns that may be pruned, those of a group one after the other.
        names: of the G groups.
        sizes: of the groups.
        kept: how many weights of each group stay at least.
    """

    least: int
    order: Tensor
    names: list[str]
    sizes: list[int]
    kept: list[int]

    @classmethod
    def of(cls, segments: Sequence[Segment], least: int) -> Floor:
        """The floor of the tensors that may be pruned.

        >>> floor = Floor.of([Segment("fc.weight", 0, (2, 3), prunable=True)], least=1)
        >>> floor.names, floor.sizes, floor.kept
        (["output 0 of layer 'fc'", "output 1 of layer 'fc'"], [3, 3], [1, 1])
        """
        orders, names, sizes, kept, start = [], [], [], [], 0
        for segment in segments:
            columns = torch.arange(start, start + segment.size)
            start += segment.size
            groups, name = columns.view(1, -1), f"layer {segment.layer!r}"
            if segment.prunable and len(segment.shape) > 1 and segment.output_axis is not None:
                groups = columns.view(segment.shape).movedim(segment.output_axis, 0).flatten(1)
                names += [f"output {number} of {name}" for number in range(len(groups))]
            else:
                names.append(name)
            orders.append(groups.flatten())
            sizes += [groups.shape[1]] * len(groups)
            kept += [min(least, groups.shape[1]) if segment.prunable else 0] * len(groups)
        return cls(least, torch.cat(orders), names, sizes, kept)

    def mask(self, scores: Tensor, counts: Tensor, lots: list[int]) -> Tensor:
        """Which weights stay when the smallest scores of each lot go, but for the largest of every group.

        Of equal scores the lower column goes first, so the higher ones are those that a group keeps.

        Args:
            scores: [N, C].
            counts: int64 [N, L], how many go of each lot.
            lots: their sizes.

        Returns:
            bool [N, C], True = kept; exactly `counts` of every lot are False.
        """
        if not self._within(lots):
            return ops.magnitude_mask(scores, counts, segments=starts(lots))
        able = torch.tensor(self.sizes) - torch.tensor(self.kept)
        largest = torch.empty_like(scores, dtype=torch.bool)
        largest[:, self.order] = ops.magnitude_mask(scores[:, self.order], able, segments=starts(self.sizes))
        left = [size - floor for size, floor in zip(lots, self._floors(lots), strict=True)]
        rest = (~largest).nonzero()[:, 1].view(len(scores), sum(left))  # what may go, as much in every model
        stays = ops.magnitude_mask(scores.gather(1, rest), counts, segments=starts(left))
        return torch.ones_like(largest).scatter_(1, rest, stays)

    def contradiction(self, lots: list[int], counts: Tensor) -> tuple[int, int, str] | None:
        """The first model and lot of which more weights are to go than the floor lets go, and in words why.

        Args:
            lots: sizes of the L lots.
            counts: int64 [N, L], how many go of each.
        """
        sizes = torch.tensor(lots)
        if self._within(lots):
            floors = torch.tensor(self._floors(lots))
            bad = (counts > sizes - floors).nonzero()
            if not len(bad):
                return None
            row, lot = (int(place) for place in bad[0])
            words = (
                f"{int(counts[row, lot])} of {lots[lot]} weights are to go, and it keeps {int(floors[lot])}"
            )
            return row, lot, words
        places = {start: place for place, start in enumerate(starts(lots))}
        bounds = torch.tensor([places[start] for start in starts(self.sizes)])  # of the groups, in lots
        left = torch.nn.functional.pad((sizes - counts).cumsum(1), (1, 0))[:, bounds].diff(dim=1)  # [N, G]
        bad = (left < torch.tensor(self.kept)).nonzero()
        if not len(bad):
            return None
        row, group = (int(place) for place in bad[0])
        words = f"{int(left[row, group])} of {self.sizes[group]} weights would stay, and it keeps {self.kept[group]}"
        return row, int(bounds[group]), words

    def lacking(self, gone: Tensor) -> tuple[int, str] | None:
        """The first model of which a group has fewer weights left than it is to keep, and in words which.

        Args:
            gone: bool [N, C], what masks prune already.
        """
        left = torch.tensor(self.sizes) - sums(gone[:, self.order], self.sizes)
        bad = (left < torch.tensor(self.kept)).nonzero()
        if not len(bad):
            return None
        row, group = (int(place) for place in bad[0])
        words = (
            f"{self.names[group]} has {int(left[row, group])} weights left, and it keeps {self.kept[group]}"
        )
        return row, words

    def _within(self, lots: list[int]) -> bool:
        """Whether every group lies within a lot; otherwise every lot lies within a group.

        Raises:
            InputError: neither.
        """
        ends, inner = set(accumulate(lots)), set(accumulate(self.sizes))
        if not (ends <= inner or inner <= ends):
            raise InputError(
                "min_kept: the scope compares weights of several outputs, and not all of theirs; take another scope"
            )
        return ends <= inner

    def _floors(self, lots: list[int]) -> list[int]:
        """How many weights of each lot stay at least, where groups lie within lots."""
        kept = dict(zip(accumulate(self.sizes), accumulate(self.kept), strict=True))
        ends = [kept[end] for end in accumulate(lots)]
        return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def starts(sizes: list[int]) -> list[int]:
    """Where ranges of columns begin, and the last one ends."""
    return list(accumulate(sizes, initial=0))


def sums(marks: Tensor, sizes: list[int]) -> Tensor:
    """How many columns of each range are marked: int64 [N, L] of bool [N, C], on the CPU."""
    counted = marks.to("cpu", torch.int32).cumsum(1)
    return torch.nn.functional.pad(counted, (1, 0))[:, starts(sizes)].diff(dim=1)
