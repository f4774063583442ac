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


def any_bytes(n: int, p: int) -> torch.Tensor:
    """A bool mask as a view of uint8: half of the bytes are 0, the others anything."""
    generator = torch.Generator().manual_seed(p)
    values = torch.randint(0, 256, (n, p), dtype=torch.uint8, generator=generator)
    return (values * (torch.rand(n, p, generator=generator) > 0.5)).view(torch.bool)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.int8], ids=str)
@pytest.mark.parametrize("p", [1, 7, 8, 9, 31, 32, 33, 64, 129, 1001])
def test_any_byte_but_0_is_true(level: str, p: int, dtype: torch.dtype) -> None:
    """In bools and in bits, in the kernels and in the reference."""
    mask = any_bytes(3, p)
    kept = mask.view(torch.uint8) != 0
    packed = ops.pack_mask(mask)
    assert torch.equal(packed, ops.pack_mask(kept))
    assert torch.equal(reference._pack_mask_reference(mask), packed)
    assert torch.equal(ops.unpack_mask(packed, p).view(torch.uint8), kept.view(torch.uint8))
    weights = torch.arange(1, 3 * p + 1).view(3, p).remainder(100).add(1).to(dtype)
    expected = weights * kept
    for form in (mask, packed):
        assert torch.equal(ops.apply_mask_(weights.clone(), form), expected)
        by_reference = weights.clone()
        reference._apply_mask_reference(by_reference, form)
        assert torch.equal(by_reference, expected)
    leaf = torch.ones(3, p, requires_grad=True)
    ops.apply_mask_(leaf * 1, mask).sum().backward()
    assert torch.equal(leaf.grad, kept.float())


def test_the_mask_of_a_view_of_bytes() -> None:
    """2 is as true as 1: a byte that a comparison did not make."""
    mask = torch.tensor([[0, 1, 2, 128, 255, 0, 4, 0, 2]], dtype=torch.uint8).view(torch.bool)
    kept = [0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0]
    assert ops.apply_mask_(torch.ones(1, 9), mask).tolist() == [kept]
    assert ops.apply_mask_(torch.ones(1, 9), ops.pack_mask(mask)).tolist() == [kept]


@pytest.mark.parametrize("shape", [(3, 4, 13), (0, 4, 13), (2, 0, 13), (2, 4, 0)])
def test_stacks_of_masks(level: str, shape: tuple[int, int, int]) -> None:
    mask = torch.rand(shape) > 0.5
    packed = ops.pack_mask(mask)
    assert packed.shape == (*shape[:2], (shape[2] + 7) // 8)
    assert torch.equal(ops.unpack_mask(packed, shape[2]), mask)
    for one, bits in zip(mask, packed, strict=True):
        assert torch.equal(ops.pack_mask(one), bits)
    turned = mask.transpose(0, 1)
    assert torch.equal(ops.unpack_mask(ops.pack_mask(turned), shape[2]), turned)


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
        (lambda: ops.unpack_mask(torch.ones(2, 3, 1).byte(), 9), r"shape \[2, 3, 2\], got \[2, 3, 1\]"),
        (lambda: ops.unpack_mask(torch.ones(2, 2, 2, 2).byte(), 9), r"got shape \[2, 2, 2, 2\]"),
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
