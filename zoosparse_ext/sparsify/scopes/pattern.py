"""N:M patterns, which take the place of a scope and a sparsity."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from zoosparse_ext.errors import InputError
from zoosparse_ext.population.architecture import Architecture, Segment
from zoosparse_ext.sparsify.scopes.base import outputs


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

    def groups(self, segments: Sequence[Segment]) -> list[int]:
        """Sizes of the groups of at most `m` consecutive inputs, output by output.

        Raises:
            InputError: a tensor whose outputs do not lie one after the other.
        """
        sizes = []
        for segment in segments:
            count = outputs(segment)
            full, rest = divmod(segment.size // count, self.m)
            sizes += ([self.m] * full + [rest] * (rest > 0)) * count
        return sizes


def pattern_sparsity(architecture: Architecture, pattern: Pattern) -> float:
    """The share of prunable weights that a pattern prunes."""
    sizes = pattern.groups(architecture.prunable_segments)
    return sum(map(pattern.pruned, sizes)) / sum(sizes)
