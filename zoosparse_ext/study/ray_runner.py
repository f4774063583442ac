"""The same plan on Ray: chunks as tasks on actors.

A worker gets its next chunk when it has finished one, so that no more chunks travel than there are workers. When one
dies, its chunk is begun again from its last epoch; a chunk under which workers keep dying is done in ever smaller
parts, because a process that takes too much memory is killed. What comes out has the bits of a local run.

Source: Moritz et al., Ray: A Distributed Framework for Emerging AI Applications, OSDI 2018.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zoosparse_ext.data import Dataset
from zoosparse_ext.errors import ChunkError, ZoosparseError
from zoosparse_ext.population.population import Population
from zoosparse_ext.study.chunks import MODELS, Chunk
from zoosparse_ext.study.ray_workers import LOCAL, Pool, import_ray
from zoosparse_ext.study.runner import Watch, failed, write_log
from zoosparse_ext.study.work import OnProgress

log = logging.getLogger(__name__)

DEATHS = 4  # of workers under one chunk, before it counts as failed
_CHUNKS = 2  # a worker and stage, so that none waits long for the last one
_FEWEST = 16  # models a chunk: with less the engine cannot fill its vectors


class RayRunner:
    """Runs chunks on a Ray cluster, which is started or joined when the first chunk comes.

    Example::

        with RayRunner("local", workers=2) as runner:
            run_study(config, path, checkpoint, bar, runner)

    Args:
        address: ``"local"`` starts a cluster on this machine; anything else is one that `ray.init` can join. Its
            machines need this package, and see the folder of the study if chunks are to be gone on with.
        workers: how many. Default: one for every four cores.
        models: at most so many in a chunk; default: at most 256, and two chunks a worker if there are models enough.
        cores: of every worker; default: an even share, at most four.
        gpus: every worker has a GPU to itself; default for `workers` is then one for every GPU.

    Raises:
        InputError: Ray is not installed; there is no cluster at the address; its machines have other versions.
    """

    def __init__(
        self,
        address: str = LOCAL,
        workers: int | None = None,
        models: int | None = None,
        *,
        cores: int | None = None,
        gpus: bool = False,
    ) -> None:
        import_ray()
        self.address, self.workers, self.models = address, workers, models
        self.cores, self.gpus = cores, gpus
        self._pool: Pool | None = None
        self._data: tuple[Dataset, Any] | None = None

    def __enter__(self) -> RayRunner:
        return self

    def __exit__(self, *failure: object) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    @property
    def pool(self) -> Pool:
        """The workers."""
        if self._pool is None:
            self._pool = Pool(self.address, self.workers, self.cores, self.gpus)
        return self._pool

    def chunk_size(self, models: int) -> int:
        """How many of a group's models to put into one chunk."""
        if self.models is not None:
            return self.models
        return min(MODELS, max(_FEWEST, math.ceil(models / (_CHUNKS * self.pool.size))))

    def run(
        self,
        chunks: Sequence[Chunk],
        data: Dataset,
        checkpoint: Path | None = None,
        progress: OnProgress | None = None,
    ) -> list[Population]:
        """As that of every runner."""
        if checkpoint is not None:
            checkpoint.mkdir(parents=True, exist_ok=True)  # where workers look whether they see it
        stage = _Stage(self.pool, self._shared(data), checkpoint, Watch(chunks, progress), deque(chunks))
        stage.run()
        if stage.failures:
            raise ChunkError.of(stage.failures, len(chunks))
        return [stage.results[chunk.name] for chunk in chunks]

    def _shared(self, data: Dataset) -> Any:
        """The data set in the memory that all workers of a machine share; sent once, not with every chunk."""
        if self._data is None or self._data[0] is not data:
            self._data = (data, self.pool.ray.put(data))
        return self._data[1]


@dataclass
class _Task:
    """A chunk in the hands of a worker."""

    worker: Any
    chunk: Chunk
    told: Any  # progress that was asked for and has not come yet


class _Stage:
    """The chunks of one stage: waiting, with a worker, or done."""

    def __init__(
        self, pool: Pool, data: Any, checkpoint: Path | None, watch: Watch, waiting: deque[Chunk]
    ) -> None:
        self.pool, self.data, self.checkpoint, self.watch = pool, data, checkpoint, watch
        self.waiting = waiting
        self.tasks: dict[Any, _Task] = {}  # result to come → task
        self.deaths: Counter[str] = Counter()
        self.results: dict[str, Population] = {}
        self.failures: list[ChunkError] = []

    def run(self) -> None:
        while self.waiting or self.tasks:
            while self.waiting and (worker := self.pool.take()) is not None:
                self._send(self.waiting.popleft(), worker)
            done = self.pool.wait(self.tasks)
            for task in self.tasks.values():
                self._tell(task)
            for result in done:
                self._receive(result, self.tasks.pop(result))

    def _send(self, chunk: Chunk, worker: Any) -> None:
        """The second death of a worker may be bad luck as well; from then on parts are halved."""
        models = max(1, chunk.work.models >> max(0, self.deaths[chunk.name] - 1))
        alone = replace(chunk, work=chunk.work.alone())
        result = worker.run.remote(alone, self.data, self.checkpoint, models)
        self.tasks[result] = _Task(worker, chunk, worker.progress.remote())

    def _tell(self, task: _Task) -> None:
        """Pass on the progress that has come, and ask for more."""
        ray = self.pool.ray
        if ray.wait([task.told], timeout=0)[0]:
            self._show(task)
            task.told = task.worker.progress.remote()

    def _show(self, task: _Task) -> None:
        """Pass on the progress that was asked for."""
        with contextlib.suppress(self.pool.ray.exceptions.RayActorError):  # its result tells that it died
            for state in self.pool.ray.get(task.told):
                self.watch.of(task.chunk)(state)

    def _receive(self, result: Any, task: _Task) -> None:
        ray, chunk = self.pool.ray, task.chunk
        self._show(task)
        try:
            outcome: Population | ZoosparseError = ray.get(result)
        except ray.exceptions.RayTaskError:
            raise  # an error in this package, not of the cluster
        except ray.exceptions.RayError as error:
            self.pool.replace(task.worker, error)
            self.deaths[chunk.name] += 1
            log.warning("%s: its worker died, time %d of %d", chunk, self.deaths[chunk.name], DEATHS)
            write_log(chunk, self.checkpoint, f"{error}\n")
            if self.deaths[chunk.name] < DEATHS:
                self.waiting.append(chunk)
                return
            outcome = failed(chunk, self.checkpoint, error, DEATHS)
        else:
            task.told = task.worker.progress.remote()
            self._show(task)  # of its last moments
            self.pool.give(task.worker)
        self._settle(chunk, outcome)

    def _settle(self, chunk: Chunk, outcome: Population | ZoosparseError) -> None:
        if isinstance(outcome, Population):
            self.results[chunk.name] = outcome
        elif isinstance(outcome, ChunkError):
            self.failures.append(outcome)
        else:  # bad input, a full disk: all others would fail as well
            raise outcome
        self.watch.finished(chunk)
