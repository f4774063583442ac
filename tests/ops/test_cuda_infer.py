"""Inference on a CUDA device against the reference on the CPU."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.ops.infer_nets import Net
from zoosparse_ext import ops
from zoosparse_ext.errors import InputError
from zoosparse_ext.ops import infer as engine
from zoosparse_ext.population.program import (
    Activation,
    AvgPool2d,
    Conv2d,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    MaxPool2d,
    Program,
)

pytestmark = pytest.mark.cuda

TOLERANCE = 2e-5  # of scores near 1: float32 sums of some hundred terms in another order

NETS = {
    "chain": Net(
        Program(
            (
                Conv2d("a", 2, 5, (3, 3)), MaxPool2d((2, 2), (2, 2)), Activation("tanh"), Conv2d("b", 5, 4, (2, 2)),
                Activation("gelu"), Flatten(), Linear("c", 36, 7),
            )
        ),
        (2, 10, 10),
    ),
    "strides and borders": Net(
        Program(
            (
                Conv2d("a", 3, 9, (5, 3), (2, 1), (2, 1)), Activation("silu"), MaxPool2d((3, 3), (2, 2), (1, 1)),
                Conv2d("b", 9, 6, (3, 3), (1, 2), (1, 1), False), Activation("leaky_relu", -0.2),
                AvgPool2d((2, 2), (2, 2)), Activation("sigmoid"), GlobalAvgPool2d(), Flatten(),
                Linear("c", 6, 3, False),
            )
        ),
        (3, 21, 17),
    ),
    "linear": Net(Program((Flatten(), Linear("a", 48, 33), Activation("relu"), Linear("b", 33, 10))), (3, 4, 4)),
    "one layer": Net(Program((Flatten(), Linear("a", 4, 300))), (1, 2, 2)),
    "more than shared memory": Net(
        Program(
            (
                Conv2d("a", 1, 40, (3, 3), (1, 1), (1, 1)), Activation("tanh"), Conv2d("b", 40, 2, (3, 3), (2, 2)),
                Flatten(), Linear("c", 242, 5),
            )
        ),
        (1, 24, 24),
    ),
}  # fmt: skip


def there(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.cuda() for name, tensor in tensors.items()}


def test_kernels_are_native() -> None:
    """Else the other tests would compare the reference with itself."""
    on_cuda = {row.operator: row.implementation for row in ops.implementations() if row.device == "cuda"}
    assert on_cuda["infer"] == on_cuda["infer_scores"] == "native"
    assert engine.available("cuda") and engine.why_unavailable("cuda") == ""


@pytest.mark.parametrize("sparse", engine.MODES)
@pytest.mark.parametrize("name", NETS)
def test_equals_the_reference(name: str, sparse: str) -> None:
    net = NETS[name]
    program = net.encode()
    classes = int(program["program"][-1, 4])
    for n, m, density, dtype in [
        (0, 5, 1.0, torch.uint8), (2, 0, 1.0, torch.uint8), (1, 1, 1.0, torch.float32), (3, 31, 0.3, torch.uint8),
        (4, 33, 0.05, torch.float32), (2, 100, 0.0, torch.uint8), (5, 64, 0.6, torch.uint8),
    ]:  # fmt: skip
        weights, images = net.weights(n, density), net.images(m, dtype)
        expected = engine._scores_reference(weights, *program.values(), *images.values(), classes, 0)
        scores = engine.infer_scores(weights.cuda(), **program, **there(images), sparse=sparse).cpu()
        torch.testing.assert_close(scores, expected, rtol=0, atol=TOLERANCE)
        labels = torch.arange(m) % classes
        predictions, loss, correct = (
            result.cpu()
            for result in engine.infer(
                weights.cuda(), **program, **there(images), labels=labels.cuda(), sparse=sparse
            )
        )
        targets = labels.expand(scores.shape[:2])
        losses = torch.nn.functional.cross_entropy(scores.movedim(2, 1), targets, reduction="none")
        assert torch.equal(predictions.long(), scores.argmax(2))
        assert torch.equal(correct, (scores.argmax(2) == targets).sum(1))
        torch.testing.assert_close(loss, losses.sum(1, dtype=torch.float64), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("sparse", engine.MODES)
def test_bits_do_not_depend_on_neighbours(sparse: str) -> None:
    net = NETS["chain"]
    weights, images = net.weights(300, 0.4).cuda(), there(net.images(70))
    labels = (torch.arange(70) % 7).cuda()
    together = engine.infer(weights, **net.encode(), **images, labels=labels, sparse=sparse)
    alone = engine.infer(weights[7:8], **net.encode(), **images, labels=labels, sparse=sparse)
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one, other[7:8])


def test_strided_arguments() -> None:
    net = NETS["chain"]
    weights, images = net.weights(6).cuda(), there(net.images(9))
    swapped = {**images, "images": images["images"].transpose(2, 3)}
    contiguous = {**images, "images": swapped["images"].contiguous()}
    scores = engine.infer_scores(weights[::2], **net.encode(), **swapped)
    assert torch.equal(scores, engine.infer_scores(weights[::2].contiguous(), **net.encode(), **contiguous))


def test_nan_predicts_class_0_and_has_a_nan_loss() -> None:
    net = NETS["chain"]
    weights, images = net.weights(2), net.images(5)
    weights[1, 0] = float("nan")
    labels = torch.arange(5).cuda()
    for sparse in engine.MODES:
        predictions, loss, correct = engine.infer(
            weights.cuda(), **net.encode(), **there(images), labels=labels, sparse=sparse
        )
        assert predictions[1].tolist() == [0] * 5 and int(correct[1]) == 1
        assert loss.isnan().tolist() == [False, True]


def test_on_another_stream() -> None:
    net = NETS["linear"]
    weights, images = net.weights(3).cuda(), there(net.images(40))
    expected = engine.infer_scores(weights, **net.encode(), **images)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        scores = engine.infer_scores(weights, **net.encode(), **images)
    stream.synchronize()
    assert torch.equal(scores, expected)


def test_errors() -> None:
    net = NETS["chain"]
    weights, program, images = net.weights(2).cuda(), net.encode(), net.images(3)
    with pytest.raises(InputError, match="infer_scores: images is on cpu, expected cuda:0"):
        engine.infer_scores(weights, **program, **images)
    with pytest.raises(InputError, match="infer_scores: images is on cuda:0, expected cpu"):
        engine.infer_scores(weights.cpu(), **program, **there(images))
    with pytest.raises(InputError, match="labels from 0 to 7 lie outside the 7 classes"):
        engine.infer(weights, **program, **there(images), labels=torch.tensor([0, 7, 1]).cuda())
