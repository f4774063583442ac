"""`Zoo`: what a study is about, in memory and on disk."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from zoosparse_ext.data import Dataset
from zoosparse_ext.errors import StoreError
from zoosparse_ext.population.architecture import Architecture, Segment
from zoosparse_ext.population.population import Population
from zoosparse_ext.zoo import tables
from zoosparse_ext.zoo.folder import (
    MANIFEST,
    changing,
    check_file,
    file_entries,
    foreign_files,
    is_free,
    locked,
    read_manifest,
    sweep,
    understood,
    write_manifest,
)
from zoosparse_ext.zoo.ids import check_ids
from zoosparse_ext.zoo.index_dict import index_dict
from zoosparse_ext.zoo.shards import groups_size, read_tensors, write_group, write_tensors
from zoosparse_ext.zoo.stored import StoredPopulations
from zoosparse_ext.zoo.stored_rows import StoredGroup
from zoosparse_ext.zoo.stored_tables import StoredTable, TableField

FORMAT, VERSION = "zoosparse-zoo", 1


@dataclass
class Zoo:
    """Populations and their tables.

    >>> import tempfile
    >>> import zoosparse_ext as zs
    >>> population = zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(1, 5))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Zoo({"original": [population]}, models=population.models).save(folder)
    ...     zoo = Zoo.open(folder)
    ...     print(zoo, zoo.population("original").weights.shape)  # matrices are read when asked for
    Zoo(original: 4) torch.Size([4, 2464])

    Args:
        populations: named lists of matrices, one per architecture: ``"original"`` and the twins.
        models, history, twins: the tables, see :mod:`zoosparse_ext.zoo.tables`.
        labels: of the test images that predictions belong to, int64 [M].
        dataset: what the models were trained on, as `Dataset.describe` says it.
        provenance: versions, machine, settings.
        id: tells this zoo from others.
    """

    populations: Mapping[str, list[Population]]
    models: TableField = TableField(required=True)
    history: TableField = TableField()
    twins: TableField = TableField()
    labels: Tensor | None = None
    dataset: dict[str, Any] | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    _states: dict[Path, str] = field(default_factory=dict, repr=False)  # of folders, as opened or saved

    def __post_init__(self) -> None:
        self._states = dict(self._states)

    @classmethod
    def create(
        cls,
        path: str | Path,
        populations: Population | Sequence[Population],
        data: Dataset,
        *,
        history: pd.DataFrame | None = None,
        provenance: Mapping[str, Any] | None = None,
        device: torch.device | str | None = None,
    ) -> Zoo:
        """A zoo on disk out of a population in memory.

        >>> import tempfile
        >>> import zoosparse_ext as zs
        >>> data = zs.load_dataset("digits").limit(100)
        >>> population = zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(1, 5))
        >>> history = zs.train(population, data, epochs=1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     zoo = zs.Zoo.create(f"{folder}/zoo", population, data)
        ...     print(zoo, len(zoo.history), sorted(zoo.models)[:3], zoo.provenance["task"]["loss"])
        Zoo(original: 4) 8 ['accuracy', 'architecture', 'batch_size'] cross_entropy

        Originals are evaluated on the test images where their predictions, or accuracy and loss in their table, are
        missing. How they were trained, if :func:`zoosparse_ext.train` trained them, goes into the provenance and, by
        model, into the columns `optimizer`, `lr`, `weight_decay`, `momentum`, `batch_size` and `epochs`: twins are
        trained in the same way. Kept epochs become populations of their own: ``"original@5"``. The populations
        themselves stay as they are.

        Args:
            path: a folder, made if it is not there.
            populations: the originals, or several populations of them, one an architecture. Twins of these models,
                as :func:`zoosparse_ext.sparsify` returns them, become populations of twins, called by their series.
            data: that the models were trained on; labels and a description of it are stored, images are not.
            history: of the training of all models. Default: what the populations have; none is needed.
            provenance: plain values to keep beside versions, machine and training.
            device: where to evaluate, ``"cpu"`` or ``"cuda"``; None: where the weights are.

        Returns:
            The zoo, opened from its folder, with the modules of networks that are no chain.

        Raises:
            StoreError: there is a zoo in the folder, or something else; two networks have one id; a table cannot be
                stored; the disk is full.
            InputError: no originals; data that do not fit; a table whose accuracy is not that of the predictions; a
                history, or twins, of other models; twins without history or of several series.
        """
        from zoosparse_ext.zoo.create import create_zoo  # which makes zoos

        return create_zoo(
            Path(path), populations, data, history=history, provenance=provenance, device=device
        )

    @property
    def folder(self) -> Path | None:
        """Where it was last saved, or opened from; None for a zoo that is in memory only."""
        return next(reversed(self._states), None)

    def __repr__(self) -> str:
        return f"Zoo({', '.join(f'{name}: {rows}' for name, (rows, _) in self._sizes().items())})"

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

    def groups(self, name: str) -> Sequence[Population | StoredGroup]:
        """The matrices of a population, one an architecture, left on disk where they were not read before.

        Each has `models`, `ids` and `layers()`, and gives rows of `weights`, `packed_masks` and `predictions` as they
        are asked for.
        """
        if isinstance(self.populations, StoredPopulations):
            return self.populations.groups(name)
        return self.populations[name]

    def with_population(self, name: str, groups: list[Population]) -> Zoo:
        """The zoo with a population added, or put in place of another; what was not read stays unread."""
        if isinstance(self.populations, StoredPopulations):
            return replace(self, populations=self.populations.with_groups(name, groups), **self._tables())
        return replace(self, populations={**self.populations, name: groups})

    def save(self, path: str | Path, *, overwrite: bool = False, compress: bool = True) -> None:
        """Write the zoo; a kill at any moment leaves what was there, or the new state.

        What is on disk already is not written again. Populations and tables that were not read are taken over as they
        are.

        Args:
            path: a folder, made if it is not there.
            overwrite: take the place of another zoo.
            compress: store the weights of sparse twins as bits and the values that are left where that saves a quarter
                or more; they come back to the same bits, but are read at once instead of mapped.

        Raises:
            StoreError: the folder holds another zoo, or this one was saved there by somebody else since it was opened
                (unless `overwrite`); the folder holds something else; another process writes to it; two networks have
                one id, or a table two rows for one of them at one epoch; a table cannot be stored; the disk is full.
                What was there is then unchanged.
        """
        folder = Path(path)
        self._check_place(folder, overwrite)
        check_ids(self)
        with changing(folder):
            self._check_place(folder, overwrite)  # again: now nobody else can write
            populations = {name: self._write_population(folder, name, compress) for name in self.populations}
            labels = None if self.labels is None else {"labels": self.labels.to("cpu", torch.int64)}
            manifest = {
                "format": FORMAT,
                "version": VERSION,
                "id": self.id,
                "populations": populations,
                "tables": {name: _write_table(folder, name, table) for name, table in self._tables().items()},
                "labels": None if labels is None else write_tensors(folder, "labels", labels),
                "index_dict": _index_dicts(populations),
                "dataset": self.dataset,
                "provenance": self.provenance,
            }
            self._states.pop(folder.resolve(), None)  # the last one that was saved comes last
            self._states[folder.resolve()] = write_manifest(folder, manifest)

    @classmethod
    def open(cls, path: str | Path, *, verify: bool = True) -> Zoo:
        """Read the manifest; tables and matrices are read when they are asked for, their checksums then verified.

        Whoever goes on with a zoo while somebody else saves to its folder should look at what is needed first: what was
        not read and is replaced there is gone.

        Args:
            path: the folder of the zoo.
            verify: compare what is read with its checksum; without, only sizes and forms are compared.

        Raises:
            StoreError: not a zoo, written by a newer version, or damaged; names the file. That a table or a matrix is
                altered comes out when it is first read, that a table is missing or truncated at once.
        """
        folder = Path(path)
        manifest, state = read_manifest(folder)
        with understood(folder):
            _check_manifest(folder, manifest)
            stored = {
                name: StoredTable.of(name, folder, manifest["tables"][name], verify=verify)
                for name in tables.SCHEMAS
            }
            labels = None
            if manifest["labels"] is not None:
                labels = read_tensors(folder, manifest["labels"], verify=verify)[1]["labels"]
            return cls(
                StoredPopulations(folder, manifest["populations"], verify),
                labels=labels,
                dataset=manifest["dataset"],
                provenance=manifest["provenance"],
                id=manifest["id"],
                _states={folder.resolve(): state},
                **stored,
            )

    @staticmethod
    def require_new(path: str | Path) -> None:
        """Raise StoreError if a folder cannot take a new zoo, before any work is done."""
        if _occupant(Path(path)) is not None:
            raise StoreError(f"{path} already holds a zoo; choose another folder, or remove it first")

    @staticmethod
    def remove(path: str | Path) -> None:
        """Remove a zoo from disk.

        Raises:
            StoreError: the folder holds something else, also beside the zoo (nothing is then removed); another process
                writes to it.
        """
        folder = Path(path)
        if _occupant(folder) is not None:
            with locked(folder):
                others = foreign_files(folder)
                if others:
                    raise StoreError(
                        f"{folder} holds more than a zoo: {', '.join(others[:3])}{', …' * (len(others) > 3)}; nothing "
                        "was removed, move these files first"
                    )
                (folder / MANIFEST).unlink()
                sweep(folder)

    @staticmethod
    def verify(path: str | Path) -> int:
        """Compare every file of a zoo with its size and checksum; returns how many bytes were compared.

        Raises:
            StoreError: not a zoo, written by a newer version, or a file is missing or damaged; names it.
        """
        folder = Path(path)
        manifest, _ = read_manifest(folder)
        with understood(folder):
            _check_manifest(folder, manifest)
            entries = list(file_entries(manifest))
            for entry in entries:
                check_file(folder, entry)
            return sum(entry.bytes for entry in entries)

    def info(self) -> dict[str, Any]:
        """Sizes: rows of every population and table, bytes of the matrices in memory and on disk, and the data set.

        Of each architecture: how many parameters there are, how many of them pruning may remove (the denominator of
        every sparsity), and which other matrices it may not, or no training changes.

        Reads no matrix. On disk twins are compressed, see :meth:`save`.
        """
        stored = self.populations if isinstance(self.populations, StoredPopulations) else None
        sizes = self._sizes()
        with contextlib.nullcontext() if stored is None else understood(stored.folder):
            networks = (
                [_parameters(group.layers()) for group in self.groups(next(iter(sizes)))] if sizes else []
            )
        return {
            "populations": {name: rows for name, (rows, _) in sizes.items()},
            "bytes": {name: size for name, (_, size) in sizes.items()},
            "bytes_on_disk": {} if stored is None else {name: stored.disk_size(name) for name in sizes},
            "parameters": networks,
            "tables": {"models": len(self.models), "history": len(self.history), "twins": len(self.twins)},
            "dataset": self.dataset,
            "provenance": self.provenance,
        }

    def _sizes(self) -> dict[str, tuple[int, int]]:
        """Rows of every population, and bytes of its matrices."""
        if isinstance(self.populations, StoredPopulations):
            return {name: self.populations.size(name) for name in self.populations}
        return {name: groups_size(groups) for name, groups in self.populations.items()}

    def _tables(self) -> dict[str, Any]:
        """The tables by their names, those that were not read as `StoredTable`."""
        return {name: vars(self)[name] for name in tables.SCHEMAS}

    def _check_place(self, folder: Path, overwrite: bool) -> None:
        there = _occupant(folder)
        if there is None or overwrite:
            return
        if there != self.id:
            raise StoreError(
                f"{folder} already holds another zoo ({there}); choose another folder or overwrite=True"
            )
        known = self._states.get(folder.resolve())
        if known is not None and known != read_manifest(folder)[1]:
            raise StoreError(
                f"{folder} was changed by somebody else since this zoo was opened or saved there; "
                "open it again, or replace it with overwrite=True"
            )

    def _write_population(self, folder: Path, name: str, compress: bool) -> list[dict[str, Any]]:
        """The entry of a population in the manifest, its files written unless they are there."""
        if isinstance(self.populations, StoredPopulations) and self.populations.is_unread(name):
            return self.populations.carry(name, folder)
        return [write_group(folder, group, compress) for group in self.populations[name]]


def _write_table(folder: Path, name: str, table: pd.DataFrame | StoredTable) -> dict[str, Any]:
    """The entry of a table in the manifest, its file written unless it is there."""
    if isinstance(table, StoredTable):
        return table.carry(folder)
    return tables.write_table(folder, name, table)


def _occupant(folder: Path) -> str | None:
    """Id of the zoo in a folder, or None if the folder is free.

    Raises:
        StoreError: the folder holds something else.
    """
    if (folder / MANIFEST).exists():
        manifest = read_manifest(folder)[0]
        if manifest.get("format") == FORMAT:
            return str(manifest.get("id"))
    elif is_free(folder):
        return None
    raise StoreError(f"{folder} is not empty and holds no zoo; choose another folder")


def _check_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    if manifest.get("format") != FORMAT:
        raise StoreError(
            f"{folder} is not a zoo: its manifest says {manifest.get('format')!r}, expected {FORMAT!r}"
        )
    version = manifest.get("version")
    if type(version) is not int or version < 1:  # True is an int as well
        raise StoreError(f"{folder / MANIFEST} is damaged: version {version!r}, expected a number from 1")
    if version > VERSION:
        raise StoreError(
            f"{folder} was written in version {version} of the format, this package reads up to {VERSION}; "
            "upgrade zoosparse-ext"
        )
    missing = {"id", "populations", "tables", "labels", "dataset", "provenance"} - manifest.keys()
    if missing:
        raise StoreError(f"{folder / MANIFEST} is damaged: it lacks {', '.join(sorted(missing))}")
    if not isinstance(manifest["populations"], dict):
        raise StoreError(f"{folder / MANIFEST} is damaged: populations must be an object")
    lost = sorted(set(tables.SCHEMAS) - set(manifest["tables"]))
    if lost:
        raise StoreError(f"{folder / MANIFEST} is damaged: it names no table {', '.join(lost)}")


def _parameters(segments: Sequence[Segment]) -> dict[str, Any]:
    """How many parameters a network has and how many are prunable; which matrices are not, which tensors are frozen."""
    trained = [segment for segment in segments if segment.trainable]
    left = [s.name for s in trained if not s.prunable and len(s.shape) > 1]
    buffers = ("running_mean", "running_var")
    frozen = [s.name for s in segments if not s.trainable and not s.name.endswith(buffers)]
    return {
        "parameters": sum(segment.size for segment in segments),
        "prunable": sum(segment.size for segment in segments if segment.prunable),
        **({"not_prunable": left} if left else {}),
        **({"frozen": frozen} if frozen else {}),
    }


def _index_dicts(populations: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    architectures = [
        Architecture.from_dict(entry["architecture"]) for entry in populations.get("original", [])
    ]
    return {architecture.name: index_dict(architecture) for architecture in architectures}
