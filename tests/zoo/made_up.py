"""Made-up zoos: random numbers where networks would be, in every form that the store must keep."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from torch import nn

from zoosparse_ext import ops
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.population import Population, chunks
from zoosparse_ext.zoo import Zoo
from zoosparse_ext.zoo.folder import read_manifest, write_manifest
from zoosparse_ext.zoo.shards import write_tensors

IMAGES = 6


def architecture(name: str = "tiny", inputs: int = 3) -> Architecture:
    return Architecture.from_module(nn.Sequential(nn.Flatten(), nn.Linear(inputs, 2)), name)


def population(
    n: int = 3,
    *,
    network: Architecture | None = None,
    seed: int = 0,
    masks: bool = False,
    log_sigma2: bool = False,
    predictions: torch.dtype | None = torch.uint8,
) -> Population:
    """N rows of random numbers, and whatever else belongs to a row."""
    network = architecture() if network is None else network
    generator = torch.Generator().manual_seed(seed)
    shape = (n, network.n_parameters)
    kept = torch.rand(shape, generator=generator) < 0.5
    table = pd.DataFrame({"model_id": [f"{network.name}-{seed}-{row}" for row in range(n)]})
    table["seed"] = np.arange(n)
    return Population(
        torch.randn(shape, generator=generator),
        network,
        table,
        packed_masks=ops.pack_mask(kept) if masks else None,
        log_sigma2=torch.randn(shape, generator=generator) if log_sigma2 else None,
        predictions=None
        if predictions is None
        else torch.randint(0, 200, (n, IMAGES), generator=generator).to(predictions),
    )


def zoo(originals: Sequence[Population] | None = None, **twins: list[Population]) -> Zoo:
    """A zoo of these populations, with a history and a table of twins where there are any."""
    originals = [population()] if originals is None else list(originals)
    models = pd.concat([group.models for group in originals if len(group)], ignore_index=True)
    history = pd.DataFrame(
        {"model_id": list(models.model_id), "epoch": 0}
        | {f"{split}_{what}": 0.5 for split in ("train", "val", "test") for what in ("loss", "accuracy")}
    )
    history.loc[:, ["train_loss", "train_accuracy"]] = np.nan
    return Zoo(
        {"original": originals, **twins},
        models,
        history,
        twin_rows(list(models.model_id), list(twins)),
        labels=torch.arange(IMAGES) % 2,
        dataset={"spec": "made up", "mean": [0.5]},
        provenance={"created": "never"},
    )


def twin_rows(sources: list[str], methods: list[str]) -> pd.DataFrame:
    """One row per model and method: numbers, text, missing text and NaN."""
    rows = [
        {
            "twin_id": f"{source}/{method}",
            "source_id": source,
            "method": method,
            "scope": None if number % 2 else "global",
            "target": np.nan if number % 2 else 0.5,
            "matched": None,
            "epoch": 0,
            "sparsity": 0.1 * number,
            "loss": 1.5,
            "accuracy": 0.25,
            "agreement": 1.0,
            "kappa": np.nan,
            "agreement_on_errors": np.nan,
            "sparsity_layer.1": 0.1,
        }
        for method in methods
        for number, source in enumerate(sources)
    ]
    return pd.DataFrame(rows)


def cut(folder: Path, rows: int) -> None:
    """Cut the dense matrices of a zoo on disk into shards, as they were written before."""
    manifest, _ = read_manifest(folder)
    for groups in manifest["populations"].values():
        for entry in groups:
            shards = []
            for shard in entry["shards"]:
                tensors = load_file(folder / shard["file"])
                for part in chunks(shard["rows"], rows):
                    written = write_tensors(folder, "rows", {name: t[part] for name, t in tensors.items()})
                    shards.append({**written, "rows": part.stop - part.start, "compressed": False})
            entry["shards"] = shards
    write_manifest(folder, manifest)


def assert_same(mine: Zoo, other: Zoo) -> None:
    """Every bit of two zoos is equal, reading all of them."""
    assert list(mine.populations) == list(other.populations) and mine.id == other.id
    for name in mine.populations:
        for group, theirs in zip(mine.populations[name], other.populations[name], strict=True):
            assert group.architecture == theirs.architecture
            for tensor in ("weights", "packed_masks", "log_sigma2", "predictions"):
                a, b = getattr(group, tensor), getattr(theirs, tensor)
                assert (a is None) == (b is None), tensor
                assert a is None or (a.dtype == b.dtype and a.numpy().tobytes() == b.numpy().tobytes())
            pd.testing.assert_frame_equal(group.models, theirs.models)
    for table in ("models", "history", "twins"):
        pd.testing.assert_frame_equal(getattr(mine, table), getattr(other, table))
    assert (mine.labels is None) == (other.labels is None)
    assert mine.labels is None or torch.equal(mine.labels, other.labels)
    assert (mine.dataset, mine.provenance) == (other.dataset, other.provenance)
