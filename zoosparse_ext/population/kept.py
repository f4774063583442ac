"""Epochs of a training that are kept: which, and the population as it was then."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from numbers import Integral

from zoosparse_ext.errors import InputError, require_kind
from zoosparse_ext.population.population import Population
from zoosparse_ext.population.tensors import as_arguments, tensors_of


def checked_epochs(keep: Sequence[int], epochs: int) -> frozenset[int]:
    """The epochs to keep of a run, 0 being what is there before the first step.

    >>> sorted(checked_epochs([5, 0], epochs=5))
    [0, 5]

    Raises:
        InputError: no sequence of whole numbers; an epoch that the run does not have; the same twice.
    """
    expected = "epochs to keep, such as (5, 10)"
    if isinstance(keep, str) or not isinstance(keep, Iterable):
        require_kind("keep", keep, (), expected)
    chosen = list(keep)
    for epoch in chosen:
        require_kind("keep", epoch, () if isinstance(epoch, bool) else Integral, expected)
        if not 0 <= epoch <= epochs:
            raise InputError(f"keep: epoch {epoch} is not one of this run, which has 0 … {epochs}")
    if twice := [int(epoch) for epoch, times in Counter(chosen).items() if times > 1]:
        raise InputError(f"keep: epoch {twice[0]} was given more than once; give each once")
    return frozenset(map(int, chosen))


def snapshot(population: Population) -> Population:
    """A copy of the networks, their table and their predictions, without history and what is kept."""
    copies = {name: tensor.detach().clone() for name, tensor in tensors_of(population).items()}
    models = population.models.copy()
    return Population.from_rows(architecture=population.architecture, models=models, **as_arguments(copies))
