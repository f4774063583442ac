"""The inference engine against its reference: random programs and masks, every instruction set."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ops.infer_programs import Net, nets
from zoosparse_ext.errors import InputError
from zoosparse_ext.ops import infer as engine
from zoosparse_ext.population.program import Activation, Conv2d, Flatten, Linear, MaxPool2d, Program

TOLERANCE = 2e-5  # of scores near 1: float32 sums of some hundred terms in another order, and tanh to 1e-7

SMALL = Net(
    Program(
        (
            Conv2d("a", 2, 5, (3, 3)), MaxPool2d((2, 2), (2, 2)), Activation("tanh"), Conv2d("b", 5, 4, (2, 2)),
            Activation("gelu"), Flatten(), Linear("c", 36, 7),
        )
    ),
    (2, 10, 10),
)  # fmt: skip


def check(net: Net, weights: torch.Tensor, sparse: str, **images: torch.Tensor) -> None:
    program = net.encode()
    classes = int(program["program"][-1, 4])
    expected = engine._scores_reference(weights, *program.values(), *images.values(), classes, 0)
    scores = engine.infer_scores(weights, **program, **images, sparse=sparse)
    scale = max(1.0, float(expected.abs().max())) if expected.numel() else 1.0
    torch.testing.assert_close(scores, expected, rtol=0, atol=TOLERANCE * scale)
    labels = torch.arange(len(images["images"])) % classes
    predictions, loss, correct = engine.infer(weights, **program, **images, labels=labels, sparse=sparse)
    targets = labels.expand(scores.shape[:2])
    losses = torch.nn.functional.cross_entropy(scores.movedim(2, 1), targets, reduction="none")
    assert torch.equal(predictions.long(), scores.argmax(2))
    assert torch.equal(correct, (scores.argmax(2) == targets).sum(1))
    torch.testing.assert_close(loss, losses.sum(1, dtype=torch.float64), rtol=1e-5, atol=1e-4)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    net=nets(),
    n=st.integers(0, 3),
    m=st.sampled_from([0, 1, 7, 8, 9, 15, 16, 17, 37]),
    density=st.sampled_from([0.0, 0.05, 0.3, 0.9, 1.0]),
    dtype=st.sampled_from([torch.uint8, torch.float32]),
    sparse=st.sampled_from(engine.MODES),
)
def test_random_programs(
    level: str, net: Net, n: int, m: int, density: float, dtype: torch.dtype, sparse: str
) -> None:
    check(net, net.weights(n, density), sparse, **net.images(m, dtype))


@pytest.mark.parametrize("sparse", engine.MODES)
def test_masks_at_the_edges(level: str, sparse: str) -> None:
    """Nothing kept, one weight kept, a layer without weights, all kept."""
    weights = SMALL.weights(5)
    offsets = SMALL.offsets
    weights[0] = 0
    weights[1] = 0
    weights[1, offsets["c.weight"] + 3] = 1.5
    weights[2, offsets["b.weight"] : offsets["b.bias"]] = 0
    weights[3, offsets["a.weight"] : offsets["a.weight"] + 18] = 0  # one output channel
    check(SMALL, weights, sparse, **SMALL.images(9))


def test_a_channel_without_weights_that_a_pool_makes_a_single_value(level: str) -> None:
    """Its value is the activation of its bias, not what the row of another model left."""
    program = Program(
        (
            Conv2d("a", 1, 4, (1, 1)),
            MaxPool2d((2, 2), (2, 2)),
            Activation("tanh"),
            Flatten(),
            Linear("b", 4, 3),
        )
    )
    net = Net(program, (1, 2, 2))
    weights = net.weights(6)
    weights[::2, net.offsets["a.weight"] + 1 : net.offsets["a.weight"] + 3] = 0
    check(net, weights, "sparse", **net.images(5))


@pytest.mark.parametrize("sparse", engine.MODES)
def test_bits_depend_on_neither_threads_nor_neighbours(level: str, sparse: str) -> None:
    weights, images, program = SMALL.weights(21, 0.4), SMALL.images(37), SMALL.encode()
    labels = torch.arange(37) % 7
    options = {**program, **images, "sparse": sparse}
    predictions, loss, correct = engine.infer(weights, labels=labels, **options)
    scores = engine.infer_scores(weights, **options)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        again = engine.infer(weights, labels=labels, **options)
        assert torch.equal(engine.infer_scores(weights, **options), scores)
    finally:
        torch.set_num_threads(threads)
    for one, other in zip((predictions, loss, correct), again, strict=True):
        assert torch.equal(one, other)
    alone = engine.infer(weights[4:5], labels=labels, **options)
    assert torch.equal(alone[0], predictions[4:5]) and torch.equal(alone[1], loss[4:5])


@pytest.mark.parametrize("sparse", engine.MODES)
def test_twins_that_share_their_first_layers(level: str, sparse: str) -> None:
    """What is calculated once for several models is, to the bit, what each of them calculates alone."""
    weights = SMALL.weights(12, 0.5)
    second, third = SMALL.offsets["b.weight"], SMALL.offsets["c.weight"]
    weights[3::3, :second] = weights[0, :second]
    weights[6::3, :third] = weights[0, :third]
    weights[9] = weights[0]
    weights[6, second:third] *= -0.0  # a layer of zeros, one of them negative
    weights[10, 5] = -weights[10, 5]
    options = {**SMALL.encode(), **SMALL.images(19), "sparse": sparse}
    scores = engine.infer_scores(weights, **options)
    for row in range(len(weights)):
        assert torch.equal(scores[row : row + 1], engine.infer_scores(weights[row : row + 1], **options))
    check(SMALL, weights, sparse, **SMALL.images(19))


@pytest.mark.parametrize("sparse", engine.MODES)
def test_channels_that_nobody_reads(level: str, sparse: str) -> None:
    """They may be left out, through pools and flattens; the second layer reads two of five, the third one of four."""
    weights = SMALL.weights(3)
    first, second = weights[:, SMALL.offsets["b.weight"] :], weights[:, SMALL.offsets["c.weight"] :]
    first[:, : 4 * 5 * 4].view(3, 4, 5, 4)[:, :, [0, 2, 3]] = 0
    second[:, : 7 * 36].view(3, 7, 4, 9)[:, :, 1:] = 0
    second[2, : 7 * 36] = 0
    check(SMALL, weights, sparse, **SMALL.images(19))


@pytest.mark.parametrize("sparse", engine.MODES)
def test_what_is_left_out_of_a_model_is_not_taken_from_its_neighbour(level: str, sparse: str) -> None:
    """The first model fills the memory with NaN; the second one leaves channels out where the first has them."""
    weights = SMALL.weights(2)
    weights[0, : SMALL.offsets["b.weight"]] = math.nan
    weights[1, SMALL.offsets["b.weight"] :][: 4 * 5 * 4].view(4, 5, 4)[:, 1:] = 0
    options = {**SMALL.encode(), **SMALL.images(9), "sparse": sparse}
    scores = engine.infer_scores(weights, **options)
    assert torch.equal(scores[1:], engine.infer_scores(weights[1:], **options))
    assert scores[1].isfinite().all()


def test_nan_predicts_class_0_and_has_a_nan_loss(level: str) -> None:
    weights = SMALL.weights(3)
    weights[1, 0] = math.nan
    weights[2, SMALL.offsets["c.bias"]] = math.nan  # only the score of class 0
    images = SMALL.images(5)
    labels = torch.tensor([0, 1, 2, 3, 4])
    for sparse in engine.MODES:
        predictions, loss, correct = engine.infer(
            weights, **SMALL.encode(), **images, labels=labels, sparse=sparse
        )
        assert predictions[1].tolist() == [0] * 5 and int(correct[1]) == 1
        assert loss.isnan().tolist() == [False, True, True]
        assert 0 not in predictions[2].tolist()


@pytest.mark.parametrize(
    ("mean", "std"), [(math.nan, 1.0), (0.0, 0.0), (0.5, 0.0), (-0.5, 0.0), (0.5, 1e-38)]
)
def test_channels_whose_pixels_are_not_finite(level: str, mean: float, std: float) -> None:
    weights, images, labels = SMALL.weights(3), SMALL.images(5), torch.tensor([0, 1, 2, 3, 4])
    images["mean"][0], images["std"][0] = mean, std
    predictions, loss, _ = engine.infer(weights, **SMALL.encode(), **images, labels=labels)
    expected = engine._infer_reference(weights, *SMALL.encode().values(), *images.values(), labels, 7, 0)
    assert loss.isnan().tolist() == expected[1].isnan().tolist()
    assert torch.equal(predictions[loss.isnan()], expected[0][loss.isnan()])


def test_infinite_scores(level: str) -> None:
    weights = torch.zeros(3, 3)
    weights[0, 2] = math.inf
    weights[1, 2] = -math.inf
    weights[2] = -math.inf
    net = Net(Program((Flatten(), Linear("a", 1, 3, bias=False))), (1, 1, 1))
    images = {"images": torch.ones(2, 1, 1, 1), "mean": torch.zeros(1), "std": torch.ones(1)}
    labels = torch.tensor([0, 2])
    predictions, loss, _ = engine.infer(weights, **net.encode(), **images, labels=labels)
    expected = engine._infer_reference(weights, *net.encode().values(), *images.values(), labels, 3, 0)
    assert torch.equal(predictions, expected[0])
    torch.testing.assert_close(loss, expected[1], equal_nan=True)


def test_more_than_256_classes(level: str) -> None:
    net = Net(Program((Flatten(), Linear("a", 4, 300))), (1, 2, 2))
    weights = net.weights(2)
    predictions, _, correct = engine.infer(
        weights, **net.encode(), **net.images(20), labels=torch.arange(20) + 270
    )
    expected = engine._infer_reference(
        weights, *net.encode().values(), *net.images(20).values(), torch.arange(20) + 270, 300, 0
    )
    assert predictions.dtype == torch.uint16
    assert torch.equal(predictions.long(), expected[0].long()) and torch.equal(correct, expected[2])


def test_rows_with_strides(level: str) -> None:
    weights, images = SMALL.weights(6), SMALL.images(9)
    swapped = {**images, "images": images["images"].transpose(2, 3)}
    contiguous = {**images, "images": swapped["images"].contiguous()}
    scores = engine.infer_scores(weights[::2], **SMALL.encode(), **swapped)
    expected = engine.infer_scores(weights[::2].contiguous(), **SMALL.encode(), **contiguous)
    torch.testing.assert_close(scores, expected)


def test_operators_follow_the_rules(level: str) -> None:
    weights, program, images = SMALL.weights(2, 0.5), SMALL.encode(), SMALL.images(3)
    shared = (weights, *program.values(), *images.values())
    torch.library.opcheck(torch.ops.zoosparse.infer_scores.default, (*shared, 7, 0))
    torch.library.opcheck(torch.ops.zoosparse.infer.default, (*shared, torch.arange(3), 7, 0))


def test_errors(level: str) -> None:
    weights, program, images = SMALL.weights(2), SMALL.encode(), SMALL.images(3)
    with pytest.raises(InputError, match="sparse must be 'auto', 'dense' or 'sparse', got 'yes'"):
        engine.infer_scores(weights, **program, **images, sparse="yes")
    with pytest.raises(InputError, match="program must be the table"):
        engine.infer_scores(weights, **{**program, "program": torch.empty(0, 18)}, **images)


@pytest.mark.skipif(not engine.available(), reason="the reference relies on PyTorch's own messages")
def test_errors_of_the_native_engine(level: str) -> None:
    weights, program, images = SMALL.weights(2), SMALL.encode(), SMALL.images(3)
    with pytest.raises(InputError, match="label 7 of image 1 lies outside the 7 classes"):
        engine.infer(weights, **program, **images, labels=torch.tensor([0, 7, 1]))
    with pytest.raises(InputError, match="infer_scores: operation 6 uses columns beyond"):
        engine.infer_scores(weights[:, :-1], **program, **images)
    with pytest.raises(InputError, match="infer_scores: images must be Float"):
        engine.infer_scores(weights, **program, **{**images, "images": images["images"].double()})
    with pytest.raises(InputError, match="infer_scores: operation 0 has other shapes"):
        engine.infer_scores(weights, **program, **{**images, "images": images["images"][:, :, :5]})
