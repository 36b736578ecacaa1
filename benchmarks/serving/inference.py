"""Latency and throughput of answers: skmode exported against networks and boosted trees.

Run ``python -m benchmarks.serving.inference``. Everything computes with one thread. Models take
turns, a few calls each, and medians are compared. One row: the test rows in rotation, one per call.
Many rows: the test rows, repeated up to that number; there the processor's time counts. Rows are in
memory in the form that the model reads best; what is timed is what a caller writes, checks of the
input included. Networks train for few epochs, which changes their answers and not their cost.
Libraries that are not installed are left out: ``pip install -e '.[bench]'`` brings them in.
"""

from __future__ import annotations

import json
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

import skmode_deploy
from benchmarks._timing import (
    Contender,
    environment,
    median_seconds,
    open_session,
    quality,
    session_runner,
    take,
    threads_used,
    to_inputs,
    word,
)
from benchmarks.serving._peers import array_peers, table_peers
from skmode import MoDEClassifier
from skmode.datasets import fetch_churn, fetch_keel
from skmode.onnx import export

RESULTS = Path(__file__).parents[1] / "results" / "inference.json"
EPOCHS = 25
EMBEDDINGS = (MoDEClassifier().numeric_embedding, None)
ONE_ROW_CALLS, MANY_ROWS_CALLS, MANY_ROWS = 500, 15, 16_384
# One row against MLPClassifier and LGBMClassifier, and what the Python runtime may add.
TIMES_FASTER, TIMES_FASTER_TREES, ADDED_US = 5, 20, 15
NETWORKS = ("MLPClassifier, float64, scaled rows", "MLPClassifier, float32, scaled rows")
PACKAGES = (
    "skmode",
    "onnx",
    "onnxruntime",
    "numpy",
    "pandas",
    "scikit-learn",
    "torch",
    "lightgbm",
    "xgboost",
    "xgboost-cpu",
    "catboost",
    "onnxmltools",
    "skl2onnx",
)

Results = dict[str, dict[str, float]]


def skmode_contenders(
    embedding: str | None, train: Any, labels: Any, test: Any, folder: Path
) -> Iterator[Contender]:
    """Yield one mixture in all its forms, and a single network of the size of one expert."""

    def fit(n_experts: int) -> MoDEClassifier:
        return MoDEClassifier(
            n_experts=n_experts,
            numeric_embedding=embedding,
            inference="top_expert",
            max_epochs=EPOCHS,
            random_state=0,
        ).fit(train, labels)

    mixture, single = fit(4), fit(1)
    kind = describe(embedding)
    for name, estimator, routing in (
        ("routed", mixture, "top_expert"),
        ("mixture", mixture, "mixture"),
        ("single network", single, "top_expert"),
    ):
        bundle = folder / f"{kind} {name}"
        export(estimator, bundle, routing=routing)
        session = open_session(bundle / "model.onnx")
        rows = to_inputs(test, session) if isinstance(test, pd.DataFrame) else test
        yield Contender(f"skmode {name}, {kind}", session_runner(session), rows)
    predictor = skmode_deploy.load(folder / f"{kind} routed")
    yield Contender(f"skmode_deploy, {kind}", predictor.predict_proba, test)
    if isinstance(test, pd.DataFrame):
        columns = {name: column.to_numpy() for name, column in test.items()}
        yield Contender(f"skmode_deploy, dict, {kind}", predictor.predict_proba, columns)
    yield Contender(f"estimator top expert, {kind}", mixture.predict_proba, test)


def describe(embedding: str | None) -> str:
    """Name an embedding in the names of contenders."""
    return f"{embedding or 'no'} embedding"


def measure(contenders: list[Contender], codes: NDArray[np.intp]) -> Results:
    """Quality, one-row latency and many-row throughput of each."""
    rng = np.random.default_rng(0)
    rows = [np.array([i]) for i in rng.permutation(len(codes))[:ONE_ROW_CALLS]]
    many = rng.permutation(np.resize(np.arange(len(codes)), MANY_ROWS))
    results: Results = {c.name: quality(c, codes) for c in contenders}
    one_row = median_seconds(contenders, rows, ONE_ROW_CALLS)
    many_rows = median_seconds(contenders, [many], MANY_ROWS_CALLS, time.process_time)
    for contender, one, batch in zip(contenders, one_row, many_rows, strict=True):
        results[contender.name] |= {
            "one_row_us": round(one * 1e6, 2),
            "rows_per_second": round(MANY_ROWS / batch),
            "threads_used": round(threads_used(contender, many), 2),
        }
    return results


def measure_numbers() -> dict[str, Any]:
    """magic: 10 numbers, 2 classes."""
    X, y = fetch_keel("magic", return_X_y=True)
    X = X.to_numpy(dtype=np.float64)
    return _measure_set("magic", X, y, array_peers, np.float32)


