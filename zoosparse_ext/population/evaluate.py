"""Accuracy, loss and predictions of every model of a population."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from zoosparse_ext.data import Dataset, Split
from zoosparse_ext.errors import InputError, ZoosparseError, require_kind
from zoosparse_ext.population import batch_norm
from zoosparse_ext.population.devices import by_rows
from zoosparse_ext.population.plan import Plan
from zoosparse_ext.population.population import Population, chunks, require_data

log = logging.getLogger(__name__)

# Models and images per call of the executor: windows of one convolution then stay near 50 MB, on a GPU near 1.6 GB.
_AT_ONCE = {"cpu": (8, 128), "cuda": (64, 512)}


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


def evaluate(
    population: Population,
    data: Dataset | Split,
    sparse: str = "auto",
    device: torch.device | str | None = None,
    *,
    recalibrate: Split | None = None,
) -> Evaluation:
    """Evaluate every model on a split; of a `Dataset`, on its test images.

    >>> import zoosparse_ext as zs
    >>> data = zs.load_dataset("digits").limit(100)
    >>> population = zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(1, 5))
    >>> result = zs.evaluate(population, data.val)
    >>> result.accuracy.shape, result.predictions.shape
    (torch.Size([4]), torch.Size([4, 25]))

    Args:
        population: N models.
        data: a data set or one of its splits.
        sparse: what the native engine does with zero weights: leave them out in those layers where that is faster
            (``"auto"``), never (``"dense"``) or always (``"sparse"``); the results are the same within rounding.
        device: where to run, ``"cpu"`` or ``"cuda"``; None: where the weights are. Results come back to the CPU.
        recalibrate: training images on which the statistics of batch norm are measured anew for this evaluation, as
            pruned networks need it: see :func:`~zoosparse_ext.population.batch_norm.recalibrate`. Default: as they are.

    Raises:
        InputError: images that do not fit the architecture; labels outside its classes; an unknown `sparse`; a device
            that is not there, or whose memory ends with a single model.

    A model with NaN scores predicts class 0 and has a NaN loss. Where the memory of a GPU ends, it goes on with fewer
    models at a time and says so in the log.
    """
    require_kind("data", data, (Dataset, Split), "a zs.Dataset or one of its splits")
    split = data.test if isinstance(data, Dataset) else data
    require_data(population)
    if recalibrate is not None:
        batch_norm.require_other_split(population, recalibrate, data)
        population = batch_norm.recalibrate(population, recalibrate)
    plan = population.compile(sparse, device)
    check_split(population, split)
    if missing := plan.why_not_native(split.images):
        log.info("evaluating %s on the PyTorch reference: %s", population.architecture.name, missing)
        predictions, loss, correct = _judge_by_reference(plan, split, _classes(population, split))
    else:
        predictions, loss, correct = _judge(plan, split)
    return Evaluation(correct.to(torch.float64) / len(split), loss / len(split), predictions, split.labels)


def _judge(plan: Plan, split: Split) -> tuple[Tensor, Tensor, Tensor]:
    """Predictions [N, M], summed losses and correct answers [N] on the native engine, on the CPU in the end."""

    def judge(rows: slice) -> tuple[Tensor, ...]:
        results = plan.judge(split.images, split.mean, split.std, split.labels, rows)
        return tuple(result.cpu() for result in results)

    parts = by_rows(len(plan.weights), judge)
    predictions, loss, correct = parts[0] if len(parts) == 1 else map(torch.cat, zip(*parts, strict=True))
    return predictions, loss, correct


def _judge_by_reference(plan: Plan, split: Split, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Predictions [N, M], summed losses and correct answers [N]."""
    n, m = plan.weights.shape[0], len(split)
    predictions = torch.empty(n, m, dtype=torch.uint8 if classes <= 256 else torch.uint16)
    loss = torch.zeros(n, dtype=torch.float64)
    correct = torch.zeros(n, dtype=torch.int64)
    models_at_once, images_at_once = _AT_ONCE.get(plan.where.type, _AT_ONCE["cpu"])
    for columns in chunks(m, images_at_once):
        images = split.normalized(columns)
        labels = split.labels[columns].to(plan.where)

        def judge(
            rows: slice, columns: slice = columns, images: Tensor = images, labels: Tensor = labels
        ) -> None:
            logits = plan.reference_scores(rows, images)
            targets = labels.expand(logits.shape[0], -1)
            losses = F.cross_entropy(logits.movedim(2, 1), targets, reduction="none")
            predicted = torch.nan_to_num(logits, nan=-torch.inf).argmax(2)
            results = losses.sum(1).cpu(), (predicted == targets).sum(1).cpu(), predicted.cpu()
            loss[rows] += results[0].to(torch.float64)
            correct[rows] += results[1]
            predictions[rows, columns] = results[2].to(predictions.dtype)

        by_rows(n, judge, models_at_once)
    return predictions, loss, correct


def check_split(population: Population, split: Split) -> None:
    """Raise InputError unless images and labels fit the architecture, and there is one score per class."""
    require_data(population)
    population.check_images(split.images)
    program, size = population.architecture.program, tuple(split.images.shape[1:])
    if program is not None and program.scores(size) is None:
        maps = "×".join(map(str, program.shapes(size)[-1]))
        raise InputError(
            f"architecture {population.architecture.name!r} ends in maps {maps}, "
            "not in one score per class; end it with a linear layer or global average pooling"
        )
    classes = _classes(population, split)
    if int(split.labels.max()) >= classes:
        raise InputError(
            f"the data have label {int(split.labels.max())}, architecture {population.architecture.name!r} "
            f"has {classes} classes (0 … {classes - 1})"
        )


def _classes(population: Population, split: Split) -> int:
    """Number of classes: stated by the program, else seen from the scores of one image."""
    program = population.architecture.program
    if program is not None and (classes := program.scores(tuple(split.images.shape[1:]))) is not None:
        return classes
    image = split.normalized(slice(0, 1))
    try:
        return population.scores(population.weights[:1], image).shape[2]
    except ZoosparseError:
        raise
    except Exception as error:  # whatever the module's own code raises
        size = "×".join(map(str, image.shape[1:]))
        name = population.architecture.name
        raise InputError(f"architecture {name!r} cannot take images of size {size}: {error}") from error
