"""Inference of many models on the same images: the native engine behind :func:`zoosparse_ext.evaluate`.

The engine keeps one image in each lane of the vector registers. A weight is then one number for all lanes, and what a
mask leaves of a layer is a shorter list of full-vector multiply-adds. Each layer of each model runs dense or as such a
list, whichever is faster. It reads a program as the table that :meth:`zoosparse_ext.population.Program.encode` makes.

Weights that are exactly 0 may be left out: where an activation is infinite or NaN, they do not make NaN of it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from zoosparse_ext.errors import InputError

from . import _registry
from ._checks import check_devices, check_dtype, check_matrix, check_tensor
from ._program import ACTIVATIONS, COLUMNS, FIELDS, KINDS, check_program, named

MODES = ("auto", "dense", "sparse")  # in the order of their numbers
DEVICES = ("cpu", "cuda")  # that have a native engine
_ANYWHERE = ("program", "values", "mean", "std")


def available(device: str = "cpu") -> bool:
    """Whether the native engine is built and loaded for tensors on such a device, ``"cpu"`` or ``"cuda"``."""
    return _registry.has_native("infer", device)


def why_unavailable(device: str = "cpu") -> str:
    """Why the native engine is not there; empty when it is."""
    return _registry.why_not_native("infer", device)


def infer(
    weights: Tensor,
    *,
    program: Tensor,
    values: Tensor,
    images: Tensor,
    mean: Tensor,
    std: Tensor,
    labels: Tensor,
    sparse: str = "auto",
) -> tuple[Tensor, Tensor, Tensor]:
    """Predictions of N models on M images, with summed losses and counts of right answers.

    Rows whose first layers are equal to the bit, as twins have that were pruned in later layers alone, share the work
    of these layers on the CPU. A result depends on its own row alone, not on N, the neighbours or the threads. A
    prediction is the first of the largest scores, NaN counted as the smallest; a model with NaN scores has a NaN loss.

    Example::

        table, values = architecture.program.encode((1, 28, 28), architecture.offsets)
        predictions, loss, correct = infer(
            weights, program=table, values=values, images=images, mean=mean, std=std, labels=labels
        )
        accuracy = correct / len(labels)

    Args:
        weights: [N, P] float32; images and labels are on its device, the rest there or on the CPU.
        program, values: the program's table int64 [L, 18] and numbers float64 [L].
        images: [M, C, H, W], uint8 (divided by 255) or float32; the networks see ``(image − mean) / std``.
        mean, std: per channel [C].
        labels: int64 [M].
        sparse: ``"auto"`` (per model and layer what is faster), ``"dense"`` or ``"sparse"``.

    Returns:
        Predictions [N, M], uint8 (uint16 for more than 256 classes); loss, the summed cross-entropy, float64 [N];
        correct predictions, int64 [N].

    Raises:
        InputError: an unknown `sparse`; shapes, dtypes, devices, labels or a program that do not fit.
        NotImplementedError: a backward reaches the loss: the engine has no derivative.
    """
    tensors = _tensors("infer", weights, program, values, images, mean, std, labels)
    predictions, loss, correct = _registry.call(
        torch.ops.zoosparse.infer, *tensors, _classes("infer", program), _mode("infer", sparse)
    )
    return predictions, loss, correct


def infer_scores(
    weights: Tensor,
    *,
    program: Tensor,
    values: Tensor,
    images: Tensor,
    mean: Tensor,
    std: Tensor,
    sparse: str = "auto",
) -> Tensor:
    """Scores of N models on M images, float32 [N, M, classes]; arguments and errors as :func:`infer`.

    Example::

        scores = infer_scores(weights, program=table, values=values, images=images, mean=mean, std=std)
    """
    tensors = _tensors("infer_scores", weights, program, values, images, mean, std)
    scores: Tensor = _registry.call(
        torch.ops.zoosparse.infer_scores,
        *tensors,
        _classes("infer_scores", program),
        _mode("infer_scores", sparse),
    )
    return scores


def _tensors(op: str, *tensors: Tensor) -> tuple[Tensor, ...]:
    names = ("weights", "program", "values", "images", "mean", "std", "labels")[: len(tensors)]
    named = dict(zip(names, tensors, strict=True))
    for name, tensor in named.items():
        check_tensor(op, name, tensor)
    check_devices(op, named, _ANYWHERE)
    return tensors


def _mode(op: str, sparse: str) -> int:
    if sparse not in MODES:
        raise InputError(f"{op}: sparse must be 'auto', 'dense' or 'sparse', got {sparse!r}")
    return MODES.index(sparse)


def _classes(op: str, program: Tensor) -> int:
    if program.dim() != 2 or program.shape[0] == 0 or program.shape[1] < 5:
        raise InputError(
            f"{op}: program must be the table [L, {COLUMNS}] of Program.encode, got {list(program.shape)}"
        )
    return int(program[-1, FIELDS.index("out_channels")])


def _scores_reference(
    weights: Tensor,
    program: Tensor,
    values: Tensor,
    images: Tensor,
    mean: Tensor,
    std: Tensor,
    classes: int,
    mode: int,
) -> Tensor:
    _check_reference(weights, program, values, images, mean, std, classes)
    pixels = images.to(torch.float32) / (255.0 if images.dtype == torch.uint8 else 1.0)
    pixels = (pixels - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
    scores = []
    for row in weights:
        hidden = pixels
        for fields, value in zip(program.tolist(), values.tolist(), strict=True):
            hidden = _operation(fields, value, row, hidden)
        scores.append(hidden.flatten(1))
    return torch.stack(scores) if scores else weights.new_empty(0, len(images), classes)


def _check_reference(
    weights: Tensor, program: Tensor, values: Tensor, images: Tensor, mean: Tensor, std: Tensor, classes: int
) -> None:
    check_matrix("infer", "weights", weights)
    check_dtype("infer", "weights", weights, torch.float32)
    check_dtype("infer", "images", images, torch.uint8, torch.float32)
    if images.dim() != 4:
        raise InputError(f"infer: images must be [M, C, H, W], got shape {list(images.shape)}")
    for name, tensor in (("mean", mean), ("std", std)):
        if tensor.shape != (images.shape[1],):
            raise InputError(f"infer: {name} must have shape [{images.shape[1]}], got {list(tensor.shape)}")
    check_program("infer", program, values, images.shape[1:], weights.shape[1])
    if (scores := _classes("infer", program)) != classes:
        raise InputError(f"infer: the program gives {scores} scores, classes is {classes}")


def _operation(row: list[int], value: float, weights: Tensor, hidden: Tensor) -> Tensor:
    """One row of a program's table on [M, C, H, W]; `weights` [P] are those of one model."""
    fields = named(row)
    kind = KINDS[fields.kind]
    kernel = (fields.kernel_height, fields.kernel_width)
    stride, padding = (
        (fields.stride_height, fields.stride_width),
        (fields.padding_height, fields.padding_width),
    )
    if kind in ("conv2d", "linear"):
        shape = (fields.out_channels, fields.in_channels, *kernel)
        weight = weights[fields.weight :][: shape[0] * shape[1] * shape[2] * shape[3]].view(shape)
        bias = weights[fields.bias :][: fields.out_channels] if fields.bias >= 0 else None
        return F.conv2d(hidden, weight, bias, stride, padding)
    if kind == "max_pool2d":
        return F.max_pool2d(hidden, kernel, stride, padding)
    if kind in ("avg_pool2d", "global_avg_pool2d"):
        return F.avg_pool2d(hidden, kernel, stride)
    if kind == "flatten":
        return hidden.reshape(-1, fields.out_channels, 1, 1)
    if kind == "activation":
        name = ACTIVATIONS[fields.activation]
        if name == "leaky_relu":
            return F.leaky_relu(hidden, value)
        return hidden if name == "identity" else getattr(F, name)(hidden)
    return hidden  # dropout, in evaluation


