"""Permutations of hidden units: other weights of the same function.

The units of a hidden layer have no order. If the rows of one layer and the columns of the next are permuted alike, the
network computes what it did before. Weight-space learning uses this to augment its data.

Source: Hecht-Nielsen, "On the algebraic structure of feedforward network weight spaces", 1990.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from zoosparse_ext.errors import InputError
from zoosparse_ext.population.architecture import Architecture


class Hidden(NamedTuple):
    """The units of one hidden layer, as columns of the matrix.

    Both indices are int64 [units, columns of a unit].
    """

    incoming: Tensor  # weights into a unit, and its bias
    outgoing: Tensor  # weights of the next layer that read it


class HiddenPermutations:
    """All ways to reorder the hidden units of an architecture.

    >>> from zoosparse_ext import Population, architecture
    >>> network = architecture("cnn-s")
    >>> population = Population.initialise(network, seeds=[1])
    >>> permutations = HiddenPermutations(network)
    >>> permutations.units
    [8, 6, 4, 20]
    >>> images = torch.rand(3, 1, 28, 28)
    >>> permuted = population.weights[:, permutations.random()]
    >>> torch.allclose(population.scores(permuted, images), population(images), atol=1e-5)
    True

    Args:
        architecture: a chain of convolution and linear layers, with anything that acts on each channel alone between
            them: pooling, activations, dropout, and a flatten.

    Raises:
        InputError: the architecture is no chain.
    """

    def __init__(self, architecture: Architecture) -> None:
        program = architecture.program
        if program is None or not program.is_chain:
            raise InputError(
                f"architecture {architecture.name!r} is no chain ({architecture.why_not_chain}), so it is not known "
                "which hidden units may be permuted; use augment=False"
            )
        self._columns = torch.arange(architecture.n_parameters)
        columns = architecture.unflatten(self._columns)
        layers = program.layers
        self._hidden: list[Hidden] = []
        for layer, following in pairwise(layers):
            units = layer.weight_shape[0]
            incoming = [columns[f"{layer.name}.weight"].reshape(units, -1)]
            if layer.bias:
                incoming.append(columns[f"{layer.name}.bias"].reshape(units, 1))
            # A flatten lays the H·W pixels of a channel side by side: the next layer reads H·W columns per channel.
            reading = columns[f"{following.name}.weight"].flatten(1)  # [outputs, units · pixels]
            outgoing = reading.unflatten(1, (units, -1)).transpose(0, 1).flatten(1)
            self._hidden.append(Hidden(torch.cat(incoming, dim=1), outgoing))

    @property
    def units(self) -> list[int]:
        """Number of units of each hidden layer."""
        return [len(hidden.incoming) for hidden in self._hidden]

    def random(self, generator: torch.Generator | None = None) -> Tensor:
        """An index of columns, int64 [P], for uniformly random orders: ``weights[..., index]``. Masks take it too."""
        return self.index([torch.randperm(units, generator=generator) for units in self.units])

    def index(self, orders: Sequence[Tensor]) -> Tensor:
        """An index of columns, int64 [P], for given orders: unit i becomes what unit ``order[i]`` was.

        >>> from torch import nn
        >>> chain = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False), nn.Linear(2, 1, bias=False))
        >>> HiddenPermutations(Architecture.from_module(chain)).index([torch.tensor([1, 0])])
        tensor([1, 0, 3, 2])

        Args:
            orders: one permutation per hidden layer, int64 [units].

        Raises:
            InputError: an order is no permutation of its units.
        """
        if [sorted(order.tolist()) for order in orders] != [list(range(units)) for units in self.units]:
            raise InputError(f"expected a permutation of each of {self.units} units")
        index = self._columns.clone()
        for hidden, order in zip(self._hidden, orders, strict=True):
            for (
                mine
            ) in hidden:  # a layer is permuted twice: in rows by its own order, in columns by the one before
                index[mine] = index[mine[order]]
        return index
