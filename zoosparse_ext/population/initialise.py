"""Initial weights: PyTorch's initialisers, one generator per model, so that a model depends on its seed alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from zoosparse_ext.errors import InputError
from zoosparse_ext.population.architecture import Architecture

INITIALISATIONS: dict[str, Callable[..., Tensor]] = {
    "xavier_uniform": nn.init.xavier_uniform_,
    "xavier_normal": nn.init.xavier_normal_,
    "kaiming_uniform": nn.init.kaiming_uniform_,
    "kaiming_normal": nn.init.kaiming_normal_,
    "uniform": partial(nn.init.uniform_, a=0.0, b=1.0),
    "normal": partial(nn.init.normal_, mean=0.0, std=1.0),
}
BIAS = 0.01  # where the biases of the published zoos start


def initialise(architecture: Architecture, seeds: Sequence[int] | range, init: str | Sequence[str]) -> Tensor:
    """Weights float32 [N, P], one row per seed; `init` is one name, or one per seed.

    Prunable weights are drawn by `init`, biases are 0.01; norms and buffers start as the module starts them.

    Raises:
        InputError: an unknown initialisation, or another number of them than of seeds.
    """
    names = [init] * len(seeds) if isinstance(init, str) else list(init)
    if len(names) != len(seeds):
        raise InputError(
            f"init names {len(names)} initialisations for {len(seeds)} seeds; give one, or one per seed"
        )
    for name in set(names) - set(INITIALISATIONS):
        raise InputError(f"unknown initialisation {name!r}; known: {', '.join(INITIALISATIONS)}")
    start = architecture.module().state_dict()
    rows = torch.empty(len(seeds), architecture.n_parameters)
    for row, seed, name in zip(rows, seeds, names, strict=True):
        generator = torch.Generator().manual_seed(int(seed))
        for segment in architecture.segments:
            view = row[segment.slice].view(segment.shape)
            if segment.prunable:
                INITIALISATIONS[name](view, generator=generator)
            elif segment.name.endswith("bias") and f"{segment.layer}.weight" in architecture.prunable_names:
                view.fill_(BIAS)
            else:
                view.copy_(start[segment.name])
    return rows
