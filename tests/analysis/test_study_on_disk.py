"""A study on disk is analysed some rows at a time: its memory does not grow with its populations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import zoosparse_ext as zs
from zoosparse_ext import ops
from zoosparse_ext.analysis import StudyData, agreement, masks, weights
from zoosparse_ext.report import analyzed
from zoosparse_ext.zoo import Zoo
from zoosparse_ext.zoo.stored_rows import StoredGroup

MODELS, IMAGES, RATIOS = 150, 30, (0.5, 0.9)
AT_ONCE = {
    "weights": weights.MAX_MODELS,
    "packed_masks": masks.MAX_PAIRS,
    "predictions": agreement.MAX_PAIRS,
}


def study() -> Zoo:
    """Random networks that predict at random, with twins whose agreement the table lacks."""
    generator = torch.Generator().manual_seed(0)
    network = zs.architecture("cnn-s")
    originals = zs.Population.initialise(network, seeds=range(MODELS))
    originals.models["accuracy"] = np.linspace(0.6, 0.9, MODELS)
    counts = [round(ratio * network.n_parameters) for ratio in RATIOS]
    kept = torch.cat([ops.magnitude_mask(originals.weights, count) for count in counts])
    rows = pd.concat([_rows(originals, ratio) for ratio in RATIOS], ignore_index=True)
    twins = zs.Population(
        originals.weights.repeat(len(RATIOS), 1) * kept,
        network,
        rows[["twin_id", "source_id"]],
        packed_masks=ops.pack_mask(kept),
    )
    for group in (originals, twins):
        shape = (len(group), IMAGES)
        group.predictions = torch.randint(0, 10, shape, generator=generator, dtype=torch.uint8)
    populations = {"original": [originals], "magnitude-global": [twins]}
    return Zoo(populations, originals.models, twins=rows, labels=torch.arange(IMAGES) % 10)


def _rows(originals: zs.Population, ratio: float) -> pd.DataFrame:
    names = {"twin_id": [f"{name}-{ratio}" for name in originals.ids], "source_id": originals.ids}
    how = {"method": "magnitude", "scope": "global", "target": ratio, "matched": None, "epoch": 0}
    rows = pd.DataFrame({**names, **how, "sparsity": ratio, "loss": 0.5})
    rows["accuracy"] = originals.models["accuracy"] - ratio / 10
    return rows.assign(**dict.fromkeys(agreement.MEASURES, np.nan))


def test_tables_are_those_of_a_study_in_memory_without_reading_it_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = study()
    whole.save(tmp_path)
    read, seen = StoredGroup.read, set()

    def watched(group: StoredGroup, name: str, rows: np.ndarray) -> np.ndarray:
        seen.add(name)
        assert len(rows) <= AT_ONCE[name]
        return read(group, name, rows)

    monkeypatch.setattr(StoredGroup, "read", watched)
    monkeypatch.setattr(agreement, "_TWINS", 70)
    on_disk = Zoo.open(tmp_path)
    ours, theirs = (dict(analyzed(StudyData.from_zoo(zoo))) for zoo in (on_disk, whole))
    assert seen == {"weights", "packed_masks", "predictions"}
    assert all(on_disk.populations.is_unread(name) for name in on_disk.populations)  # none is held
    for name, table in ours.items():
        pd.testing.assert_frame_equal(table, theirs[name], check_exact=True)
    assert ours["agreement"]["agreement_n"].tolist() == [MODELS, MODELS]
