from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils import prune

from zoosparse_ext import ops
from zoosparse_ext.errors import InputError
from zoosparse_ext.ops import magnitude as reference

INF, NAN = float("inf"), float("nan")
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
# 0, 1, one vector of 4, 8 and 16 lanes and its neighbours, one sample, the small-run limit, a whole model
WIDTHS = [0, 1, 2, 3, 5, 7, 9, 15, 17, 31, 33, 63, 65, 255, 257, 1001, 2464]


def rows(kind: str, n: int, p: int, seed: int = 0) -> torch.Tensor:
    """float32 [n, p] of a kind that selection has reason to fear."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(n, p, generator=generator)
    uniform = torch.rand(n, p, generator=generator)
    if kind == "one value differs":
        normal = torch.full((n, p), 0.3)
        normal[:, p // 2 : p // 2 + 1] = 0.7
    return {
        "normal": normal,
        "trained": normal * torch.logspace(-2, 0, 5).repeat_interleave(p // 5 + 1)[:p],
        "crowded": 0.25 + 1e-6 * normal,
        "all equal": torch.full((n, p), -0.3),
        "one value differs": normal,
        "few values": (uniform * 7).floor() - 3,
        "denormals": normal * 1e-40,
        "zeros": torch.zeros(n, p).copysign(normal),
        "mostly zeros": normal * (uniform > 0.8),
        "periodic": torch.arange(p).remainder(64).float().expand(n, p).contiguous(),
        "not finite": torch.where(uniform < 0.3, INF, torch.where(uniform > 0.6, NAN, normal)).copysign(
            normal
        ),
    }[kind]


KINDS = [
    "normal", "trained", "crowded", "all equal", "one value differs", "few values", "denormals", "zeros",
    "mostly zeros", "periodic", "not finite",
]  # fmt: skip


def assert_equals_reference(weights: torch.Tensor, k: torch.Tensor, segments: list[int]) -> None:
    """All three operators, bit for bit."""
    mask = reference._mask_reference(weights, k, segments)
    thresholds = reference._threshold_reference(weights, k, segments)
    pruned = weights.clone().masked_fill_(~mask, 0)
    given = None if len(segments) == 2 else segments
    k = k[:, 0] if given is None else k

    assert torch.equal(ops.magnitude_mask(weights, k, given), mask)
    found = ops.magnitude_threshold(weights, k, given)
    torch.testing.assert_close(found.view_as(thresholds), thresholds, rtol=0, atol=0, equal_nan=True)
    in_place = weights.clone()
    assert torch.equal(ops.magnitude_prune_(in_place, k, given), mask)
    torch.testing.assert_close(in_place, pruned, rtol=0, atol=0, equal_nan=True)
    assert not in_place[~mask].signbit().any()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_equals_reference(level: str, kind: str, dtype: torch.dtype) -> None:
    for p in WIDTHS:
        weights = rows(kind, 3, p, seed=p).to(dtype)
        for k in ([0, p // 2, p], [p // 10, p * 4 // 5, max(p - 1, 0)]):
            assert_equals_reference(weights, torch.tensor(k)[:, None], [0, p])


@pytest.mark.parametrize("kind", KINDS)
def test_segments_equal_reference(level: str, kind: str) -> None:
    p = 700
    segments = [0, 0, 1, 18, 18, 400, p]
    widths = torch.tensor([end - start for start, end in pairwise(segments)])
    for share in (0.0, 0.3, 0.8, 1.0):
        k = (widths * share).round().long().expand(4, -1)
        assert_equals_reference(rows(kind, 4, p), k, segments)


@pytest.mark.parametrize("n", [0, 1, 5])
def test_row_counts(level: str, n: int) -> None:
    assert_equals_reference(rows("normal", n, 50), torch.full((n, 1), 20), [0, 50])


def test_non_contiguous(level: str) -> None:
    base = rows("normal", 14, 60)
    expected, view = base.clone(), base[::2, ::3]
    mask = ops.magnitude_prune_(view, 8)
    assert torch.equal(mask, ops.magnitude_mask(expected[::2, ::3].contiguous(), 8))
    expected[::2, ::3] *= mask
    assert torch.equal(base, expected)
    assert_equals_reference(rows("normal", 30, 9).T, torch.full((9, 1), 17), [0, 30])


def test_golden(level: str) -> None:
    weights = torch.tensor([[3.0, -1.0, 2.0, 1.0, -0.0], [NAN, INF, -NAN, 0.0, 5.0]])
    assert ops.magnitude_mask(weights, 2).int().tolist() == [[1, 0, 1, 1, 0], [1, 1, 1, 0, 0]]
    assert ops.magnitude_mask(weights, torch.tensor([3, 4])).int().tolist() == [
        [1, 0, 1, 0, 0],
        [0, 0, 1, 0, 0],
    ]
    assert ops.magnitude_threshold(weights, torch.tensor([2, 3])).tolist() == [1.0, INF]
    assert ops.magnitude_threshold(weights, 0).tolist() == [-INF, -INF]
    assert ops.magnitude_threshold(weights, 5)[0] == 3.0
    assert ops.magnitude_threshold(weights, 4)[1].isnan()
    ops.magnitude_prune_(weights, torch.tensor([0, 5]))
    assert weights.tolist() == [[3.0, -1.0, 2.0, 1.0, -0.0], [0.0] * 5]


def test_forms_of_k(level: str) -> None:
    weights, segments = rows("normal", 3, 20), [0, 8, 20]
    expected = ops.magnitude_mask(weights, torch.tensor([[4, 4]] * 3), segments)
    assert torch.equal(ops.magnitude_mask(weights, 4, segments), expected)
    assert torch.equal(ops.magnitude_mask(weights, [4, 4], segments), expected)
    assert torch.equal(ops.magnitude_mask(weights, torch.tensor([4, 4]), torch.tensor(segments)), expected)
    assert torch.equal(ops.magnitude_mask(weights, 9), ops.magnitude_mask(weights, torch.tensor([9, 9, 9])))
    assert ops.magnitude_threshold(weights, 4).shape == (3,)
    assert ops.magnitude_threshold(weights, 4, segments).shape == (3, 2)


@given(
    st.integers(1, 5).flatmap(
        lambda n: st.integers(1, 40).flatmap(
            lambda p: st.lists(
                st.lists(st.floats(width=32) | st.sampled_from([0.0, -0.0, 1.0, -1.0]), min_size=p, max_size=p),
                min_size=n, max_size=n,
            )
        )
    ),
    st.data(),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_laws(values: list[list[float]], data: st.DataObject) -> None:
    """Exact counts; masks nested for growing k; rows independent; the threshold divides kept from pruned."""
    weights = torch.tensor(values)
    n, p = weights.shape
    k = torch.tensor(data.draw(st.lists(st.integers(0, p), min_size=n, max_size=n)))
    mask = ops.magnitude_mask(weights, k)
    assert torch.equal((~mask).sum(1), k)
    more = ops.magnitude_mask(weights, (k + 1).clamp(max=p))
    assert not (more & ~mask).any()
    order = torch.tensor(data.draw(st.permutations(range(n))))
    assert torch.equal(ops.magnitude_mask(weights[order], k[order]), mask[order])
    threshold = ops.magnitude_threshold(weights, k)[:, None]
    assert not (mask & (weights.abs() < threshold)).any()
    assert not (~mask & (weights.abs() > threshold)).any()


@pytest.mark.parametrize("amount", [0, 1, 300, 499, 500])
def test_counts_as_torch_prune(level: str, amount: int) -> None:
    weights = rows("trained", 4, 500)
    mask = ops.magnitude_mask(weights, amount)
    for row, kept in zip(weights, mask, strict=True):
        layer = torch.nn.Module()
        layer.weight = torch.nn.Parameter(row.clone())
        prune.l1_unstructured(layer, "weight", amount=amount)
        assert torch.equal(layer.weight_mask.bool(), kept)


def test_same_bits_for_any_number_of_threads(level: str) -> None:
    weights = rows("trained", 200, 2464)
    k = torch.arange(200) * 12
    one = ops.magnitude_mask(weights, k)
    torch.set_num_threads(3)
    try:
        assert torch.equal(ops.magnitude_mask(weights, k), one)
    finally:
        torch.set_num_threads(1)


def test_autograd(level: str) -> None:
    leaf = torch.tensor([[1.0, -2.0]], requires_grad=True)
    assert not ops.magnitude_threshold(leaf, 1).requires_grad
    assert not ops.magnitude_mask(leaf, 1).requires_grad
    with pytest.raises(RuntimeError, match="leaf Variable"):
        ops.magnitude_prune_(leaf, 1)
    product = leaf * 3
    assert ops.magnitude_prune_(product, 1).tolist() == [[False, True]]
    product.sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.tolist() == [[0.0, 3.0]]
    version = leaf._version
    with torch.no_grad():
        ops.magnitude_prune_(leaf, 1)
    assert leaf.tolist() == [[0.0, -2.0]]
    assert leaf._version > version


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda w: ops.magnitude_mask(w[0], 1), r"one row per model, got shape \[9\]; .*weights\[None\]"),
        (lambda w: ops.magnitude_mask(w.int(), 1), "weights must be torch.float32 or .*, got torch.int32"),
        (lambda w: ops.magnitude_mask(w, 10), "k = 10, but .* between 0 and the 9 weights"),
        (lambda w: ops.magnitude_threshold(w, -1), "magnitude_threshold: k = -1"),
        (lambda w: ops.magnitude_prune_(w, torch.tensor([1, 10, 1])), "k = 10 in row 1"),
        (
            lambda w: ops.magnitude_mask(w, torch.tensor([1, 2])),
            r"k must be an int or of shape \[3\], got \[2\]",
        ),
        (lambda w: ops.magnitude_mask(w, torch.tensor([0.5] * 3)), "integer tensor, got torch.float32"),
        (
            lambda w: ops.magnitude_mask(w, [2, 5], [0, 5, 9]),
            "k = 5 in row 0 for segment 1, .* the 4 weights",
        ),
        (lambda w: ops.magnitude_mask(w, 5, [0, 5, 9]), "k = 5 for segment 1"),
        (
            lambda w: ops.magnitude_mask(w, 0, [0, 5, 8]),
            r"rise from 0 to the number of columns 9, got \[0, 5, 8\]",
        ),
        (lambda w: ops.magnitude_mask(w, 0, [0, 6, 5, 9]), "segments must rise"),
    ],
)
def test_bad_input(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(torch.zeros(3, 9))


def test_direct_calls_cannot_leave_their_bounds(level: str) -> None:
    """torch.ops.zoosparse.* without the public function's checks."""
    if level == "reference":
        return  # plain indexing checks itself
    weights = torch.zeros(2, 9)
    for k, segments in (
        ([[10], [0]], [0, 9]),
        ([[0], [-1]], [0, 9]),
        ([[9], [9]], [0, 8]),
        ([[1, 1]] * 2, [0, 9]),
        ([[[1], [1]]] * 3, [0, 9]),  # the counts of three masks
    ):
        for op in ("magnitude_mask", "magnitude_threshold", "magnitude_prune_"):
            with pytest.raises(ValueError, match=op):
                getattr(torch.ops.zoosparse, op)(weights, torch.tensor(k), segments)


