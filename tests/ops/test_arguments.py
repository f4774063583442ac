"""Arguments of another type or on another device are refused by name, and nothing is changed."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
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
WEIGHTS = torch.randn(2, 9)
MASK = WEIGHTS > 0
NET = Net(Program((Flatten(), Linear("a", 4, 3))), (1, 2, 2))


def infer_arguments() -> dict[str, Tensor]:
    return {"weights": NET.weights(2), **NET.encode(), **NET.images(3), "labels": torch.arange(3)}


def train_arguments() -> dict[str, object]:
    problem = Problem(NET.program, NET.shape)
    given = problem.arguments(optimizer="sgd", hyper=hyper(3, lr=0.1), dropout=torch.zeros(3))
    sigma = {
        name: torch.zeros_like(problem.weights) for name in ("log_sigma2", "sigma_moment1", "sigma_moment2")
    }
    optional = {"moment1": torch.zeros_like(problem.weights), "clamp": torch.ones(2, dtype=torch.float64)}
    masks = {"packed_masks": ops.pack_mask(problem.weights != 0)}
    return {"weights": problem.weights.clone(), **given, **optional, **sigma, **masks}


CALLS: dict[str, tuple[Callable[..., object], dict[str, object]]] = {
    "magnitude_threshold": (ops.magnitude_threshold, {"weights": WEIGHTS, "k": 2}),
    "magnitude_mask": (ops.magnitude_mask, {"weights": WEIGHTS, "k": 2}),
    "magnitude_prune_": (ops.magnitude_prune_, {"weights": WEIGHTS, "k": 2}),
    "magnitude_masks": (ops.magnitude_masks, {"weights": WEIGHTS, "k": [2]}),
    "pack_mask": (ops.pack_mask, {"mask": MASK}),
    "unpack_mask": (ops.unpack_mask, {"packed": ops.pack_mask(MASK), "p": 9}),
    "apply_mask_": (ops.apply_mask_, {"weights": WEIGHTS, "mask": MASK}),
    "infer": (engine.infer, infer_arguments()),
    "infer_scores": (engine.infer_scores, {k: v for k, v in infer_arguments().items() if k != "labels"}),
    "train_steps_": (train.train_steps_, train_arguments()),
}
TENSORS = [
    (call, name)
    for call, (_, given) in CALLS.items()
    for name, value in given.items()
    if isinstance(value, Tensor)
]


def run(call: str, changes: dict[str, object]) -> object:
    function, given = CALLS[call]
    arguments = {name: v.clone() if isinstance(v, Tensor) else v for name, v in given.items()} | changes
    return function(*([arguments.pop("weights")] if "weights" in arguments else []), **arguments)


@pytest.mark.parametrize(("call", "name"), TENSORS)
def test_what_is_no_tensor(call: str, name: str) -> None:
    value = CALLS[call][1][name]
    assert isinstance(value, Tensor)
    for wrong, kind in ((value.numpy(), "numpy.ndarray"), (value.tolist(), "list"), ("weights", "str")):
        with pytest.raises(
            InputError, match=rf"{call}: {name} must be a tensor, got {kind}; torch.as_tensor"
        ):
            run(call, {name: wrong})


@pytest.mark.parametrize(("call", "name"), TENSORS)
def test_a_meta_tensor_among_others(call: str, name: str) -> None:
    """It would run the fake kernel: nothing changed, results of whatever was in memory."""
    value = CALLS[call][1][name]
    assert isinstance(value, Tensor)
    if len([1 for other, _ in TENSORS if other == call]) == 1:
        return  # alone, its results are meta tensors too
    with pytest.raises(InputError, match=rf"{call}: .* is on .*, expected .*, where weights is"):
        run(call, {name: value.to("meta")})


CHANGED = ("weights", "moment1", "moment2", "log_sigma2", "sigma_moment1", "sigma_moment2")
WEIGHTS_TRAINED = torch.Size((3, 15))
HUGE = torch.tensor([1, 2**64 - 1], dtype=torch.uint64)

RAW: dict[str, tuple[object, ...]] = {
    "magnitude_threshold": (WEIGHTS, torch.ones(2, 1, dtype=torch.int64), [0, 9]),
    "magnitude_mask": (WEIGHTS, torch.ones(2, 1, dtype=torch.int64), [0, 9]),
    "magnitude_prune_": (WEIGHTS, torch.ones(2, 1, dtype=torch.int64), [0, 9]),
    "magnitude_masks": (WEIGHTS, torch.ones(1, 2, 1, dtype=torch.int64), [0, 9]),
    "apply_mask_": (WEIGHTS, MASK),
    "infer": (*infer_arguments().values(), 3, 0),
    "infer_scores": (*list(infer_arguments().values())[:-1], 3, 0),
}


@pytest.mark.parametrize("op", RAW)
def test_a_meta_tensor_among_others_of_a_raw_operator(op: str) -> None:
    for i, value in enumerate(RAW[op]):
        if isinstance(value, Tensor):
            with pytest.raises(InputError, match=f"{op}: .* is on .*, expected "):
                getattr(raw, op)(*(v.to("meta") if i == j else v for j, v in enumerate(RAW[op])))  # type: ignore[union-attr]


@pytest.mark.parametrize("op", RAW)
def test_meta_tensors_alone_give_the_shapes(op: str) -> None:
    given = [v.clone() if isinstance(v, Tensor) else v for v in RAW[op]]
    there = [v.to("meta") if isinstance(v, Tensor) else v for v in RAW[op]]
    expected, found = getattr(raw, op)(*given), getattr(raw, op)(*there)
    for one, other in zip(
        expected if isinstance(expected, tuple) else (expected,),
        found if isinstance(found, tuple) else (found,),
        strict=True,
    ):
        assert expected is None or (other.is_meta and (other.shape, other.dtype) == (one.shape, one.dtype))


def test_meta_weights_with_counts_from_here() -> None:
    weights = WEIGHTS.to("meta")
    assert ops.magnitude_mask(weights, [1, 2]).is_meta
    assert ops.magnitude_masks(weights, [1, 2]).shape == (2, 2, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.magnitude_mask(WEIGHTS, 2.0), "k must be an int or an integer tensor, got torch.float32"),
        (lambda: ops.magnitude_mask(WEIGHTS, True), "k must be an int or an integer tensor, got torch.bool"),
        (lambda: ops.magnitude_mask(WEIGHTS, "2"), "k must be an int or integers, got '2'"),
        (lambda: ops.magnitude_mask(WEIGHTS, None), "k must be an int or integers, got None"),
        (lambda: ops.magnitude_mask(WEIGHTS, [1, 2**70]), "k must be an int or integers"),
        (lambda: ops.magnitude_mask(WEIGHTS, [[1], [1, 2]]), "k must be an int or integers"),
        (lambda: ops.magnitude_mask(WEIGHTS, torch.tensor([1, 2]).to("meta")), "k is on meta, expected cpu"),
        (lambda: ops.magnitude_masks(WEIGHTS, np.int64(2)), "one count for each mask, got 2"),
        (lambda: ops.magnitude_mask(WEIGHTS, 1, [0, 4.5, 9]), "a boundary of segments must be an int, got float"),
        (lambda: ops.magnitude_mask(WEIGHTS, 1, torch.tensor([0.0, 9.0])), "a boundary of segments must be an int"),
        (lambda: ops.magnitude_mask(WEIGHTS, 1, 9), "segments must be a list of columns, got 9"),
        (lambda: ops.magnitude_mask(WEIGHTS, 1, "09"), "segments must be a list of columns, got '09'"),
        (lambda: ops.magnitude_mask(WEIGHTS, 1, bytes([0, 9])), "segments must be a list of columns, got b"),
        (lambda: ops.magnitude_mask(WEIGHTS, 1, {0, 9}), "segments must be a list of columns, got {0, 9}"),
        (lambda: ops.magnitude_mask(WEIGHTS, 1, {0: 1, 9: 1}), "segments must be a list of columns, got {0: 1"),
        (
            lambda: ops.magnitude_mask(WEIGHTS, 0, torch.tensor([0, 9], device="meta")),
            "segments is on the meta device, which holds no data",
        ),
        (lambda: ops.magnitude_mask(WEIGHTS, 0, torch.tensor([0, 9]).to_sparse()), "segments must be dense"),
        (
            lambda: torch.vmap(lambda s: ops.magnitude_mask(WEIGHTS, 0, s))(torch.tensor([[0, 9]])),
            "segments must be the same for all that vmap goes over",
        ),
        (lambda: ops.magnitude_mask(WEIGHTS, torch.tensor([0, 1]).to_sparse()), "k must be dense"),
        (
            lambda: ops.magnitude_mask(WEIGHTS, torch.quantize_per_tensor(torch.ones(2), 1, 0, torch.qint8)),
            "k must be an int or an integer tensor, got torch.qint8",
        ),
        (lambda: ops.magnitude_mask(WEIGHTS, HUGE), f"k = {2**64 - 1} in row 1, .* the 9 weights"),
        (lambda: ops.magnitude_masks(WEIGHTS, HUGE), f"k = {2**64 - 1} in row 0"),
        (lambda: ops.magnitude_masks(WEIGHTS, HUGE[1]), f"one count for each mask, got {2**64 - 1}"),
        (
            lambda: ops.magnitude_mask(WEIGHTS, HUGE, [0, 4, 9]),
            f"k = {2**64 - 1} in row 0 for segment 1, .* the 5 weights",
        ),
        (lambda: torch.vmap(ops.magnitude_mask)(WEIGHTS[:, None], HUGE[:, None]), f"k = {2**63 - 1} in row 1"),
        (lambda: ops.unpack_mask(ops.pack_mask(MASK), 2**64), f"{2**64} columns need packed"),
        (lambda: ops.unpack_mask(ops.pack_mask(MASK), torch.tensor(9.0)), "p must be an int, got torch.Tensor"),
        (lambda: run("train_steps_", {"seed": 2**64}), f"seed must lie between .* got {2**64}"),
        (lambda: run("train_steps_", {"crop": -(2**63) - 1}), "crop must lie between "),
        (lambda: run("train_steps_", {"batch_size": 2**63}), "batch_size must lie between "),
        (lambda: run("train_steps_", {"kl_weight": "much"}), "kl_weight must be a number, got 'much'"),
        (lambda: ops.magnitude_mask(WEIGHTS.to_sparse(), 1), "weights must be dense, got layout torch.sparse_coo"),
        (
            lambda: ops.apply_mask_(torch.quantize_per_tensor(WEIGHTS, 0.1, 0, torch.qint8), MASK),
            "weights must be plain numbers, got torch.qint8",
        ),
        (lambda: ops.unpack_mask(ops.pack_mask(MASK), 9.0), "p must be an int, got float"),
        (lambda: ops.unpack_mask(ops.pack_mask(MASK), True), "p must be an int, got bool"),
        (lambda: run("train_steps_", {"batch_size": 2.0}), "train_steps_: batch_size must be an int, got float"),
        (lambda: run("train_steps_", {"first_step": None}), "first_step must be an int, got NoneType"),
        (lambda: run("infer", {"images": torch.zeros(3, 1, 2, 2).double()}), "infer: images must be "),
        (lambda: run("infer", {"mean": torch.zeros(2)}), r"infer: mean must have shape \[1\]"),
        (lambda: run("infer", {"labels": torch.tensor([0, 1, 3])}), "infer: label"),
        (lambda: run("infer", {"weights": NET.weights(2).double()}), "infer: weights must be "),
    ],
)  # fmt: skip
def test_wrong_kinds_are_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
@pytest.mark.parametrize(("call", "name"), TENSORS)
def test_nested_tensors(call: str, name: str, layout: torch.layout) -> None:
    value = CALLS[call][1][name]
    assert isinstance(value, Tensor)
    nested = torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)], dtype=value.dtype, layout=layout)
    with pytest.raises(InputError, match=rf"{call}: {name} must be one array, got a nested tensor"):
        run(call, {name: nested})


@pytest.mark.skipif(not train.available(), reason="the native engine is not built")
@pytest.mark.parametrize("names", list(combinations(CHANGED, 2)), ids="-".join)
def test_training_refuses_shared_memory(names: tuple[str, str]) -> None:
    first, second = names
    one = torch.zeros(WEIGHTS_TRAINED)
    overlapping = torch.zeros(WEIGHTS_TRAINED.numel() + 1)
    parts = overlapping[:-1].view(WEIGHTS_TRAINED), overlapping[1:].view(WEIGHTS_TRAINED)
    for a, b in ((one, one), (one, one.view_as(one)), parts, parts[::-1]):
        with pytest.raises(InputError, match=rf"{first} and {second} share memory.* pass {second}.clone\(\)"):
            run("train_steps_", {"moment2": torch.zeros(WEIGHTS_TRAINED), first: a, second: b})
    both = torch.zeros(2, *WEIGHTS_TRAINED)
    run("train_steps_", {"moment2": torch.zeros(WEIGHTS_TRAINED), first: both[0], second: both[1]})


@pytest.mark.parametrize(("p", "width"), [(2**63 - 1, 2**60), (2**63 - 8, 2**60 - 1), (25, 4), (8, 1)])
def test_bits_of_a_raw_operator_that_are_not_there(level: str, p: int, width: int) -> None:
    with pytest.raises(ValueError, match=rf"packed must have shape \[2, {width}\], got \[2, 2\]"):
        raw.unpack_mask(ops.pack_mask(MASK), p)


def test_numbers_of_numpy_are_numbers() -> None:
    expected = ops.magnitude_mask(WEIGHTS, 2)
    assert torch.equal(ops.magnitude_mask(WEIGHTS, np.int64(2)), expected)
    assert torch.equal(ops.magnitude_mask(WEIGHTS, np.array([2, 2])), expected)
    assert torch.equal(ops.magnitude_mask(WEIGHTS, [2], np.array([0, 9])), expected)
    assert torch.equal(ops.unpack_mask(ops.pack_mask(expected), np.int32(9)), expected)
    assert torch.equal(ops.magnitude_masks(WEIGHTS, np.array([2])), ops.pack_mask(expected)[None])
