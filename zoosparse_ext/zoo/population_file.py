"""One population in one file: safetensors with the tables and the architecture in it, and no pickle.

Every tensor has its name in the population (`weights`, `packed_masks`, `learned.<name>`, …), the moments of an
optimizer are `optimizer.first` and `optimizer.second`, and tables are Parquet in a tensor of bytes, `table.models` and
`table.history`. A kept epoch has the same names after `kept.<epoch>/`. The metadata hold the rest as JSON, with a
SHA-256 of it all.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from pyarrow import parquet
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from zoosparse_ext.errors import InputError, StoreError, ZoosparseError, require_kind
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.optimizer_state import OptimizerState
from zoosparse_ext.population.population import Population, require_data
from zoosparse_ext.population.safetensors_parts import safetensors_parts
from zoosparse_ext.population.tensors import as_arguments, is_known, tensors_of
from zoosparse_ext.zoo import tables
from zoosparse_ext.zoo.folder import TEMPORARY, replace_file
from zoosparse_ext.zoo.plain import plain

FORMAT, VERSION = "zoosparse-population", 1
_MOMENTS = ("first", "second")
_DTYPES = (
    torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int8, torch.int16, torch.int32, torch.int64,
    torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool,
)  # fmt: skip


def save_population(population: Population, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write a population to one file: all that belongs to it, to be read by :func:`open_population`.

    >>> import tempfile
    >>> import zoosparse_ext as zs
    >>> population = zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(3))
    >>> twins = zs.magnitude_prune(population, 0.8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = zs.save_population(twins, f"{folder}/twins.safetensors")
    ...     again = zs.open_population(path)
    >>> torch.equal(again.weights, twins.weights), torch.equal(again.masks, twins.masks), again.ids == twins.ids
    (True, True, True)

    Weights, masks, what was learned beside them, counters, predictions, the table, history, `trained_by`, optimizer
    state and kept epochs come back to the same bits, from a GPU to the CPU. The file is written whole or not at all;
    its folder is made. It holds no module: of networks that are no chain the module is given again when it is opened.

    Args:
        population: of any number of models.
        path: the file, by custom ``….safetensors``.
        overwrite: replace a file that is there.

    Returns:
        The path.

    Raises:
        InputError: no population, weights without data, a tensor of a type or under a name that a file cannot hold, a
            kept epoch of another architecture.
        StoreError: there is a file already (unless `overwrite`) or a folder; a table that Parquet cannot hold; the
            disk is full. What was there is then unchanged.
    """
    require_kind("population", population, Population, "a zs.Population")
    file = Path(path)
    if file.is_dir():
        raise StoreError(f"{file} is a folder; name a file in it, such as {file / 'population.safetensors'}")
    if file.exists() and not overwrite:
        raise StoreError(f"{file} is there already; choose another name, or overwrite=True")
    tensors: dict[str, Tensor] = {}
    told = {
        "format": FORMAT,
        "version": str(VERSION),
        "architecture": json.dumps(plain(population.architecture.to_dict())),
        "population": json.dumps(_describe(population, "", tensors, population.architecture)),
    }
    checksum = _digest(told, tensors, safetensors_parts(tensors)[1:])
    try:
        replace_file(file, safetensors_parts(tensors, {**told, "sha256": checksum}))
    except StoreError:
        file.with_name(file.name + TEMPORARY).unlink(missing_ok=True)
        raise
    return file


def open_population(
    path: str | os.PathLike[str], module: nn.Module | None = None, *, verify: bool = True
) -> Population:
    """Read a population that :func:`save_population` wrote.

    Tensors are mapped from the file into memory; the file can be replaced meanwhile, but not be changed in place.

    >>> import tempfile
    >>> import zoosparse_ext as zs
    >>> gated = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.GLU(), nn.Linear(2, 2))
    >>> population = zs.Population.from_modules([gated], input_shape=(1, 2, 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = zs.save_population(population, f"{folder}/gated.safetensors")
    ...     again = zs.open_population(path, module=gated)
    >>> again(torch.zeros(3, 1, 2, 2)).shape
    torch.Size([1, 3, 2])

    Args:
        path: the file.
        module: one of the networks, of whatever weights, where they are no chain: it runs them, and is what they are
            given back as. Chains and ready architectures need none. Without it such a population opens, but what runs
            its networks asks for it. Which weights are prunable or frozen is as it was saved.
        verify: compare the file with its checksum, which reads all of it.

    Raises:
        StoreError: no file, not a population, written by a newer version, or damaged.
        InputError: a module with other tensors, or that computes something else than the stored chain.
    """
    file = Path(path)
    if module is not None:
        require_kind("module", module, nn.Module, "an nn.Module")
    if not file.is_file():
        what = "is a folder; zs.Zoo.open reads zoos" if file.is_dir() else "does not exist"
        raise StoreError(f"{file} {what}")
    told, tensors = _read(file)
    checksum = told.pop("sha256", None)
    if verify and checksum != _digest(told, tensors, _content(file)):
        raise StoreError(f"{file} was altered or is damaged: its content does not fit its checksum")
    try:
        architecture = Architecture.from_dict(json.loads(told["architecture"]))
        population = _population(json.loads(told["population"]), "", tensors, architecture)
    except StoreError as error:
        raise StoreError(f"{file} is damaged: {error}") from error
    except (ZoosparseError, AttributeError, LookupError, TypeError, ValueError, OSError) as error:
        raise StoreError(f"{file} is damaged: {type(error).__name__}: {error}") from error
    if module is not None:
        population.with_module(module)
        for then in population.kept.values():
            then.architecture = population.architecture
    return population


