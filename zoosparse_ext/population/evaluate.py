"""Accuracy, loss and predictions of every model of a population."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from zoosparse_ext.data import Dataset, Split
from zoosparse_ext.errors import InputError
from zoosparse_ext.population.plan import Plan
from zoosparse_ext.population.population import Population, chunks

log = logging.getLogger(__name__)

_MODELS, _IMAGES = 8, 128  # per call of the executor: windows of one convolution then stay near 50 MB


@dataclass(frozen=True)
class Evaluation:
    """What a population does on a split.

    Args:
        accuracy: share of right predictions, float64 [N].
        loss: mean cross-entropy, float64 [N].
        predictions: predicted classes [N, M], uint8 (uint16 for more than 256 classes).
        labels: int64 [M].
    """

    accuracy: Tensor
    loss: Tensor
    predictions: Tensor
    labels: Tensor


def evaluate(population: Population, data: Dataset | Split, sparse: str = "auto") -> Evaluation:
    """Evaluate every model on a split; of a `Dataset`, on its test images.

    Example::

        result = zs.evaluate(population, data.test)
        result.accuracy.median()

    Args:
        population: N models.
        data: a data set or one of its splits.
        sparse: what the native engine does with zero weights: leave them out in those layers where that is faster
            (``"auto"``), never (``"dense"``) or always (``"sparse"``); the results are the same within rounding.

    Raises:
        InputError: images that do not fit the architecture; labels outside its classes; an unknown `sparse`.

    A model with NaN scores predicts class 0 and has a NaN loss.
    """
    plan = population.compile(sparse)
    split = data.test if isinstance(data, Dataset) else data
    check_split(population, split)
    if missing := plan.why_not_native(split.images):
        log.info("evaluating %s on the PyTorch reference: %s", population.architecture.name, missing)
        predictions, loss, correct = _judge_by_reference(plan, split, _classes(population, split))
    else:
        predictions, loss, correct = plan.judge(split.images, split.mean, split.std, split.labels)
    return Evaluation(correct.to(torch.float64) / len(split), loss / len(split), predictions, split.labels)


def _judge_by_reference(plan: Plan, split: Split, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Predictions [N, M], summed losses and correct answers [N]."""
    n, m = plan.weights.shape[0], len(split)
    predictions = torch.empty(n, m, dtype=torch.uint8 if classes <= 256 else torch.uint16)
    loss = torch.zeros(n, dtype=torch.float64)
    correct = torch.zeros(n, dtype=torch.int64)
    for columns in chunks(m, _IMAGES):
        images = split.normalized(columns)
        labels = split.labels[columns].to(plan.weights.device)
        for rows in chunks(n, _MODELS):
            logits = plan.reference_scores(rows, images)
            targets = labels.expand(logits.shape[0], -1)
            losses = F.cross_entropy(logits.movedim(2, 1), targets, reduction="none")
            loss[rows] += losses.sum(1).to("cpu", torch.float64)
            predicted = torch.nan_to_num(logits, nan=-torch.inf).argmax(2)
            correct[rows] += (predicted == targets).sum(1).cpu()
            predictions[rows, columns] = predicted.to("cpu", predictions.dtype)
    return predictions, loss, correct


def check_split(population: Population, split: Split) -> None:
    """Raise InputError unless images and labels fit the architecture."""
    population.check_images(split.images)
    classes = _classes(population, split)
    if int(split.labels.max()) >= classes:
        raise InputError(
            f"the data have label {int(split.labels.max())}, architecture {population.architecture.name!r} "
            f"has {classes} classes (0 … {classes - 1})"
        )


def _classes(population: Population, split: Split) -> int:
    """Number of classes: stated by the program, else seen from the scores of one image."""
    if population.architecture.classes is not None:
        return population.architecture.classes
    image = split.normalized(slice(0, 1))
    try:
        return population.scores(population.weights[:1], image).shape[2]
    except RuntimeError as error:
        size = "×".join(map(str, image.shape[1:]))
        name = population.architecture.name
        raise InputError(f"architecture {name!r} cannot take images of size {size}: {error}") from error
