"""One verb for every method."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from zoosparse_ext.data import Dataset
from zoosparse_ext.errors import InputError
from zoosparse_ext.options import options_of
from zoosparse_ext.population.population import Population
from zoosparse_ext.population.training import Training
from zoosparse_ext.sparsify.learned import learn
from zoosparse_ext.sparsify.magnitude import magnitude_prune
from zoosparse_ext.sparsify.methods import (
    METHODS,
    LearnedMethod,
    Method,
    Ranking,
    chosen_method,
    method_class,
)


def sparsify(
    population: Population,
    method: str | Method = "magnitude",
    sparsity: float | Sequence[float] | Tensor | str | None = None,
    scope: str | None = None,
    *,
    data: Dataset | None = None,
    training: Training | None = None,
    **options: Any,
) -> Population:
    """Sparse twins of every model, by any method.

    >>> import zoosparse_ext as zs
    >>> data = zs.load_dataset("digits").limit(100)
    >>> population = zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(1, 5))
    >>> zs.sparsify(population, "synflow", 0.8, rounds=10).ids[0]
    'cnn-s-tanh-0001/synflow-global-rounds_10-0.8'
    >>> zs.sparsify(population, "variational", data=data, epochs=1, kl_scale=2.0).ids[0]
    'cnn-s-tanh-0001/variational-kl_2'

    Args:
        population: N models; stays as it is.
        method: the name of a method, or an object of one, see :mod:`zoosparse_ext.sparsify.methods`.
        sparsity: as of :func:`zoosparse_ext.magnitude_prune`, 0.8 by default; methods that learn it by themselves take
            none.
        scope: of methods that rank weights; ``"global"`` by default.
        data: images and labels.
        training: of the fine-tuning, or of the method that learns; its options are keywords as well.
        options: of the method, as `rounds` above, and what :func:`zoosparse_ext.magnitude_prune` and
            :func:`zoosparse_ext.learn` take.

    Returns:
        A `Population` of twins with masks and, given data, predictions and history.

    Raises:
        InputError: an unknown method, an option that it does not have, a sparsity or scope that it does not take, data
            that it needs; what the functions above refuse.
    """
    cls = method_class(method) if isinstance(method, str) else type(method)
    names = [item.name for item in options_of(cls)] if issubclass(cls, Method) else []
    chosen = chosen_method(method, **{name: options[name] for name in names if name in options})
    others = {name: value for name, value in options.items() if name not in names}
    for name in others:
        _require_option(chosen, name)
    if isinstance(chosen, Ranking):
        asked = 0.8 if sparsity is None else sparsity
        where = "global" if scope is None else scope
        return magnitude_prune(population, asked, where, data=data, training=training, score=chosen, **others)
    assert isinstance(chosen, LearnedMethod)
    if scope is not None:
        raise InputError(f"method {chosen.name!r} takes no scope, got {scope!r}; leave it out")
    if data is None:
        raise InputError(f"method {chosen.name!r} learns what to keep; pass data=…")
    if isinstance(sparsity, str):
        raise InputError(f"method {chosen.name!r} takes no pattern, got {sparsity!r}")
    return learn(population, data, chosen, sparsity, training=training, **others)


def _require_option(method: Method, name: str) -> None:
    """Raise InputError unless the method, or the function that carries it out, has an option of this name."""
    ranking, learning = (
        set(inspect.signature(of).parameters) - {"score", "method"} for of in (magnitude_prune, learn)
    )
    known = ranking if isinstance(method, Ranking) else learning
    if name in known:
        return
    own = [item.name for item in options_of(type(method))]
    elsewhere = {*ranking, *learning, *(item.name for cls in METHODS.values() for item in options_of(cls))}
    close = difflib.get_close_matches(name, [*own, *known], 1) if name not in elsewhere else []
    others = f"its own options are {', '.join(own)}" if own else "it has none of its own"
    told = f"did you mean {close[0]!r}?" if close else others
    raise InputError(f"method {method.name!r} has no option {name!r}; {told}")
