"""Question 5: how often an original and its twin give the same answer."""

from __future__ import annotations

import numpy as np
import pandas as pd

from zoosparse_ext.analysis.bootstrap import Interval, bootstrap, bootstrap_pairs
from zoosparse_ext.analysis.data import StudyData, remembered
from zoosparse_ext.analysis.groups import Array
from zoosparse_ext.analysis.intervals import Estimate, median
from zoosparse_ext.analysis.peers import median_own_minus_other, ranks_among_peers, share_first, stored_names
from zoosparse_ext.analysis.twins import cells, control_twins, final_twins
from zoosparse_ext.errors import InputError

MEASURES = ("agreement", "kappa", "agreement_on_errors")
MAX_PAIRS = 1000  # of different originals, for the baseline
_TWINS = 1000  # whose predictions are read at a time
_CHUNK_ELEMENTS = 1_000_000  # predictions compared at once
_SUFFIXES = ("", "_q25", "_q75", "_low", "_high", "_n")
_MEASURE_COLUMNS = [f"{measure}{suffix}" for measure in MEASURES for suffix in _SUFFIXES]
_RANK_COLUMNS = ["own_rank_first", "own_rank_first_low", "own_rank_first_high", "own_rank_chance", "own_rank_n",
                 "peers", "own_minus_other", "own_minus_other_low", "own_minus_other_high"]  # fmt: skip
_COLUMNS = ["series", "level", "level_label", "n", "sparsity", *_MEASURE_COLUMNS, "resampled", "control_agreement",
            *_RANK_COLUMNS]  # fmt: skip