def measure_mixed() -> dict[str, Any]:
    """Churn: text, numbers and missing values in a table."""
    X, y = fetch_churn(return_X_y=True)
    return _measure_set("churn", X, y, table_peers, None)


def _measure_set(name: str, X: Any, y: Any, peers: Any, dtype: Any) -> dict[str, Any]:
    index = np.arange(len(X))
    labels, codes = np.unique(np.asarray(y), return_inverse=True)
    train, test = train_test_split(index, random_state=0, stratify=codes)
    X_train, X_test = take(X, train), take(X, test)
    ours_train, ours_test = (
        (X_train, X_test)
        if dtype is None
        else (
            X_train.astype(dtype),
            X_test.astype(dtype),
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        contenders = [
            contender
            for embedding in EMBEDDINGS
            for contender in skmode_contenders(
                embedding, ours_train, labels[codes[train]], ours_test, Path(folder)
            )
        ]
        contenders += peers(X_train, codes[train], X_test)
        results = measure(contenders, codes[test])
    return {
        "set": name,
        "train_rows": len(train),
        "test_rows": len(test),
        "columns": X.shape[1],
        "classes": len(labels),
        "epochs": EPOCHS,
        "models": results,
    }


def bars(results: Results) -> list[dict[str, Any]]:
    """Compare the exported mixture with what it must be faster than, and the runtime with it.

    The session alone is compared, for a caller in any language has it.
    """
    records = []
    for embedding in EMBEDDINGS:
        kind = describe(embedding)
        routed = results[f"skmode routed, {kind}"]
        for names, least in ((NETWORKS, TIMES_FASTER), (("LGBMClassifier",), TIMES_FASTER_TREES)):
            if names[0] in results:
                other = min(results[name]["one_row_us"] for name in names)
                what = f"one row, routed, {kind}: times faster than {_label(names)}"
                records.append(_at_least(what, other / routed["one_row_us"], least))
        for names in (NETWORKS, (f"skmode single network, {kind}",)):
            other = max(results[name]["rows_per_second"] for name in names)
            what = (
                f"{MANY_ROWS:,} rows, routed, {kind}: rows per second over those of {_label(names)}"
            )
            records.append(_at_least(what, routed["rows_per_second"] / other, 1))
        added = results[f"skmode_deploy, {kind}"]["one_row_us"] - routed["one_row_us"]
        what = f"one row, {kind}: microseconds that skmode_deploy adds to the session"
        bar = {"value": round(added, 2), "limit": f"at most {ADDED_US}"}
        records.append({"what": what, **bar, "passed": added <= ADDED_US})
    return records


def _at_least(what: str, ratio: float, least: float) -> dict[str, Any]:
    passed = ratio >= least
    return {
        "what": what,
        "value": round(ratio, 2),
        "limit": f"at least {least:g}",
        "passed": passed,
    }


def _label(names: tuple[str, ...]) -> str:
    return "MLPClassifier (float32 or float64, the faster)" if names == NETWORKS else names[0]


def print_set(report: dict[str, Any]) -> None:
    """Print one line per model."""
    print(
        f"\n{report['set']}: {report['train_rows']:,} rows to train on, {report['test_rows']:,} to "
        f"test on, {report['columns']} columns. One thread.\n\n"
        f"{'':44} accuracy  log loss  1 row (us)  {MANY_ROWS:,} rows: rows/s"
    )
    for name, r in report["models"].items():
        threads = r["threads_used"]
        doubt = f"  used {threads} threads" if threads > 1.2 else ""
        print(
            f"{name:44} {r['accuracy']:8.4f}  {r['log_loss']:8.4f}  {r['one_row_us']:10.1f}  "
            f"{r['rows_per_second']:20,}{doubt}",
            flush=True,
        )


def main() -> int:
    """Measure, print, write; 1 if a bar is missed."""
    torch.set_num_threads(1)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sets = []
        for measure_set in (measure_numbers, measure_mixed):
            sets.append(measure_set())
            print_set(sets[-1])
    records = bars(sets[0]["models"])
    print(f"\nBars, on {sets[0]['set']}:")
    for record in records:
        verdict = word(record["passed"])
        print(f"{record['what']}: {record['value']} ({record['limit']}: {verdict})")
    if "LGBMClassifier" not in sets[0]["models"]:
        print("one row against LGBMClassifier: not measured, for lightgbm is not installed")
    report = environment(PACKAGES) | {"rows": MANY_ROWS, "sets": sets, "bars": records}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=2) + "\n")
    return int(not all(record["passed"] for record in records))


if __name__ == "__main__":
    raise SystemExit(main())
