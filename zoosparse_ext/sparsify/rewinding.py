"""Rewinding: twins go back to an earlier epoch of the training of their models, with what is pruned held at zero.

Source: Frankle, Carbin, "The Lottery Ticket Hypothesis: Finding Sparse, Trainable Neural Networks", ICLR 2019.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from zoosparse_ext import ops
from zoosparse_ext.errors import InputError, require_kind
from zoosparse_ext.population.population import Population, require_numbers
from zoosparse_ext.sparsify.pruning import Pruning


@dataclass(frozen=True)
class Rewinding:
    """Where twins go back to, and when.

    Args:
        models: the N models as they were after that epoch, with the masks that they have now; None: twins stay.
        before_scores: they go back before weights are ranked, and not only afterwards.
    """

    models: Population | None = None
    before_scores: bool = False

    @classmethod
    def of(
        cls, pruning: Pruning, population: Population, given: Population | None, *, allow_nan: bool = False
    ) -> Rewinding:
        """That of some models.

        Args:
            population: N models.
            given: the models as they were, in place of `population.kept`; rows are found by `model_id`.
            allow_nan: keep NaN weights.

        Raises:
            InputError: the epoch was not kept; what is given is not these models, or not needed.
        """
        if given is not None:
            require_kind("rewound", given, Population, "a population, such as population.kept[2]")
            if pruning.rewind_to is None or pruning.rewind == "lr":
                raise InputError(
                    "rewound=… is given, but no weights are rewound; pass rewind_to=… with rewind='weights'"
                )
        if pruning.rewind_to is None or pruning.rewind == "lr":
            return cls()
        models = _like(population, _kept(population, pruning.rewind_to) if given is None else given)
        if not allow_nan:
            require_numbers(models)
        return cls(models, pruning.score_at == "rewound")

    def scored(self, population: Population) -> Population:
        """The models whose weights are ranked first."""
        return self.models if self.models is not None and self.before_scores else population

    def before_(self, twins: Population) -> None:
        """Go back before weights are ranked, in place, where that is asked for."""
        if self.before_scores:
            self.after_(twins)

    def after_(self, twins: Population) -> None:
        """Go back, in place; R × N twins, N of each ratio. What their masks prune is zero."""
        if self.models is None:
            return
        copies = len(twins) // len(self.models)
        twins.weights.copy_(self.models.weights.repeat(copies, 1))
        if twins.packed_masks is not None:
            ops.apply_mask_(twins.weights, twins.packed_masks)
        if twins.counts is not None and self.models.counts is not None:
            twins.counts.copy_(self.models.counts.repeat(copies, 1))


def require_new_optimizer(pruning: Pruning, optimizer_state: str) -> None:
    """Raise InputError where a training from an earlier epoch is to begin with the moments of a later one."""
    if pruning.rewind_to is not None and optimizer_state != "new":
        raise InputError(
            f"optimizer_state is {optimizer_state!r}, the moments at the end of the training; what is rewound "
            f"to epoch {pruning.rewind_to} starts with new ones: pass optimizer_state='new'"
        )


def _kept(population: Population, epoch: int) -> Population:
    if epoch in population.kept:
        return population.kept[epoch]
    there = ", ".join(map(str, sorted(population.kept)))
    others = f"only after {there}" if there else "nor after any other"
    raise InputError(
        f"rewind_to: the models were not kept as they were after epoch {epoch}, {others}; train them with "
        f"keep=({epoch},), or pass them as they were: rewound=…"
    )


def _like(population: Population, rewound: Population) -> Population:
    """Earlier models in the rows of a population, with its table and masks."""
    ours, theirs = ([(s.name, s.shape) for s in p.layers()] for p in (population, rewound))
    if ours != theirs:
        raise InputError(
            f"rewound has networks {rewound.architecture.name!r} of other tensors than those to prune, "
            f"{population.architecture.name!r}; pass these models as they were earlier"
        )
    if rewound.weights.dtype != population.weights.dtype:
        raise InputError(
            f"rewound has weights of {rewound.weights.dtype}, the models to prune have {population.weights.dtype}; "
            "pass them in the same type"
        )
    names, there = list(population.models["model_id"]), list(rewound.models["model_id"])
    rows: slice | Tensor = slice(None)
    if names != there:
        places = {name: row for row, name in enumerate(there)}
        if lost := next((name for name in names if name not in places), None):
            raise InputError(
                f"rewound lacks model {lost!r}; it has {len(there)} models, the first is "
                f"{there[0] if there else None!r}"
            )
        if len(places) < len(there):
            raise InputError(
                f"rewound has model {next(n for n in there if there.count(n) > 1)!r} more than once; pass it once"
            )
        rows = torch.tensor([places[name] for name in names])
    like = population.weights
    weights = rewound.weights.detach()[rows].to(like.device, copy=True)
    if population.packed_masks is not None:
        ops.apply_mask_(weights, population.packed_masks)
    return Population.from_rows(
        weights,
        population.architecture,
        population.models,
        packed_masks=population.packed_masks,
        counts=None if rewound.counts is None else rewound.counts[rows],
    )
