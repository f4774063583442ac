"""A training that can be taken up again: everything it needs, in one file, replaced as a whole after every epoch.

Epochs that are to be kept each have a file beside it, written once.
"""

from __future__ import annotations

import glob
import hashlib
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from zoosparse_ext.errors import InputError, StoreError
from zoosparse_ext.population.population import Population
from zoosparse_ext.population.safetensors_parts import safetensors_parts
from zoosparse_ext.population.steps import TrainState
from zoosparse_ext.population.tensors import as_arguments, set_tensor, tensors_of

_MOMENTS = {"log_sigma2": "sigma"}  # what those of a matrix are called; others as it is called itself
_HISTORY = "history"
_BESIDE = ".epoch-"  # what follows the name of the file in those of kept epochs; no suffix of its own kind


@dataclass
class Checkpoint:
    """One file that holds a training in progress.

    Args:
        path: the file; its folder is made when first needed.
        key: fingerprint of everything that decides the result; a file with another key is never continued.
    """

    path: Path
    key: str

    def save(self, epoch: int, population: Population, state: TrainState, history: pd.DataFrame) -> None:
        """Write the state after `epoch`, synced to disk, then replace the file of the epoch before.

        Raises:
            StoreError: the disk is full, or cannot be written to.
        """
        buffer = io.BytesIO()
        history.to_parquet(buffer)
        tensors = tensors_of(population) | _moments(state)
        tensors[_HISTORY] = torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)
        self._write(self.path, tensors, {"epoch": str(epoch), "step": str(state.step)})

    def keep(self, epoch: int, population: Population) -> None:
        """Write a population as it is after an epoch, to a file beside the one of the training.

        Raises:
            StoreError: the disk is full, or cannot be written to.
        """
        self._write(self._beside(epoch), tensors_of(population), {"epoch": str(epoch)})

    def _kept(self, epoch: int, like: Population, models: pd.DataFrame) -> Population:
        """The population that was kept after an epoch, with the architecture of another."""
        path = self._beside(epoch)
        metadata, tensors = _read(path) if path.exists() else ({}, {})
        if metadata.get("key") != self.key:
            raise InputError(
                f"keep: epoch {epoch} cannot be kept any more, the unfinished run in {self.path} is past it and did "
                "not keep it; leave it out, or delete the file to start anew"
            )
        device = like.weights.device
        moved = {name: t if name == "predictions" else t.to(device) for name, t in tensors.items()}
        return Population.from_rows(
            architecture=like.architecture, models=models.copy(), **as_arguments(moved)
        )

    def _beside(self, epoch: int) -> Path:
        return self.path.with_name(f"{self.path.name}{_BESIDE}{epoch}")

    def _write(self, path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        """Replace a file as a whole, synced to disk."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        temporary = self.path.with_suffix(".tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as file:
                for part in safetensors_parts(tensors, {"key": self.key, **metadata}):
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise StoreError(
                f"cannot keep the unfinished run in {path}: {error.strerror or error}; "
                "what was finished before is unchanged"
            ) from error

    def is_begun(self) -> bool:
        """Whether the file is there, can be read, and belongs to a training of this key."""
        try:
            with safe_open(self.path, framework="pt") as file:
                return bool((file.metadata() or {}).get("key") == self.key)
        except (OSError, SafetensorError):
            return False

    def restore(
        self,
        population: Population,
        state: TrainState,
        keep: frozenset[int] = frozenset(),
        models: pd.DataFrame | None = None,
    ) -> tuple[int, pd.DataFrame, dict[int, Population]] | None:
        """Bring population and state to where the file left them, unless there is none.

        Args:
            population, state: what is trained, and the state of its optimizer.
            keep: epochs.
            models: the table of what is kept. Default: that of the population.

        Returns:
            The last epoch, the history, and the population at the epochs of `keep` until then.

        Raises:
            InputError: the file belongs to a training with other settings or other data, or an epoch was not kept;
                population and state are then as they were.
            StoreError: a file is damaged.
        """
        if not self.path.exists():
            return None
        metadata, tensors = _read(self.path)
        if metadata.get("key") != self.key:
            raise InputError(
                f"{self.path} holds an unfinished run with other settings or data; "
                "repeat the command that began it, or delete the file to start anew"
            )
        epoch = int(metadata["epoch"])
        table = population.models if models is None else models
        kept = {then: self._kept(then, population, table) for then in sorted(keep) if then <= epoch}
        current = tensors_of(population) | _moments(state)
        for name in tensors.keys() - {_HISTORY}:
            if name in current:
                current[name].copy_(tensors[name])
            else:
                device = "cpu" if name == "predictions" else population.weights.device
                set_tensor(population, name, tensors[name].to(device))
        state.step = int(metadata["step"])
        history = pd.read_parquet(io.BytesIO(tensors[_HISTORY].numpy().tobytes()))
        return epoch, history, kept


def remove_checkpoint(path: Path) -> None:
    """Remove the file of a checkpoint, and the kept epochs beside it."""
    for file in (path, *path.parent.glob(f"{glob.escape(path.name)}{_BESIDE}*")):
        file.unlink(missing_ok=True)


def _moments(state: TrainState) -> dict[str, Tensor]:
    """The moments of weights and of what is learned beside them, by the names that files have them under."""
    named = {"first": state.first, "second": state.second}
    for name, (first, second) in state.learned.items():
        prefix = _MOMENTS.get(name, name)
        named |= {f"{prefix}_first": first, f"{prefix}_second": second}
    return named


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a file.

    Raises:
        StoreError: it is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise StoreError(
            f"cannot read the unfinished run in {path}: {error}; delete it to start anew"
        ) from error


def fingerprint(*parts: object) -> str:
    """A SHA-256 over tensors (their bytes) and everything else (as JSON)."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            digest.update(part.detach().cpu().contiguous().numpy().tobytes())
        else:
            digest.update(json.dumps(part, sort_keys=True, default=str).encode())
    return digest.hexdigest()
