from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.metrics import cohen_kappa_score
from torchmetrics.classification import MulticlassCohenKappa

from zoosparse_ext.analysis import agreement_of_originals, agreement_of_twins, pairwise_agreement
from zoosparse_ext.analysis.agreement import sample_pairs
from zoosparse_ext.errors import InputError


def test_kappa_equals_the_libraries():
    generator = np.random.default_rng(0)
    first = generator.integers(0, 4, (20, 57)).astype(np.uint8)
    second = np.where(generator.random((20, 57)) < 0.6, first, generator.integers(0, 4, (20, 57))).astype(
        np.uint8
    )
    ours = pairwise_agreement(first, second)["kappa"]
    assert ours.tolist() == pytest.approx(
        [cohen_kappa_score(a, b) for a, b in zip(first, second, strict=True)]
    )
    metric = MulticlassCohenKappa(4)
    theirs = [float(metric(torch.tensor(a), torch.tensor(b))) for a, b in zip(first, second, strict=True)]
    assert ours.tolist() == pytest.approx(theirs, abs=1e-6)


def test_golden():
    labels = np.array([0, 1, 2, 2])
    table = pairwise_agreement(np.array([[0, 1, 1, 1]]), np.array([[0, 1, 1, 2]]), labels)
    # Expected agreement (1·1 + 3·2 + 0·1) / 16 = 7/16; κ = (12/16 − 7/16) / (9/16).
    # The first errs on the last two images and the second repeats one of these errors.
    assert table.iloc[0].tolist() == pytest.approx([0.75, 5 / 9, 0.5])


def test_undefined_is_nan():
    same = np.ones((1, 5), dtype=np.uint8)
    table = pairwise_agreement(same, same, labels=np.ones(5, dtype=np.int64))
    assert table["agreement"].item() == 1.0
    assert np.isnan(table["kappa"].item()) and np.isnan(table["agreement_on_errors"].item())
    assert pairwise_agreement(same, 0 * same)["kappa"].item() == 0.0
    assert pairwise_agreement(np.zeros((2, 0)), np.zeros((2, 0))).isna().all(axis=None)
    assert pairwise_agreement(np.zeros((0, 5)), np.zeros((0, 5))).empty


def test_shapes_are_checked():
    with pytest.raises(InputError, match=r"\(1, 3\) and \(1, 4\)"):
        pairwise_agreement(np.zeros((1, 3)), np.zeros((1, 4)))
    with pytest.raises(InputError, match="2 labels for 3 predictions"):
        pairwise_agreement(np.zeros((1, 3)), np.zeros((1, 3)), labels=np.zeros(2))


def test_what_the_table_lacks_comes_from_predictions(data):
    measures = ["agreement", "kappa", "agreement_on_errors"]
    blank = data.twins.assign(**dict.fromkeys(measures, np.nan))
    computed = agreement_of_twins(dataclasses.replace(data, twins=blank))[measures]
    np.testing.assert_allclose(computed.to_numpy(float), agreement_of_twins(data)[measures].to_numpy(float))


def test_baseline(data):
    table = agreement_of_originals(data)
    assert len(table) == 12 * 11 / 2
    assert (table["first"] != table["second"]).all()
    assert len(agreement_of_originals(data, max_pairs=5)) == 5
    assert agreement_of_originals(dataclasses.replace(data, populations={})).empty


@pytest.mark.parametrize("n", [0, 1, 2, 9, 100])
def test_sampled_pairs_are_distinct_and_ordered(n):
    first, second = sample_pairs(n, 30)
    assert len(first) == min(30, n * (n - 1) // 2)
    assert len(set(zip(first, second, strict=True))) == len(first)
    assert ((first >= 0) & (first < second) & (second < n)).all()
