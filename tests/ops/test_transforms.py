"""Operators under PyTorch's transforms: autograd, forward mode, `torch.func`, `vmap`. Raw operators and public ones."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.ops.infer_nets import Net
from tests.ops.train_oracle import Problem, hyper
from zoosparse_ext import ops
from zoosparse_ext.errors import InputError
from zoosparse_ext.ops import infer as engine
from zoosparse_ext.ops import train
from zoosparse_ext.population.program import Flatten, Linear, Program

raw = torch.ops.zoosparse
MASK = torch.tensor([[True, False, True, False]])
COUNT = torch.full((1, 1), 2)
IN_PLACE: dict[str, Callable[[Tensor], object]] = {
    "apply_mask_": lambda w: ops.apply_mask_(w, MASK),
    "apply_mask_ of bits": lambda w: ops.apply_mask_(w, ops.pack_mask(MASK)),
    "magnitude_prune_": lambda w: ops.magnitude_prune_(w, 2),
    "raw apply_mask_": lambda w: raw.apply_mask_(w, MASK),
    "raw magnitude_prune_": lambda w: raw.magnitude_prune_(w, COUNT, [0, 4]),
}
WEIGHTS = torch.tensor([[3.0, 1.0, 4.0, -1.5]])  # both prune columns 1 and 3
PRUNED = torch.tensor([[3.0, 0.0, 4.0, 0.0]])
KEPT = [[1.0, 0.0, 1.0, 0.0]]


@pytest.mark.parametrize("name", IN_PLACE)
def test_the_version_rises(level: str, name: str) -> None:
    """What a backward still needs must not change behind its back, with gradients recorded or not."""
    for recorded in (True, False):
        x = torch.ones(1, 4, requires_grad=True)
        weights = WEIGHTS.clone()
        y = (x * weights).sum()
        with torch.set_grad_enabled(recorded):
            IN_PLACE[name](weights)
        assert torch.equal(weights, PRUNED)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.backward()


MODES = (contextlib.nullcontext, torch.no_grad, torch.inference_mode)


def wide() -> Tensor:
    """Weights in memory that a kernel has to copy."""
    return torch.cat([WEIGHTS.T, WEIGHTS.T], 1)[:, :1].T


def negated() -> Tensor:
    """Weights whose negation PyTorch has put off."""
    weights = torch.complex(torch.zeros(1, 4), -WEIGHTS).conj().imag
    assert weights.is_neg() and torch.equal(weights, WEIGHTS)
    return weights


@pytest.mark.parametrize("make", [WEIGHTS.clone, wide, negated])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", IN_PLACE)
def test_the_version_rises_by_one(
    level: str, name: str, mode: Callable[[], Any], make: Callable[[], Tensor]
) -> None:
    weights = make()
    version = weights._version
    with mode():
        IN_PLACE[name](weights)
    assert torch.equal(weights, PRUNED) and weights._version == version + 1


@pytest.mark.parametrize("name", IN_PLACE)
def test_inference_mode_does_not_hide_a_change(level: str, name: str) -> None:
    leaf = WEIGHTS.clone().requires_grad_()
    y = (leaf**2).sum()
    with torch.inference_mode():
        IN_PLACE[name](leaf)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


@pytest.mark.parametrize("name", IN_PLACE)
def test_inference_tensors_change_in_inference_mode_alone(level: str, name: str) -> None:
    with torch.inference_mode():
        weights = WEIGHTS.clone()
    with pytest.raises(RuntimeError, match="Inplace update to inference tensor outside InferenceMode"):
        IN_PLACE[name](weights)
    assert torch.equal(weights, WEIGHTS)
    with torch.inference_mode():
        IN_PLACE[name](weights)
    assert torch.equal(weights, PRUNED)


@pytest.mark.parametrize("name", IN_PLACE)
def test_gradients_through_a_negation_that_is_put_off(level: str, name: str) -> None:
    leaf = torch.complex(torch.zeros(1, 4), -WEIGHTS).requires_grad_()
    weights = (leaf * 1).conj().imag
    IN_PLACE[name](weights)
    weights.sum().backward()
    assert torch.equal(weights, PRUNED)
    assert leaf.grad is not None and (-leaf.grad.imag).tolist() == KEPT


@pytest.mark.parametrize("dim", [0, 1, 2])
@pytest.mark.parametrize("mode", MODES)
def test_the_version_rises_under_vmap(level: str, mode: Callable[[], Any], dim: int) -> None:
    for in_place in (lambda w: ops.magnitude_prune_(w, 7), lambda w: ops.apply_mask_(w, MASKS[0])):
        given = BATCH.movedim(0, dim).contiguous()
        version = given._version
        with mode():
            torch.vmap(in_place, in_dims=dim)(given)
        assert given._version == version + 1


@pytest.mark.parametrize("name", IN_PLACE)
def test_gradients_of_pruned_weights_are_0(level: str, name: str) -> None:
    function = IN_PLACE[name]

    def pruned(leaf: Tensor) -> Tensor:
        weights = leaf * 1
        function(weights)
        return weights

    leaf = WEIGHTS.clone().requires_grad_()
    pruned(leaf).sum().backward()
    assert leaf.grad is not None and leaf.grad.tolist() == KEPT
    assert torch.func.grad(lambda w: pruned(w).sum())(WEIGHTS).tolist() == KEPT
    value, tangent = torch.func.jvp(pruned, (WEIGHTS,), (torch.ones_like(WEIGHTS),))
    assert torch.equal(value, PRUNED) and tangent.tolist() == KEPT
    per_row = torch.func.vmap(torch.func.grad(lambda w: pruned(w).sum()))(WEIGHTS.expand(3, 1, 4).clone())
    assert per_row.tolist() == [KEPT] * 3
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        function(leaf)
    with torch.no_grad():
        function(leaf)
    assert torch.equal(leaf, PRUNED)


NET = Net(Program((Flatten(), Linear("a", 4, 3))), (1, 2, 2))


def scores(weights: Tensor) -> Tensor:
    return engine.infer_scores(weights, **NET.encode(), **NET.images(5))


def losses(weights: Tensor) -> Tensor:
    return engine.infer(weights, **NET.encode(), **NET.images(5), labels=torch.zeros(5, dtype=torch.int64))[1]


@pytest.mark.parametrize(
    "function",
    [scores, losses, lambda w: raw.magnitude_threshold(w, torch.full((2, 1), 2), [0, 15])],
    ids=["infer_scores", "infer", "magnitude_threshold"],
)
def test_numbers_without_a_derivative_say_so(level: str, function: Callable[[Tensor], Tensor]) -> None:
    weights = NET.weights(2).requires_grad_()
    expected = function(weights.detach())
    found = function(weights)
    assert torch.equal(found, expected) and found.requires_grad
    with pytest.raises(
        NotImplementedError, match=r"the derivative of zoosparse.* is not implemented; detach"
    ):
        (found.sum() + weights.sum()).backward()
    with pytest.raises(NotImplementedError, match="the derivative of"):
        torch.func.grad(lambda w: function(w).sum())(weights.detach())
    with pytest.raises(NotImplementedError, match="the derivative of"):
        torch.func.jvp(function, (weights.detach(),), (torch.ones_like(weights),))
    with torch.no_grad():
        assert not function(weights).requires_grad


@pytest.mark.skipif(not train.available(), reason="the native engine is not built")
def test_training_a_leaf_raises_as_pytorch_does() -> None:
    problem = Problem(NET.program, NET.shape)
    arguments = problem.arguments(
        optimizer="sgd", hyper=hyper(3, lr=0.1), moment1=torch.zeros_like(problem.weights)
    )
    leaf = problem.weights.clone().requires_grad_()
    with pytest.raises(
        RuntimeError, match="weights: a leaf Variable that requires grad is being used in an in-place"
    ):
        train.train_steps_(leaf, **arguments)
    with pytest.raises(RuntimeError, match=r"the gradient of weights is recorded.*weights.detach\(\)"):
        train.train_steps_(leaf * 1, **arguments)
    moment = torch.zeros_like(leaf).requires_grad_()
    with pytest.raises(RuntimeError, match="moment1: a leaf Variable"):
        train.train_steps_(leaf.detach().clone(), **(arguments | {"moment1": moment}))
    assert torch.equal(leaf, problem.weights)
    x = torch.ones_like(leaf).requires_grad_()
    y = (x * leaf.detach()).sum()
    with torch.no_grad():
        train.train_steps_(leaf, **arguments)
    assert not torch.equal(leaf, problem.weights)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


TRAINED = ("weights", "moment1", "moment2")


def training(**changes: Any) -> dict[str, Any]:
    """Arguments of train_steps_ with Adam, which changes three tensors."""
    problem = Problem(NET.program, NET.shape)
    moments = {name: torch.zeros_like(problem.weights) for name in TRAINED[1:]}
    given = problem.arguments(optimizer="adam", hyper=hyper(3, lr=0.1), **moments)
    return {"weights": problem.weights.clone(), **given} | changes


@pytest.mark.skipif(not train.available(), reason="the native engine is not built")
@pytest.mark.parametrize("mode", MODES)
def test_training_raises_the_versions_by_one(mode: Callable[[], Any]) -> None:
    given = training()
    changed = [given[name] for name in TRAINED]
    before = [tensor._version for tensor in changed]
    with mode():
        train.train_steps_(given.pop("weights"), **given)
    assert [tensor._version for tensor in changed] == [version + 1 for version in before]


@pytest.mark.skipif(not train.available(), reason="the native engine is not built")
def test_training_through_a_negation_that_is_put_off() -> None:
    expected, found = training(), training()
    for name in TRAINED:
        found[name] = torch.complex(torch.zeros_like(found[name]), -found[name]).conj().imag
        assert found[name].is_neg()
    weights = found["weights"]
    results = train.train_steps_(expected["weights"], **{k: v for k, v in expected.items() if k != "weights"})
    other = train.train_steps_(weights, **{k: v for k, v in found.items() if k != "weights"})
    assert all(torch.equal(a, b) for a, b in zip(results, other, strict=True))
    assert all(torch.equal(expected[name], found[name]) for name in TRAINED)
    found["moment2"] = found["moment1"]
    with pytest.raises(InputError, match=r"moment1 and moment2 share memory, .* pass moment2.clone\(\)"):
        train.train_steps_(weights, **{k: v for k, v in found.items() if k != "weights"})


BATCH = torch.randn(4, 3, 20, generator=torch.Generator().manual_seed(0))
COUNTS = torch.arange(12).view(4, 3)
MASKS = BATCH > 0.3


@pytest.mark.parametrize("dim", [0, 1, 2, -1])
def test_vmap_over_weights(level: str, dim: int) -> None:
    """Wherever the batch is: folded into rows without a copy, or with one that is written back."""
    moved = BATCH.movedim(0, dim).contiguous()
    for function in (
        lambda w: ops.magnitude_mask(w, 7),
        lambda w: ops.magnitude_mask(w, [2, 5], [0, 8, 20]),
        lambda w: ops.magnitude_threshold(w, 7),
        lambda w: ops.magnitude_masks(w, [2, 7]),
        lambda w: ops.unpack_mask(ops.pack_mask(w > 0), 20),
    ):
        expected = torch.stack([function(weights) for weights in BATCH])
        assert torch.equal(torch.vmap(function, in_dims=dim)(moved), expected)
    for in_place in (lambda w: ops.magnitude_prune_(w, 7), lambda w: ops.apply_mask_(w, MASKS[0])):
        given, expected = moved.clone(), BATCH.clone()
        results = torch.vmap(in_place, in_dims=dim)(given)
        assert torch.equal(results, torch.stack([in_place(weights) for weights in expected]))
        assert torch.equal(given.movedim(dim, 0), expected)


def test_vmap_over_counts_and_masks(level: str) -> None:
    expected = torch.stack([ops.magnitude_mask(w, k) for w, k in zip(BATCH, COUNTS, strict=True)])
    assert torch.equal(torch.vmap(ops.magnitude_mask)(BATCH, COUNTS), expected)
    expected = torch.stack([ops.magnitude_mask(BATCH[0], k) for k in COUNTS])
    assert torch.equal(torch.vmap(ops.magnitude_mask, in_dims=(None, 0))(BATCH[0], COUNTS), expected)
    for masks in (MASKS, ops.pack_mask(MASKS)):
        given = BATCH.clone()
        torch.vmap(ops.apply_mask_)(given, masks)
        assert torch.equal(given, BATCH * MASKS)


def test_vmap_within_vmap_and_over_nothing(level: str) -> None:
    twice = torch.vmap(torch.vmap(lambda w: ops.magnitude_mask(w, 7)))(BATCH.view(2, 2, 3, 20))
    assert torch.equal(twice.view(4, 3, 20), torch.vmap(lambda w: ops.magnitude_mask(w, 7))(BATCH))
    assert torch.vmap(lambda w: ops.magnitude_mask(w, 7))(BATCH[:, :0]).shape == (4, 0, 20)


def test_vmap_and_gradients(level: str) -> None:
    leaf = BATCH.clone().requires_grad_()
    torch.vmap(ops.apply_mask_)(leaf * 2, MASKS).sum().backward()
    assert leaf.grad is not None and torch.equal(leaf.grad, 2.0 * MASKS)


def test_vmap_errors(level: str) -> None:
    with pytest.raises(InputError, match="apply_mask_ under vmap: weights are the same for all"):
        torch.vmap(lambda mask: ops.apply_mask_(BATCH[0].clone(), mask))(MASKS)
    with pytest.raises(InputError, match="k = 21 in row"):
        torch.vmap(ops.magnitude_mask)(BATCH, COUNTS + 10)
