"""`torch.compile` of the public functions: whole graphs, any shape, any form of k, the same bits as without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
import torch._dynamo
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from zoosparse_ext import ops
from zoosparse_ext.errors import InputError

SHAPES = [(20, 64), (30, 72), (41, 81), (50, 99)]


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def the_operators_alone(weights: Tensor) -> tuple[Tensor, ...]:
    """The lines of the README, for rows of at least 41 weights."""
    p = weights.shape[1]
    threshold = ops.magnitude_threshold(weights, k=41)
    mask = ops.magnitude_mask(weights, k=[16, 9, 8], segments=[0, 20, 40, p])
    masks = ops.magnitude_masks(weights, k=[2, 12, 22])
    ops.apply_mask_(weights, ops.pack_mask(mask))
    pruned = ops.magnitude_prune_(weights, k=41)
    return threshold, mask, masks, pruned, ops.unpack_mask(masks, p)


FORMS: dict[str, tuple[Callable[..., object], Callable[[int, int], object]]] = {
    "the README": (lambda weights, k: the_operators_alone(weights), lambda n, i: None),
    "an int": (ops.magnitude_threshold, lambda n, i: 10 + i),
    "a list for segments": (
        lambda weights, k: ops.magnitude_mask(weights, k, [0, 20, 40, weights.shape[1]]),
        lambda n, i: [5 + i, 6 + i, 7 + i],
    ),
    "a list for masks": (ops.magnitude_masks, lambda n, i: [5 + i, 6 + i, 7 + i]),
    "a tensor": (ops.magnitude_prune_, lambda n, i: torch.arange(n) % 10 + i),
    "a tensor for segments": (
        lambda weights, k: ops.magnitude_prune_(weights, k, [0, 20, 40, weights.shape[1]]),
        lambda n, i: torch.arange(3 * n).view(n, 3) % 10 + i,
    ),
    "a tensor for masks": (ops.magnitude_masks, lambda n, i: torch.arange(4 * n).view(4, n) % 10 + i),
    "a list for rows": (
        lambda weights, k: ops.magnitude_mask(weights[:3], k),
        lambda n, i: [i, 20, 7],
    ),
    "a range": (ops.magnitude_mask, lambda n, i: range(n)),
    "an array": (ops.magnitude_mask, lambda n, i: np.arange(n, dtype=np.int32)),
    "a number of NumPy": (ops.magnitude_mask, lambda n, i: np.int64(i)),
    "a tensor of one number": (ops.magnitude_mask, lambda n, i: torch.tensor(i)),
    "a tuple for rows": (lambda weights, k: ops.magnitude_mask(weights[:3], k), lambda n, i: (i, 20, 7)),
    "a list of tensors": (ops.magnitude_masks, lambda n, i: [torch.tensor(i), torch.tensor(7)]),
    "lists in a list": (
        lambda weights, k: ops.magnitude_masks(weights[:2], k),
        lambda n, i: [[i, 3], [4, 2 * i]],
    ),
    "unsigned counts": (ops.magnitude_masks, lambda n, i: torch.tensor([i, 7], dtype=torch.uint64)),
}

BOUNDARIES: dict[str, Callable[[list[int]], object]] = {
    "a tensor": torch.tensor,
    "unsigned": lambda columns: torch.tensor(columns, dtype=torch.uint8),
    "an array": lambda columns: np.array(columns, dtype=np.int16),
    "a list of tensors": lambda columns: [torch.tensor(column) for column in columns],
    "a list of numbers of NumPy": lambda columns: [np.int64(column) for column in columns],
    "some of both": lambda columns: [columns[0], torch.tensor(columns[1]), np.int32(columns[2]), columns[3]],
    "a tuple": tuple,
}

WITHIN: dict[str, tuple[Callable[..., object], object]] = {
    "magnitude_threshold": (ops.magnitude_threshold, [3, 0, 7]),
    "magnitude_mask": (ops.magnitude_mask, torch.tensor([3, 0, 7])),
    "magnitude_prune_": (ops.magnitude_prune_, 5),
    "magnitude_masks": (ops.magnitude_masks, [[3, 0, 7], [5, 5, 5]]),
}


def as_tuple(results: object) -> tuple[Tensor, ...]:
    return results if isinstance(results, tuple) else (results,)  # type: ignore[return-value]


@pytest.mark.parametrize("dynamic", [None, True])
@pytest.mark.parametrize("form", FORMS)
def test_one_graph_for_all_shapes(form: str, dynamic: bool | None) -> None:
    function, count = FORMS[form]
    backend = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(function, fullgraph=True, dynamic=dynamic, backend=backend)
    for i, (n, p) in enumerate(SHAPES):
        expected, found = (torch.randn(n, p, generator=torch.Generator().manual_seed(i)) for _ in range(2))
        k = count(n, i)
        for one, other in zip(as_tuple(compiled(found, k)), as_tuple(function(expected, k)), strict=True):
            assert torch.equal(one, other)
        assert torch.equal(found, expected)
    assert backend.frame_count <= (1 if dynamic else 2)


BOUNDARY_CASES = [
    *(
        (op, "a tensor", dynamic, whole)
        for op in WITHIN
        for dynamic in (None, True)
        for whole in (False, True)
    ),
    *(("magnitude_mask", form, True, True) for form in BOUNDARIES if form != "a tensor"),
]


@pytest.mark.parametrize(("op", "form", "dynamic", "fullgraph"), BOUNDARY_CASES)
def test_one_graph_for_all_boundaries(op: str, form: str, dynamic: bool | None, fullgraph: bool) -> None:
    function, k = WITHIN[op]
    backend = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(
        lambda weights, segments: function(weights, k, segments),
        fullgraph=fullgraph,
        dynamic=dynamic,
        backend=backend,
    )
    for i, (n, p) in enumerate(SHAPES):
        expected, found = (torch.randn(n, p, generator=torch.Generator().manual_seed(i)) for _ in range(2))
        columns = [0, 20 + i, 40 - i, p]
        one = compiled(found, BOUNDARIES[form](columns))
        assert torch.equal(one, function(expected, k, columns))
        assert torch.equal(found, expected)
    assert backend.frame_count <= (1 if dynamic else 2)


def test_boundaries_in_a_range() -> None:
    compiled = torch.compile(ops.magnitude_mask, fullgraph=True, dynamic=True, backend="aot_eager")
    for n, p in ((3, 10), (4, 15), (5, 20)):
        weights = torch.randn(n, p)
        expected = ops.magnitude_mask(weights, 2, range(0, p + 1, 5))
        assert torch.equal(compiled(weights, 2, range(0, p + 1, 5)), expected)


def test_boundaries_in_a_tensor_under_the_default_backend() -> None:
    def both(weights: Tensor, k: Tensor, segments: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        masks = ops.magnitude_masks(weights, k, segments)
        mask = ops.magnitude_mask(weights, k[0], segments)
        return masks, mask, ops.magnitude_prune_(weights, k[1], segments)

    compiled = torch.compile(both, fullgraph=True, dynamic=True)
    for i, (n, p) in enumerate(SHAPES):
        expected, found = (torch.randn(n, p, generator=torch.Generator().manual_seed(i)) for _ in range(2))
        k, segments = torch.tensor([[3, 4], [5, 6]]), torch.tensor([0, 30 + i, p])
        for one, other in zip(compiled(found, k, segments), both(expected, k, segments), strict=True):
            assert torch.equal(one, other)
        assert torch.equal(found, expected)


def test_traced_code_takes_other_boundaries() -> None:
    """`make_fx` and fake tensors, without Dynamo: what is read of a tensor would become a constant of the graph."""

    def prune(weights: Tensor, k: Tensor, segments: Tensor) -> Tensor:
        return ops.magnitude_mask(weights, k, segments)

    weights, k = torch.randn(3, 8), torch.tensor([2, 1])
    for mode in ("real", "fake", "symbolic"):
        graph = make_fx(prune, tracing_mode=mode)(weights, k, torch.tensor([0, 4, 8]))
        for middle in (3, 6):
            segments = torch.tensor([0, middle, 8])
            assert torch.equal(graph(weights, k, segments), prune(weights, k, segments))
    with FakeTensorMode():
        assert prune(torch.randn(3, 8), torch.tensor([2, 1]), torch.tensor([0, 4, 8])).shape == (3, 8)


def test_exported_code() -> None:
    class Masked(torch.nn.Module):
        def forward(self, weights: Tensor, segments: Tensor) -> Tensor:
            return ops.magnitude_mask(weights, 1, segments)

    rows = {0: torch.export.Dim("rows")}
    weights, segments = torch.randn(3, 8), torch.tensor([0, 4, 8])
    program = torch.export.export(Masked(), (weights, segments), dynamic_shapes=(rows, None)).module()
    weights, segments = torch.randn(5, 8), torch.tensor([0, 7, 8])
    assert torch.equal(program(weights, segments), ops.magnitude_mask(weights, 1, segments))


def test_vmap_in_compiled_code() -> None:
    weights, segments = torch.randn(4, 3, 8), torch.tensor([0, 5, 8])
    rows = torch.vmap(lambda each: ops.magnitude_mask(each, 2, segments))
    compiled = torch.compile(rows, fullgraph=True, backend="aot_eager")
    assert torch.equal(
        compiled(weights), ops.magnitude_mask(weights.flatten(0, 1), 2, [0, 5, 8]).view(4, 3, 8)
    )


def test_the_default_backend() -> None:
    compiled = torch.compile(the_operators_alone, fullgraph=True, dynamic=True)
    for i, (n, p) in enumerate(SHAPES[:3]):
        expected, found = (torch.randn(n, p, generator=torch.Generator().manual_seed(i)) for _ in range(2))
        for one, other in zip(compiled(found), the_operators_alone(expected), strict=True):
            assert torch.equal(one, other)
        assert torch.equal(found, expected)


MASK = torch.arange(24).view(3, 8) % 3 > 0


def apply(leaf: Tensor) -> Tensor:
    weights = leaf * 3
    ops.apply_mask_(weights, ops.pack_mask(MASK))
    return weights.square().sum()


def prune(leaf: Tensor) -> Tensor:
    weights = leaf * 3
    ops.magnitude_prune_(weights, [2, 3], [0, 4, 8])
    return weights.square().sum()


def scale(leaf: Tensor) -> Tensor:
    """The threshold is detached."""
    return (leaf / ops.magnitude_threshold(leaf, 4)[:, None]).sum()


def prune_at(leaf: Tensor) -> Tensor:
    weights = leaf * 3
    ops.magnitude_prune_(weights, [2, 3], torch.tensor([0, 4, 8]))
    return weights.square().sum()


@pytest.mark.parametrize("function", [apply, prune, prune_at, scale])
def test_gradients(function: Callable[[Tensor], Tensor]) -> None:
    leaf = torch.linspace(-2, 3, 24).view(3, 8).requires_grad_()
    (expected,) = torch.autograd.grad(function(leaf), leaf)
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    (found,) = torch.autograd.grad(compiled(leaf), leaf)
    assert torch.equal(found, expected)
    assert function is scale or int((found == 0).sum()) in (8, 15)


@pytest.mark.parametrize(
    ("k", "message"),
    [(9, "k = 9 in row 0"), (torch.tensor([1, 9, 1]), "k = 9 in row 1"), ([1, -2, 1], "k = -2 in row 1")],
)
def test_bad_counts_raise_when_compiled_code_runs(k: object, message: str) -> None:
    compiled = torch.compile(ops.magnitude_mask, fullgraph=True, backend="aot_eager")
    with pytest.raises(ValueError, match=f"magnitude_mask: {message}, .* between 0 and the 8 weights"):
        compiled(torch.randn(3, 8), k)


def test_bad_segments_raise_when_compiled_code_runs() -> None:
    compiled = torch.compile(
        lambda w: ops.magnitude_mask(w, 1, [0, 6, 5, 8]), fullgraph=True, backend="aot_eager"
    )
    with pytest.raises(ValueError, match="segments must rise"):
        compiled(torch.randn(3, 8))


@pytest.mark.parametrize("op", WITHIN)
@pytest.mark.parametrize("columns", [[0, 6, 5, 8], [0, 5, 9], [0, -3, 8], [1, 5, 8], [0, 5, 7]])
def test_bad_boundaries_in_a_tensor(op: str, columns: list[int]) -> None:
    """The error is that of code which is not compiled; weights stay as they are."""
    function, _ = WITHIN[op]
    weights, segments = torch.randn(3, 8), torch.tensor(columns)
    before = weights.clone()
    k: object = [1, 1] if op == "magnitude_masks" else 1
    message = rf"{op}: segments must rise from 0 to the number of columns 8, got \[{columns[0]}, "
    for run in (function, torch.compile(function, fullgraph=True, backend="aot_eager")):
        with pytest.raises(InputError, match=message):
            run(weights, k, segments)
        assert torch.equal(weights, before)


def test_bad_counts_for_boundaries_in_a_tensor() -> None:
    compiled = torch.compile(ops.magnitude_mask, fullgraph=True, backend="aot_eager")
    with pytest.raises(InputError, match=r"magnitude_mask: k = 4 in row 0 for segment 1, .* the 3 weights"):
        compiled(torch.randn(3, 8), 4, torch.tensor([0, 5, 8]))


WRONG: dict[str, tuple[Callable[..., object], tuple[object, ...], str]] = {
    "k is text": (ops.magnitude_mask, ("2",), "magnitude_mask: k must be an int or integers, got str"),
    "k is nothing": (ops.magnitude_mask, (None,), "magnitude_mask: k must be an int or integers, got NoneType"),
    "k is a fraction": (ops.magnitude_mask, (2.0,), "magnitude_mask: k must be an int or integers, got float"),
    "k is a bool": (ops.magnitude_mask, (True,), "magnitude_mask: k must be an int or integers, got bool"),
    "k of fractions": (ops.magnitude_mask, (np.ones(3),), "k must be an int or an integer tensor, got torch.float64"),
    "k of several lengths": (ops.magnitude_mask, ([[1], [1, 2]],), "k must be .* lists of several lengths"),
    "k of 70 bits": (ops.magnitude_mask, ([1, 2**70, 1],), r"k must lie between -2\^63 and 2\^63 - 1"),
    "k of another length": (ops.magnitude_mask, ([1, 2],), r"k must be an int or of shape \[3\], got \[2\]"),
    "one k for masks": (ops.magnitude_masks, (torch.tensor(2),), "k must hold one count for each mask"),
    "segments are a number": (ops.magnitude_mask, (1, 8), "segments must be a list of columns, got int"),
    "segments are text": (ops.magnitude_mask, (1, "08"), "segments must be a list of columns, got str"),
    "a segment is a fraction": (ops.magnitude_mask, (1, [0, 4.5, 8]), "a boundary of .* must be an int, got float"),
    "segments of fractions": (
        ops.magnitude_mask,
        (1, torch.tensor([0.0, 8.0])),
        "a boundary of segments must be an int, got torch.float32",
    ),
    "segments are a matrix": (
        ops.magnitude_mask,
        (1, torch.tensor([[0, 8]])),
        r"segments must be a list of columns, got shape \[1, 2\]",
    ),
    "no segments": (ops.magnitude_mask, (1, []), "segments must rise from 0 to the number of columns, got fewer"),
    "weights are an array": (lambda w: ops.magnitude_mask(w.numpy(), 1), (), "weights must be a tensor, got "),
    "p is a number of NumPy": (
        lambda w, p: ops.unpack_mask(ops.pack_mask(w > 0), p),
        (np.int64(8),),
        r"p must be an int, got .*; pass int\(p\), found outside of compiled code",
    ),
    "p is a tensor": (
        lambda w, p: ops.unpack_mask(ops.pack_mask(w > 0), p),
        (torch.tensor(8),),
        r"p must be an int, got .*; pass int\(p\), found outside of compiled code",
    ),
    "p does not fit": (
        lambda w, p: ops.unpack_mask(ops.pack_mask(w > 0), p),
        (9,),
        r"p columns need packed \[N, ceil\(p / 8\)\], got \[3, 1\]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_whole_graphs_refuse(case: str) -> None:
    """Dynamo shows the error of the operator, and says where it was called."""
    function, arguments, message = WRONG[case]
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    with pytest.raises(torch._dynamo.exc.Unsupported, match=f"InputError.*{message}"):
        compiled(torch.randn(3, 8), *arguments)


def test_code_that_is_compiled_in_parts_refuses_as_any_other() -> None:
    compiled = torch.compile(ops.magnitude_mask, backend="aot_eager")
    with pytest.raises(InputError, match=r"k must be an int or an integer tensor, got torch.float32"):
        compiled(torch.randn(3, 8), 2.0)


def test_numbers_of_numpy_in_code_that_is_compiled_in_parts() -> None:
    mask = torch.randn(3, 8) > 0
    compiled = torch.compile(lambda packed, p: ops.unpack_mask(packed, p), backend="aot_eager")
    for p in (np.int64(8), torch.tensor(8), 8):
        assert torch.equal(compiled(ops.pack_mask(mask), p), mask)
