"""`Zoo`: what a study is about, in memory and on disk."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from zoosparse_ext.errors import StoreError
from zoosparse_ext.population.population import Population
from zoosparse_ext.zoo import tables
from zoosparse_ext.zoo.folder import (
    FileEntry,
    check_file,
    is_foreign,
    locked,
    read_manifest,
    write_file,
    write_manifest,
)
from zoosparse_ext.zoo.index_dict import index_dict
from zoosparse_ext.zoo.shards import read_group, write_group

FORMAT, VERSION = "zoosparse-zoo", 1


@dataclass
class Zoo:
    """Populations and their tables.

    Example::

        zoo = zs.Zoo.open("my-zoo")
        zoo.models                            # one row per model
        zoo.twins                             # one row per twin and epoch
        zoo.population("original").weights    # [N, P], read when asked for

    Args:
        populations: named lists of matrices, one per architecture: ``"original"`` and the twins.
        models, history, twins: the tables, see :mod:`zoosparse_ext.zoo.tables`.
        labels: of the test images that predictions belong to, int64 [M].
        dataset: what the models were trained on, as `Dataset.describe` says it.
        provenance: versions, machine, settings.
        id: tells this zoo from others.
    """

    populations: Mapping[str, list[Population]]
    models: pd.DataFrame
    history: pd.DataFrame = field(default_factory=lambda: tables.empty("history"))
    twins: pd.DataFrame = field(default_factory=lambda: tables.empty("twins"))
    labels: Tensor | None = None
    dataset: dict[str, Any] | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        self.models = tables.checked("models", self.models)
        self.history = tables.checked("history", self.history)
        self.twins = tables.checked("twins", self.twins)

    def population(self, name: str = "original") -> Population:
        """The one matrix of a population.

        Raises:
            StoreError: there is no such population, or it has several architectures (use `populations[name]`).
        """
        if name not in self.populations:
            raise StoreError(f"the zoo has no population {name!r}; it has {', '.join(self.populations)}")
        groups = self.populations[name]
        if len(groups) != 1:
            raise StoreError(
                f"population {name!r} has {len(groups)} architectures; take one of populations[{name!r}]"
            )
        return groups[0]

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the zoo; a kill at any moment leaves what was there, or the new state.

        Raises:
            StoreError: the folder holds another zoo (unless `overwrite`) or something else; another process writes to
                it; the disk is full, and then what was there is unchanged.
        """
        folder = Path(path)
        self._check_place(folder, overwrite)
        with locked(folder):
            stored = self.populations if isinstance(self.populations, StoredPopulations) else None
            entries = {}
            for name in self.populations:
                if stored is not None and stored.folder == folder and name in stored.unread:
                    entries[name] = stored.entries[name]
                else:
                    entries[name] = [write_group(folder, group) for group in self.populations[name]]
            named = {"models": self.models, "history": self.history, "twins": self.twins}
            manifest = {
                "format": FORMAT,
                "version": VERSION,
                "id": self.id,
                "populations": entries,
                "tables": {
                    name: write_file(folder, f"tables/{name}", ".parquet", tables.to_bytes(table)).to_dict()
                    for name, table in named.items()
                },
                "labels": self._write_labels(folder),
                "index_dict": self._index_dicts(),
                "dataset": self.dataset,
                "provenance": self.provenance,
            }
            write_manifest(folder, manifest)

    @classmethod
    def open(cls, path: str | Path, *, verify: bool = True) -> Zoo:
        """Read manifest and tables; matrices are read when they are asked for, their checksums then verified.

        Raises:
            StoreError: not a zoo, written by a newer version, or damaged; names the file.
        """
        folder = Path(path)
        manifest = _checked_manifest(folder)
        frames = {}
        for name, entry in manifest["tables"].items():
            file = check_file(folder, _entry(entry), content=verify)
            try:
                frames[name] = pd.read_parquet(file)
            except Exception as error:  # pyarrow raises many types on a damaged file
                raise StoreError(f"{file} is damaged: {error}") from error
        missing = set(tables.SCHEMAS) - set(frames)
        if missing:
            raise StoreError(f"{folder} lacks table {', '.join(sorted(missing))}; the manifest is incomplete")
        labels = None
        if manifest["labels"] is not None:
            labels = load_file(check_file(folder, _entry(manifest["labels"])))["labels"]
        return cls(
            StoredPopulations(folder, manifest["populations"], verify),
            frames["models"],
            frames["history"],
            frames["twins"],
            labels,
            manifest["dataset"],
            manifest["provenance"],
            manifest["id"],
        )

    @staticmethod
    def require_new(path: str | Path) -> None:
        """Raise StoreError if a folder cannot take a new zoo, before any work is done."""
        folder = Path(path)
        if (folder / "manifest.json").exists():
            raise StoreError(f"{folder} already holds a zoo; choose another folder, or remove it first")
        if is_foreign(folder):
            raise StoreError(f"{folder} is not empty and holds no zoo; choose another folder")

    def info(self) -> dict[str, Any]:
        """Sizes: rows of every population and table, and the data set."""
        if isinstance(self.populations, StoredPopulations):
            sizes = {
                name: sum(e["rows"] for e in entries) for name, entries in self.populations.entries.items()
            }
        else:
            sizes = {name: sum(map(len, groups)) for name, groups in self.populations.items()}
        return {
            "populations": sizes,
            "tables": {"models": len(self.models), "history": len(self.history), "twins": len(self.twins)},
            "dataset": self.dataset,
            "provenance": self.provenance,
        }

    def _check_place(self, folder: Path, overwrite: bool) -> None:
        if is_foreign(folder):
            raise StoreError(f"{folder} is not empty and holds no zoo; choose another folder")
        if (folder / "manifest.json").exists() and not overwrite:
            there = read_manifest(folder).get("id")
            if there != self.id:
                raise StoreError(
                    f"{folder} already holds another zoo ({there}); choose another folder or overwrite=True"
                )

    def _write_labels(self, folder: Path) -> dict[str, Any] | None:
        if self.labels is None:
            return None
        content = save({"labels": self.labels.to(torch.int64).contiguous()})
        return write_file(folder, "shards/labels", ".safetensors", content).to_dict()

    def _index_dicts(self) -> dict[str, Any]:
        groups = self.populations.get("original", [])
        return {group.architecture.name: index_dict(group.architecture) for group in groups}