def _describe(
    population: Population, prefix: str, tensors: dict[str, Tensor], architecture: Architecture
) -> dict[str, Any]:
    """What is no tensor of a population, as plain values; its tensors are put under their names."""
    require_data(population)
    if population.architecture.segments != architecture.segments:
        raise InputError(
            f"{prefix.rstrip('/')} is of another architecture than the population; a file holds one"
        )
    for name, tensor in tensors_of(population).items():
        if not is_known(name) or tensor.dtype not in _DTYPES:
            raise InputError(
                f"{name!r} ({tensor.dtype}) cannot stand in a file; names of what is learned are identifiers, and "
                "types are floats, whole numbers or bool"
            )
        tensors[prefix + name] = tensor.detach().cpu().contiguous()
    tensors[f"{prefix}table.models"] = _bytes_of(population.models, "models")
    if population.history is not None:
        tensors[f"{prefix}table.history"] = _bytes_of(population.history, "history")
    state = population.optimizer_state
    if state is not None:
        for name in _MOMENTS:
            tensors[f"{prefix}optimizer.{name}"] = getattr(state, name).detach().cpu().contiguous()
    kept = {
        str(epoch): _describe(then, f"{prefix}kept.{epoch}/", tensors, architecture)
        for epoch, then in population.kept.items()
    }
    return {
        "trained_by": plain(population.trained_by),
        "optimizer": None
        if state is None
        else {"kind": state.kind, "step": state.step, "epochs": state.epochs},
        "kept": kept,
    }


def _population(
    told: dict[str, Any], prefix: str, tensors: dict[str, Tensor], architecture: Architecture
) -> Population:
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    own = {name: tensor for name, tensor in own.items() if "/" not in name}
    state = None
    if (optimizer := told["optimizer"]) is not None:
        moments = {name: own[f"optimizer.{name}"] for name in _MOMENTS}
        state = OptimizerState(
            str(optimizer["kind"]), int(optimizer["step"]), int(optimizer["epochs"]), **moments
        )
    population = Population.from_rows(
        architecture=architecture,
        models=_table(own["table.models"]),
        history=_table(own["table.history"]) if "table.history" in own else None,
        optimizer_state=state,
        kept={
            int(epoch): _population(then, f"{prefix}kept.{epoch}/", tensors, architecture)
            for epoch, then in told["kept"].items()
        },
        **as_arguments({name: tensor for name, tensor in own.items() if is_known(name)}),
    )
    population.trained_by = told["trained_by"]
    return population


def _read(file: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a file of this format."""
    try:
        with safe_open(file, framework="pt") as opened:
            told = opened.metadata() or {}
            if told.get("format") != FORMAT:
                raise StoreError(
                    f"{file} is not a population: its metadata say {told.get('format')!r}, expected {FORMAT!r}; "
                    "zs.import_zoo reads checkpoints"
                )
            version = told.get("version", "")
            if not version.isdecimal():
                raise StoreError(f"{file} is damaged: version {version!r}, expected a number from 1")
            if int(version) > VERSION:
                raise StoreError(
                    f"{file} was written in version {version} of the format, this package reads up to {VERSION}; "
                    "upgrade zoosparse-ext"
                )
            return dict(told), {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise StoreError(f"{file} is not a population, or is damaged: {error}") from error


def _bytes_of(table: pd.DataFrame, name: str) -> Tensor:
    return torch.frombuffer(bytearray(tables.to_bytes(table, name)), dtype=torch.uint8)


def _table(content: Tensor) -> pd.DataFrame:
    try:
        with parquet.ParquetFile(io.BytesIO(content.numpy().tobytes())) as file:
            return tables.frame_of(file.read(use_threads=False))
    except Exception as error:  # pyarrow raises many types on damaged content
        raise StoreError(f"a table cannot be read: {error}") from error


def _digest(told: dict[str, str], tensors: dict[str, Tensor], content: Iterable[bytes | memoryview]) -> str:
    """SHA-256 of the metadata, of names, types and shapes of the tensors, and of their bytes in the file."""
    index = sorted((name, str(tensor.dtype), list(tensor.shape)) for name, tensor in tensors.items())
    digest = hashlib.sha256(json.dumps([sorted(told.items()), index]).encode())
    for part in content:
        digest.update(part)
    return digest.hexdigest()


def _content(path: Path) -> Iterator[bytes]:
    """What follows the header of a file, some of it at a time."""
    with open(path, "rb") as file:
        file.seek(8 + int.from_bytes(file.read(8), "little"))
        while block := file.read(2**20):
            yield block
