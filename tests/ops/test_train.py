"""The native training engine against plain PyTorch, model by model."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ops.train_oracle import Problem, Variational, gradients, hyper, train_alone
from zoosparse_ext import ops
from zoosparse_ext.errors import InputError
from zoosparse_ext.ops import train
from zoosparse_ext.population.program import (
    ACTIVATIONS,
    Activation,
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    MaxPool2d,
    Program,
)

pytestmark = pytest.mark.skipif(not train.available(), reason="the native engine is not built")

# Gradients are sums of up to a few thousand float32 products, compared with float64: relative to the largest one.
GRADIENT_TOLERANCE = 5e-6


def small_cnn(activation: str = "tanh", dropout: float | None = None) -> Program:
    drop = () if dropout is None else (Dropout(dropout),)
    return Program(
        (
            Conv2d("a", 1, 5, (3, 3)),
            MaxPool2d((2, 2), (2, 2)),
            Activation(activation),
            *drop,
            Conv2d("b", 5, 6, (2, 2)),
            Activation(activation),
            Flatten(),
            *drop,
            Linear("c", 24, 7),
            Activation(activation),
            Linear("d", 7, 4),
        )
    )


SHAPE = (1, 8, 9)


def conv(*args, **kwargs) -> Conv2d:
    return Conv2d("conv", *args, **kwargs)


def head(features: int) -> tuple[Flatten, Linear]:
    return Flatten(), Linear("head", features, 5)


LAYERS = {
    "linear": (Program(head(12)), (3, 2, 2)),
    "no bias": (Program((Flatten(), Linear("head", 12, 5, bias=False))), (3, 2, 2)),
    "wide linear": (
        Program((Flatten(), Linear("a", 18, 33), Activation("relu"), Linear("b", 33, 3))),
        (2, 3, 3),
    ),
    "k5": (Program((conv(1, 8, (5, 5)), *head(8 * 16))), (1, 8, 8)),
    "two convolutions": (Program((conv(2, 5, (3, 3)), Conv2d("b", 5, 7, (3, 2)), *head(7 * 12))), (2, 7, 7)),
    "stride and padding": (
        Program(
            (conv(2, 3, (3, 3), (2, 1), (1, 2)), Conv2d("b", 3, 4, (3, 3), (2, 2), (1, 1)), *head(4 * 2 * 5))
        ),
        (2, 7, 7),
    ),
    "k1": (Program((conv(3, 9, (1, 1)), Conv2d("b", 9, 2, (1, 1)), *head(2 * 6))), (3, 2, 3)),
    "overlapping max pool": (
        Program((conv(1, 3, (2, 2)), MaxPool2d((3, 2), (1, 2)), *head(3 * 4 * 3))),
        (1, 7, 7),
    ),
    "padded max pool": (
        Program((conv(1, 3, (2, 2)), MaxPool2d((3, 3), (2, 2), (1, 1)), *head(27))),
        (1, 6, 6),
    ),
    "max pool with a rest": (
        Program((conv(1, 5, (2, 2)), MaxPool2d((2, 3), (2, 3)), *head(5 * 3 * 2))),
        (1, 8, 9),
    ),
    "2 x 2 max pool behind k5": (
        Program((conv(2, 5, (5, 5)), MaxPool2d((2, 2), (2, 2)), *head(5 * 2 * 3))),
        (2, 9, 11),
    ),
    "2 x 2 max pools behind k3": (
        Program(
            (
                conv(1, 3, (3, 3), (1, 1), (1, 1)),
                MaxPool2d((2, 2), (2, 2)),
                Conv2d("b", 3, 4, (4, 3)),
                MaxPool2d((2, 2), (2, 2)),
                *head(4),
            )
        ),
        (1, 11, 9),
    ),
    "2 x 2 max pool behind a second k5": (
        Program(
            (
                conv(1, 2, (1, 1)),
                Conv2d("b", 2, 3, (5, 5), (1, 1), (2, 1)),
                MaxPool2d((2, 2), (2, 2)),
                *head(3 * 5 * 6),
            )
        ),
        (1, 10, 15),
    ),
    "2 x 2 max pool behind a second k3": (
        Program((conv(1, 3, (2, 2)), Conv2d("b", 3, 2, (3, 3)), MaxPool2d((2, 2), (2, 2)), *head(2 * 2 * 7))),
        (1, 7, 18),
    ),
    "max pool first": (Program((MaxPool2d((2, 2), (2, 2)), conv(1, 2, (2, 2)), *head(8))), (1, 6, 6)),
    "max pool twice": (
        Program((conv(1, 2, (1, 1)), MaxPool2d((2, 2), (2, 2)), MaxPool2d((2, 2), (2, 2)), *head(8))),
        (1, 8, 8),
    ),
    "average pool": (Program((conv(1, 3, (2, 2)), AvgPool2d((2, 3), (2, 2)), *head(3 * 3 * 2))), (1, 7, 7)),
    "global average pool": (Program((conv(1, 6, (3, 3)), GlobalAvgPool2d(), *head(6))), (1, 6, 5)),
    "convolution as head": (
        Program((conv(1, 4, (3, 3)), Activation("relu"), Conv2d("b", 4, 5, (2, 2)))),
        (1, 4, 4),
    ),
    "activation before pool": (
        Program((conv(1, 3, (2, 2)), Activation("gelu"), MaxPool2d((2, 2), (2, 2)), *head(12))),
        (1, 5, 5),
    ),
    "activations in a row": (
        Program(
            (
                conv(1, 3, (2, 2)),
                *(Activation(f) for f in ("tanh", "silu", "sigmoid", "leaky_relu")),
                *head(12),
            )
        ),
        (1, 3, 3),
    ),
    "activation on the image": (Program((Activation("tanh"), *head(6))), (1, 2, 3)),
    **{name: (small_cnn(name), SHAPE) for name in ACTIVATIONS},
}


def assert_gradients(
    problem: Problem, variational: Variational | None = None, tolerance=GRADIENT_TOLERANCE
) -> None:
    got = gradients(problem, variational)
    for model in range(problem.n):
        expected = train_alone(problem, model, lambda p: torch.optim.SGD(p, lr=0.0), variational=variational)
        assert got["loss"][model].item() == pytest.approx(expected["loss"], rel=2e-6, abs=1e-6)
        assert got["correct"][model].item() == expected["correct"]
        for name, key in (("weights", "gradient"), ("log_sigma2", "sigma_gradient")):
            if name in got:
                scale = expected[key].abs().max().item() + 1e-12
                difference = (got[name][model] - expected[key]).abs().max().item()
                assert difference <= tolerance * scale, f"{name}: {difference} of {scale}"


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_of_each_layer(name, level):
    program, shape = LAYERS[name]
    assert_gradients(Problem(program, shape, samples=4))


@st.composite
def programs(draw):
    """A chain of up to five operations on a small image, and a head."""
    shape = (draw(st.integers(1, 3)), draw(st.integers(3, 9)), draw(st.integers(3, 9)))
    image, operations = shape, []
    for index in range(draw(st.integers(1, 5))):
        _, height, width = shape
        kind = draw(st.sampled_from(["conv", "conv", "max", "average", "activation"]))
        kernel = (draw(st.integers(1, min(4, height))), draw(st.integers(1, min(4, width))))
        stride = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
        if kind == "conv":
            padding = (draw(st.integers(0, 2)), draw(st.integers(0, 2)))
            out = draw(st.integers(1, 9))
            op = Conv2d(f"conv{index}", shape[0], out, kernel, stride, padding, bias=draw(st.booleans()))
        elif kind == "max":
            padding = (draw(st.integers(0, kernel[0] // 2)), draw(st.integers(0, kernel[1] // 2)))
            op = MaxPool2d(kernel, draw(st.sampled_from([stride, kernel])), padding)
        elif kind == "average":
            op = AvgPool2d(kernel, stride)
        else:
            op = Activation(draw(st.sampled_from(list(ACTIVATIONS))))
        operations.append(op)
        shape = op.output_shape(shape)
    features = shape[0] * shape[1] * shape[2]
    return Program((*operations, Flatten(), Linear("head", features, draw(st.integers(2, 6))))), image


@settings(max_examples=40, deadline=None)
@given(programs(), st.integers(1, 18), st.integers(0, 1000))
def test_gradients_of_random_programs(chain, n, draw):
    program, shape = chain
    # Float rounding may break a tie between two pooled values otherwise than float64 does: kept out by exact pixels
    # being the exception, not by a looser tolerance.
    assert_gradients(Problem(program, shape, n=n, samples=3, batch=3, draw=draw), tolerance=3e-5)


OPTIMIZERS = {
    "sgd": ("sgd", lambda p: torch.optim.SGD(p, lr=0.05), {"lr": 0.05}),
    "momentum": (
        "sgd",
        lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, weight_decay=1e-2),
        {"lr": 0.02, "beta1": 0.9, "weight_decay": 1e-2},
    ),
    "nesterov": (
        "sgd",
        lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.8, nesterov=True),
        {"lr": 0.02, "beta1": 0.8, "nesterov": 1.0},
    ),
    "adam": (
        "adam",
        lambda p: torch.optim.Adam(p, lr=3e-3, weight_decay=1e-2),
        {"lr": 3e-3, "weight_decay": 1e-2, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
    ),
    "adamw": (
        "adamw",
        lambda p: torch.optim.AdamW(p, lr=3e-3, weight_decay=0.1, betas=(0.8, 0.99)),
        {"lr": 3e-3, "weight_decay": 0.1, "beta1": 0.8, "beta2": 0.99, "eps": 1e-8},
    ),
    "rmsprop": (
        "rmsprop",
        lambda p: torch.optim.RMSprop(p, lr=2e-3, alpha=0.95, weight_decay=1e-3),
        {"lr": 2e-3, "beta2": 0.95, "eps": 1e-8, "weight_decay": 1e-3},
    ),
}


def run(problem: Problem, optimizer: str, table: torch.Tensor, **changes) -> dict[str, torch.Tensor]:
    state = {"moment1": torch.zeros_like(problem.weights), "moment2": torch.zeros_like(problem.weights)}
    weights = problem.weights.clone()
    loss, correct = train.train_steps_(
        weights, **problem.arguments(optimizer=optimizer, hyper=table, **state, **changes)
    )
    return {"weights": weights, "loss": loss, "correct": correct, **state}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_two_hundred_steps_track_a_module_loop(name):
    """Float32 against float32: the tolerance is what 200 steps make of single roundings."""
    kind, make, values = OPTIMIZERS[name]
    problem = Problem(small_cnn(), SHAPE, samples=799, batch=4)
    got = run(problem, kind, hyper(problem.n, **values))
    for model in range(problem.n):
        expected = train_alone(problem, model, make, torch.float32)
        torch.testing.assert_close(got["weights"][model], expected["weights"], rtol=1e-3, atol=2e-4)
        assert got["loss"][model].item() == pytest.approx(expected["loss"], rel=1e-4)


def test_hyperparameters_are_per_model():
    problem = Problem(small_cnn(), SHAPE, n=3, samples=12)
    lr, decay = [0.1, 0.01, 0.001], [0.0, 1e-3, 1e-1]
    factors = torch.tensor([0.1, 1.0, 0.5], dtype=torch.float64)
    got = run(problem, "sgd", hyper(3, lr=lr, weight_decay=decay, beta1=[0.0, 0.5, 0.9]), lr_factor=factors)
    for model, momentum in enumerate((0.0, 0.5, 0.9)):
        expected = train_alone(
            problem,
            model,
            lambda p, m=model, beta=momentum: torch.optim.SGD(
                p, lr=lr[m], weight_decay=decay[m], momentum=beta
            ),
            factors=factors,
        )
        torch.testing.assert_close(got["weights"][model].double(), expected["weights"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["momentum", "adam", "adamw", "rmsprop"])
def test_pruned_weights_and_their_state_are_exactly_zero(name):
    kind, make, values = OPTIMIZERS[name]
    problem = Problem(small_cnn(), SHAPE, n=5, samples=23)
    kept = torch.rand(problem.weights.shape, generator=torch.Generator().manual_seed(1)) > 0.7
    problem.weights *= kept
    got = run(problem, kind, hyper(5, **values), packed_masks=ops.pack_mask(kept))
    for tensor in ("weights", "moment1", "moment2"):
        assert torch.equal(got[tensor][~kept], torch.zeros(int((~kept).sum())))
        assert not torch.signbit(got[tensor][~kept]).any()
    expected = train_alone(problem, 4, make, kept=kept[4])
    torch.testing.assert_close(got["weights"][4].double(), expected["weights"], rtol=1e-4, atol=2e-5)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_results_do_not_depend_on_neighbours_threads_or_chunks(threads, level):
    everything = Problem(small_cnn("gelu", dropout=0.3), SHAPE, n=17, samples=22)
    table = hyper(17, lr=torch.linspace(1e-3, 1e-2, 17), beta1=0.9, beta2=0.999, eps=1e-8)
    whole = run(everything, "adam", table)
    for count in (1, 2):
        threads(count)
        for rows in (slice(0, 1), slice(2, 9), slice(1, 9), slice(8, 17), slice(3, 10), slice(0, 16)):
            part = Problem(small_cnn("gelu", dropout=0.3), SHAPE, n=17, samples=22)
            part.weights, part.order, part.seeds = part.weights[rows], part.order[rows], part.seeds[rows]
            got = run(part, "adam", table[rows].contiguous())
            for name, tensor in got.items():
                assert torch.equal(tensor, whole[name][rows]), name


def test_steps_can_be_cut_into_calls():
    problem = Problem(small_cnn(dropout=0.5), SHAPE, n=4, samples=22)
    table = hyper(4, lr=1e-2, beta1=0.9, beta2=0.999, eps=1e-8)
    whole = run(problem, "adam", table)
    weights = problem.weights.clone()
    state = {"moment1": torch.zeros_like(weights), "moment2": torch.zeros_like(weights)}
    loss = 0
    for first in (0, 2, 3):
        last = {0: 2, 2: 3, 3: 6}[first]
        part = {
            "order": problem.order[:, first * 4 : last * 4].contiguous(),
            "lr_factor": torch.ones(last - first, dtype=torch.float64),
            "first_step": first,
        }
        loss += train.train_steps_(
            weights, **problem.arguments(optimizer="adam", hyper=table, **state, **part)
        )[0]
    assert torch.equal(weights, whole["weights"]) and torch.equal(state["moment2"], whole["moment2"])
    torch.testing.assert_close(loss, whole["loss"], rtol=1e-14, atol=0)


def test_shared_order_and_float_images():
    program = small_cnn("relu")
    for options in ({"shared": True}, {"as_float": True}, {"shared": True, "as_float": True}):
        assert_gradients(Problem(program, SHAPE, samples=4, **options))


@pytest.mark.parametrize("dropout", [None, [0.0, 0.5, 0.9]])
def test_dropout_draws_the_documented_numbers(dropout):
    rates = None if dropout is None else torch.tensor(dropout)
    for activation in ("tanh", "gelu"):
        assert_gradients(Problem(small_cnn(activation, dropout=0.25), SHAPE, samples=4, dropout=rates))


VARIATIONAL_TOLERANCE = 5e-5  # the noise itself is good to about 1e-6 (float32 logarithm, sine and cosine)


@pytest.mark.parametrize("conv_biases", [False, True])
@pytest.mark.parametrize("kl_weight", [0.0, 0.02])
@pytest.mark.parametrize("spread", [(-12.0, -6.0), (-4.0, 8.0)])
def test_variational_gradients(conv_biases, kl_weight, spread):
    problem = Problem(small_cnn("tanh"), SHAPE, samples=4)
    low, high = spread  # the second has many weights beyond the clamp
    log_sigma2 = low + (high - low) * torch.rand(
        problem.weights.shape, generator=torch.Generator().manual_seed(2)
    )
    problem.weights[:, ::13] = 0.0
    variational = Variational(log_sigma2, kl_weight, conv_biases=conv_biases)
    assert_gradients(problem, variational, VARIATIONAL_TOLERANCE)


def test_variational_layers_with_rest_padding_and_stride():
    program = Program(
        (
            conv(2, 5, (3, 3), (1, 1), (1, 1)),
            MaxPool2d((2, 3), (2, 3)),
            Activation("silu"),
            Conv2d("b", 5, 3, (2, 2), (2, 1), (1, 0)),
            *head(3 * 2 * 1),
        )
    )
    problem = Problem(program, (2, 5, 7), samples=4)
    variational = Variational(torch.full_like(problem.weights, -3.0), 0.01, conv_biases=True)
    assert_gradients(problem, variational, VARIATIONAL_TOLERANCE)


@pytest.mark.parametrize("name", [name for name in LAYERS if "2 x 2 max pool" in name])
def test_variational_layers_behind_a_pool_of_two_by_two(name, level):
    program, shape = LAYERS[name]
    problem = Problem(program, shape, samples=4)
    variational = Variational(torch.full_like(problem.weights, -3.0), 0.01, conv_biases=True)
    assert_gradients(problem, variational, VARIATIONAL_TOLERANCE)


def test_variational_training_tracks_a_module_loop():
    problem = Problem(small_cnn(), SHAPE, n=2, samples=80)
    variational = Variational(torch.full_like(problem.weights, -6.0), 1e-3, conv_biases=True)
    extra = variational.arguments(problem.program)
    extra["log_sigma2"] = variational.log_sigma2.clone()
    got = run(problem, "adam", hyper(2, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8), **extra)
    for model in range(2):
        expected = train_alone(
            problem, model, lambda p: torch.optim.Adam(p, lr=1e-3), variational=variational
        )
        torch.testing.assert_close(got["weights"][model].double(), expected["weights"], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(
            extra["log_sigma2"][model].double(), expected["log_sigma2"], rtol=1e-3, atol=1e-4
        )


def test_no_models_and_no_samples():
    problem = Problem(small_cnn(), SHAPE, n=0)
    loss, correct = (run(problem, "adam", hyper(0))[name] for name in ("loss", "correct"))
    assert loss.shape == correct.shape == (0,)
    idle = Problem(small_cnn(), SHAPE, samples=0)
    got = run(idle, "adam", hyper(3, lr=1.0))
    assert torch.equal(got["weights"], idle.weights) and got["loss"].tolist() == [0.0] * 3


def test_bad_input_is_named():
    problem = Problem(small_cnn(), SHAPE)
    table = hyper(3, lr=0.1)
    with pytest.raises(InputError, match="unknown optimizer 'lion'"):
        run(problem, "lion", table)
    table_of_program, values = problem.arguments()["program"], problem.arguments()["values"]
    beyond, shifted = table_of_program.clone(), table_of_program.clone()
    beyond[-1, 13] = problem.p
    shifted[4, 4] += 1
    for change, message in [
        ({"labels": problem.labels + 4}, "labels has"),
        ({"order": problem.order + 24}, "order has"),
        ({"order": problem.order[:2].contiguous()}, "order must have shape"),
        ({"hyper": table[:2]}, "hyper must have shape"),
        ({"lr_factor": torch.ones(9, dtype=torch.float64)}, "lr_factor must have shape"),
        ({"images": problem.images[:, :, 1:].contiguous()}, "other shapes"),
        ({"program": beyond}, "columns beyond"),
        ({"program": shifted}, "other shapes"),
        ({"program": table_of_program[:-1], "values": values}, "values must have shape"),
        ({"batch_size": 0}, "batch_size must be 1 or more"),
        ({"packed_masks": torch.zeros(3, 2, dtype=torch.uint8)}, "packed_masks must have shape"),
    ]:
        arguments = problem.arguments(optimizer="sgd", hyper=table, moment1=torch.zeros_like(problem.weights))
        with pytest.raises(InputError, match=message):
            train.train_steps_(problem.weights.clone(), **(arguments | change))
    with pytest.raises(InputError, match="needs moment1 moment2"):
        train.train_steps_(problem.weights.clone(), **problem.arguments(optimizer="adam", hyper=table))
