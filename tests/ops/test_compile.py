"""`torch.compile` of the public functions: whole graphs, any shape, any form of k, the same bits as without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
import torch._dynamo
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from zoosparse_ext import ops

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


@pytest.mark.parametrize("function", [apply, prune, scale])
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
