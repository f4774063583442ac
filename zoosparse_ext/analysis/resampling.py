"""Models and test images drawn again, with the same draws for every number of a study.

Predictions per image are stored, so nothing is run again: a resampled accuracy is a product of the correctness of every
model, [n, M], with how often every image is drawn, [M, R]. More than :data:`GROUPS` images are dealt at random into as
many groups, and groups are drawn: sums over such groups are exchangeable, so that the variance stays right, and the
product is M / GROUPS times as small.

A mean of M images is never surer than ± 2 / M (one standard deviation): of what none of M images shows, up to 3 / M may
be there (rule of three). Where the images of a study differ less than that, all models are shifted together by as much
as is lacking, so that 20 images on which all models agree do not pass for certainty.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from zoosparse_ext.analysis.groups import Array

RESAMPLES = 2000
GROUPS = 500  # of images: their deviation is known to 1/√(2 · 499), 3 %
_SEED = 20230425  # one for all, so that every table of a study sees the same draws
_LEAST = 2.0  # images: the least standard deviation of a sum over images
_CHUNK_ELEMENTS = 8_000_000  # held at once


class Replicates(NamedTuple):
    """Means over images of every model: as measured, over resampled images, and over the groups of images."""

    values: Array  # [n] float64
    resampled: Array  # [n, R] float32
    groups: Array  # [n, G] float64: means over each group of images
    images: int


def image_means(matrix: Array) -> Replicates:
    """Means over images, [n], of a quantity of every model and image, and the same over resampled images, [n, R].

    >>> correct = np.array([[True, True, False, True], [True, True, True, True]])
    >>> means = image_means(correct)
    >>> means.values.tolist(), means.resampled.shape, means.images
    ([0.75, 1.0], (2, 2000), 4)

    Args:
        matrix: [n, M], bool or numbers: correctness, equality of predictions, differences of correctness. Row by row
            any function of several of these means is resampled by computing it from the replicates of each.

    Returns:
        `values` [n], `resampled` [n, R], `groups` [n, min(M, GROUPS)], and M. No images: NaN.
    """
    n, images = matrix.shape
    if images == 0:
        return Replicates(
            np.full(n, np.nan), np.full((n, RESAMPLES), np.nan, np.float32), np.empty((n, 0)), 0
        )
    order, sizes = _dealt(images)
    count = len(sizes)
    rounds, rest = divmod(images, count)
    sums = np.empty((n, count), np.float64)
    wide = np.int32 if matrix.dtype.kind in "biu" else np.float64
    step = max(1, _CHUNK_ELEMENTS // images)
    for row in range(0, n, step):
        dealt = np.take(matrix[row : row + step], order, axis=1)
        whole = dealt[:, : rounds * count].reshape(len(dealt), rounds, count)
        sums[row : row + step] = whole.sum(axis=1, dtype=wide)
        sums[row : row + step, :rest] += dealt[:, rounds * count :]
    drawn = _drawn_groups(count)  # [G, R]
    resampled = sums.astype(np.float32) @ drawn
    resampled /= sizes.astype(np.float32) @ drawn
    groups = sums / sizes
    seen = groups.mean(axis=0).var() / count
    if (lacking := (_LEAST / images) ** 2 - seen) > 0:
        resampled += np.float32(np.sqrt(lacking)) * _shifts()
    return Replicates(sums.sum(axis=1) / images, resampled, groups, images)


@lru_cache(maxsize=8)
def _dealt(images: int) -> tuple[Array, Array]:
    """Images in the order in which they are dealt, one to each group in turn, and the sizes of groups, [G]."""
    groups = min(images, GROUPS)
    order = np.arange(images) if groups == images else np.random.default_rng(_SEED).permutation(images)
    return order, np.bincount(np.arange(images) % groups)


@lru_cache(maxsize=8)
def _drawn_groups(groups: int) -> Array:
    """How often each group of images is drawn, float32 [G, R]."""
    generator = np.random.default_rng([_SEED, groups])
    counts = generator.multinomial(groups, np.full(groups, 1 / groups), RESAMPLES)
    return np.ascontiguousarray(counts.T.astype(np.float32))


@lru_cache(maxsize=1)
def _shifts() -> Array:
    """Standard normal numbers, float32 [R]."""
    return np.random.default_rng([_SEED, 2]).standard_normal(RESAMPLES, dtype=np.float32)


@lru_cache(maxsize=8)
def drawn_models(n: int) -> Array:
    """Which models are drawn, int32 [R, n]."""
    return np.random.default_rng([_SEED, n, 1]).integers(0, n, (RESAMPLES, n), dtype=np.int32)


def drawn_medians(resampled: Array) -> Array:
    """Medians over drawn models of what was resampled over images, [n] (models alone) or [n, R] → [R]."""
    n = len(resampled)
    result = np.empty(RESAMPLES)
    step = max(1, _CHUNK_ELEMENTS // n)
    for start in range(0, RESAMPLES, step):
        models = drawn_models(n)[start : start + step]  # [r, n]
        if resampled.ndim == 1:
            chosen = resampled[models]
        else:
            of_images = np.ascontiguousarray(resampled[:, start : start + step].T)  # [r, n]
            chosen = np.take_along_axis(of_images, models, axis=1)
        result[start : start + step] = np.median(chosen, axis=1, overwrite_input=True)
    return result
