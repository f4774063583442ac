"""Selection on a CUDA device gives the bits of the CPU; also where no kernel is built and the reference runs there."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from zoosparse_ext import ops
from zoosparse_ext.errors import InputError

pytestmark = pytest.mark.cuda

INF, NAN = float("inf"), float("nan")
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
# on both sides of what a warp, a block, and several blocks take
WIDTHS = [0, 1, 2, 31, 33, 128, 129, 511, 1000, 1024, 1025, 2464, 3072, 3073, 8192, 8193, 16384, 16385, 40000]


def rows(kind: str, n: int, p: int) -> torch.Tensor:
    """float32 [n, p] of a kind that selection has reason to fear."""
    generator = torch.Generator().manual_seed(p)
    normal = torch.randn(n, p, generator=generator)
    uniform = torch.rand(n, p, generator=generator)
    one_differs = torch.full((n, p), 0.3)
    one_differs[:, p // 2 : p // 2 + 1] = 0.7
    return {
        "normal": normal,
        "trained": normal * torch.logspace(-2, 0, 5).repeat_interleave(p // 5 + 1)[:p],
        "all equal": torch.full((n, p), -0.3),
        "one value differs": one_differs,
        "few values": (uniform * 7).floor() - 3,
        "denormals": normal * 1e-40,
        "zeros": torch.zeros(n, p).copysign(normal),
        "mostly zeros": normal * (uniform > 0.8),
        "not finite": torch.where(uniform < 0.3, INF, torch.where(uniform > 0.6, NAN, normal)).copysign(
            normal
        ),
    }[kind]


KINDS = [
    "normal", "trained", "all equal", "one value differs", "few values", "denormals", "zeros", "mostly zeros",
    "not finite",
]  # fmt: skip


def bits(tensor: torch.Tensor) -> torch.Tensor:
    """The words of a tensor, so that NaN equals itself and −0 differs from 0."""
    words = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    return tensor.contiguous().view(words[tensor.element_size()])


def assert_equals_cpu(weights: torch.Tensor, k: torch.Tensor, segments: list[int] | None = None) -> None:
    """All three operators, bit for bit."""
    there, counts = weights.cuda(), k.cuda()
    mask = ops.magnitude_mask(weights, k, segments)
    assert torch.equal(ops.magnitude_mask(there, counts, segments).cpu(), mask)
    threshold = ops.magnitude_threshold(weights, k, segments)
    found = ops.magnitude_threshold(there, counts, segments).cpu()
    torch.testing.assert_close(found, threshold, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(ops.magnitude_prune_(there, counts, segments).cpu(), mask)
    pruned = weights.clone()
    ops.magnitude_prune_(pruned, k, segments)
    assert torch.equal(bits(there.cpu()), bits(pruned))


def test_kernels_are_native() -> None:
    """Else the other tests would compare the reference with itself."""
    on_cuda = {row.operator: row.implementation for row in ops.implementations() if row.device == "cuda"}
    for name in ("magnitude_threshold", "magnitude_mask", "magnitude_masks", "magnitude_prune_"):
        assert on_cuda[name] == "native"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_equals_cpu(kind: str, dtype: torch.dtype) -> None:
    for p in WIDTHS:
        weights = rows(kind, 3, p).to(dtype)
        for k in ([0, p // 2, p], [p // 10, p * 4 // 5, max(p - 1, 0)]):
            assert_equals_cpu(weights, torch.tensor(k))


@pytest.mark.parametrize("kind", KINDS)
def test_segments_equal_cpu(kind: str) -> None:
    segments = [0, 0, 1, 18, 18, 400, 700, 2500, 20000, 20000]
    widths = torch.tensor([end - start for start, end in pairwise(segments)])
    for share in (0.0, 0.3, 0.8, 1.0):
        k = (widths * share).round().long().expand(4, -1).contiguous()
        assert_equals_cpu(rows(kind, 4, 20000), k, segments)


def test_masks_of_many_sparsities_equal_cpu() -> None:
    for segments in (None, [0, 0, 7, 2464]):
        for p in (2464, 2465):
            weights, ends = rows("trained", 5, p), segments and [*segments[:-1], p]
            shares = torch.tensor([0.8, 0.0, 0.3, 1.0])
            widths = torch.tensor([end - start for start, end in pairwise(ends)] if ends else p)
            k = (shares.view(-1, *[1] * widths.dim()) * widths).long()
            found = ops.magnitude_masks(weights.cuda(), k.cuda(), ends)
            assert torch.equal(found.cpu(), ops.magnitude_masks(weights, k, ends))


def test_more_segments_than_one_launch_takes() -> None:
    segments = [i * i // 4 for i in range(150)]
    widths = torch.tensor([end - start for start, end in pairwise(segments)])
    assert_equals_cpu(rows("trained", 2, segments[-1]), (widths // 2).expand(2, -1).contiguous(), segments)


@pytest.mark.parametrize("n", [0, 1, 70_000])
def test_row_counts(n: int) -> None:
    assert_equals_cpu(rows("normal", n, 50), torch.full((n,), 20))


def test_more_long_rows_than_run_at_once() -> None:
    assert_equals_cpu(rows("few values", 1030, 16400), torch.arange(1030) * 15)


def test_non_contiguous() -> None:
    base = rows("normal", 14, 60)
    there = base.cuda()
    assert torch.equal(
        ops.magnitude_prune_(there[::2, ::3], 8).cpu(), ops.magnitude_prune_(base[::2, ::3], 8)
    )
    assert torch.equal(there.cpu(), base)


def test_direct_calls_cannot_leave_their_bounds() -> None:
    """Counts are read on the device alone; those out of bounds count as the nearer end."""
    weights = rows("normal", 2, 9)
    segments = [0, 9]
    mask = torch.ops.zoosparse.magnitude_mask(weights.cuda(), torch.tensor([[10], [-3]]).cuda(), segments)
    assert mask.sum(1).tolist() == [0, 9]
    with pytest.raises(ValueError, match="segments must go from 0 to 9"):
        torch.ops.zoosparse.magnitude_mask(weights.cuda(), torch.zeros(2, 1).long().cuda(), [0, 8])
    with pytest.raises(ValueError, match="k is on cpu"):
        torch.ops.zoosparse.magnitude_mask(weights.cuda(), torch.zeros(2, 1).long(), segments)


def test_counts_on_the_device_are_clamped_and_others_checked() -> None:
    weights = rows("normal", 2, 9).cuda()
    counts = torch.tensor([10, -3])
    assert ops.magnitude_mask(weights, counts.cuda()).sum(1).tolist() == [0, 9]
    for k in (counts, counts.tolist()):
        with pytest.raises(InputError, match="k = 10 in row 0, but it must lie between 0 and the 9 weights"):
            ops.magnitude_mask(weights, k)


def test_runs_on_the_current_stream() -> None:
    """Captured by a graph: nothing waits for the host, nothing runs on another stream."""
    weights = rows("trained", 50, 2464)
    there, expected = weights.cuda(), ops.magnitude_mask(weights, 1971)
    k = torch.full((50, 1), 1971, device="cuda")
    torch.ops.zoosparse.magnitude_mask(there, k, [0, 2464])
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        mask = torch.ops.zoosparse.magnitude_mask(there, k, [0, 2464])
    mask.zero_()
    graph.replay()
    assert torch.equal(mask.cpu(), expected)
