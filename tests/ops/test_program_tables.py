"""Program tables that do not fit: refused with the operation's number, never read or written past an end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.ops.infer_nets import Net
from tests.ops.train_oracle import Problem, hyper, train_alone
from zoosparse_ext.errors import InputError
from zoosparse_ext.ops import infer as engine
from zoosparse_ext.ops import train
from zoosparse_ext.population.program import Activation, Conv2d, Dropout, Flatten, Linear, MaxPool2d, Program

native = pytest.mark.skipif(not train.available(), reason="the native engine is not built")

CHAIN = Program(
    (Conv2d("a", 1, 2, (2, 2)), MaxPool2d((2, 2), (2, 2)), Dropout(0.25), Flatten(), Linear("b", 2, 3))
)
NET = Net(CHAIN, (1, 3, 3))
MOST = 2**63 - 1


@pytest.mark.parametrize("first", [0, 1000, 2000, 3000])
def test_mutated_tables_are_refused_or_computed_as_pytorch_does(first: int) -> None:
    """In a process of its own, where a crash is a failure."""
    command = [sys.executable, "-m", "tests.ops.program_fuzz", str(first), "1000"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, f"{result.stdout}\nafter case {result.stderr[-2000:]}"
    assert "1000 tables" in result.stdout


def infer(change: Callable[[Tensor, Tensor], object], net: Net = NET) -> None:
    given = net.encode()
    change(given["program"], given["values"])
    engine.infer_scores(net.weights(2), **given, **net.images(3))


def steps(
    change: Callable[[Tensor, Tensor], object] = lambda program, values: None,
    net: Net = NET,
    **options: object,
) -> Tensor:
    problem = Problem(net.program, net.shape)
    arguments = problem.arguments(
        optimizer="sgd", hyper=hyper(3, lr=0.1), moment1=torch.zeros_like(problem.weights), **options
    )
    change(arguments["program"], arguments["values"])  # type: ignore[arg-type]
    weights = problem.weights.clone()
    train.train_steps_(weights, **arguments)  # type: ignore[arg-type]
    return weights


def window_too_large(kernel: int, row: int) -> Callable[[Tensor, Tensor], object]:
    """A division that truncates towards zero says that a window of 5 x 5 gives one output on 2 x 2."""

    def change(program: Tensor, values: Tensor) -> None:
        program[row, 7:9], program[row, 9:11], program[row, 5:7] = kernel, 100, 1

    return change


ONE_BY_ONE = Net(Program((Conv2d("a", 1, 2, (2, 2), (100, 100)), Flatten(), Linear("b", 2, 3))), (1, 2, 2))
POOLED = Net(Program((MaxPool2d((2, 2), (100, 100)), Flatten(), Linear("b", 1, 300))), (1, 2, 2))


def set_to(row: int, column: int, number: int) -> Callable[[Tensor, Tensor], object]:
    return lambda program, values: program[row].__setitem__(column, number)


def averaging(program: Tensor, values: Tensor) -> None:
    window_too_large(5, 0)(program, values)
    program[0, 0] = 3


CHANGES: dict[str, tuple[Net, Callable[[Tensor, Tensor], object], str]] = {
    "a convolution of 5 x 5 on 2 x 2": (ONE_BY_ONE, window_too_large(5, 0), "operation 0 has other shapes"),
    "a max pool of 5 x 5 on 2 x 2": (POOLED, window_too_large(5, 0), "operation 0 has other shapes"),
    "an average pool of 5 x 5 on 2 x 2": (POOLED, averaging, "operation 0 has other shapes"),
    "a convolution of 3 x 3 on 2 x 2": (ONE_BY_ONE, window_too_large(3, 0), "operation 0 has other shapes"),
    "weight + size overflows": (NET, set_to(0, 13, MOST), "operation 0 uses columns beyond the 19"),
    "weight before the row": (NET, set_to(0, 13, -1), "operation 0 uses columns beyond"),
    "bias + channels overflows": (NET, set_to(4, 14, MOST), "operation 4 uses columns beyond"),
    "bias + channels just overflows": (NET, set_to(4, 14, MOST - 1), "operation 4 uses columns beyond"),
    "bias before the row": (NET, set_to(0, 14, -2), "operation 0 uses columns beyond"),
    "a padding of 2^63 - 1": (NET, set_to(0, 11, MOST), f"operation 0 has padding_height = {MOST}"),
    "a padding of 2^62": (NET, set_to(0, 11, 2**62), f"operation 0 has padding_height = {2**62}"),
    "a padding below 0": (NET, set_to(1, 12, -1), "operation 1 has padding_width = -1"),
    "a padding that makes too much": (NET, set_to(0, 11, 2**24), "operation 0 is too large"),
    "2^32 + 1 channels, 1 in 32 bits": (
        NET,
        set_to(0, 1, 2**32 + 1),
        f"operation 0 has in_channels = {2**32 + 1}",
    ),
    "an unknown kind": (NET, set_to(0, 0, 2**32), "operation 0 is of unknown kind"),
    "an unknown kind below 0": (NET, set_to(3, 0, -1), "operation 3 is of unknown kind -1"),
    "a padded linear layer": (NET, set_to(4, 11, 1), "operation 4 has other shapes"),
    "a rate of 1": (NET, lambda program, values: values.fill_(1.0), "operation 2 drops at a rate of 1"),
    "a rate of NaN": (
        NET,
        lambda program, values: values.fill_(torch.nan),
        "operation 2 drops at a rate of nan",
    ),
    "a value beyond float32": (NET, lambda program, values: values.fill_(1e300), "float32 holds"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_inference_refuses(level: str, name: str) -> None:
    net, change, message = CHANGES[name]
    with pytest.raises(InputError, match=f"infer.*: .*{message}"):
        infer(change, net)


@native
@pytest.mark.parametrize("name", CHANGES)
def test_training_refuses(level: str, name: str) -> None:
    net, change, message = CHANGES[name]
    with pytest.raises(InputError, match=f"train_steps_: .*{message}"):
        steps(change, net)


@native
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clamp": torch.ones(4, dtype=torch.float64)}, r"clamp must have shape \[5\], got \[4\]"),
        ({"clamp": torch.ones(6, dtype=torch.float64)}, r"clamp must have shape \[5\]"),
        ({"clamp": torch.ones(5)}, "clamp must be Double, got Float"),
        ({"clamp": -torch.ones(5, dtype=torch.float64)}, "operation 0 has a clamp of -1; expected 0 or more"),
        ({"clamp": torch.full((5,), torch.nan, dtype=torch.float64)}, "operation 0 has a clamp of nan"),
        ({"batch_size": -1}, "batch_size must be 1 or more, got -1"),
        ({"first_step": -1}, "first_step must be 0 or more, and the last step below 2.32, got -1"),
        ({"first_step": MOST}, f"first_step must be 0 or more, and the last step below 2.32, got {MOST}"),
        ({"first_step": 2**32 - 1}, "first_step must be"),
        ({"crop": -1}, "crop must be 0 or more pixels, got -1"),
        ({"crop": 2**32}, "crop must be 0 or more pixels"),
        ({"dropout": torch.tensor([0.5, 1.0, 0.5])}, "dropout has rates from 0.5 to 1; expected rates in"),
        ({"dropout": torch.tensor([0.5, torch.nan, 0.5])}, "dropout has rates from -?nan"),
        ({"dropout": torch.tensor([0.5, -0.1, 0.5])}, "dropout has rates from -0.1"),
    ],
)
def test_training_refuses_numbers(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=f"train_steps_: {message}"):
        steps(**options)


@native
@pytest.mark.parametrize(
    ("row", "column", "other", "message"),
    [
        (4, 13, 0, "operations 0 and 4 share column"),
        (4, 14, 8, "operations 0 and 4 share column"),
        (0, 14, 7, "operations 0 and 0 share column 7"),
    ],
)
def test_training_refuses_shared_columns(row: int, column: int, other: int, message: str) -> None:
    """It would update them twice a step. Inference may share."""
    infer(set_to(row, column, other))
    with pytest.raises(InputError, match=f"train_steps_: {message}.*training needs columns of their own"):
        steps(set_to(row, column, other))


@native
@pytest.mark.parametrize("batch", [8, 9, 2**31, 2**62, MOST])
def test_a_batch_larger_than_the_samples_is_one_batch(level: str, batch: int) -> None:
    problem = Problem(Program((Flatten(), Linear("a", 4, 3))), (1, 2, 2))
    weights = problem.weights.clone()
    factor = torch.ones(1, dtype=torch.float64)
    changes = {"batch_size": batch, "lr_factor": factor, "moment1": torch.zeros_like(weights)}
    train.train_steps_(weights, **problem.arguments(optimizer="sgd", hyper=hyper(3, lr=0.1), **changes))  # type: ignore[arg-type]
    problem.batch = 8
    for model in range(3):
        expected = train_alone(problem, model, lambda p: torch.optim.SGD(p, lr=0.1))
        torch.testing.assert_close(weights[model].double(), expected["weights"], rtol=1e-5, atol=1e-6)


@native
def test_gradients_of_a_leaky_relu_whose_slope_is_negative(level: str) -> None:
    """Its values are positive on both sides, so they do not tell the derivative."""
    for operations in (
        (Conv2d("a", 1, 3, (2, 2)), Activation("leaky_relu", -0.5), Flatten(), Linear("b", 12, 3)),
        (Flatten(), Linear("a", 9, 5), Activation("leaky_relu", -2.0), Activation("tanh"), Linear("b", 5, 3)),
    ):
        problem = Problem(Program(operations), (1, 3, 3), samples=4)
        weights = problem.weights.clone()
        arguments = problem.arguments(
            optimizer="sgd", hyper=hyper(3, lr=1.0), moment1=torch.zeros_like(weights)
        )
        train.train_steps_(weights, **arguments)  # type: ignore[arg-type]
        for model in range(3):
            expected = train_alone(problem, model, lambda p: torch.optim.SGD(p, lr=1.0))
            torch.testing.assert_close(weights[model].double(), expected["weights"], rtol=1e-5, atol=1e-6)


def test_more_operations_than_random_streams(level: str) -> None:
    net = Net(Program((Flatten(), Linear("a", 4, 4))), (1, 2, 2))
    given = net.encode()
    program = torch.cat([given["program"], given["program"][1:].repeat(2**16 - 1, 1)])
    values = torch.zeros(len(program), dtype=torch.float64)
    with pytest.raises(InputError, match="65537"):
        engine.infer_scores(net.weights(1), program=program, values=values, **net.images(1))


def test_nothing_to_do(level: str) -> None:
    """Empty inputs are accepted: no models, no images, no samples."""
    assert engine.infer_scores(NET.weights(0), **NET.encode(), **NET.images(3)).shape == (0, 3, 3)
    assert engine.infer_scores(NET.weights(2), **NET.encode(), **NET.images(0)).shape == (2, 0, 3)
    with pytest.raises(InputError, match="operation 0 has other shapes"):
        images = {**NET.images(3), "images": torch.zeros(3, 1, 0, 3)}
        engine.infer_scores(NET.weights(2), **NET.encode(), **images)
