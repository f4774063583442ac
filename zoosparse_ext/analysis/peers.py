"""Whether a twin answers like its own original, rather than like any original that is as accurate.

Two accurate models agree on most images, so agreement alone says little. The peers of an original are the originals
within a point of its accuracy, itself among them. A twin that kept nothing of its own original agrees most with it in
one of n cases, by chance.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from zoosparse_ext.analysis.bits import bit_counts
from zoosparse_ext.analysis.bootstrap import Interval, wilson
from zoosparse_ext.analysis.data import StudyData, remembered
from zoosparse_ext.analysis.groups import Array, Group
from zoosparse_ext.analysis.intervals import Estimate, median
from zoosparse_ext.analysis.resampling import RESAMPLES
from zoosparse_ext.analysis.twins import final_twins
from zoosparse_ext.errors import InputError

WITHIN = 0.01  # of the own original's accuracy: one point
MAX_PEERS = 100  # besides the own original; drawn at random where there are more
SETS = 40  # of images, whose agreement is kept apart so that images can be resampled
_TWINS = 1000  # whose predictions are read at a time
_ROUNDING = 1e-9  # 0.91 − 0.90 is 0.010000000000000009: exactly one point is within one point
_COLUMNS = ["twin_id", "peers", "own_first", "own_minus_other"]
_IN, _WITHOUT = "own_minus_other_in.", "own_first_without."  # and the number of a set of images


class Ranks(NamedTuple):
    """How n twins of one original agree with it and with its peers."""

    first: (
        Array  # [n], 1 where no peer agrees more than the own original, shared among those that agree as much
    )
    own_minus_other: Array  # [n], agreement with the own original minus the mean over the other peers
    by_set: Array  # [n, S], the same within sets of images of nearly equal size
    first_without: Array  # [n, S], `first` without each of these sets in turn


def agreement_with_peers(twins: Array, own: Array, others: Array) -> Ranks:
    """Compare the predictions of twins with those of their original, and of its other peers.

    >>> own, others = np.array([0, 1, 1, 2]), np.array([[0, 1, 0, 0], [1, 1, 1, 2]])
    >>> ranks = agreement_with_peers(np.array([[0, 1, 1, 1]]), own, others)
    >>> ranks.first.tolist(), ranks.own_minus_other.tolist()  # 3 of 4 are equal; with the others 2 of 4
    ([1.0], [0.25])

    Args:
        twins: [n, M] predicted classes, whole numbers from 0.
        own: [M], of their original.
        others: [p, M], of its other peers.

    Returns:
        see :class:`Ranks`; NaN without other peers or without images.

    Raises:
        InputError: the numbers of images differ.
    """
    twins, own, others = np.atleast_2d(twins), np.atleast_2d(own), np.atleast_2d(others)
    if not twins.shape[1] == own.shape[1] == others.shape[1]:
        raise InputError(
            f"agreement_with_peers: predictions of {twins.shape[1]}, {own.shape[1]} and {others.shape[1]} images; "
            "they must be of the same ones"
        )
    peers = _Packed(np.concatenate([own, others]))
    return _ranks(peers.pack(twins), peers.planes, peers.images)


def _ranks(twins: Array, peers: Array, images: int) -> Ranks:
    """Of packed predictions, [n, bits, S, words] and [p, bits, S, words]; the first peer is the own original."""
    n, sets = len(twins), twins.shape[2]
    if len(peers) < 2 or images == 0:
        return Ranks(*(np.full(shape, np.nan) for shape in (n, n, (n, sets), (n, sets))))
    different = _different(twins, peers)  # [n, p, S]
    total = different.sum(axis=2)
    sizes = np.bincount(np.arange(images) % sets, minlength=sets)
    by_set = different[:, 1:].mean(axis=1) - different[:, 0]
    without = _first(total[..., None] - different)
    return Ranks(_first(total), by_set.sum(axis=1) / images, by_set / sizes, without)


def _different(twins: Array, peers: Array) -> Array:
    """On how many images of each set a twin and a peer differ, int32 [n, p, S]."""
    by_bit = np.ascontiguousarray(peers.swapaxes(0, 1))  # [bits, p, S, words]
    counts = np.empty((len(twins), *by_bit.shape[1:]), dtype=np.uint8)
    for row, twin in enumerate(twins):
        differ = by_bit[0] ^ twin[0]
        for of_peers, of_twin in zip(by_bit[1:], twin[1:], strict=True):
            differ |= of_peers ^ of_twin
        counts[row] = bit_counts(differ)
    different = counts[..., 0].astype(np.int32)
    for word in range(1, counts.shape[-1]):
        different += counts[..., word]
    return different


def _first(different: Array) -> Array:
    """Whether the first of p in [n, p, ...] is the least: 1 shared among those that are, [n, ...]."""
    nearest = different == different.min(axis=1, keepdims=True)
    return np.asarray(nearest[:, 0] / nearest.sum(axis=1))


class _Packed:
    """Predictions of originals as bits, so that those of twins can be packed alike.

    Classes differ where any of their bits does, and 64 images are compared at once.
    """

    def __init__(self, predictions: Array) -> None:
        self._predictions = predictions
        self._bits = _bits(predictions)
        self.images = predictions.shape[1]
        self.planes = _planes(predictions, self._bits)  # uint64 [N, bits, S, words]

    def pack(self, twins: Array) -> Array:
        """Of [n, M]; originals are packed anew where twins answer classes beyond theirs."""
        if (bits := _bits(twins)) > self._bits:
            self._bits, self.planes = bits, _planes(self._predictions, bits)
        return _planes(twins, self._bits)


def _bits(predictions: Array) -> int:
    """Bits that tell all predicted classes apart."""
    return max(1, int(predictions.max()).bit_length()) if predictions.size else 1


def _planes(predictions: Array, bits: int) -> Array:
    """Classes [n, M] as uint64 [n, bits, S, words]: image i is in set i mod S."""
    n, images = predictions.shape
    sets = max(1, min(SETS, images))
    words = -(-images // (64 * sets))
    place = np.arange(words * 64) * sets + np.arange(sets)[:, None]  # [S, 64 words], the image at each bit
    # What fills a set up is the same everywhere, and never differs.
    padded = np.zeros((n, images + 1), dtype=predictions.dtype)
    padded[:, :images] = predictions
    filled = np.take(padded, np.minimum(place, images).ravel(), axis=1)
    planes = np.empty((n, bits, sets, words), dtype=np.uint64)
    for bit in range(bits if words else 0):
        packed = np.packbits((filled & predictions.dtype.type(1 << bit)).astype(bool), axis=1)
        planes[:, bit] = packed.view(np.uint64).reshape(n, sets, words)
    return planes


@remembered
def ranks_among_peers(data: StudyData) -> pd.DataFrame:
    """Every twin's last epoch among the peers of its original.

    Needs the predictions of originals and twins; twins without, and those whose accuracy is NaN, are left out. Of more
    than 100 other peers that many are drawn at random, the same ones for all twins of an original.

    Returns:
        a row per twin: `twin_id`, `peers` (compared originals, the own one among them), `own_first`, `own_minus_other`,
        and for sets of images `own_minus_other_in.0`, …, the same within each, and `own_first_without.0`, …, without
        it. NaN for twins whose original has no other peer.
    """
    names = stored_names(data.originals)
    of_originals = data.predictions(names)
    twins = final_twins(data)
    is_stored = twins["twin_id"].isin(stored_names(data.twin_groups)) & twins["source_id"].isin(names)
    twins = twins[is_stored & twins["accuracy"].notna()].sort_values("source_id", kind="stable")
    if twins.empty or of_originals is None:
        return pd.DataFrame(columns=_COLUMNS)
    originals = _Packed(of_originals)
    row_of = {name: row for row, name in enumerate(names)}
    accuracy = data.models.set_index("model_id")["accuracy"].reindex(names).to_numpy(dtype=float)
    kept: list[tuple[Array, ...]] = []
    for start in range(0, len(twins), _TWINS):
        part = twins.iloc[start : start + _TWINS]
        predictions = data.predictions(part["twin_id"])
        assert predictions is not None  # they are stored
        packed = originals.pack(predictions)
        for source, rows in part.groupby("source_id", sort=False).indices.items():
            peers = _peers(accuracy, row_of[str(source)])
            ranks = _ranks(packed[rows], originals.planes[peers], originals.images)
            kept.append((part["twin_id"].to_numpy()[rows], np.full(len(rows), len(peers)), *ranks))
    twin_ids, peers, first, own_minus_other, by_set, first_without = map(
        np.concatenate, zip(*kept, strict=True)
    )
    columns = zip(_COLUMNS, (twin_ids, peers, first, own_minus_other), strict=True)
    sets = (pd.DataFrame(by_set).add_prefix(_IN), pd.DataFrame(first_without).add_prefix(_WITHOUT))
    return pd.concat([pd.DataFrame(dict(columns)), *sets], axis=1)


def share_first(ranks: pd.DataFrame) -> Interval:
    """Share of twins that agree most with their own original, with a 95 % interval over models and images.

    That of models is Wilson's, widened by a jackknife over sets of images.
    """
    first = wilson(ranks["own_first"].sum(), len(ranks))
    by_set = _sets(ranks, _WITHOUT)
    if len(by_set) == 0 or by_set.shape[1] < 2:
        return first
    without = by_set.mean(axis=0)
    images = 1.96**2 * (len(without) - 1) * without.var()
    low, high = (float(np.sqrt((of - first.estimate) ** 2 + images)) for of in (first.low, first.high))
    return Interval(first.estimate, max(0.0, first.estimate - low), min(1.0, first.estimate + high), first.n)


def median_own_minus_other(ranks: pd.DataFrame, images: int) -> Estimate:
    """The median over twins of `own_minus_other`, with its interval over models and images."""
    by_set = _sets(ranks, _IN)
    sets = by_set.shape[1]
    values = ranks["own_minus_other"].to_numpy(dtype=float)
    if sets == 0:
        return median(values)
    drawn = np.random.default_rng(sets).multinomial(sets, np.full(sets, 1 / sets), RESAMPLES)
    return median(values, by_set @ (drawn.T / sets), images=images)


def _sets(ranks: pd.DataFrame, prefix: str) -> Array:
    """The columns of sets of images, [n, S]."""
    return ranks[[name for name in ranks if str(name).startswith(prefix)]].to_numpy(dtype=float)


def stored_names(groups: tuple[Group, ...]) -> list[str]:
    """Names of the models or twins whose predictions are stored."""
    return [name for group in groups if group.predictions is not None for name in group.ids]


def _peers(accuracy: Array, own: int) -> Array:
    """Numbers of the own original, which comes first, and of the others within a point of its accuracy."""
    near = np.abs(accuracy - accuracy[own]) <= WITHIN + _ROUNDING
    near[own] = False
    others = np.flatnonzero(near)
    if len(others) > MAX_PEERS:
        others = np.sort(np.random.default_rng((MAX_PEERS, own)).choice(others, MAX_PEERS, replace=False))
    return np.concatenate([[own], others])
