"""What the benchmarks of serving share: contenders, their turns, their quality, their machine."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, log_loss

# Calls that one contender makes before it is the next one's turn: a server answers with a warm
# cache, and what else is disturbed lasts longer than a turn and so meets all.
CALLS_PER_TURN = 25
NUMBERS = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64}


@dataclass
class Contender:
    """A model that answers, and the rows in the form that it reads.

    Attributes
    ----------
    name : str
        What is printed.
    predict_proba : callable
        What is timed: takes rows, returns probabilities, of the second class alone if `(n,)`.
    rows : ndarray, DataFrame or dict of ndarray
        The test rows.
    """

    name: str
    predict_proba: Callable[[Any], Any]
    rows: Any


def take(rows: Any, index: NDArray[np.intp]) -> Any:
    """Choose rows of an array, of a table, or of a dict of columns."""
    if isinstance(rows, dict):
        return {name: column[index] for name, column in rows.items()}
    return rows.iloc[index] if hasattr(rows, "iloc") else np.ascontiguousarray(rows[index])


def open_session(path: Path) -> onnxruntime.InferenceSession:
    """Open a graph for one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def to_inputs(frame: pd.DataFrame, session: onnxruntime.InferenceSession) -> dict[str, Any]:
    """Turn a table into the inputs of its graph, which are called as its columns."""
    inputs = {}
    for tensor in session.get_inputs():
        values = frame[tensor.name]
        if tensor.type == "tensor(string)":
            array = values.astype(object).fillna("").to_numpy(dtype=object)
        else:
            array = values.to_numpy(dtype=NUMBERS[tensor.type])
        inputs[tensor.name] = array.reshape(-1, 1)
    return inputs


def session_runner(session: onnxruntime.InferenceSession) -> Callable[[Any], Any]:
    """Ask a session for probabilities; rows are a dict of its inputs, or its only input."""
    outputs, inputs = ["probabilities"], session.get_inputs()
    if len(inputs) > 1:
        return lambda rows: session.run(outputs, rows)[0]
    name = inputs[0].name
    return lambda rows: session.run(outputs, {name: rows})[0]


def quality(contender: Contender, codes: NDArray[np.intp]) -> dict[str, float]:
    """Accuracy and log loss on the test rows; classes are positions."""
    probabilities = np.asarray(contender.predict_proba(contender.rows), dtype=float)
    if probabilities.ndim == 1:
        probabilities = np.column_stack([1 - probabilities, probabilities])
    return {
        "accuracy": round(float(accuracy_score(codes, probabilities.argmax(axis=1))), 4),
        "log_loss": round(float(log_loss(codes, probabilities)), 4),
    }


def median_seconds(
    contenders: Sequence[Contender],
    batches: Sequence[NDArray[np.intp]],
    calls: int,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """Median time of a call of each contender, its batches of rows in rotation, in turns.

    Long calls are better measured by the processor's time, ``time.process_time``: other programs'
    turns on the processor do not count. Reading that clock takes too long for a call of
    microseconds, and of those hardly any is disturbed.
    """
    prepared = [[take(c.rows, batch) for batch in batches] for c in contenders]
    times: list[list[float]] = [[] for _ in contenders]
    per_turn = min(calls, CALLS_PER_TURN) if len(batches) > 1 else 1
    for first in range(0, calls, per_turn):
        for contender, rows, record in zip(contenders, prepared, times, strict=True):
            contender.predict_proba(rows[first % len(rows)])  # warms up
            for i in range(first, first + per_turn):
                row = rows[i % len(rows)]
                start = clock()
                contender.predict_proba(row)
                record.append(clock() - start)
    return [statistics.median(record) for record in times]


def threads_used(contender: Contender, batch: NDArray[np.intp]) -> float:
    """Processor seconds per second: above 1 the contender was not held to one thread."""
    rows = take(contender.rows, batch)
    contender.predict_proba(rows)
    processor_start, start = time.process_time(), time.perf_counter()
    while time.perf_counter() - start < 0.05:
        contender.predict_proba(rows)
    return (time.process_time() - processor_start) / (time.perf_counter() - start)


def processor() -> str:
    """Name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), "")


def environment(packages: Sequence[str]) -> dict[str, Any]:
    """Machine and versions; a package that is not installed is left out."""
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {"processor": processor(), "threads": 1, "versions": versions}


def word(passed: bool) -> str:
    """How a bar went."""
    return "passed" if passed else "MISSED"
