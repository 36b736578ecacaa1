"""Fit one model on one split; measure quality, time and size."""

from __future__ import annotations

import gc
import math
import pickle
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    log_loss,
    r2_score,
    roc_auc_score,
    root_mean_squared_error,
)

from benchmarks._timing import processor
from benchmarks.tabular._fingerprint import fingerprint, lesson
from benchmarks.tabular._models import OURS, TOP_EXPERT, Contender, version
from benchmarks.tabular._models.exporting import CONVERTERS, NotExported, export, numbers_alone
from benchmarks.tabular._models.tuning import RandomSearch
from benchmarks.tabular._sets import Part, TabularSet

PRIMARY = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}
# Calls of one row, fewer where they take longer than that together.
ONE_ROW_CALLS, ONE_ROW_SECONDS = 100, 1.0
# So many rows are predicted as ONNX and through Python, to compare the two.
COMPARED_ROWS = 256
BATCH_ROWS, BATCH_CALLS, BATCH_SECONDS = 16_384, 5, 1.0
# What every line names beside the library of its model.
PACKAGES = ("numpy", "sklearn", "torch", "onnxruntime")

Array = NDArray[Any]
Record = dict[str, Any]
Answer = Callable[[Any], Any]


def measure(
    contender: Contender, table: TabularSet, split: int, train: Part, test: Part
) -> Iterator[Record]:
    """Fit a contender and measure it, in each of its forms.

    Parameters
    ----------
    contender : Contender
        The model.
    table : TabularSet
        The set that the parts are of.
    split : int
        Which split they are.
    train, test : Part
        Rows to fit and to measure on.

    Yields
    ------
    record : dict
        A line of the results.
    """
    gc.collect()
    model = contender.make(table.task, split, train)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start, processor_start = time.perf_counter(), time.process_time()
        model.fit(train.X, train.y)
        fitting: Record = {
            "fit_seconds": round(time.perf_counter() - start, 4),
            "fit_cpu_seconds": round(time.process_time() - processor_start, 4),
        }
        if isinstance(model, RandomSearch):
            fitting |= {"trials": len(model.trials_), "folds": model.n_folds_}
            fitting |= {"best_params": model.best_params_}
            model = model.best_estimator_
        for name in _forms(contender, model):
            quality, serving = _examine(contender, table, model, train, test)
            yield describe(contender, name, table, split) | quality | fitting | serving


