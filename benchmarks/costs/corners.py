"""Slow corners: many columns, many rows, sparse rows, importances of many features.

Run ``python -m benchmarks.costs.corners``; ``--only wide rows`` measures some parts again, and
``--label before`` stores the figures beside those of another release. One thread, whose processor
time is measured, so that other programs' turns on the processor do not count. What is compared
runs in one process, and the median of its turns is taken.

- ``wide``: one row and all rows of a table of 300 rows, against LogisticRegression on the same
  table. Reading a DataFrame takes time for each column, so the ratio and the growth count.
- ``attention``: `expert_attention` and `report` of tables with 50, 100 and 200 columns. Linear is
  a growth of 4 from 50 to 200.
- ``rows``: `fit` and `predict` of a million rows in processes of their own. Memory is compared with
  the bytes of the input, and the time of `predict` with that of the network's matrix products
  alone (sgemm), which it cannot do without.
- ``passes``: how often `fit` with ``max_epochs=1`` goes over the rows.
- ``sparse``: one-hot rows, of which only blocks are made dense.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

import skmode_deploy
from benchmarks import _timing
from skmode import MoDEClassifier
from skmode.inspection import expert_attention, report
from skmode.onnx import export

RESULTS = Path(__file__).parents[1] / "results" / "corners.json"
PACKAGES = ("numpy", "pandas", "scikit-learn", "scipy", "torch", "onnxruntime")
SHORT = {"max_epochs": 1, "early_stopping": False, "random_state": 0}

WIDE_ROWS, WIDE_COLUMNS = 300, (1250, 5000)
# One row of a DataFrame against LogisticRegression, and growth with four times the columns.
WIDE_BAR, GROWTH_BAR = 2.0, 5.0
ATTENTION_ROWS, ATTENTION_COLUMNS = 1000, (50, 100, 200)
MANY_ROWS, MANY_ROWS_COLUMNS = 1_000_000, 20
# Peak memory over the bytes of float64 input. In float32, encoded rows take half of them; `fit`
# has all rows, once more those that it trains on, and a few integers for each.
MEMORY_BARS = {"predict": 1.0, "fit": 2.0}
# Seconds of predict over those of its matrix products.
PRODUCTS_BAR = 4.0
SPARSE_ROWS, SPARSE_COLUMNS, SPARSE_PER_ROW = 50_000, 5000, 10
# Peak memory of sparse rows over the bytes of the matrix if it were dense, in float32.
SPARSE_BAR = 0.5

Function = Callable[[], Any]


def median_seconds(functions: Sequence[Function], repeats: int) -> list[float]:
    """Median processor seconds of each function; they take turns, after one that warms up."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats + 1):
        for function, record in zip(functions, times, strict=True):
            record.append(seconds(function))
    return [statistics.median(record[1:]) for record in times]


def seconds(function: Function) -> float:
    """Processor seconds of one call."""
    start = time.process_time()
    function()
    return time.process_time() - start


def target(X: Any) -> Any:
    """Two classes that the first two columns separate."""
    return (X[:, 0] + X[:, 1] > 0).astype(int)


def measure_wide() -> dict[str, Any]:
    """Tables of many columns: numbers alone, and one string column in ten."""
    found: dict[str, Any] = {"rows": WIDE_ROWS}
    for n_columns in WIDE_COLUMNS:
        X = np.random.default_rng(0).normal(size=(WIDE_ROWS, n_columns))
        y = target(X)
        numbers = pd.DataFrame(X, columns=[f"c{i}" for i in range(n_columns)])
        mixed = numbers.copy()
        for name in mixed.columns[::10]:
            mixed[name] = np.where(mixed[name] > 0, "high", "low")
        found[str(n_columns)] = _measure_width(X, numbers, mixed, y)
    few, many = (found[str(n_columns)] for n_columns in WIDE_COLUMNS)
    names = ("predict_one_ms", "predict_mixed_one_ms", "served_frame_ms", "fit_ms")
    found["growth"] = {name: round(many[name] / few[name], 2) for name in names}
    found["ratio"] = round(many["predict_one_ms"] / many["logistic_regression_one_ms"], 2)
    return found


