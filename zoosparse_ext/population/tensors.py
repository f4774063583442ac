"""The tensors of a population that have a row for every model, by the names that files have them under.

What was learned beside the weights is `learned.<name>`; log σ² is `log_sigma2`, as it was before there was anything
else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from zoosparse_ext.population.population import Population

PLAIN = ("weights", "packed_masks", "log_sigma2", "predictions", "counts")
LEARNED = "learned."


def tensors_of(population: Population) -> dict[str, Tensor]:
    """The tensors that a population has."""
    plain = {name: getattr(population, name) for name in PLAIN}
    others = {f"{LEARNED}{name}": of for name, of in population.learned.items() if name not in PLAIN}
    return {name: tensor for name, tensor in {**plain, **others}.items() if tensor is not None}


def set_tensor(population: Population, name: str, tensor: Tensor) -> None:
    """Give a population one of them."""
    if name in PLAIN:
        setattr(population, name, tensor)
    else:
        population.learned[name.removeprefix(LEARNED)] = tensor


def is_known(name: str) -> bool:
    """Whether a tensor of this name, which may come from a file, is one of them.

    >>> is_known("log_sigma2"), is_known("learned.log_alpha"), is_known("learned.../weights")
    (True, True, False)
    """
    return name in PLAIN or (name.startswith(LEARNED) and name.removeprefix(LEARNED).isidentifier())


def as_arguments(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Such tensors as arguments of :class:`Population`."""
    plain = {name: tensor for name, tensor in tensors.items() if name in PLAIN}
    learned = {name.removeprefix(LEARNED): of for name, of in tensors.items() if name not in PLAIN}
    return {**plain, "learned": learned}
