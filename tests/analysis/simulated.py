"""Zoos with a known truth: what the median model really loses, and how well twins really follow their originals.

A model is right on an image where a normal variable lies below a threshold that its true accuracy sets. Its parts are
shared by all models (how hard the image is), by a model and its twins, and each network's own; so accuracies on
infinitely many images are exactly those asked for, models agree on hard images, and twins with their originals.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.special import ndtri

from zoosparse_ext.analysis import StudyData
from zoosparse_ext.analysis.groups import Group

CLASSES = 10
EPOCHS = 25
_IMAGE, _MODEL = 0.5, 0.4  # of the variance: shared by all, and by a model and its twins
_COLLAPSED = 0.1  # accuracy of a network with one answer


@dataclass(frozen=True)
class Truth:
    """What is so in a simulated zoo; accuracies are true ones, on infinitely many images.

    Args:
        original, spread: mean and deviation over models of the originals' accuracy.
        magnitude, variational: by sparsity, what the median twin gains.
        scatter: deviation over models of what twins gain.
        correlation: of true accuracies of originals and twins; None: 1 but for `scatter`.
        collapse_from: sparsity from which magnitude twins collapse.
        control: what training on without pruning gains.
    """

    original: float = 0.9
    spread: float = 0.01
    magnitude: dict[float, float] = field(default_factory=lambda: {0.8: 0.0})
    variational: dict[float, float] = field(default_factory=lambda: {0.8: 0.0})
    scatter: float = 0.005
    correlation: float | None = None
    collapse_from: float = 1.1
    control: float = 0.0


class Simulation:
    """Draws studies of one truth: n models, M images, twins at every sparsity of it, and a control."""

    def __init__(self, truth: Truth, n: int = 24, images: int = 600, seed: int = 0) -> None:
        self.truth, self.n, self.images = truth, n, images
        self._generator = np.random.default_rng(seed)
        self._names = [f"m{i:03d}" for i in range(n)]

    def _draw(self) -> None:
        """Other models, and other test images."""
        truth, n = self.truth, self.n
        hard = self._generator.standard_normal(self.images, dtype=np.float32) * np.float32(_IMAGE**0.5)
        own = self._generator.standard_normal((n, self.images), dtype=np.float32)
        self._shared = hard + own * np.float32(_MODEL**0.5)
        self._wrong = self._generator.integers(1, CLASSES, (n, self.images), dtype=np.uint8)
        self._accuracy = np.clip(self._generator.normal(truth.original, truth.spread, n), 0.05, 0.995)
        self.originals = self._answers(self._accuracy)

    def answers(self, *gains: float) -> list[np.ndarray]:
        """What twins of another study answer, [n, M] for each gain; `originals` holds the answers of these."""
        self._draw()
        return [self._twins(gain) for gain in gains]

    def study(self) -> StudyData:
        """Another study: other models, and other test images."""
        self._draw()
        truth, originals = self.truth, self.originals
        models = pd.DataFrame({"model_id": self._names, "accuracy": (originals == 0).mean(axis=1)})
        rows, groups = [], {"original": (Group(models, predictions=originals),)}

        def add(key: str, predictions: np.ndarray, **columns: object) -> None:
            twins = pd.DataFrame(
                {"twin_id": [f"{name}/{key}" for name in self._names], "source_id": self._names}
            )
            groups[key] = (Group(twins, predictions=predictions),)
            one_answer = (predictions == predictions[:, :1]).all(axis=1).astype(float)
            accuracy, agreement = (predictions == 0).mean(axis=1), (predictions == originals).mean(axis=1)
            measured = {
                "accuracy": accuracy,
                "agreement": agreement,
                "one_answer": one_answer,
                "epoch": EPOCHS,
            }
            rows.append(twins.assign(**measured, **columns))

        for sparsity, gain in truth.magnitude.items():
            columns = {"method": "magnitude", "scope": "global", "sparsity": sparsity, "target": sparsity}
            answers = self._twins(gain, sparsity >= truth.collapse_from)
            add(f"magnitude-global-{sparsity:g}", answers, series="magnitude-global", **columns)
        for sparsity, gain in truth.variational.items():
            key = "variational" if sparsity == 0.8 else f"variational-kl_{sparsity:g}"
            add(key, self._twins(gain), method="variational", scope=None, series=key, sparsity=sparsity)
        control = self._answers(np.clip(self._accuracy + truth.control, 0.05, 0.995))
        add("control", control, method="control", scope=None, series="control", sparsity=0.0, target=0.0)
        labels = np.zeros(self.images, np.uint8)
        return StudyData(models, pd.concat(rows, ignore_index=True), labels=labels, populations=groups)

    def _twins(self, gain: float, collapsed: bool = False) -> np.ndarray:
        if collapsed:  # one answer that is right on a tenth of the images, wherever these are
            return np.full((self.n, self.images), 1, np.uint8)
        truth = self.truth
        accuracy = self._accuracy
        if truth.correlation is not None:
            other = self._generator.normal(truth.original, truth.spread, self.n)
            r = truth.correlation
            accuracy = (
                truth.original
                + r * (accuracy - truth.original)
                + (1 - r * r) ** 0.5 * (other - truth.original)
            )
        accuracy = accuracy + gain + self._generator.normal(0, truth.scatter, self.n)
        return self._answers(np.clip(accuracy, 0.05, 0.995))

    def _answers(self, accuracy: np.ndarray) -> np.ndarray:
        """Class 0 where right, else the class that this model mistakes the image for, uint8 [n, M]."""
        noise = self._generator.standard_normal((self.n, self.images), dtype=np.float32)
        latent = self._shared + noise * np.float32((1 - _IMAGE - _MODEL) ** 0.5)
        return np.where(latent < ndtri(accuracy)[:, None], np.uint8(0), self._wrong)
