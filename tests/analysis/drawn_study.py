"""Studies whose truth is known: predictions are drawn, and every table entry is measured on them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from zoosparse_ext.analysis import Group, StudyData, pairwise_agreement

CLASSES = 5


def drawn_study(
    n: int = 12,
    images: int = 200,
    *,
    spread: float = 1.0,
    levels: tuple[float, ...] = (0.5, 0.8),
    epochs: tuple[int, ...] = (1, 2),
    kept: tuple[int, ...] = (1,),
    costs: tuple[float, ...] = (0.1, 0.5),
    control: bool = True,
    alike: float = 1.0,
    seed: int = 0,
) -> StudyData:
    """n originals that differ in skill, controls that gain, and magnitude twins that lose `costs` of skill.

    Args:
        spread: of skill; 0 for originals that differ by luck alone.
        epochs: rows of the twins table; predictions are stored of the last one and of those in `kept`.
        alike: how much of what a model does on one image beside its skill its twins keep.
    """
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, CLASSES, images)
    skill, ease = spread * generator.normal(size=(n, 1)), generator.normal(1.5, 1.5, images)
    habits = generator.normal(size=(n, images))
    mistakes = generator.integers(1, CLASSES, (n, images))
    names = [f"m{i}" for i in range(n)]

    def answers(cost: float, like: float) -> np.ndarray:
        own = like * habits + np.sqrt(1 - like**2) * generator.normal(size=(n, images))
        right = skill - cost + ease + own > 0
        slips = np.where(
            generator.random((n, images)) < like, mistakes, generator.integers(1, CLASSES, (n, images))
        )
        return np.where(right, labels, (labels + slips) % CLASSES).astype(np.uint8)

    original = answers(0.0, 1.0)
    models = pd.DataFrame({"model_id": names, "accuracy": (original == labels).mean(axis=1)})
    populations = {"original": (Group(models, predictions=original),)}
    series = [("magnitude", "global", level, cost) for level, cost in zip(levels, costs, strict=True)]
    series += [("control", None, 0.0, -0.2)] if control else []
    tables = []
    for method, scope, level, cost in series:
        ids = [f"{name}/{method}-{level}" for name in names]
        for epoch in epochs:
            of_epoch = answers(cost * epoch / epochs[-1], 0.9 * alike)
            table = pd.DataFrame({"twin_id": ids, "source_id": names, "method": method, "scope": scope})
            table = table.assign(target=level, epoch=epoch, sparsity=level)
            table["accuracy"] = (of_epoch == labels).mean(axis=1)
            tables.append(table.join(pairwise_agreement(original, of_epoch, labels)))
            if epoch == epochs[-1] or epoch in kept:
                at = None if epoch == epochs[-1] else epoch
                group = Group(table[["twin_id", "source_id"]], predictions=of_epoch, epoch=at)
                populations[f"{method}-{level}" + ("" if at is None else f"@{at}")] = (group,)
    return StudyData(models, pd.concat(tables, ignore_index=True), labels=labels, populations=populations)
