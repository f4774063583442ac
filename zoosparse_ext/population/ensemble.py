"""All models of a population as one classifier."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from zoosparse_ext.data import Dataset, Split
from zoosparse_ext.errors import InputError
from zoosparse_ext.population.evaluate import check_split
from zoosparse_ext.population.plan import Plan
from zoosparse_ext.population.population import Population, chunks

RULES = ("mean", "vote")
_MODELS, _IMAGES = 64, 1024  # whose scores are held at a time


@dataclass(frozen=True)
class EnsembleEvaluation:
    """What an ensemble does on a split.

    Args:
        accuracy: share of right predictions.
        loss: mean cross-entropy of the mean probabilities.
        predictions: predicted classes, int64 [M].
        labels: int64 [M].
    """

    accuracy: float
    loss: float
    predictions: Tensor
    labels: Tensor


class Ensemble:
    """The models of one or more populations deciding together, on the plan that evaluates each of them alone.

    A model whose scores for an image are not finite has no say on that image.

    >>> import zoosparse_ext as zs
    >>> ensemble = Ensemble(zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(5)))
    >>> ensemble(torch.rand(3, 1, 28, 28)).shape
    torch.Size([3, 10])

    Args:
        populations: a population, or several with the same classes: architectures and sparsities may differ.
        rule: ``"mean"`` (the class of the largest mean probability) or ``"vote"`` (the class that most models
            predict); of equals, the lowest class.
        sparse: what the native engine does with zero weights, as in `Population.compile`.

    Raises:
        InputError: no population; an unknown rule; when it runs, populations with other classes or other images.

    Source: Lakshminarayanan, Pritzel, Blundell, "Simple and Scalable Predictive Uncertainty Estimation using Deep
    Ensembles", NeurIPS 2017 (mean probability).
    """

    def __init__(
        self, populations: Population | Sequence[Population], rule: str = "mean", sparse: str = "auto"
    ) -> None:
        self.populations = [populations] if isinstance(populations, Population) else list(populations)
        if not self.populations:
            raise InputError("no population was given: an ensemble needs at least one")
        if rule not in RULES:
            raise InputError(f"rule must be 'mean' or 'vote', got {rule!r}")
        self.rule, self.sparse = rule, sparse
        for population in self.populations:
            population.compile(sparse)  # says so now if `sparse` is unknown

    def __len__(self) -> int:
        """How many models there are."""
        return sum(map(len, self.populations))

    def __repr__(self) -> str:
        return f"Ensemble({' + '.join(map(repr, self.populations))}, rule={self.rule!r})"

    def __call__(self, images: Tensor) -> Tensor:
        """Probabilities, or shares of the votes, float64 [B, classes] of normalised images [B, C, H, W].

        Rows sum to 1; where no model had a say they are 0.
        """
        return _shares(self._opinions(images, self.rule))

    def predict(self, images: Tensor) -> Tensor:
        """Predicted classes, int64 [B], of normalised images [B, C, H, W]."""
        return self(images).argmax(1)

    def evaluate(self, data: Dataset | Split) -> EnsembleEvaluation:
        """Accuracy by this rule, and the loss of the mean probabilities; of a `Dataset`, on its test images."""
        split = data.test if isinstance(data, Dataset) else data
        for population in self.populations:
            check_split(population, split)
        predictions, losses = [], []
        for columns in chunks(len(split), _IMAGES):
            images, labels = split.normalized(columns), split.labels[columns]
            probabilities = _shares(self._opinions(images, "mean"))
            chosen = probabilities if self.rule == "mean" else self(images)
            predictions.append(chosen.argmax(1))
            losses.append(F.nll_loss(probabilities.log(), labels, reduction="none"))
        predicted = torch.cat(predictions)
        accuracy = (predicted == split.labels).to(torch.float64).mean()
        return EnsembleEvaluation(float(accuracy), float(torch.cat(losses).mean()), predicted, split.labels)

    def _opinions(self, images: Tensor, rule: str) -> Tensor:
        """Sums over models of probabilities or of votes, float64 [B, classes]."""
        total = None
        for scores in self._scores(images):
            has_say = scores.isfinite().all(2, keepdim=True)  # [n, B, 1]
            if rule == "vote":
                opinions = F.one_hot(scores.nan_to_num().argmax(2), scores.shape[2]).to(torch.float64)
            else:
                opinions = scores.to(torch.float64).softmax(2)
            opinions = torch.where(has_say, opinions, 0.0).sum(0)
            if total is not None and total.shape != opinions.shape:
                raise InputError(
                    f"the populations of an ensemble need the same classes, got {total.shape[1]} and "
                    f"{opinions.shape[1]}"
                )
            total = opinions if total is None else total + opinions
        assert total is not None
        return total

    def _scores(self, images: Tensor) -> Iterator[Tensor]:
        """Scores [n, B, classes] of some models after the other: never all of them at once."""
        for population in self.populations:
            population.check_images(images)
            for rows in chunks(len(population), _MODELS):
                yield Plan(population.architecture, population.weights[rows], self.sparse)(images).cpu()


def _shares(opinions: Tensor) -> Tensor:
    total = opinions.sum(1, keepdim=True)
    return torch.where(total > 0, opinions / total, 0.0)
