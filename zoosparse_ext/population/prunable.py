"""Which parameters of a module pruning may remove."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from torch import nn

from zoosparse_ext.errors import InputError

Prunable = str | Sequence[str] | Callable[[str, nn.Parameter], bool]
"""A name or pattern such as ``"encoder.*.weight"``, several of them, or a function of name and parameter."""

_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm)
_WEIGHT = re.compile(r"weight|^w\d*$|^kernel$", re.IGNORECASE)  # in the last part of a name


def prunable_names(module: nn.Module, chosen: Prunable | None = None) -> frozenset[str]:
    """Names of the parameters that pruning may remove.

    By default every trained matrix of weights: those of convolutions, transposed ones too, of linear, bilinear and
    recurrent layers, and of attention. Biases, norms, embeddings, frozen parameters and other tensors stay.

    >>> sorted(prunable_names(nn.GRU(4, 3)))
    ['weight_hh_l0', 'weight_ih_l0']
    >>> sorted(prunable_names(nn.GRU(4, 3), "weight_ih_*"))
    ['weight_ih_l0']

    Args:
        module: whose parameters they are.
        chosen: names or patterns (as in `fnmatch`), or a function that says of a name and a parameter whether it may be
            pruned; these decide alone. None: the default.

    Raises:
        InputError: a name or pattern that no parameter has.
    """
    parameters = dict(module.named_parameters())
    if chosen is None:
        return frozenset(name for name in parameters if not why_kept(module, name))
    if callable(chosen):
        return frozenset(name for name, parameter in parameters.items() if chosen(name, parameter))
    patterns = [chosen] if isinstance(chosen, str) else list(chosen)
    return frozenset(name for pattern in patterns for name in _matching(pattern, parameters))


def why_kept(module: nn.Module, name: str) -> str:
    """Why a parameter is not pruned by default; empty if it is.

    >>> why_kept(nn.Embedding(5, 3), "weight")
    'an embedding'
    """
    parameter = module.get_parameter(name)
    path, _, last = name.rpartition(".")
    owner = module.get_submodule(path)
    if isinstance(owner, _EMBEDDINGS):
        return "an embedding"
    if isinstance(owner, _NORMS):
        return "a norm"
    if parameter.dim() < 2 or _WEIGHT.search(last) is None:
        return "a bias" if "bias" in last else "no matrix of weights"
    return "" if parameter.requires_grad else "frozen"


def left_out(module: nn.Module, prunable: Iterable[str]) -> Mapping[str, str]:
    """The matrices that are not prunable by default though they have many weights, each with the reason.

    >>> left_out(nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 2)), ["1.weight"])
    {'0.weight': 'an embedding'}
    """
    known = set(prunable)
    return {
        name: why_kept(module, name)
        for name, parameter in module.named_parameters()
        if parameter.dim() >= 2 and name not in known and why_kept(module, name) not in ("a bias", "a norm")
    }


def _matching(pattern: str, names: Iterable[str]) -> list[str]:
    found = [name for name in names if name == pattern or fnmatchcase(name, pattern)]
    if not found:
        raise InputError(f"prunable: no parameter is called {pattern!r}; there are {', '.join(names)}"[:400])
    return found
