from __future__ import annotations

import numpy as np
import pytest
import torch

from zoosparse_ext import ops
from zoosparse_ext.errors import InputError
from zoosparse_ext.ops import masks as reference

WIDTHS = [0, 1, 7, 8, 9, 31, 33, 64, 77]
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.int64]


def random_mask(n: int, p: int) -> torch.Tensor:
    return torch.rand(n, p, generator=torch.Generator().manual_seed(p)) > 0.4


@pytest.mark.parametrize("p", WIDTHS)
@pytest.mark.parametrize("n", [0, 1, 3])
def test_packing_equals_reference_and_numpy(level: str, n: int, p: int) -> None:
    mask = random_mask(n, p)
    packed = ops.pack_mask(mask)
    assert torch.equal(packed, reference._pack_mask_reference(mask))
    assert torch.equal(packed, torch.from_numpy(np.packbits(mask.numpy(), axis=1, bitorder="little")))
    assert torch.equal(ops.unpack_mask(packed, p), mask)
    assert torch.equal(reference._unpack_mask_reference(packed, p), mask)


def test_non_contiguous_masks(level: str) -> None:
    mask = random_mask(40, 30).T[::2]
    packed = ops.pack_mask(mask)
    assert torch.equal(packed, ops.pack_mask(mask.contiguous()))
    wide = torch.zeros(15, 10, dtype=torch.uint8)
    wide[:, ::2] = packed
    assert torch.equal(ops.unpack_mask(wide[:, ::2], 40), mask)


def test_bits_beyond_the_row_are_ignored(level: str) -> None:
    assert ops.unpack_mask(torch.tensor([[0xFF]], dtype=torch.uint8), 3).tolist() == [[True] * 3]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("p", WIDTHS)
def test_apply_mask_equals_reference(level: str, p: int, dtype: torch.dtype) -> None:
    weights = (torch.randn(3, p) * 20).to(dtype)
    mask = random_mask(3, p)
    expected = weights.clone()
    reference._apply_mask_reference(expected, mask)
    for form in (mask, ops.pack_mask(mask)):
        given = weights.clone()
        assert ops.apply_mask_(given, form) is given
        assert torch.equal(given, expected)


def test_apply_mask_zeroes_nan_and_sign(level: str) -> None:
    weights = torch.tensor([[-1.0, float("nan"), float("inf"), -0.0, -2.0]])
    ops.apply_mask_(weights, torch.tensor([[False, False, False, False, True]]))
    assert weights.tolist() == [[0.0, 0.0, 0.0, 0.0, -2.0]]
    assert not weights[0, :4].signbit().any()


def test_apply_mask_to_a_strided_view(level: str) -> None:
    base = torch.randn(10, 22)
    expected, mask = base.clone(), random_mask(5, 11)
    expected[::2, ::2] *= mask
    view = base[::2, ::2]
    assert ops.apply_mask_(view, ops.pack_mask(mask)) is view
    assert torch.equal(base, expected)


def test_apply_mask_and_autograd(level: str) -> None:
    mask = torch.tensor([[True, False]])
    leaf = torch.tensor([[1.0, 2.0]], requires_grad=True)
    with pytest.raises(RuntimeError, match="leaf Variable"):
        ops.apply_mask_(leaf, mask)
    for form in (mask, ops.pack_mask(mask)):
        leaf.grad = None
        ops.apply_mask_(leaf * 3, form).sum().backward()
        assert leaf.grad.tolist() == [[3.0, 0.0]]
    with torch.no_grad():
        assert ops.apply_mask_(leaf, mask).tolist() == [[1.0, 0.0]]


def test_apply_mask_bumps_the_version(level: str) -> None:
    """A tensor that a backward pass still needs must not change behind its back."""
    x = torch.ones(1, 2, requires_grad=True)
    weights = torch.tensor([[1.0, 2.0]])
    y = (x * weights).sum()
    ops.apply_mask_(weights, torch.tensor([[True, False]]))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.pack_mask(torch.ones(3, dtype=torch.bool)), r"shape \[3\].*mask\[None\]"),
        (lambda: ops.pack_mask(torch.ones(3, 3)), "mask must be torch.bool, got torch.float32"),
        (lambda: ops.unpack_mask(torch.ones(3, 1, dtype=torch.uint8), 9), r"shape \[3, 2\], got \[3, 1\]"),
        (lambda: ops.unpack_mask(torch.ones(3, 0, dtype=torch.uint8), -1), "-1 columns"),
        (lambda: ops.unpack_mask(torch.ones(3, 1), 8), "packed must be torch.uint8"),
        (lambda: ops.apply_mask_(torch.ones(2, 9), torch.ones(2, 8) > 0), r"bool mask of shape \[2, 9\]"),
        (lambda: ops.apply_mask_(torch.ones(2, 9), torch.ones(2, 9).byte()), r"packed uint8 .*\[2, 2\]"),
        (lambda: ops.apply_mask_(torch.ones(2, 9), torch.ones(2, 9)), "bool or packed uint8"),
        (lambda: ops.apply_mask_(torch.ones(2, 9, dtype=torch.complex128), torch.ones(2, 9) > 0), "complex"),
    ],
)
def test_bad_input(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize("p", [0, 1, 9, 33])
def test_opcheck(level: str, p: int) -> None:
    mask = random_mask(3, p)
    packed = ops.pack_mask(mask)
    torch.library.opcheck(torch.ops.zoosparse.pack_mask, (mask,))
    torch.library.opcheck(torch.ops.zoosparse.unpack_mask, (packed, p))
    for form in (mask, packed):
        torch.library.opcheck(torch.ops.zoosparse.apply_mask_, (torch.randn(3, p), form))
