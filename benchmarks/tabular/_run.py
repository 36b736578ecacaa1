"""The queue of the league: jobs in their order, worker processes, and going on after a kill."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import torch

from benchmarks.tabular import _results
from benchmarks.tabular._fingerprint import fingerprint
from benchmarks.tabular._measure import describe, measure, measure_onnx
from benchmarks.tabular._models import (
    MODERATE_ROWS,
    OURS,
    TUNED_SETS,
    VOTED_SETS,
    VOTED_SPLITS,
    Contender,
    contenders,
)
from benchmarks.tabular._models.votes import MEMORY
from benchmarks.tabular._sets import TEST_SHARE, Part, TabularSet, load, split

Record = dict[str, Any]

ONE_THREAD = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


@dataclass(frozen=True)
class Job:
    """One fit: a set, a split, the name of a contender, and what is measured after it."""

    table: TabularSet
    split: int
    contender: str
    what: Literal["league", "onnx"] = "league"

    def __str__(self) -> str:
        return f"{self.table.name}, split {self.split}, {self.contender}"


def plan(tables: Iterable[TabularSet], splits: Iterable[int], models: Sequence[str]) -> list[Job]:
    """Return the jobs in their order.

    A run that is cut short has whole splits: split by split, all sets, all models but the vote with
    its students, the tuned and the slow ones. Those come last, in this order, small sets first. The
    vote meets the smallest sets and the first splits, tuned ones the smallest sets and the first
    split, slow ones the first split. One of moderate speed meets the first split only where the set
    is large.

    Parameters
    ----------
    tables : iterable of TabularSet
        The sets.
    splits : iterable of int
        Which splits.
    models : sequence of str
        Names of contenders.

    Returns
    -------
    jobs : list of Job
        One per fit.
    """
    ordered = sorted(tables, key=lambda table: table.rows)
    chosen = [contenders()[name] for name in models]
    splits = sorted(splits)
    jobs = [
        Job(table, repeat, contender.name)
        for repeat in splits
        for table in ordered
        for contender in chosen
        if contender.speed in ("fast", "moderate") and _is_due(contender, table, repeat)
    ]
    last = (
        ("voted", ordered[:VOTED_SETS], VOTED_SPLITS),
        ("tuned", ordered[:TUNED_SETS], 1),
        ("slow", ordered, 1),
    )
    for speed, due, n_splits in last:
        jobs += [
            Job(table, repeat, contender.name)
            for table in due
            for repeat in splits
            for contender in chosen
            if contender.speed == speed and repeat < n_splits
        ]
    return jobs


def plan_latency(tables: Iterable[TabularSet], models: Sequence[str]) -> list[Job]:
    """Return the jobs that measure one row as ONNX: all models on the first split, set by set."""
    return [Job(table, 0, model, "onnx") for table in tables for model in models]


def _is_due(contender: Contender, table: TabularSet, repeat: int) -> bool:
    large = table.rows * (1 - TEST_SHARE) > MODERATE_ROWS
    return contender.speed == "fast" or repeat == 0 or not large


def open_jobs(jobs: Iterable[Job], path: Path) -> list[Job]:
    """Return the jobs that the file has no current results of, in all forms of the model."""
    found = _results.newest(_results.read(path))
    done = {place for place, record in found.items() if _results.is_current(record)}
    return [
        job
        for job in jobs
        if not all(
            (job.table.name, job.split, name) in done for name in contenders()[job.contender].names
        )
    ]


def run(jobs: Iterable[Job], path: Path, n_workers: int = 1, hours: float | None = None) -> int:
    """Do the jobs that are open, and append their results.

    Parameters
    ----------
    jobs : iterable of Job
        All jobs, in their order.
    path : Path
        The file of results.
    n_workers : int, default=1
        Worker processes, each with one thread and, where the system can, a core of its own.
    hours : float, default=None
        After so long no job is started, and those at work are stopped; what was not done is noted
        in the file, and the next run does it.

    Returns
    -------
    n_left : int
        Jobs that are left to the next run: for want of time, a set or a process that survived.
    """
    _results.repair(path)
    with tempfile.TemporaryDirectory() as memory, patch.dict(os.environ, {MEMORY: memory}):
        return _work(deque(open_jobs(jobs, path)), path, n_workers, hours)


def _work(pending: deque[Job], path: Path, n_workers: int, hours: float | None) -> int:
    """Do what is pending."""
    total, done, left = len(pending), 0, 0
    deadline = None if hours is None else time.monotonic() + 3600 * hours
    print(f"{total} fits to do.", flush=True)
    workers = [Worker(i) for i in range(min(n_workers, total))]
    try:
        while pending or any(worker.job for worker in workers):
            for worker in workers:
                if worker.job is None and pending:
                    worker.start(pending.popleft())
            remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
            finished = wait([worker.connection for worker in workers if worker.job], remaining)
            for worker in workers:
                if worker.connection in finished:
                    job, records = worker.collect()
                    done += 1
                    left += "skipped" in records[0]
                    _results.append(path, records)
                    print(f"{done}/{total} {job}: {_summary(records)}", flush=True)
            if deadline is not None and time.monotonic() >= deadline:
                return left + _stop(workers, pending, path)
        return left
    finally:
        for worker in workers:
            worker.kill()


def _stop(workers: Sequence[Worker], pending: Iterable[Job], path: Path) -> int:
    """Note what time did not suffice for."""
    skipped = [
        (
            worker.job,
            f"stopped after {time.monotonic() - worker.started:.0f} seconds: time was over",
        )
        for worker in workers
        if worker.job
    ]
    skipped += [(job, "not started: time was over") for job in pending]
    for job, reason in skipped:
        _results.append(path, _without_result(job, {"skipped": reason}))
    print(f"Time is over: {len(skipped)} fits are left for the next run.", flush=True)
    return len(skipped)


def _without_result(job: Job, why: Record) -> list[Record]:
    contender = contenders()[job.contender]
    return [describe(contender, name, job.table, job.split) | why for name in contender.names]


def _summary(records: Sequence[Record]) -> str:
    first = records[0]
    if "skipped" in first:
        return f"SKIPPED: {first['skipped']}"
    if "error" in first:
        return f"FAILED: {first['error']}"
    if "not_exported" in first:
        return f"not exported: {first['not_exported']}"
    if "onnx_microseconds" in first:
        times = " and ".join(f"{record['onnx_microseconds']:.4g}" for record in records)
        return f"one row as ONNX in {times} microseconds"
    values = " and ".join(f"{record['value']:.4g}" for record in records)
    return f"{first['metric']} {values}, fitted in {first['fit_seconds']:.1f} seconds"


class Worker:
    """A process that does one job after the other; one that dies is replaced.

    Parameters
    ----------
    number : int
        Which of the cores it takes.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.job: Job | None = None
        self.started = 0.0
        self._spawn()

    def _spawn(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, self.number), daemon=True)
        # Libraries read these when they are imported, which in the process is before any of our
        # code runs.
        before = {name: os.environ.get(name) for name in ONE_THREAD}
        os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
        self.process.start()
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value
        other.close()

    def start(self, job: Job) -> None:
        """Hand over a job."""
        if not self.process.is_alive():
            self._spawn()
        self.job, self.started = job, time.monotonic()
        self.connection.send(job)

    def collect(self) -> tuple[Job, list[Record]]:
        """Return the job and its lines; if the process died, they have it tried again."""
        job, self.job = self.job, None
        try:
            return job, self.connection.recv()
        except EOFError:
            self.process.join()
            reason = f"the process ended with code {self.process.exitcode}"
            self._spawn()
            return job, _without_result(job, {"skipped": reason})

    def kill(self) -> None:
        """End the process, whatever it is at."""
        self.process.kill()
        self.process.join()
        self.connection.close()


