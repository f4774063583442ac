"""Carrying out a plan: some models at a time, in several processes, resumable, into a zoo.

What was read is noted chunk by chunk in `<zoo>.resume`; the same import, started again, goes on from there.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from zoosparse_ext.errors import StoreError
from zoosparse_ext.population.population import Population
from zoosparse_ext.population.tensors import as_arguments
from zoosparse_ext.zoo.folder import disk_errors, locked
from zoosparse_ext.zoo.formats.plan import Block, Group, Options, Plan, Record, Skipped
from zoosparse_ext.zoo.formats.scratch import Scratch
from zoosparse_ext.zoo.ids import check_ids
from zoosparse_ext.zoo.store import Zoo

OnProgress = Callable[[int, int], None]  # models read, models in all
CHUNK_BYTES = 64 * 2**20  # of rows that a process holds at a time
CHUNK_MODELS = 64
PARALLEL_FROM = 4096  # rows; below, starting processes takes longer than reading


@dataclass
class Chunk:
    """Some models of a group: the unit of work, of memory and of resuming."""

    group: int
    start: int
    stop: int


@dataclass
class Done:
    """What is kept of a block beside its tensors, as JSON."""

    rows: list[tuple[str, int, dict[str, Any]]]
    models: list[dict[str, Any]]
    history: list[dict[str, Any]]
    twins: list[dict[str, Any]]
    skipped: list[tuple[str, str]]


def run(
    plan: Plan,
    options: Options,
    out: Path | None = None,
    *,
    workers: int | None = None,
    progress: OnProgress | None = None,
) -> Zoo:
    """Read everything a plan names and make a zoo of it, in memory or in the folder `out`.

    Raises:
        StoreError: nothing could be read; with `strict`, the first model that could not.
    """
    _refuse(plan.skipped, options)
    if out is None:
        scratches = [Scratch(group, None, number) for number, group in enumerate(plan.groups)]
        done = _read_all(plan, options, scratches, None, 1, progress)
        return _zoo(plan, scratches, done)
    folder = out.with_name(out.name + ".resume")
    with locked(folder):
        work = folder / f"import-{_key(plan, options)}"
        with disk_errors(work):
            work.mkdir(exist_ok=True)
            try:
                scratches = [Scratch(group, work, number) for number, group in enumerate(plan.groups)]
                zoo = _zoo(plan, scratches, _read_all(plan, options, scratches, work, workers, progress))
            except StoreError:  # of the source: to go on would end here again
                shutil.rmtree(work, ignore_errors=True)
                raise
        zoo.save(out)
        for finished in folder.glob("import-*"):  # of other settings as well: the place is taken now
            shutil.rmtree(finished, ignore_errors=True)
    return Zoo.open(out, verify=False)


def _read_all(
    plan: Plan,
    options: Options,
    scratches: list[Scratch],
    work: Path | None,
    workers: int | None,
    progress: OnProgress | None,
) -> list[tuple[Chunk, Done]]:
    chunks = list(_chunks(plan))
    total, seen = sum(len(group.items) for group in plan.groups), 0
    results: dict[int, Done] = {}
    for number in range(len(chunks)):
        noted = None if work is None else _noted(work / f"{number}.json")
        if noted is not None:
            results[number] = noted
    seen = sum(chunks[number].stop - chunks[number].start for number in results)
    if progress is not None:
        progress(seen, total)
    todo = [number for number in range(len(chunks)) if number not in results]
    for number, done in _work(plan, options, chunks, todo, scratches, work, workers):
        _refuse([Skipped(*pair) for pair in done.skipped], options)
        results[number] = done
        seen += chunks[number].stop - chunks[number].start
        if progress is not None:
            progress(seen, total)
    return [(chunks[number], results[number]) for number in range(len(chunks))]


def _work(
    plan: Plan,
    options: Options,
    chunks: list[Chunk],
    todo: list[int],
    scratches: list[Scratch],
    work: Path | None,
    workers: int | None,
) -> Iterator[tuple[int, Done]]:
    """Chunks as they are done: in processes if there is enough to do, else one after the other."""
    rows = sum(
        (chunks[n].stop - chunks[n].start) * len(plan.groups[chunks[n].group].populations) for n in todo
    )
    if workers is None:
        workers = min(len(todo), os.cpu_count() or 1) if rows >= PARALLEL_FROM else 1
    left = set(todo)
    if work is not None and workers > 1:
        context = multiprocessing.get_context("spawn")  # a fork copies the locks of running threads
        try:
            with ProcessPoolExecutor(workers, context, _start_worker, (plan.groups, options, work)) as pool:
                futures = {pool.submit(_do_in_worker, number, chunks[number]): number for number in todo}
                try:
                    for future in as_completed(futures):
                        left.discard(futures[future])
                        yield futures[future], future.result()
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise
        except BrokenProcessPool:  # a worker was killed, or the caller's script cannot be started again
            pass
    for number in sorted(left):
        yield number, _do(plan.groups[chunks[number].group], options, chunks[number], number, scratches, work)


_worker: tuple[list[Group], Options, Path, list[Scratch]]


def _start_worker(groups: list[Group], options: Options, work: Path) -> None:
    global _worker
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    _worker = (groups, options, work, [Scratch(group, work, number) for number, group in enumerate(groups)])


def _end_with_parent() -> None:
    """A pool whose process is killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _do_in_worker(number: int, chunk: Chunk) -> Done:
    groups, options, work, scratches = _worker
    return _do(groups[chunk.group], options, chunk, number, scratches, work)