def _measure_width(X: Any, numbers: Any, mixed: Any, y: Any) -> dict[str, float]:
    """Milliseconds on one table."""
    options = {"numeric_embedding": None, **SHORT}
    calls: dict[str, Function] = {}
    for name, rows in {"": numbers, "_mixed": mixed, "_array": X}.items():
        model = MoDEClassifier(**options).fit(rows, y)
        calls[f"predict{name}_one"] = lambda model=model, one=rows[:1]: model.predict(one)
        calls[f"predict{name}_all"] = lambda model=model, rows=rows: model.predict(rows)
        calls[f"fit{name}"] = lambda rows=rows: MoDEClassifier(**options).fit(rows, y)
        if name == "":
            plain = model
    peer = LogisticRegression(max_iter=5).fit(numbers, y)
    calls["logistic_regression_one"] = lambda: peer.predict(numbers[:1])
    calls["logistic_regression_all"] = lambda: peer.predict(numbers)
    with tempfile.TemporaryDirectory() as folder:
        export(plain, folder, X=numbers)
        predictor = skmode_deploy.load(folder)
    one = numbers[:1]
    columns = {name: column.to_numpy() for name, column in one.items()}
    calls["served_frame"] = lambda: predictor.predict(one)
    calls["served_dict"] = lambda: predictor.predict(columns)
    calls["served_frame_all"] = lambda: predictor.predict(numbers)
    medians = median_seconds(list(calls.values()), 5)
    return {f"{name}_ms": round(1e3 * s, 2) for name, s in zip(calls, medians, strict=True)}


def measure_attention() -> dict[str, Any]:
    """Importances of features by permutation, and the report that holds them."""
    found: dict[str, Any] = {"rows": ATTENTION_ROWS}
    for n_columns in ATTENTION_COLUMNS:
        X = np.random.default_rng(0).normal(size=(ATTENTION_ROWS, n_columns))
        y = target(X)
        model = MoDEClassifier(random_state=0, max_epochs=5).fit(X, y)
        found[str(n_columns)] = _measure_importances(model, X, y)
    few, many = found[str(ATTENTION_COLUMNS[0])], found[str(ATTENTION_COLUMNS[-1])]
    found["growth"] = {name: round(many[name] / few[name], 2) for name in few}
    return found


def _measure_importances(model: MoDEClassifier, X: Any, y: Any) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "report.html")
        calls: dict[str, Function] = {
            "attention": lambda: expert_attention(model, X, y, random_state=0),
            "report": lambda: report(model, X, y, path, random_state=0),
        }
        return {f"{name}_seconds": round(seconds(call), 2) for name, call in calls.items()}


def measure_rows() -> dict[str, Any]:
    """A million rows: seconds, and memory beside the input."""
    found = {"rows": MANY_ROWS, "columns": MANY_ROWS_COLUMNS}
    for form in ("array", "frame"):
        found |= _in_a_process(_predict_rows, form) | _in_a_process(_fit_rows, form)
    found["products_seconds"] = round(_products(), 2)
    found["predict_over_products"] = round(
        found["predict_array_seconds"] / found["products_seconds"], 2
    )
    return found


def _rows(form: str) -> tuple[Any, Any, MoDEClassifier]:
    """Input, target and a model of its columns."""
    X = np.random.default_rng(0).normal(size=(MANY_ROWS, MANY_ROWS_COLUMNS))
    y = target(X)
    rows = pd.DataFrame(X).rename(columns=str) if form == "frame" else X
    model = MoDEClassifier(**SHORT).fit(rows[:2000], y[:2000])
    model.predict(rows[:2000])
    return rows, y, model


def _predict_rows(form: str) -> dict[str, float]:
    rows, _, model = _rows(form)
    return _with_memory(
        f"predict_{form}", lambda: model.predict(rows), MANY_ROWS * MANY_ROWS_COLUMNS * 8
    )


def _fit_rows(form: str) -> dict[str, float]:
    rows, y, _ = _rows(form)
    model = MoDEClassifier(max_epochs=1, random_state=0)
    return _with_memory(
        f"fit_{form}", lambda: model.fit(rows, y), MANY_ROWS * MANY_ROWS_COLUMNS * 8
    )


def _with_memory(
    name: str, function: Function, n_bytes: int, of: str = "input"
) -> dict[str, float]:
    """Seconds, and how much the peak of memory exceeds what there was before; only in Linux.

    `n_bytes` are those of the rows, as they are (`of` them as "input") or made "dense".
    """
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    before = pages * resource.getpagesize()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    took = seconds(function)
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    return {
        f"{name}_seconds": round(took, 2),
        f"{name}_peak_mb": round((peak - before) / 1e6),
        f"{name}_peak_over_{of}": round((peak - before) / n_bytes, 2),
    }


