"""Many masks in one pass against one mask at a time, bit for bit."""

from __future__ import annotations

import pytest
import torch

from tests.ops.test_magnitude import DTYPES, KINDS, WIDTHS, rows
from zoosparse_ext import ops
from zoosparse_ext.errors import InputError
from zoosparse_ext.ops import magnitude as reference


def one_at_a_time(weights: torch.Tensor, k: torch.Tensor, segments: list[int]) -> torch.Tensor:
    """From counts [K, N, S], by the reference of a single mask."""
    return torch.stack([ops.pack_mask(reference._mask_reference(weights, each, segments)) for each in k])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_equals_one_mask_at_a_time(level: str, kind: str, dtype: torch.dtype) -> None:
    for p in WIDTHS:
        weights = rows(kind, 2, p).to(dtype)
        k = [p * tenth // 10 for tenth in (9, 0, 1, 2, 3, 3, 5, 8, 10)]
        expected = one_at_a_time(weights, torch.tensor(k).view(-1, 1, 1).expand(-1, 2, 1), [0, p])
        assert torch.equal(ops.magnitude_masks(weights, k), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_segments(level: str, kind: str) -> None:
    """Of any width, at any bit of the packed row."""
    weights, segments = rows(kind, 3, 700), [0, 3, 3, 68, 131, 140, 700]
    shares = torch.rand(5, 3, len(segments) - 1, generator=torch.Generator().manual_seed(1))
    k = (shares * torch.tensor(segments).diff()).round().to(torch.int64)
    assert torch.equal(ops.magnitude_masks(weights, k, segments), one_at_a_time(weights, k, segments))


def test_forms_of_k(level: str) -> None:
    weights, segments = rows("normal", 4, 20), [0, 5, 20]
    for shape, given in (
        ((3,), None),
        ((3, 4), None),
        ((3,), segments),
        ((3, 2), segments),
        ((3, 4, 2), segments),
    ):
        k = torch.arange(torch.Size(shape).numel()).remainder(5).view(shape)
        masks = ops.magnitude_masks(weights, k, given)
        assert masks.shape == (3, 4, 3) and masks.dtype == torch.uint8
        for mask, each in zip(masks, k, strict=True):
            assert torch.equal(ops.unpack_mask(mask, 20), ops.magnitude_mask(weights, each, given))
    assert ops.magnitude_masks(weights, []).shape == (0, 4, 3)
    assert ops.magnitude_masks(weights[:0], [1, 2]).shape == (2, 0, 3)
    assert torch.equal(ops.magnitude_masks(weights.T.contiguous().T, [7]), ops.magnitude_masks(weights, [7]))


@pytest.mark.parametrize(
    ("k", "message"),
    [
        (7, r"one count for each mask, got 7; pass \[7\]"),
        ([0, 10], "k = 10, but it must lie between 0 and the 9 weights"),
        (
            torch.tensor([[1, 1, 1], [1, 10, 1]]),
            "k = 10 in row 1, but it must lie between 0 and the 9 weights",
        ),
        (torch.tensor([True, False]), "k must be an int or an integer tensor"),
        ([0.5], "k must be an int or an integer tensor"),
        (
            torch.zeros(2, 4, dtype=torch.int64),
            r"k for each mask must be an int or of shape \[3\], got \[4\]",
        ),
    ],
)
def test_bad_input(k, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ops.magnitude_masks(torch.zeros(3, 9), k)


def test_direct_calls_cannot_leave_their_bounds(level: str) -> None:
    if level == "reference":
        return  # plain indexing checks itself
    weights = torch.zeros(2, 9)
    for k, segments in (
        ([[[10], [0]]], [0, 9]),
        ([[[0], [0]], [[0], [-1]]], [0, 9]),
        ([[[9], [9]]], [0, 8]),
        ([[9], [9]], [0, 9]),
    ):
        with pytest.raises(ValueError, match="magnitude_masks"):
            torch.ops.zoosparse.magnitude_masks(weights, torch.tensor(k), segments)


def test_opcheck(level: str) -> None:
    arguments = rows("normal", 3, 33), torch.full((2, 3, 2), 7), [0, 10, 33]
    torch.library.opcheck(torch.ops.zoosparse.magnitude_masks, arguments)
