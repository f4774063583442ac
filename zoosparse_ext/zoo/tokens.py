"""Rows of weights as sequences of tokens, one per unit of a network, and back."""

from __future__ import annotations

import torch
from torch import Tensor

from zoosparse_ext.errors import InputError
from zoosparse_ext.population.architecture import Architecture


class Tokens:
    """How a row [P] becomes tokens [T, D] and back.

    A token holds the weights into one unit and its bias, filled up with zeros; units with more than `size` weights take
    several. Nothing is lost or repeated.

    >>> from torch import nn
    >>> chain = nn.Sequential(nn.Flatten(), nn.Linear(3, 2), nn.Linear(2, 1))
    >>> tokens = Tokens(Architecture.from_module(chain))
    >>> tokens.of(torch.arange(11.0))
    tensor([[ 0.,  1.,  2.,  6.],
            [ 3.,  4.,  5.,  7.],
            [ 8.,  9., 10.,  0.]])
    >>> tokens.positions.tolist()  # of the token, its layer, its unit
    [[0, 0, 0], [1, 0, 1], [2, 1, 0]]
    >>> tokens.rows(tokens.of(torch.arange(11.0))).equal(torch.arange(11.0))
    True

    Args:
        architecture: what the columns mean.
        size: D; None: the largest number of weights of a unit.

    Attributes:
        mask: bool [T, D], False where a token is filled up.
        positions: int64 [T, 3], the place of a token in the sequence, its layer, and its unit within the layer.

    Raises:
        InputError: a size below 1.

    Source: Schürholt et al., "Towards Scalable and Versatile Weight Space Learning", ICML 2024.
    """

    def __init__(self, architecture: Architecture, size: int | None = None) -> None:
        if size is not None and size < 1:
            raise InputError(f"token_size is {size}, expected 1 or more")
        units = _units(architecture)
        self.size = max(len(columns) for _, _, columns in units) if size is None else size
        parts = [
            (layer, unit, columns[start : start + self.size])
            for layer, unit, columns in units
            for start in range(0, len(columns), self.size)
        ]
        self.mask = torch.zeros(len(parts), self.size, dtype=torch.bool)
        self._columns = torch.zeros(len(parts), self.size, dtype=torch.int64)
        for place, (_, _, columns) in enumerate(parts):
            self.mask[place, : len(columns)] = True
            self._columns[place, : len(columns)] = columns
        self.positions = torch.tensor([(place, layer, unit) for place, (layer, unit, _) in enumerate(parts)])
        self._places = torch.empty(architecture.n_parameters, dtype=torch.int64)  # of columns, among T·D
        self._places[self._columns[self.mask]] = self.mask.flatten().nonzero()[:, 0]

    def __len__(self) -> int:
        return len(self.mask)

    def of(self, rows: Tensor) -> Tensor:
        """Tokens [..., T, D] of rows [..., P]."""
        return rows[..., self._columns] * self.mask

    def rows(self, tokens: Tensor) -> Tensor:
        """Rows [..., P] of tokens [..., T, D]; what stands where they are filled up is ignored."""
        return tokens.flatten(-2)[..., self._places]


def _units(architecture: Architecture) -> list[tuple[int, int, Tensor]]:
    """Layer, unit and columns of every unit: its row of each tensor of the layer, weight before bias."""
    layers: dict[str, list[Tensor]] = {}
    for segment in architecture.segments:
        columns = torch.arange(segment.slice.start, segment.slice.stop)
        layers.setdefault(segment.layer, []).append(
            columns.reshape(segment.shape[0] if segment.shape else 1, -1)
        )
    units = []
    for number, tensors in enumerate(layers.values()):
        for unit in range(max(len(tensor) for tensor in tensors)):
            rows = [tensor[unit] for tensor in tensors if unit < len(tensor)]
            units.append((number, unit, torch.cat(rows)))
    return units
