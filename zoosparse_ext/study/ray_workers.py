"""Workers on Ray: one actor for every group of cores, or for every GPU, replaced when it dies."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from zoosparse_ext.data import Dataset
from zoosparse_ext.errors import InputError, ZoosparseError
from zoosparse_ext.population.hooks import Progress
from zoosparse_ext.population.population import Population
from zoosparse_ext.study.chunks import Chunk
from zoosparse_ext.study.runner import run_chunk
from zoosparse_ext.version import package_version

log = logging.getLogger(__name__)

LOCAL = "local"
CORES = 4  # of a worker, which uses all of them
_POLL = 0.2  # seconds
_PATIENCE = 600.0  # seconds without any worker: a cluster may have to start a machine


class Worker:
    """What an actor is: it does one chunk at a time, and tells its progress on a second thread."""

    def __init__(self, cores: int) -> None:
        torch.set_num_threads(cores)
        self._states: list[Progress] = []

    def facts(self) -> tuple[int, dict[str, str]]:
        """Process id, and the versions that decide the bits of a result."""
        return os.getpid(), versions()

    def run(
        self, chunk: Chunk, data: Dataset, folder: Path | None, models: int
    ) -> Population | ZoosparseError:
        """Do a chunk in parts of at most so many models; an error that was foreseen comes back as a value.

        A folder that is not seen from this machine keeps no epochs.
        """
        seen = folder if folder is not None and folder.is_dir() else None
        try:
            return run_chunk(chunk, data, seen, self._note, models)
        except ZoosparseError as error:
            return error

    def progress(self) -> list[Progress]:
        """The epochs that ended since this was last asked, and where the one under way is."""
        states, self._states = self._states, []
        return states

    def _note(self, state: Progress) -> None:
        if self._states and self._states[-1].models < self._states[-1].population:
            self._states[-1] = state
        else:
            self._states.append(state)


def versions() -> dict[str, str]:
    """Of this package and of PyTorch."""
    return {"zoosparse_ext": package_version(), "torch": str(torch.__version__)}


@dataclass
class Pool:
    """The workers of a cluster, which is started or joined at once; one that this process has joined already is used.

    Args:
        address: ``"local"`` starts a cluster on this machine; anything else is one that `ray.init` can join.
        wanted: how many workers; default: one for every four cores.
        cores: of every worker; default: an even share, at most four.
        gpus: every worker has a GPU to itself; default for `wanted` is then one for every GPU.

    Raises:
        InputError: Ray is not installed, there is no cluster at the address, or none with GPUs.
    """

    address: str
    wanted: int | None = None
    cores: int | None = None
    gpus: bool = False
    pids: dict[Any, int] = field(default_factory=dict)  # of the workers that are up

    def __post_init__(self) -> None:
        self.ray = import_ray()
        self._joined = bool(self.ray.is_initialized())
        self._idle: list[Any] = []
        self._starting: dict[Any, Any] = {}  # facts to come → worker
        if not self._joined:
            self._connect()
        resources = self.ray.cluster_resources()
        cores, gpus = int(resources.get("CPU", 1)), int(resources.get("GPU", 0))
        if self.gpus and gpus < (self.wanted or 1):
            self.close()
            raise InputError(
                f"{self.wanted or 1} workers on CUDA need as many GPUs, the Ray cluster at {self.address!r} has {gpus}"
            )
        self.size = self.wanted or (gpus if self.gpus else max(1, cores // (self.cores or CORES)))
        self.cores = self.cores or max(1, min(CORES, cores // self.size))
        self._up_since = time.monotonic()
        for _ in range(self.size):
            self._begin()

    def take(self) -> Any | None:
        """A worker that has nothing to do, if there is one."""
        return self._idle.pop() if self._idle else None

    def give(self, worker: Any) -> None:
        """A worker has finished what it was taken for."""
        self._idle.append(worker)

    def replace(self, worker: Any, why: Exception) -> None:
        """A worker died: begin another."""
        reason = str(why).partition("\n")[0]
        log.warning("worker %s died, another takes its place: %s", self.pids.pop(worker, "?"), reason)
        self.ray.kill(worker)  # for good, should it only have been out of reach
        self._begin()

    def wait(self, tasks: Collection[Any]) -> list[Any]:
        """The tasks that are done, after a moment; new workers are ready when it returns.

        Raises:
            InputError: no worker came up, or one with other versions.
        """
        done, _ = self.ray.wait([*tasks, *self._starting], num_returns=1, timeout=_POLL)
        for facts in [ref for ref in done if ref in self._starting]:
            self._welcome(facts)
        if self.pids:
            self._up_since = time.monotonic()
        elif time.monotonic() - self._up_since > _PATIENCE:
            raise InputError(
                f"no worker with {self.cores} cores came up on {self.address} within {_PATIENCE:.0f} s; "
                "`ray status` tells what is free there"
            )
        return [ref for ref in done if ref in tasks]

    def close(self) -> None:
        """End the workers, and the connection if it was made here."""
        for worker in [*self.pids, *self._starting.values()]:
            self.ray.kill(worker)
        if not self._joined:
            self.ray.shutdown()

    def _connect(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anybody
        local = {"num_cpus": os.cpu_count(), "include_dashboard": False} if self.address == LOCAL else {}
        try:
            _reach(self.address)
            self.ray.init(self.address, log_to_driver=False, logging_level=logging.ERROR, **local)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(f"cannot reach a Ray cluster at {self.address!r}: {error}") from error

    def _begin(self) -> None:
        actor = self.ray.remote(Worker).options(
            num_cpus=self.cores, num_gpus=1 if self.gpus else 0, max_concurrency=2
        )
        worker = actor.remote(self.cores)
        self._starting[worker.facts.remote()] = worker

    def _welcome(self, facts: Any) -> None:
        worker = self._starting.pop(facts)
        try:
            pid, theirs = self.ray.get(facts)
        except self.ray.exceptions.RayActorError as error:
            return self.replace(worker, error)
        if theirs != versions():
            raise InputError(
                f"a worker on {self.address} has {theirs}, here is {versions()}; they must be equal"
            )
        self.pids[worker] = pid
        self._idle.append(worker)
        return None


def _reach(address: str) -> None:
    """Knock at `[ray://]host:port`: Ray itself would try for minutes, and then end the process."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host, int(port)), timeout=10).close()


def import_ray() -> Any:
    """Ray, which takes a second to load and is not always there.

    Raises:
        InputError: it is not installed.
    """
    try:
        import ray
    except ImportError:
        raise InputError("--ray needs Ray: pip install 'zoosparse-ext[ray]'") from None
    return ray