def measure_onnx(
    contender: Contender, table: TabularSet, split: int, train: Part, test: Part
) -> Iterator[Record]:
    """Fit a contender and measure how fast it predicts one row as ONNX, in each of its forms.

    Parameters and what is yielded are those of `measure`.
    """
    rows = train._replace(X=_as_fitted(contender, train.X))
    model = contender.make(table.task, split, rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(rows.X, rows.y)
        for name in _forms(contender, model):
            line = describe(contender, name, table, split)
            if converter := CONVERTERS.get(contender.module):
                line["versions"][converter] = version(converter)
            try:
                yield line | _time_onnx(contender, table, model, rows, test)
            except NotExported as reason:
                yield line | {"not_exported": str(reason)}


def _as_fitted(contender: Contender, X: pd.DataFrame) -> Any:
    """Give skmode numbers as an array: its graph, like those of others, then reads an array."""
    as_array = contender.module == OURS and numbers_alone(X)
    return X.to_numpy(dtype=np.float32) if as_array else X


def _forms(contender: Contender, model: Any) -> Iterator[str]:
    """Set the model to each form that takes part, and yield its name."""
    for name in contender.names:
        if contender.top_expert:
            alone = name.endswith(TOP_EXPERT)
            model.set_params(inference="top_expert" if alone else "mixture")
        yield name


def _time_onnx(
    contender: Contender, table: TabularSet, model: Any, rows: Part, test: Part
) -> Record:
    """Time of one row as ONNX and through Python, and how far the two predictions are apart."""
    exported = export(contender.module, model, rows.X)
    onnx, ask = exported.runner(), _asker(contender, table, model)
    as_fitted = partial(_as_fitted, contender)
    some = test.X[:COMPARED_ROWS]
    expected = np.asarray(ask(as_fitted(some)), dtype=np.float64)
    apart = np.abs(np.reshape(onnx(exported.prepare(some)), expected.shape) - expected).max()
    scale = np.std(test.y) if table.task == "regression" else 1.0
    return {
        "onnx_microseconds": _time_one_row(onnx, test.X, exported.prepare),
        "python_microseconds": _time_one_row(ask, test.X, as_fitted),
        "onnx_bytes": exported.n_bytes,
        "onnx_difference": float(f"{apart / scale:.3g}"),
    }


def describe(contender: Contender, name: str, table: TabularSet, split: int) -> Record:
    """Return what a line says of its origin, be it a result or a failure."""
    packages = dict.fromkeys([*PACKAGES, contender.module])
    versions = {"python": platform.python_version()} | {name: version(name) for name in packages}
    record = {"set": table.name, "task": table.task, "split": split, "model": name}
    settings: Record = {}
    if contender.module == OURS:
        settings["settings"] = fingerprint().stored()
    if settings and contender.speed == "voted":
        settings["lesson"] = list(lesson(table.task))
    where = {"measured": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    return record | settings | where | {"processor": processor(), "versions": versions}


def _examine(
    contender: Contender, table: TabularSet, model: Any, train: Part, test: Part
) -> tuple[Record, Record]:
    """Quality of the model, and what its answers cost."""
    answer = _asker(contender, table, model)
    answers = np.asarray(answer(test.X), dtype=np.float64)
    quality = score(table.task, test.y, answers) | {
        "n_train": len(train.X),
        "n_test": len(test.X),
        "n_features": train.X.shape[1],
    }
    size = {"model_bytes": _pickled_size(model)}
    if contender.module != OURS:
        return quality, size | _time(answer, test.X, lambda rows: rows)
    try:
        return quality, size | _serve(model, train, test)
    except Exception as error:  # the model is measured all the same, without its figures of serving
        return quality, size | {"serving_error": f"{type(error).__name__}: {error}"[:500]}


def _asker(contender: Contender, table: TabularSet, model: Any) -> Answer:
    """Return what asks the model for values or probabilities."""
    function = model.predict if table.task == "regression" else model.predict_proba
    return lambda X: function(X, **contender.predict_options)


def score(task: str, y: Array, answers: Array) -> Record:
    """Return the primary metric of a task, its name, and the other metrics.

    Parameters
    ----------
    task : {"binary", "multiclass", "regression"}
        Decides the metrics.
    y : ndarray
        What was to be predicted; classes are positions.
    answers : ndarray
        Values, or probabilities of all classes.

    Returns
    -------
    metrics : dict
        With ``metric`` and ``value``, and those that apply by their own names.
    """
    if not np.isfinite(answers).all():
        raise ValueError("predictions are not finite")
    if task == "regression":
        found = {"rmse": root_mean_squared_error(y, answers), "r2": r2_score(y, answers)}
    else:
        # float32 probabilities add up to 1 but for their rounding.
        answers = answers / answers.sum(axis=1, keepdims=True)
        found = {
            "accuracy": accuracy_score(y, answers.argmax(axis=1)),
            "log_loss": log_loss(y, answers, labels=np.arange(answers.shape[1])),
        }
        if task == "binary":
            found["roc_auc"] = roc_auc_score(y, answers[:, 1])
    found = {name: float(f"{value:.7g}") for name, value in found.items()}
    return {"metric": PRIMARY[task], "value": found[PRIMARY[task]]} | found


def _pickled_size(model: Any) -> int | None:
    try:
        return len(pickle.dumps(model))
    except Exception:  # some libraries' estimators hold what cannot be pickled
        return None


def _serve(model: Any, train: Part, test: Part) -> Record:
    """Export and time with onnxruntime; networks of an ensemble become one graph."""
    exported = export(OURS, model, train.X)
    return {"onnx_bytes": exported.n_bytes} | _time(exported.runner(), test.X, exported.prepare)


def _time(answer: Answer, X: pd.DataFrame, prepare: Callable[[pd.DataFrame], Any]) -> Record:
    """Time of one row and of many, the rows in memory in the form that the model reads."""
    one_row = _time_one_row(answer, X, prepare)
    batch = X.iloc[:BATCH_ROWS]
    many_rows = _median_seconds(answer, [prepare(batch)], BATCH_CALLS, BATCH_SECONDS)
    return {"predict_microseconds": one_row, "rows_per_second": round(len(batch) / many_rows)}


def _time_one_row(answer: Answer, X: pd.DataFrame, prepare: Callable[[pd.DataFrame], Any]) -> float:
    """Microseconds of a row, rows of the table in rotation."""
    positions = np.random.default_rng(0).permutation(len(X))[:ONE_ROW_CALLS]
    single = [prepare(X.iloc[[position]]) for position in positions]
    return round(_median_seconds(answer, single, ONE_ROW_CALLS, ONE_ROW_SECONDS) * 1e6, 1)


def _median_seconds(answer: Answer, rows: Sequence[Any], calls: int, budget: float) -> float:
    """Median time of a call, the rows in rotation, after one that warms up."""
    answer(rows[0])
    times: list[float] = []
    while len(times) < calls and (math.fsum(times) < budget or len(times) < 3):
        row = rows[len(times) % len(rows)]
        start = time.perf_counter()
        answer(row)
        times.append(time.perf_counter() - start)
    return statistics.median(times)