def test_inference_mode(level: str) -> None:
    with torch.inference_mode():
        weights = torch.tensor([[3.0, -1.0, 2.0]])
        mask = ops.magnitude_prune_(weights, 1)
        ops.apply_mask_(weights, ~mask)
    assert weights.tolist() == [[0.0, 0.0, 0.0]]


def test_compiles_without_graph_breaks() -> None:
    def pipeline(weights: torch.Tensor) -> tuple[torch.Tensor, ...]:
        pruned = weights * 2
        packed = ops.pack_mask(ops.magnitude_prune_(pruned, 3))
        ops.apply_mask_(pruned, packed)
        return pruned, ops.magnitude_threshold(pruned, 4), ops.unpack_mask(packed, weights.shape[1])

    weights = rows("normal", 3, 20)
    compiled = torch.compile(pipeline, backend="aot_eager", fullgraph=True)
    for found, expected in zip(compiled(weights), pipeline(weights), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("segments", [[0, 33], [0, 10, 33]])
def test_opcheck(level: str, segments: list[int]) -> None:
    arguments = rows("normal", 3, 33), torch.full((3, len(segments) - 1), 7), segments
    for op in ("magnitude_threshold", "magnitude_mask", "magnitude_prune_"):
        torch.library.opcheck(getattr(torch.ops.zoosparse, op), arguments)


BOUNDARIES_AS_DATA = {
    "magnitude_threshold_at": torch.ops.zoosparse.magnitude_threshold,
    "magnitude_mask_at": torch.ops.zoosparse.magnitude_mask,
    "magnitude_prune_at_": torch.ops.zoosparse.magnitude_prune_,
    "magnitude_masks_at": torch.ops.zoosparse.magnitude_masks,
}


@pytest.mark.parametrize("op", BOUNDARIES_AS_DATA)
def test_raw_operators_with_boundaries_in_a_tensor(op: str) -> None:
    """What compiled code calls: the operator with a list, after it has read and checked the tensor."""
    operator = getattr(torch.ops.zoosparse, op)
    k, segments = torch.tensor([[2, 0, 3], [0, 1, 4]]), torch.tensor([0, 3, 4, 9])
    if op == "magnitude_masks_at":
        k = torch.stack([k, k.flip(0)])
    one, other = rows("trained", 2, 9), rows("trained", 2, 9)
    version = one._version
    assert torch.equal(operator(one, k, segments), BOUNDARIES_AS_DATA[op](other, k, [0, 3, 4, 9]))
    assert torch.equal(one, other)
    assert (one._version > version) == op.endswith("_")
    torch.library.opcheck(operator, (rows("trained", 2, 9), k, segments))
    for bad, message in [
        (torch.tensor([0, 4, 3, 9]), "segments must rise from 0 to the number of columns 9"),
        (torch.tensor([0.0, 3.0, 4.0, 9.0]), r"segments must be integers \[S \+ 1\], got torch.float32"),
        (torch.tensor([[0, 3, 4, 9]]), r"segments must be integers \[S \+ 1\], got torch.int64 \[1, 4\]"),
    ]:
        with pytest.raises(InputError, match=message):
            operator(one, k, bad)
    batch = (one[None], k[None], segments[None])
    with pytest.raises(InputError, match=f"{op}: segments must be the same for all that vmap goes over"):
        torch.vmap(operator)(*batch)
    assert torch.vmap(operator, (0, 0, None))(one[None], k[None], segments).shape[0] == 1
