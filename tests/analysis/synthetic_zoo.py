"""A small zoo with twins that behaves like a real one, made without training anything.

Weights, masks and predictions are drawn at random, then every table entry is *measured* on them, so that
masks, sparsities, accuracies and agreements of the tables and the matrices are consistent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

RATIOS = tuple(round(0.1 * i, 1) for i in range(1, 10))
VD_EPOCHS = 25
CLASSES = 10
# Sparsity and accuracy lost by a VD twin at some epochs, read off the published MNIST twins.
_VD_EPOCH = (0, 2, 3, 5, 10, 15, 20, 25)
_VD_SPARSITY = (0.002, 0.262, 0.433, 0.559, 0.666, 0.726, 0.761, 0.80)
_VD_LOSS = (0.0, -0.001, 0.001, 0.010, 0.026, 0.033, 0.035, 0.036)
_MP_LOSS = (0.0, -0.002, -0.002, -0.001, 0.0, 0.002, 0.006, 0.014, 0.035, 0.16)  # ratios 0, 0.1, …, 0.9


class Segment(NamedTuple):
    name: str
    slice: slice
    shape: tuple[int, ...]
    prunable: bool


def segments() -> tuple[Segment, ...]:
    """Two convolutions and a linear layer: P = 460, of which 436 prunable."""
    shapes = [("module_list.0", (8, 1, 3, 3)), ("module_list.3", (6, 8, 3, 1)), ("module_list.6", (10, 22))]
    records, start = [], 0
    for layer, shape in shapes:
        for name, part in (("weight", shape), ("bias", shape[:1])):
            size = int(np.prod(part))
            records.append(Segment(f"{layer}.{name}", slice(start, start + size), part, name == "weight"))
            start += size
    return tuple(records)


@dataclass
class Population:
    models: pd.DataFrame
    weights: torch.Tensor
    predictions: torch.Tensor
    packed_masks: torch.Tensor | None = None

    def layers(self) -> tuple[Segment, ...]:
        return segments()


@dataclass
class Zoo:
    models: pd.DataFrame
    history: pd.DataFrame
    twins: pd.DataFrame
    labels: torch.Tensor
    populations: dict[str, list[Population]] = field(default_factory=dict)


def synthetic_zoo(
    n: int = 12,
    *,
    images: int = 400,
    ratios: tuple[float, ...] = RATIOS,
    scopes: tuple[str, ...] = ("global", "layer"),
    methods: tuple[str, ...] = ("magnitude", "variational"),
    fine_tuning: int = 3,
    seed: int = 0,
) -> Zoo:
    """n models; magnitude twins at all ratios per scope, VD twins, and magnitude twins matched to these."""
    return _Maker(n, images, fine_tuning, seed).zoo(scopes, methods, ratios)


class _Maker:
    def __init__(self, n: int, images: int, fine_tuning: int, seed: int) -> None:
        self.generator = np.random.default_rng(seed)
        self.layers = [s for s in segments() if s.prunable]
        columns = segments()[-1].slice.stop
        self.prunable = np.zeros(columns, dtype=bool)
        for segment in self.layers:
            self.prunable[segment.slice] = True
        self.weights = self.generator.normal(0, 0.3, (n, columns)).astype(np.float32)
        # Layers differ in scale, so that a global threshold prunes them differently.
        for scale, segment in zip((1.8, 1.2, 0.8), self.layers, strict=True):
            self.weights[:, segment.slice] *= scale
        self.labels = np.arange(images) % CLASSES
        quality = self.generator.normal(0.91, 0.012, n)
        self.hard = self.generator.random(images)  # the same images are hard for all models
        self.original = np.stack([self.answers(q, self.labels) for q in quality])
        self.ids = [f"cnn-s-{i + 1:04d}" for i in range(n)]
        self.fine_tuning = fine_tuning
        self.rows: list[dict[str, object]] = []

    def answers(self, accuracy: float, fallback: np.ndarray) -> np.ndarray:
        """Predictions that are right on about a share `accuracy` of the images, preferably the easy ones."""
        difficulty = 0.7 * self.hard + 0.3 * self.generator.random(len(self.labels))
        wrong = difficulty > np.quantile(difficulty, min(max(accuracy, 0.1), 0.999))
        other = (self.labels + self.generator.integers(1, CLASSES, len(self.labels))) % CLASSES
        return np.where(wrong, other, fallback).astype(np.uint8)

    def twin_answers(self, model: int, loss: float) -> np.ndarray:
        """The original's predictions, with a share changed: some for the better, more for the worse."""
        predictions = self.original[model].copy()
        right = predictions == self.labels
        churn = 0.015 + 0.3 * abs(loss)
        better = ~right & (
            self.generator.random(len(right)) < max(0.0, churn - loss) / 2 / max(1e-6, (~right).mean())
        )
        worse = right & (self.generator.random(len(right)) < max(0.0, churn + loss) / 2 / right.mean())
        predictions[better] = self.labels[better]
        predictions[worse] = (self.labels[worse] + 1 + self.generator.integers(0, 3, worse.sum())) % CLASSES
        return predictions

    def mask(self, score: np.ndarray, sparsity: float, scope: str | None) -> np.ndarray:
        """Keep the highest scores, bool [P]."""
        mask = np.ones(len(score), dtype=bool)
        parts = [segment.slice for segment in self.layers] if scope == "layer" else [self.prunable]
        for part in parts:
            columns = np.arange(len(score))[part]
            k = round(sparsity * len(columns))
            mask[columns[np.argsort(score[columns], kind="stable")[:k]]] = False
        return mask

    def record(
        self, twin: dict[str, object], model: int, epoch: int, mask: np.ndarray, predictions: np.ndarray
    ) -> None:
        original = self.original[model]
        wrong = original != self.labels
        equal = predictions == original
        counts = [np.bincount(p, minlength=CLASSES) / len(p) for p in (original, predictions)]
        expected = float(counts[0] @ counts[1])
        self.rows.append(
            {
                **twin,
                "epoch": epoch,
                "sparsity": float((~mask[self.prunable]).mean()),
                **{
                    f"sparsity_layer.{s.name.removesuffix('.weight')}": float((~mask[s.slice]).mean())
                    for s in self.layers
                },
                "loss": 0.3 + float((predictions != self.labels).mean()),
                "accuracy": float((predictions == self.labels).mean()),
                "agreement": float(equal.mean()),
                "kappa": (float(equal.mean()) - expected) / (1 - expected),
                "agreement_on_errors": float(equal[wrong].mean()) if wrong.any() else np.nan,
            }
        )

    def magnitude(
        self, scope: str, target: float, matched: dict[str, str] | None = None, sparsity=None
    ) -> list:
        kept = []
        for model, name in enumerate(self.ids):
            asked = target if sparsity is None else sparsity[name]
            suffix = "matched" if matched else f"{target:.0%}"
            twin = {
                "twin_id": f"{name}-mp-{scope}-{suffix}",
                "source_id": name,
                "method": "magnitude",
                "scope": scope,
            }
            twin |= {"target": asked, "matched": matched[name] if matched else None}
            mask = self.mask(np.abs(self.weights[model]), asked, scope)
            loss = float(np.interp(asked, (0.0, *RATIOS), _MP_LOSS)) * (1.2 if scope == "layer" else 1.0)
            for epoch in range(self.fine_tuning + 1):
                before_tuning = 1.5 * asked**3 * (self.fine_tuning - epoch) / max(1, self.fine_tuning) * 0.2
                predictions = self.twin_answers(model, loss + before_tuning)
                self.record(twin, model, epoch, mask, predictions)
            kept.append((twin, model, mask, predictions))
        return kept

    def variational(self) -> list:
        kept = []
        for model, name in enumerate(self.ids):
            twin = {"twin_id": f"{name}-vd", "source_id": name, "method": "variational", "scope": None}
            twin |= {"target": np.nan, "matched": None}
            score = np.abs(self.weights[model]) * np.exp(self.generator.normal(0, 0.5, self.weights.shape[1]))
            reach = self.generator.normal(1.0, 0.03)
            for epoch in range(VD_EPOCHS + 1):
                sparsity = min(0.95, float(np.interp(epoch, _VD_EPOCH, _VD_SPARSITY)) * reach)
                mask = self.mask(score, sparsity, None)
                predictions = self.twin_answers(model, float(np.interp(epoch, _VD_EPOCH, _VD_LOSS)))
                self.record(twin, model, epoch, mask, predictions)
            kept.append((twin, model, mask, predictions))
        return kept

    def population(self, kept: list) -> Population:
        masks = np.stack([mask for _, _, mask, _ in kept])
        weights = self.weights[[model for _, model, _, _ in kept]] * masks
        return Population(
            pd.DataFrame([twin for twin, *_ in kept]),
            torch.from_numpy(weights),
            torch.from_numpy(np.stack([predictions for *_, predictions in kept])),
            torch.from_numpy(np.packbits(masks, axis=1, bitorder="little")),
        )

    def zoo(self, scopes: tuple[str, ...], methods: tuple[str, ...], ratios: tuple[float, ...]) -> Zoo:
        models = pd.DataFrame(
            {"model_id": self.ids, "architecture": "cnn-s", "seed": range(1, len(self.ids) + 1)}
        )
        models["accuracy"] = (self.original == self.labels).mean(axis=1)
        populations = {
            "original": [Population(models, torch.from_numpy(self.weights), torch.from_numpy(self.original))]
        }
        vd = self.variational() if "variational" in methods else []
        if vd:
            populations["variational"] = [self.population(vd)]
        if "magnitude" in methods:
            kept = [twin for scope in scopes for ratio in ratios for twin in self.magnitude(scope, ratio)]
            if vd:
                matched = {twin["source_id"]: twin["twin_id"] for twin, *_ in vd}
                reached = {twin["source_id"]: float((~mask[self.prunable]).mean()) for twin, _, mask, _ in vd}
                kept += [t for scope in scopes for t in self.magnitude(scope, np.nan, matched, reached)]
            populations["magnitude"] = [self.population(kept)]
        history = pd.DataFrame(
            [
                {"model_id": name, "epoch": epoch, "test_accuracy": accuracy * (1 - 0.9 * 0.5**epoch)}
                for name, accuracy in zip(self.ids, models["accuracy"], strict=True)
                for epoch in range(6)
            ]
        )
        return Zoo(models, history, pd.DataFrame(self.rows), torch.from_numpy(self.labels), populations)


