"""Programs: shapes, plain dictionaries and the encoding that native engines read."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn

from zoosparse_ext.errors import InputError
from zoosparse_ext.population.architecture import Architecture, ProgramModule
from zoosparse_ext.population.program import (
    ACTIVATIONS,
    Activation,
    AvgPool2d,
    Combine,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    MaxPool2d,
    Program,
)

EVERYTHING = Program(
    (
        Conv2d("features.0", 2, 3, (3, 3), (2, 1), (1, 0), bias=False),
        Activation("leaky_relu", 0.2),
        MaxPool2d((2, 2), (1, 1), (1, 1)),
        AvgPool2d((2, 2), (2, 2)),
        Dropout(0.25),
        GlobalAvgPool2d(),
        Flatten(),
        Linear("head", 3, 4),
    )
)
SHAPE = (2, 8, 8)


def test_shapes_are_those_of_the_modules() -> None:
    hidden = torch.zeros(1, *SHAPE)
    for op, after in zip(EVERYTHING.operations, EVERYTHING.shapes(SHAPE)[1:], strict=True):
        hidden = op.module()(hidden)
        assert tuple(hidden.shape[1:]) == after[: hidden.dim() - 1]


def test_round_trip_through_json() -> None:
    assert Program.from_list(json.loads(json.dumps(EVERYTHING.to_list()))) == EVERYTHING


@pytest.mark.parametrize("row", [{"kind": "attention"}, {}])
def test_an_unknown_operation_is_named(row: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"unknown operation .* known: .*conv2d, "):
        Program.from_list([row])


def test_encoding() -> None:
    table, values = EVERYTHING.encode(SHAPE, {"features.0.weight": 0, "head.weight": 54, "head.bias": 66})
    assert table.tolist() == [
        # kind, in C H W, out C H W, kernel, stride, padding, weight, bias, activation, reserved
        [0, 2, 8, 8, 3, 4, 6, 3, 3, 2, 1, 1, 0, 0, -1, 0, 0, 0],
        [4, 3, 4, 6, 3, 4, 6, 1, 1, 1, 1, 0, 0, -1, -1, 2, 0, 0],
        [2, 3, 4, 6, 3, 5, 7, 2, 2, 1, 1, 1, 1, -1, -1, 0, 0, 0],
        [3, 3, 5, 7, 3, 2, 3, 2, 2, 2, 2, 0, 0, -1, -1, 0, 0, 0],
        [5, 3, 2, 3, 3, 2, 3, 1, 1, 1, 1, 0, 0, -1, -1, 0, 0, 0],
        [7, 3, 2, 3, 3, 1, 1, 2, 3, 1, 1, 0, 0, -1, -1, 0, 0, 0],
        [6, 3, 1, 1, 3, 1, 1, 1, 1, 1, 1, 0, 0, -1, -1, 0, 0, 0],
        [1, 3, 1, 1, 4, 1, 1, 1, 1, 1, 1, 0, 0, 54, 66, 0, 0, 0],
    ]
    assert table.dtype == torch.int64 and values.dtype == torch.float64
    assert values.tolist() == [0.0, 0.2, 0.0, 0.0, 0.25, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 8, 8), r"size 3×8×8 do not fit.*'features.0' expects 2 channels, got 3"),
        ((2, 1, 1), r"size 2×1×1 are too small: nothing is left after Conv2d"),
    ],
)
def test_images_that_do_not_fit(shape: tuple[int, int, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        EVERYTHING.shapes(shape)


def test_a_linear_layer_wants_a_flat_input() -> None:
    program = Program((Linear("head", 12, 2),))
    with pytest.raises(InputError, match=r"'head' expects 12 features, got 3×2×2 \(not flat\)"):
        program.shapes((3, 2, 2))
    with pytest.raises(InputError, match=r"'head' expects 12 features, got 8"):
        Program((Flatten(), *program.operations)).shapes((2, 2, 2))


@pytest.mark.parametrize("build", [lambda: Activation("swish"), lambda: Dropout(1.0), lambda: Dropout(-0.1)])
def test_operations_that_cannot_be(build: Any) -> None:
    with pytest.raises(InputError):
        build()


def test_classes_of_a_convolutional_head() -> None:
    assert Program((Conv2d("a", 1, 7, (2, 2)), GlobalAvgPool2d())).classes == 7


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_program_module_is_the_module(activation: str) -> None:
    source = nn.Sequential()
    source.add_module("stem", nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), Activation(activation).module()))
    source.add_module("pool", nn.MaxPool2d(2))
    source.add_module("drop", nn.Dropout(0.5))
    source.add_module("head", nn.Sequential(nn.Flatten(), nn.Linear(27, 4, bias=False)))
    program = Architecture.from_module(source).program
    assert program is not None
    module = ProgramModule(program)
    assert list(module.state_dict()) == list(source.state_dict())
    module.load_state_dict(source.state_dict())
    images = torch.randn(5, 1, 6, 6)
    assert torch.equal(module.eval()(images), source.eval()(images))
    for training in (source, module):
        training.train()
        torch.manual_seed(0)
        training.scores = training(images)
    assert torch.equal(module.scores, source.scores)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": ((0,), (2,))}, r"operation 1, linear 'b', takes \(2,\); known are 0 to 1"),
        ({"inputs": ((0,), (-1,))}, "operation 1, linear 'b', takes"),
        ({"inputs": ((0,), (0, 1))}, "operation 1, linear 'b', takes 1 values, got 2"),
        ({"inputs": ((0,),)}, "2 operations has inputs of 1"),
        ({"streams": (0, -1)}, "streams of a program are numbers from 0 to 65535"),
        ({"streams": (0, "1")}, "streams of a program"),
    ],
)
def test_graphs_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Program((Linear("a", 4, 4), Linear("b", 4, 4)), **options)


def test_a_graph_has_no_encoding() -> None:
    program = Program((Linear("a", 4, 4), Combine("add")), inputs=((0,), (0, 1)))
    with pytest.raises(InputError, match="native engines lack add of two results"):
        program.encode((4, 1, 1), {})
