"""What 8-bit experts change: answers, size on disk and speed, against float32.

Run ``python -m benchmarks.serving.quantization``. On each set, experts of the default size and
large ones are trained once and exported twice, as they are and with ``quantize="dynamic"``,
calibrated on training rows. An export that is refused, because its answers differ by more than the
default tolerance, is reported as such, and its figures are those of an export with any difference
allowed. One thread; the two graphs take turns and the medians are compared, for many rows those of
the processor's time.
"""

from __future__ import annotations

import json
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

from benchmarks._timing import (
    Contender,
    environment,
    median_seconds,
    open_session,
    quality,
    session_runner,
    take,
    to_inputs,
)
from skmode import MoDEClassifier
from skmode.datasets import fetch_churn, fetch_keel
from skmode.onnx import export

RESULTS = Path(__file__).parents[1] / "results" / "quantization.json"
SETS = {
    "letter": lambda: fetch_keel("letter", return_X_y=True),
    "satimage": lambda: fetch_keel("satimage", return_X_y=True),
    "churn": lambda: fetch_churn(return_X_y=True),
}
EXPERTS = (MoDEClassifier().hidden_layer_sizes, (256, 1024))
EPOCHS = 10
CALIBRATION_ROWS = 1024
ONE_ROW_CALLS, MANY_ROWS_CALLS, MANY_ROWS = 1000, 31, 1024
KINDS = ("float32", "dynamic")
# No two probabilities differ by more.
ANY_DIFFERENCE = 1.0
PACKAGES = ("skmode", "onnx", "onnxruntime", "numpy", "scikit-learn", "torch")


def export_both(estimator: MoDEClassifier, folder: Path, calibration: Any) -> str | None:
    """Export as it is and quantized; say why if the latter was refused."""
    export(estimator, folder / "float32")
    try:
        export(estimator, folder / "dynamic", X=calibration, quantize="dynamic")
    except ValueError as error:
        export(
            estimator,
            folder / "dynamic",
            X=calibration,
            quantize="dynamic",
            tolerance=ANY_DIFFERENCE,
        )
        return str(error)
    return None


def measure(folder: Path, X: Any, codes: NDArray[np.intp]) -> dict[str, dict[str, Any]]:
    """Measure both bundles in a folder."""
    rng = np.random.default_rng(0)
    contenders = []
    for kind in KINDS:
        session = open_session(folder / kind / "model.onnx")
        rows = to_inputs(X, session) if isinstance(X, pd.DataFrame) else X.astype(np.float32)
        contenders.append(Contender(kind, session_runner(session), rows))
    rows = [np.array([i]) for i in rng.permutation(len(codes))[:ONE_ROW_CALLS]]
    many = rng.permutation(np.resize(np.arange(len(codes)), MANY_ROWS))
    one_row = median_seconds(contenders, rows, ONE_ROW_CALLS)
    many_rows = median_seconds(contenders, [many], MANY_ROWS_CALLS, time.process_time)
    return {
        contender.name: quality(contender, codes)
        | {
            "model_kb": round((folder / contender.name / "model.onnx").stat().st_size / 1e3, 1),
            "bundle_kb": round(
                sum(file.stat().st_size for file in (folder / contender.name).iterdir()) / 1e3, 1
            ),
            "one_row_us": round(one * 1e6, 2),
            "many_rows_ms": round(batch * 1e3, 3),
        }
        for contender, one, batch in zip(contenders, one_row, many_rows, strict=True)
    }


def measure_set(name: str, hidden: tuple[int, ...]) -> dict[str, Any]:
    """Train once, export twice, measure both."""
    X, y = SETS[name]()
    X = X if any(X.dtypes == "category") else X.to_numpy(dtype=np.float64)
    labels, codes = np.unique(np.asarray(y), return_inverse=True)
    train, test = train_test_split(np.arange(len(X)), random_state=0, stratify=codes)
    estimator = MoDEClassifier(
        hidden_layer_sizes=hidden, inference="top_expert", max_epochs=EPOCHS, random_state=0
    ).fit(take(X, train), labels[codes[train]])
    calibration = take(X, np.random.default_rng(0).permutation(train)[:CALIBRATION_ROWS])
    with tempfile.TemporaryDirectory() as folder:
        refused = export_both(estimator, Path(folder), calibration)
        graphs = measure(Path(folder), take(X, test), codes[test])
    return {
        "set": name,
        "train_rows": len(train),
        "test_rows": len(test),
        "hidden_layer_sizes": hidden,
        "experts": estimator.n_experts,
        "epochs": EPOCHS,
        "refused": refused,
        **graphs,
    }


def print_result(result: dict[str, Any]) -> None:
    """Print one line per graph."""
    hidden = ", ".join(map(str, result["hidden_layer_sizes"]))
    for kind in KINDS:
        r = result[kind]
        note = "  refused by default" if kind == "dynamic" and result["refused"] else ""
        print(
            f"{result['set']:9} {hidden:10} {kind:8} {r['accuracy']:8.4f}  {r['log_loss']:8.4f}  "
            f"{r['model_kb']:10,.1f}  {r['bundle_kb']:11,.1f}  {r['one_row_us']:10.1f}  "
            f"{r['many_rows_ms']:15.3f}{note}",
            flush=True,
        )


def main() -> int:
    """Measure, print, write; there is no bar."""
    torch.set_num_threads(1)
    print(
        f"{'set':9} {'experts':10} {'weights':8} accuracy  log loss  model (kB)  bundle (kB)  "
        f"1 row (us)  {MANY_ROWS:,} rows (ms)"
    )
    results = []
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in SETS:
            for hidden in EXPERTS:
                results.append(measure_set(name, hidden))
                print_result(results[-1])
    report = environment(PACKAGES) | {"rows": MANY_ROWS, "measurements": results}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