# Series beside the usual ones: method, scope, key, accuracy lost beyond that of magnitude pruning.
FURTHER_SERIES = (
    ("magnitude", "output", "magnitude-output", 0.005),
    ("magnitude", "2:4", "magnitude-2:4", 0.0),
    ("magnitude", "global", "magnitude-global-cubic", -0.005),
    ("magnitude", "global", "magnitude-global-50_epochs-lr_0.001", -0.01),
    ("gradient", "layer", "gradient-layer", 0.02),
    ("random", "global", "random-global", 0.1),
    ("wanda", "output", "wanda-output", 0.003),
)
COLLAPSED = 0.9  # of the ratios: there random pruning empties a layer of every third model


def many_series_zoo(n: int = 12, *, images: int = 200, ratios: tuple[float, ...] = (0.5, 0.8, 0.9)) -> Zoo:
    """The synthetic zoo with further scores, scopes, schedules and options, and a second variational dropout."""
    maker = _ManySeries(n, images, 1, 0)
    zoo = maker.zoo(("global", "layer"), ("magnitude", "variational"), ratios)
    for method, scope, key, cost in FURTHER_SERIES:
        asked = (0.5,) if ":" in scope else ratios
        zoo.populations[key] = [
            maker.population([t for r in asked for t in maker.pruned(method, scope, key, r, cost)])
        ]
    zoo.populations["variational-molchanov"] = [maker.population(maker.molchanov())]
    zoo.twins = pd.DataFrame(maker.rows)
    return zoo