def _in_a_process(function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Run a function in a new process, whose memory nothing else has grown."""
    with multiprocessing.get_context("spawn").Pool(1, _one_thread) as pool:
        return pool.apply(function, arguments)


def _one_thread() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")


def _products() -> float:
    """Seconds of the matrix products that predict these rows, and of nothing else."""
    block, embedded = 1024, MANY_ROWS_COLUMNS * 8
    waves = torch.randn(MANY_ROWS_COLUMNS, 16, block), torch.randn(MANY_ROWS_COLUMNS, 7, 16)
    features, first = torch.randn(block, embedded), torch.randn(embedded, 4 * 64)
    hidden, second = torch.randn(4, block, 64), torch.randn(4, 64, 64)

    def run() -> None:
        for _ in range(0, MANY_ROWS, block):
            torch.bmm(waves[1], waves[0])
            features @ first
            torch.bmm(hidden, second)

    (found,) = median_seconds([run], 3)
    return found


def measure_passes() -> dict[str, Any]:
    """Passes over the rows with a budget of one."""
    X = np.random.default_rng(0).normal(size=(2000, 5))
    model = MoDEClassifier(max_epochs=1, random_state=0).fit(X, target(X))
    return {"max_epochs": 1, "passes": model.n_iter_ + model.refit_n_iter_}


def measure_sparse() -> dict[str, Any]:
    """One-hot rows in the form of scipy and of pandas."""
    found: dict[str, Any] = {
        "rows": SPARSE_ROWS,
        "columns": SPARSE_COLUMNS,
        "values_per_row": SPARSE_PER_ROW,
    }
    for form in ("csr", "frame"):
        for what in ("fit", "predict"):
            found |= _in_a_process(_measure_sparse, form, what)
    return found


def _measure_sparse(form: str, what: str) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    columns = rng.integers(0, SPARSE_COLUMNS, (SPARSE_ROWS, SPARSE_PER_ROW))
    rows = np.repeat(np.arange(SPARSE_ROWS), SPARSE_PER_ROW)
    ones = np.ones(columns.size, dtype=np.float32)
    shape = (SPARSE_ROWS, SPARSE_COLUMNS)
    X: Any = scipy.sparse.csr_array((ones, (rows, columns.ravel())), shape)
    y = (columns.min(axis=1) < SPARSE_COLUMNS // 20).astype(int)
    if form == "frame":
        X = pd.DataFrame.sparse.from_spmatrix(X).rename(columns=str)
    model = MoDEClassifier(numeric_embedding=None, **SHORT)
    try:
        model.fit(X[:1000], y[:1000])
    except (TypeError, ValueError) as error:
        return {f"{form}_refused": str(error).splitlines()[0][:80]}
    call = (lambda: model.fit(X, y)) if what == "fit" else (lambda: model.predict(X))
    return _with_memory(f"{what}_{form}", call, SPARSE_ROWS * SPARSE_COLUMNS * 4, "dense")


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "wide": measure_wide,
    "attention": measure_attention,
    "rows": measure_rows,
    "passes": measure_passes,
    "sparse": measure_sparse,
}


def bars(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Compare what was measured with its bars."""
    found = []

    def add(what: str, value: float, limit: float) -> None:
        bar = {"value": value, "limit": f"at most {limit:g}", "passed": value <= limit}
        found.append({"what": what, **bar})

    wide, attention, rows = (results.get(name, {}) for name in ("wide", "attention", "rows"))
    if wide:
        add("one row of 5,000 columns against LogisticRegression", wide["ratio"], WIDE_BAR)
        for name, growth in wide["growth"].items():
            add(f"{name}, growth with four times the columns", growth, GROWTH_BAR)
    for name, growth in attention.get("growth", {}).items():
        add(f"{name}, growth with four times the columns", growth, GROWTH_BAR)
    if rows:
        add("predict against its matrix products", rows["predict_over_products"], PRODUCTS_BAR)
        for name, value in rows.items():
            if name.endswith("over_input"):
                add(f"{name}, a million rows", value, MEMORY_BARS[name.partition("_")[0]])
    if "passes" in results:
        add("passes over the rows with max_epochs=1", results["passes"]["passes"], 1)
    for name, value in results.get("sparse", {}).items():
        if name.endswith("over_dense"):
            add(f"{name}, sparse rows", value, SPARSE_BAR)
    return found


def main(arguments: Sequence[str] = ()) -> int:
    """Measure, print, write beside what other labels measured; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--label", default="after")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results = kept.get("results", {}).get(options.label, {})
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in options.only:
            results[name] = PARTS[name]()
            print(name, json.dumps(results[name], indent=2), flush=True)
    records = bars(results)
    for record in records:
        verdict = _timing.word(record["passed"])
        print(f"{record['what']}: {record['value']} ({record['limit']}: {verdict})")
    report_ = _timing.environment(PACKAGES) | {
        "results": kept.get("results", {}) | {options.label: results},
        "bars": kept.get("bars", {}) | {options.label: records},
    }
    RESULTS.write_text(json.dumps(report_, indent=2) + "\n")
    return int(not all(record["passed"] for record in records))


if __name__ == "__main__":
    import sys

    raise SystemExit(main(sys.argv[1:]))
