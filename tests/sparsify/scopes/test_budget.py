"""Whole numbers whose sum is exact."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoosparse_ext.sparsify.scopes.budget import to_prune, whole


@settings(deadline=None)
@given(st.lists(st.just(0.0) | st.floats(1e-3, 50), min_size=1, max_size=9), st.integers(0, 300))
def test_the_sum_is_exact_and_no_number_far_from_its_target(targets: list[float], total: int) -> None:
    wanted = torch.tensor([targets], dtype=torch.float64)
    wanted = wanted * (total / wanted.sum()) if float(wanted.sum()) > 0 else wanted + total / len(targets)
    rounded = whole(wanted, torch.tensor([float(total)], dtype=torch.float64))
    assert float(rounded.sum()) == total
    assert bool(((rounded - wanted).abs() < 1 + 1e-9).all()) and bool((rounded == rounded.round()).all())


def test_of_equals_the_first() -> None:
    targets = torch.tensor([[2.5, 1.5, 1.0], [0.25, 0.25, 0.5]], dtype=torch.float64)
    totals = torch.tensor([5.0, 1.0], dtype=torch.float64)
    assert whole(targets, totals).tolist() == [[3.0, 1.0, 1.0], [0.0, 0.0, 1.0]]


def test_counts_are_rounded_as_in_torch() -> None:
    ratios = torch.tensor([0.0, 0.25, 0.35, 0.999], dtype=torch.float64)
    assert to_prune(ratios, [6, 4]).tolist() == [0.0, 2.0, 4.0, 10.0]  # halves to the even number