def _do(
    group: Group, options: Options, chunk: Chunk, number: int, scratches: list[Scratch], work: Path | None
) -> Done:
    items = [(index, group.items[index]) for index in range(chunk.start, chunk.stop)]
    block: Block = group.read(group.architecture, items, options)
    scratches[chunk.group].put(block.rows)
    done = Done(
        [(row.population, row.place, row.record) for row in block.rows],
        block.models,
        block.history,
        block.twins,
        [(pair.name, pair.reason) for pair in block.skipped],
    )
    if work is not None:
        scratches[chunk.group].flush()
        temporary = work / f"{number}.tmp"
        temporary.write_text(json.dumps(asdict(done)))
        temporary.replace(work / f"{number}.json")
    return done


def _noted(path: Path) -> Done | None:
    try:
        return Done(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _chunks(plan: Plan) -> Iterator[Chunk]:
    for number, group in enumerate(plan.groups):
        width = sum(
            torch.empty(0, dtype=kind).element_size() * columns for kind, columns in group.tensors.values()
        )
        model_bytes = max(1, width * len(group.populations))
        step = max(1, min(CHUNK_MODELS, CHUNK_BYTES // model_bytes))
        for start in range(0, len(group.items), step):
            yield Chunk(number, start, min(start + step, len(group.items)))


def _key(plan: Plan, options: Options) -> str:
    """Names this import: other sources or options start anew."""
    digest = hashlib.sha256(repr(options).encode())
    for group in plan.groups:
        digest.update(repr((group.populations, group.architecture.name, group.tensors)).encode())
        for item in group.items:
            digest.update(repr(item).encode())
    return digest.hexdigest()[:16]


def _zoo(plan: Plan, scratches: list[Scratch], done: list[tuple[Chunk, Done]]) -> Zoo:
    populations: dict[str, list[Population]] = {}
    for number, (group, scratch) in enumerate(zip(plan.groups, scratches, strict=True)):
        rows = [row for chunk, block in done if chunk.group == number for row in block.rows]
        for name in group.populations:
            mine = sorted((row[1:] for row in rows if row[0] == name), key=lambda row: row[0])
            present = [index for index, _ in mine]
            if not present:
                continue
            tensors = scratch.take(name, present)
            if group.table is not None:
                frame = group.table.iloc[present].reset_index(drop=True)
            else:
                frame = _frame([record for _, record in mine])
            populations.setdefault(name, []).append(
                Population.from_rows(architecture=group.architecture, models=frame, **as_arguments(tensors))
            )
    skipped = [*plan.skipped, *(Skipped(*pair) for _, block in done for pair in block.skipped)]
    if not populations:
        reason = f"; the first of {len(skipped)}: {skipped[0].name}: {skipped[0].reason}" if skipped else ""
        raise StoreError(f"no model could be imported{reason}")
    found = {name: _table(name, plan, populations, done) for name in ("models", "history", "twins")}
    noted = {**plan.source, "skipped": [pair._asdict() for pair in skipped]}
    zoo = Zoo(
        populations,
        found["models"],
        found["history"],
        found["twins"],
        plan.labels,
        plan.dataset,
        {**plan.provenance, "import": noted},
    )
    if plan.id is not None:
        zoo.id = plan.id
    check_ids(zoo)
    return zoo


def _table(
    name: str, plan: Plan, populations: dict[str, list[Population]], done: list[tuple[Chunk, Done]]
) -> pd.DataFrame:
    """The rows that blocks brought, or those that were known, of models that could be read."""
    if name not in plan.tables:
        rows = [row for _, block in done for row in getattr(block, name)]
        return _frame(rows)
    table = plan.tables[name]
    lost = {skipped for _, block in done for skipped, _ in block.skipped}
    lost -= {id for groups in populations.values() for group in groups for id in group.ids}
    for column in ("model_id", "twin_id", "source_id") if lost else ():
        if column in table:
            table = table[~table[column].isin(lost)]
    return table.reset_index(drop=True)


def _frame(records: list[Record]) -> pd.DataFrame:
    """A table of records that hold names of files and text from pickles.

    Raises:
        StoreError: a text is no UTF-8.
    """
    try:
        return pd.DataFrame(records)
    except UnicodeEncodeError as error:
        raise StoreError(
            f"no table can hold the text {error.object!r:.80}, which is no UTF-8; rename the file or correct the source"
        ) from None


def _refuse(skipped: list[Skipped], options: Options) -> None:
    if options.strict and skipped:
        raise StoreError(f"{skipped[0].name}: {skipped[0].reason}")
