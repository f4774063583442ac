"""Who runs the chunks of a stage, and what happens to those that fail.

A chunk that raises is tried again from its last epoch. One that runs out of memory is cut in two. One that fails for
good is put down in a log, and the others go on. A disk that is full and input that is bad would fail them all, and end
the run at once.
"""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Protocol

from zoosparse_ext.data import Dataset
from zoosparse_ext.errors import ChunkError, ZoosparseError
from zoosparse_ext.population.checkpoint import remove_checkpoint
from zoosparse_ext.population.hooks import Progress
from zoosparse_ext.population.population import Population
from zoosparse_ext.study.chunks import MODELS, Chunk, join
from zoosparse_ext.study.work import OnProgress

log = logging.getLogger(__name__)

ATTEMPTS = 2
_OUT_OF_MEMORY = ("DefaultCPUAllocator", "out of memory")  # in what PyTorch raises, as a RuntimeError


@dataclass(frozen=True)
class StageProgress(Progress):
    """Where one chunk stands, and the stage that it is part of; counted in networks × epochs.

    `stage` is the title of the stage, where whoever shows the progress knows it.
    """

    chunk: str
    chunks: int
    stage_done: int
    stage_total: int
    stage: str = ""

    @property
    def done(self) -> int:
        return self.stage_done

    @property
    def total(self) -> int:
        return self.stage_total


class Runner(Protocol):
    """Runs chunks."""

    def chunk_size(self, models: int) -> int:
        """How many of so many models to put into one chunk."""
        ...

    def run(
        self,
        chunks: Sequence[Chunk],
        data: Dataset,
        checkpoint: Path | None = None,
        progress: OnProgress | None = None,
    ) -> list[Population]:
        """What comes out of every chunk, in their order.

        Raises:
            ChunkError: chunks that failed for good, after all others are done.
        """
        ...


@dataclass(frozen=True)
class LocalRunner:
    """One chunk after the other in this process; the engines use all its threads."""

    models: int = MODELS

    def chunk_size(self, models: int) -> int:
        return self.models

    def run(
        self,
        chunks: Sequence[Chunk],
        data: Dataset,
        checkpoint: Path | None = None,
        progress: OnProgress | None = None,
    ) -> list[Population]:
        watch = Watch(chunks, progress)
        results: list[Population] = []
        failures: list[ChunkError] = []
        for chunk in chunks:
            try:
                results.append(run_chunk(chunk, data, checkpoint, watch.of(chunk)))
            except ChunkError as error:
                failures.append(error)
            watch.finished(chunk)
        if failures:
            raise ChunkError.of(failures, len(chunks))
        return results


def run_chunk(
    chunk: Chunk,
    data: Dataset,
    checkpoint: Path | None = None,
    progress: OnProgress | None = None,
    models: int | None = None,
) -> Population:
    """Run one chunk to its end, again if it fails, in halves if it is too large.

    Args:
        models: more than so many are too large. Default: only what runs out of memory is.

    Raises:
        ChunkError: it failed for good; names the log.
        ZoosparseError: what no further attempt can mend: bad input, a full disk.
    """
    if models is not None and chunk.work.models > max(1, models):
        return run_halves(chunk, data, checkpoint, progress, models)
    error: Exception | None = None
    for attempt in range(1, ATTEMPTS + 1):
        result = _attempt(chunk, data, checkpoint, progress)
        if isinstance(result, Population):
            return result
        error = result
        log.warning("%s failed, attempt %d of %d: %r", chunk, attempt, ATTEMPTS, error)
        if is_out_of_memory(error) and chunk.work.models > 1:
            return run_halves(chunk, data, checkpoint, progress, chunk.work.models)
    raise failed(chunk, checkpoint, error, ATTEMPTS) from error


def _attempt(
    chunk: Chunk, data: Dataset, checkpoint: Path | None, progress: OnProgress | None
) -> Population | Exception:
    """The result of a chunk, or why there is none; then its log has the traceback, which no longer holds memory."""
    try:
        return chunk.work.run(data, chunk.file(checkpoint, ".safetensors"), progress)
    except ZoosparseError:
        raise
    except Exception as error:
        write_log(chunk, checkpoint, traceback.format_exc())
        _release(error)
        return error


def _release(error: BaseException) -> None:
    """Give back what the frames of an error hold, which may be what filled the memory."""
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link = link.__context__


def run_halves(
    chunk: Chunk, data: Dataset, checkpoint: Path | None, progress: OnProgress | None, models: int
) -> Population:
    """Both halves of a chunk, one after the other; what they give is what the whole would have given."""
    if (epochs := chunk.file(checkpoint, ".safetensors")) is not None:
        remove_checkpoint(epochs)  # of no use to the halves
    watch = Watch(chunk.halves(), progress)
    parts = [run_chunk(half, data, checkpoint, watch.of(half), models) for half in chunk.halves()]
    return join(parts, chunk.work.copies)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on the CPU or on a GPU."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(sign in str(error) for sign in _OUT_OF_MEMORY)
    )


def failed(chunk: Chunk, checkpoint: Path | None, error: BaseException | None, times: int) -> ChunkError:
    """What to say of a chunk that failed for good."""
    file = chunk.file(checkpoint, ".log")
    reason = f"{chunk} failed {times} times: {type(error).__name__}: {error}".rstrip(": ")
    if error is not None and is_out_of_memory(error):
        reason = f"{reason}; one model at a time is too much for the memory that is left: leave it more"
    return ChunkError(reason if file is None else f"{reason} (log: {file})")


def write_log(chunk: Chunk, checkpoint: Path | None, text: str) -> None:
    """Append to the log of a chunk, which stays until its stage is done."""
    if (path := chunk.file(checkpoint, ".log")) is None:
        return
    with contextlib.suppress(OSError):  # the failure itself is what must be heard of
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a", encoding="utf-8") as file:
            file.write(text)


class Watch:
    """Tells the progress of a stage out of that of its chunks."""

    def __init__(self, chunks: Sequence[Chunk], show: OnProgress | None) -> None:
        self._show = show
        self._chunks = len(chunks)
        self._total = sum(chunk.work.network_epochs for chunk in chunks)
        self._done: dict[str, int] = {}

    def of(self, chunk: Chunk) -> Callable[[Progress], None]:
        """The progress of one chunk, to be told as part of the whole."""

        def progress(state: Progress) -> None:
            self._done[chunk.name] = state.done
            if self._show is not None:
                done = sum(self._done.values())
                where = {item.name: getattr(state, item.name) for item in fields(Progress)}
                self._show(
                    StageProgress(
                        **where,
                        chunk=chunk.name,
                        chunks=self._chunks,
                        stage_done=done,
                        stage_total=self._total,
                    )
                )

        return progress

    def finished(self, chunk: Chunk) -> None:
        """A chunk is done, in whatever way."""
        self._done[chunk.name] = chunk.work.network_epochs
