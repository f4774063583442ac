"""Comparing predictions: agreement, Cohen's κ, agreement on errors."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from zoosparse_ext.sparsify.twins import compare_predictions


@settings(max_examples=40)
@given(draw=st.integers(0, 10_000), m=st.integers(2, 40), classes=st.integers(2, 6))
def test_kappa_is_that_of_sklearn(draw: int, m: int, classes: int) -> None:
    generator = torch.Generator().manual_seed(draw)
    source, twin = torch.randint(classes, (2, 3, m), generator=generator).to(torch.uint8)
    labels = torch.randint(classes, (m,), generator=generator)
    compared = compare_predictions(source, twin, labels)
    for row in range(3):
        equal, wrong = source[row] == twin[row], source[row] != labels
        assert float(compared["agreement"][row]) == pytest.approx(equal.double().mean().item())
        kappa = float(compared["kappa"][row])
        if len({*source[row].tolist(), *twin[row].tolist()}) == 1:
            assert math.isnan(kappa)  # chance alone agrees always
        else:
            assert kappa == pytest.approx(cohen_kappa_score(source[row], twin[row]), abs=1e-12)
        on_errors = float(compared["agreement_on_errors"][row])
        if wrong.any():
            assert on_errors == pytest.approx(equal[wrong].double().mean().item())
        else:
            assert math.isnan(on_errors)


def test_one_class_on_both_sides_has_no_kappa() -> None:
    """Also where rounding would let the chance of agreement miss 1."""
    for m in range(1, 60):
        always = torch.full((1, m), 3)
        compared = compare_predictions(always, always, labels=torch.full((m,), 3))
        assert compared["agreement"].item() == 1.0
        assert compared["kappa"].isnan().all() and compared["agreement_on_errors"].isnan().all()


def test_one_class_against_another() -> None:
    compared = compare_predictions(torch.zeros(1, 4), torch.ones(1, 4), labels=torch.zeros(4))
    assert {name: value.item() for name, value in compared.items()} == pytest.approx(
        {"agreement": 0.0, "kappa": 0.0, "agreement_on_errors": math.nan}, nan_ok=True
    )


def test_many_classes() -> None:
    source = torch.tensor([[0, 300, 999]], dtype=torch.uint16)
    compared = compare_predictions(source, source, labels=torch.tensor([0, 300, 1]))
    assert [value.item() for value in compared.values()] == [1.0, 1.0, 1.0]
