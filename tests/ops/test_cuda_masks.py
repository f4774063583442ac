"""Masks on a CUDA device give the bits of the CPU."""

from __future__ import annotations

import pytest
import torch

from zoosparse_ext import ops

pytestmark = pytest.mark.cuda

WIDTHS = [0, 1, 7, 8, 9, 31, 33, 64, 77, 129, 1024, 2464, 5003]
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.int64]


def random_mask(n: int, p: int) -> torch.Tensor:
    return torch.rand(n, p, generator=torch.Generator().manual_seed(p)) > 0.4


def test_kernels_are_native() -> None:
    on_cuda = {row.operator: row.implementation for row in ops.implementations() if row.device == "cuda"}
    assert [on_cuda[name] for name in ("pack_mask", "unpack_mask", "apply_mask_")] == ["native"] * 3


@pytest.mark.parametrize("p", WIDTHS)
@pytest.mark.parametrize("n", [0, 1, 3, 600_000])
def test_packing_equals_cpu(n: int, p: int) -> None:
    n = n if p < 100 else min(n, 100)
    mask = random_mask(n, p)
    packed = ops.pack_mask(mask)
    assert torch.equal(ops.pack_mask(mask.cuda()).cpu(), packed)
    assert torch.equal(ops.unpack_mask(packed.cuda(), p).cpu(), mask)


def test_rows_that_are_not_aligned() -> None:
    mask = random_mask(20, 65).cuda()[:, 1:]
    assert torch.equal(ops.pack_mask(mask).cpu(), ops.pack_mask(mask.cpu()))
    shifted = torch.zeros(8 * 20 + 1, dtype=torch.bool, device="cuda")[1:].view(20, 8)
    shifted[::3] = True
    assert torch.equal(ops.pack_mask(shifted).cpu(), ops.pack_mask(shifted.cpu()))


@pytest.mark.parametrize("p", WIDTHS)
def test_any_byte_but_0_is_true(p: int) -> None:
    values = torch.randint(0, 256, (3, p), dtype=torch.uint8, generator=torch.Generator().manual_seed(p))
    mask = (values * (values % 3 > 0)).view(torch.bool)
    assert torch.equal(ops.pack_mask(mask.cuda()).cpu(), ops.pack_mask(mask))
    weights = torch.ones(3, p)
    given = ops.apply_mask_(weights.cuda(), mask.cuda())
    assert torch.equal(given.cpu(), ops.apply_mask_(weights, mask))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("p", WIDTHS)
def test_apply_mask_equals_cpu(p: int, dtype: torch.dtype) -> None:
    weights = (torch.randn(3, p) * 20).to(dtype)
    mask = random_mask(3, p)
    expected = ops.apply_mask_(weights.clone(), mask)
    for form in (mask, ops.pack_mask(mask)):
        given = weights.cuda()
        assert ops.apply_mask_(given, form.cuda()) is given
        assert torch.equal(given.cpu(), expected)


def test_apply_mask_zeroes_nan_and_sign() -> None:
    weights = torch.tensor([[-1.0, float("nan"), float("inf"), -0.0, -2.0]], device="cuda")
    ops.apply_mask_(weights, torch.tensor([[False, False, False, False, True]], device="cuda"))
    assert weights.tolist() == [[0.0, 0.0, 0.0, 0.0, -2.0]]
    assert not weights[0, :4].signbit().any()


def test_apply_mask_to_a_strided_view() -> None:
    base = torch.randn(10, 22)
    there, mask = base.cuda(), random_mask(5, 11)
    ops.apply_mask_(there[::2, ::2], ops.pack_mask(mask).cuda())
    ops.apply_mask_(base[::2, ::2], mask)
    assert torch.equal(there.cpu(), base)