class StoredPopulations(Mapping[str, list[Population]]):
    """Populations in a folder, read on first access."""

    def __init__(self, folder: Path, entries: dict[str, list[dict[str, Any]]], verify: bool) -> None:
        self.folder = folder
        self.entries = entries
        self.unread = set(entries)
        self._verify = verify
        self._groups: dict[str, list[Population]] = {}

    def __getitem__(self, name: str) -> list[Population]:
        if name not in self._groups:
            self._groups[name] = [read_group(self.folder, e, verify=self._verify) for e in self.entries[name]]
            self.unread.discard(name)
        return self._groups[name]

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


def _checked_manifest(folder: Path) -> dict[str, Any]:
    manifest = read_manifest(folder)
    if manifest.get("format") != FORMAT:
        raise StoreError(
            f"{folder} is not a zoo: its manifest says {manifest.get('format')!r}, expected {FORMAT!r}"
        )
    version = manifest.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise StoreError(
            f"{folder} was written in version {version} of the format, this package reads up to {VERSION}; "
            "upgrade zoosparse-ext"
        )
    missing = {"id", "populations", "tables", "labels", "dataset", "provenance"} - manifest.keys()
    if missing:
        raise StoreError(f"{folder / 'manifest.json'} is damaged: it lacks {', '.join(sorted(missing))}")
    return manifest


def _entry(entry: dict[str, Any]) -> FileEntry:
    return FileEntry(entry["file"], entry["bytes"], entry["sha256"])