def _infer_reference(
    weights: Tensor,
    program: Tensor,
    values: Tensor,
    images: Tensor,
    mean: Tensor,
    std: Tensor,
    labels: Tensor,
    classes: int,
    mode: int,
) -> tuple[Tensor, Tensor, Tensor]:
    scores = _scores_reference(weights, program, values, images, mean, std, classes, mode)
    check_dtype("infer", "labels", labels, torch.int64)
    if labels.shape != images.shape[:1] or not bool(((labels >= 0) & (labels < classes)).all()):
        raise InputError(f"infer: labels must be one of {classes} classes for each of {len(images)} images")
    targets = labels.expand(scores.shape[:2])
    loss = F.cross_entropy(scores.movedim(2, 1), targets, reduction="none").sum(1, dtype=torch.float64)
    predicted = torch.nan_to_num(scores, nan=-torch.inf).argmax(2)
    return predicted.to(_prediction_dtype(classes)), loss, (predicted == targets).sum(1)


def _prediction_dtype(classes: int) -> torch.dtype:
    return torch.uint8 if classes <= 256 else torch.uint16


def _infer_fake(
    weights: Tensor,
    program: Tensor,
    values: Tensor,
    images: Tensor,
    mean: Tensor,
    std: Tensor,
    labels: Tensor,
    classes: int,
    mode: int,
) -> tuple[Tensor, Tensor, Tensor]:
    n, m = weights.shape[0], images.shape[0]
    predictions = weights.new_empty(n, m, dtype=_prediction_dtype(classes))
    return predictions, weights.new_empty(n, dtype=torch.float64), weights.new_empty(n, dtype=torch.int64)


def _scores_fake(
    weights: Tensor,
    program: Tensor,
    values: Tensor,
    images: Tensor,
    mean: Tensor,
    std: Tensor,
    classes: int,
    mode: int,
) -> Tensor:
    return weights.new_empty(weights.shape[0], images.shape[0], classes)


_SHARED = "Tensor weights, Tensor program, Tensor values, Tensor images, Tensor mean, Tensor std"
_registry.define(
    f"infer({_SHARED}, Tensor labels, SymInt classes, int mode) -> (Tensor, Tensor, Tensor)",
    _infer_reference,
    _infer_fake,
    numbers=True,
    anywhere=_ANYWHERE,
)
_registry.define(
    f"infer_scores({_SHARED}, SymInt classes, int mode) -> Tensor",
    _scores_reference,
    _scores_fake,
    numbers=True,
    anywhere=_ANYWHERE,
)