def pairwise_agreement(first: Array, second: Array, labels: Array | None = None) -> pd.DataFrame:
    """Agreement of N pairs of models, row by row.

    >>> first, second = np.array([[0, 1, 1, 0]]), np.array([[0, 1, 0, 0]])
    >>> pairwise_agreement(first, second, labels=np.array([0, 1, 1, 1])).iloc[0].to_dict()
    {'agreement': 0.75, 'kappa': 0.5, 'agreement_on_errors': 1.0}

    Args:
        first: [N, M] predicted classes.
        second: [N, M].
        labels: [M] true classes; without them `agreement_on_errors` is NaN.

    Returns:
        `agreement` = share of equal predictions; `kappa` = (agreement − expected) / (1 − expected), Cohen's
        κ, NaN where both models always give one same class; `agreement_on_errors` = agreement on the images
        that `first` got wrong, NaN where there are none. No images: all NaN.

    Raises:
        InputError: shapes differ.

    Source: Cohen, A Coefficient of Agreement for Nominal Scales, 1960. Equal to
    `sklearn.metrics.cohen_kappa_score`.
    """
    first, second = np.atleast_2d(first), np.atleast_2d(second)
    if first.shape != second.shape:
        raise InputError(
            f"pairwise_agreement: predictions of shape {first.shape} and {second.shape}; they must be equal"
        )
    if labels is not None and len(labels) != first.shape[1]:
        raise InputError(
            f"pairwise_agreement: {len(labels)} labels for {first.shape[1]} predictions per model"
        )
    n, images = first.shape
    if n == 0 or images == 0:
        return pd.DataFrame(np.full((n, len(MEASURES)), np.nan), columns=list(MEASURES))
    chunk = max(1, _CHUNK_ELEMENTS // images)
    parts = [_agreement(first[i : i + chunk], second[i : i + chunk], labels) for i in range(0, n, chunk)]
    return pd.DataFrame(np.concatenate(parts), columns=list(MEASURES))


def _agreement(first: Array, second: Array, labels: Array | None) -> Array:
    """[n, 3]: the three measures, in the order of MEASURES."""
    images = first.shape[1]
    equal = first == second
    observed = equal.sum(axis=1)
    classes = int(max(first.max(), second.max())) + 1
    # Integers, so that "expected agreement is exactly 1" is an exact test. [n]
    expected = (_class_counts(first, classes) * _class_counts(second, classes)).sum(axis=1)
    total = images * images
    kappa = _divide(observed * images - expected, total - expected)
    on_errors = np.full(len(first), np.nan)
    if labels is not None:
        wrong = first != labels
        on_errors = _divide((equal & wrong).sum(axis=1), wrong.sum(axis=1))
    return np.stack([observed / images, kappa, on_errors], axis=1)


def _class_counts(predictions: Array, classes: int) -> Array:
    """How often each row predicts each class, int64 [n, classes]."""
    n = len(predictions)
    offset = np.arange(n)[:, None] * classes
    return np.bincount((predictions + offset).ravel(), minlength=n * classes).reshape(n, classes)


def _divide(numerator: Array, denominator: Array) -> Array:
    """numerator / denominator, NaN where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full(len(numerator), np.nan), where=denominator != 0)


@remembered
def agreement_of_twins(data: StudyData) -> pd.DataFrame:
    """The last epoch of every twin; agreement that the table lacks is computed from stored predictions."""
    return _completed(data, final_twins(data))


def _completed(data: StudyData, twins: pd.DataFrame) -> pd.DataFrame:
    """Rows of twins, whose agreement is computed where it is missing and predictions are stored."""
    unknown = twins[twins["agreement"].isna()]
    unknown = unknown[unknown["twin_id"].isin(stored_names(data.twin_groups)) & unknown["final"]]
    unknown = unknown[unknown["source_id"].isin(stored_names(data.originals))]
    for start in range(0, len(unknown), _TWINS):
        part = unknown.iloc[start : start + _TWINS]
        of_originals, of_twins = data.predictions(part["source_id"]), data.predictions(part["twin_id"])
        assert of_originals is not None and of_twins is not None  # they are stored
        measured = pairwise_agreement(of_originals, of_twins, data.labels)
        twins.loc[part.index, list(MEASURES)] = measured.to_numpy()
    return twins


def agreement_by_sparsity(data: StudyData) -> pd.DataFrame:
    """Agreement between originals and their twins, per method and level.

    Returns:
        one row per `series` and `level`: `n`, median `sparsity`, and for `agreement`, `kappa`,
        `agreement_on_errors` the median, `_q25`, `_q75`, the 95 % interval of the median (`_low`, `_high`; over models,
        of plain agreement over images as well where predictions are stored: `resampled` says which; its interval is NaN
        for fewer than 6 models), and `_n`, the number of twins where it is defined.
        `control_agreement`: the median of the controls with the same originals, after as many epochs.
        Among originals within a point of the own one's accuracy (see :mod:`~zoosparse_ext.analysis.peers`; NaN where
        predictions are not stored or no original has such peers): `own_rank_first`, the share of twins that agree most
        with their own original, with `_low`, `_high`; `own_rank_chance`, that of twins that agree with any of them
        alike; `own_rank_n`, the number of twins; `peers`, the median number of compared originals, the own one among
        them; `own_minus_other`, the median of agreement with the own original minus mean agreement with the others,
        with `_low`, `_high`.
    """
    rows = []
    controls = _completed(data, control_twins(data)).drop_duplicates(["twin_id", "epoch"])
    of_controls = controls.set_index(["twin_id", "epoch"])["agreement"].astype(float)
    images = 0 if data.labels is None else len(data.labels)
    twins_and_ranks = agreement_of_twins(data).merge(ranks_among_peers(data), on="twin_id", how="left")
    for (series, level), twins in cells(twins_and_ranks):
        row = {"series": series, "level": level, "level_label": twins["level_label"].iloc[0], "n": len(twins)}
        row["sparsity"] = twins["sparsity"].median()
        for measure in MEASURES:
            values = twins[measure].astype(float)
            quartiles = values.quantile([0.5, 0.25, 0.75])
            names = (measure, f"{measure}_q25", f"{measure}_q75")
            row.update(zip(names, quartiles, strict=True))
            interval = bootstrap(values.to_numpy())
            row |= {
                f"{measure}_low": interval.low,
                f"{measure}_high": interval.high,
                f"{measure}_n": interval.n,
            }
        plain = _agreement_of(data, twins)
        row |= {"agreement_low": plain.low, "agreement_high": plain.high, "resampled": plain.resampled}
        own_controls = pd.MultiIndex.from_frame(twins[["control_id", "epoch"]])
        row["control_agreement"] = of_controls.reindex(own_controls).median()
        rows.append(row | _own_among_peers(twins, images))
    return pd.DataFrame(rows, columns=_COLUMNS)


def _agreement_of(data: StudyData, twins: pd.DataFrame) -> Estimate:
    """The median agreement of twins at their last epoch, over models and, where they are stored, images."""
    known = twins[twins["agreement"].notna()]
    of_originals, of_twins = data.predictions(known["source_id"]), data.predictions(known["twin_id"])
    if of_originals is None or of_twins is None:
        return median(known["agreement"].to_numpy(dtype=float))
    return median(of_originals == of_twins)


def _own_among_peers(twins: pd.DataFrame, images: int) -> dict[str, float]:
    ranked = twins[twins["own_first"].notna()]
    first, other = share_first(ranked), median_own_minus_other(ranked, images)
    return {
        **_with_limits("own_rank_first", first.estimate, first),
        "own_rank_chance": (1 / ranked["peers"].astype(float)).mean(),
        "own_rank_n": len(ranked),
        "peers": ranked["peers"].median(),
        **_with_limits("own_minus_other", other.value, other),
    }


def _with_limits(name: str, value: float, limits: Interval | Estimate) -> dict[str, float]:
    return {name: value, f"{name}_low": limits.low, f"{name}_high": limits.high}


def agreement_of_originals(data: StudyData, *, max_pairs: int = MAX_PAIRS, seed: int = 0) -> pd.DataFrame:
    """For comparison: agreement between two different originals, whatever their accuracies.

    All pairs when there are at most `max_pairs` of them, else that many drawn at random. Needs the
    predictions of the originals; empty without them or with a single model.

    Returns:
        one row per pair: `first`, `second` (model_id), `agreement`, `kappa`, `agreement_on_errors` (of the
        first).
    """
    names = stored_names(data.originals)
    first, second = sample_pairs(len(names), max_pairs, seed)
    if len(first) == 0:
        return pd.DataFrame(columns=["first", "second", *MEASURES])
    table = pd.DataFrame({"first": [names[i] for i in first], "second": [names[i] for i in second]})
    of_first, of_second = data.predictions(table["first"]), data.predictions(table["second"])
    assert of_first is not None and of_second is not None  # they are stored
    return table.join(pairwise_agreement(of_first, of_second, data.labels))


def baseline(pairs: pd.DataFrame, measure: str = "agreement") -> Interval:
    """Median agreement of two different originals, from :func:`agreement_of_originals`, with its 95 % interval."""
    models = pd.factorize(pd.concat([pairs["first"], pairs["second"]]))[0]
    first, second = np.split(models, 2)
    return bootstrap_pairs(pairs[measure].to_numpy(dtype=float), first, second)


def sample_pairs(n: int, max_pairs: int, seed: int = 0) -> tuple[Array, Array]:
    """Pairs i < j of n things: all of them, or `max_pairs` different ones drawn at random.

    >>> [part.tolist() for part in sample_pairs(3, 10)]
    [[0, 0, 1], [1, 2, 2]]
    """
    total = n * (n - 1) // 2
    if total <= max_pairs:
        first, second = np.triu_indices(n, k=1)
        return first, second
    # Draw ranks in the list of all pairs; more than enough, because some are drawn twice.
    generator = np.random.default_rng(seed)
    ranks = np.unique(generator.integers(0, total, 2 * max_pairs))
    ranks = np.sort(generator.permutation(ranks)[:max_pairs])
    # The pairs (i, j) with j in front: rank = j (j − 1) / 2 + i, i < j.
    second = np.floor((1 + np.sqrt(1 + 8 * ranks.astype(float))) / 2).astype(np.int64)
    second -= second * (second - 1) // 2 > ranks  # rounding of the root
    return ranks - second * (second - 1) // 2, second