class _ManySeries(_Maker):
    """Rows with the columns that zoos of today have."""

    def record(
        self, twin: dict[str, object], model: int, epoch: int, mask: np.ndarray, predictions: np.ndarray
    ) -> None:
        super().record(twin, model, epoch, mask, predictions)
        outputs = [(~mask[s.slice]).reshape(s.shape[0], -1).all(axis=1) for s in self.layers]
        self.rows[-1] |= {
            "empty_layers": sum(bool(dead.all()) for dead in outputs),
            "dead_outputs": int(sum(dead.sum() for dead in outputs)),
            "one_answer": float((predictions == predictions[0]).all()),
        }

    def pruned(self, method: str, scope: str, key: str, target: float, cost: float) -> list:
        kept = []
        for model, name in enumerate(self.ids):
            twin = {
                "twin_id": f"{name}/{key}-{target:g}",
                "source_id": name,
                "method": method,
                "scope": scope,
            }
            twin |= {"target": target, "matched": None, "series": key}
            score = np.abs(self.weights[model])
            if method == "random":
                score = self.generator.random(len(score))
            mask = self.mask(score, target, scope)
            loss = float(np.interp(target, (0.0, *RATIOS), _MP_LOSS)) + cost * target
            predictions = self.twin_answers(model, loss)
            if method == "random" and target == COLLAPSED and model % 3 == 0:
                mask[self.layers[1].slice] = False
                predictions = np.full_like(predictions, 3)
            for epoch in range(self.fine_tuning + 1):
                self.record(twin, model, epoch, mask, predictions)
            kept.append((twin, model, mask, predictions))
        return kept

    def molchanov(self) -> list:
        before = len(self.rows)
        kept = self.variational()
        for row in self.rows[before:]:
            row |= {"twin_id": f"{row['twin_id']}-molchanov", "series": "variational-molchanov"}
            row["accuracy"] = float(row["accuracy"]) - 0.01
        renamed = [{**twin, "twin_id": f"{twin['twin_id']}-molchanov"} for twin, *_ in kept]
        return [(twin, *rest) for twin, (_, *rest) in zip(renamed, kept, strict=True)]
