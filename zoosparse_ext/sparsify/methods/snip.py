"""SNIP: what removing a weight changes in the loss on one mini-batch, meant for networks at initialization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from zoosparse_ext import random
from zoosparse_ext.data import Split
from zoosparse_ext.options import option
from zoosparse_ext.population.population import Population, chunks
from zoosparse_ext.sparsify.gradients import loss_gradients, require_finite
from zoosparse_ext.sparsify.methods.base import Ranking, register

MODELS = 16  # whose random numbers, one for each image of the training, are held at a time


@register
@dataclass(frozen=True)
class Snip(Ranking):
    """|w · ∂L/∂w|, L being the mean cross-entropy on a mini-batch of each model's own, without dropout.

    >>> import zoosparse_ext as zs
    >>> data = zs.load_dataset("digits").limit(100)
    >>> population = zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(2))
    >>> zs.magnitude_prune(population, 0.9, data=data, score="snip").sparsity()[0].item() == round(0.9 * 2416) / 2416
    True

    The paper divides the scores of a model by their sum. That does not change which are smallest, and is left out.
    The mini-batch is drawn by the model's seed and the seed of the pruning. Where it is all training images, scores
    are those of `gradient`, within rounding. A weight of zero scores zero: twins that are pruned further lose more, and
    biases that begin at zero go first.

    Args:
        images: of the mini-batch; all, where the training has fewer.

    Source: Lee, Ajanthan, Torr, "SNIP: Single-shot Network Pruning based on Connection Sensitivity", ICLR 2019.
    """

    name: ClassVar[str] = "snip"
    label: ClassVar[str] = "SNIP"
    phrase: ClassVar[str] = "SNIP pruning"
    source: ClassVar[str] = "Lee, Ajanthan, Torr 2019"
    needs_images: ClassVar[bool] = True
    is_random: ClassVar[bool] = True

    images: int = option(128, "Number of training images that each network is scored on.", low=1)

    def score(self, population: Population, images: Split | None, seed: int) -> Tensor:
        assert images is not None
        order = _drawn(population.seeds, seed, len(images), min(self.images, len(images)))
        gradient = loss_gradients(population, images, order)
        return require_finite(self.name, population, (population.weights.detach() * gradient).abs())


def _drawn(seeds: Tensor, seed: int, available: int, count: int) -> Tensor:
    """Which images each model is shown, in ascending order: int64 [N, count]."""
    stream = random.stream_id(random.RANDOM_PRUNING, 1)  # beside that of random pruning, which is 0
    places = torch.arange(available)
    drawn = []
    for rows in chunks(len(seeds), MODELS):
        words = random.random_words(seeds[rows], seed, available, step=0, stream=stream)[:, 0]
        keys = words << 31 | places  # so that no two are equal
        drawn.append(keys.topk(count, largest=False, sorted=False).indices.sort(1).values)
    return torch.cat(drawn)