def serve(connection: Connection, number: int) -> None:
    """What a worker process does: jobs from the connection, their lines back.

    Parameters
    ----------
    connection : Connection
        To the process that has the queue.
    number : int
        Which of the cores to take.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[number % len(cores)]})
    torch.set_num_threads(1)
    tables: dict[str, Part] = {}
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        if contenders()[job.contender].module == OURS:
            # torch imports parts of itself in the first fit, which no model is to be charged with.
            fingerprint()
        connection.send(_do(job, tables))


def _end_with_parent() -> None:
    """Nobody waits for the results of an orphan, and it would slow down the next run."""
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _do(job: Job, tables: dict[str, Part]) -> list[Record]:
    if job.table.name not in tables:
        try:
            tables[job.table.name] = load(job.table)
        except Exception as error:  # no model is to blame, and the next run tries again
            reason = f"the set could not be loaded: {type(error).__name__}: {error}"
            return _without_result(job, {"skipped": reason[:500]})
    try:
        train, test = split(tables[job.table.name], job.table.task, job.split)
        examine = measure_onnx if job.what == "onnx" else measure
        return list(examine(contenders()[job.contender], job.table, job.split, train, test))
    except Exception as error:  # whatever a library raises is its result
        return _without_result(job, {"error": f"{type(error).__name__}: {error}"[:500]})
