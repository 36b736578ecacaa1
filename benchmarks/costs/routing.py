"""Speed of exported graphs: top expert against full mixture, many experts against few.

Run ``python -m benchmarks.costs.routing``. The graphs hold random weights, for their cost does not
depend on them; the gate's spread rows evenly. One thread, whose processor time is measured, so
that other programs' turns on the processor do not count. The graphs of a comparison take turns
and the medians are compared, so that what else is disturbed meets all of them.
"""

from __future__ import annotations

import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

import skmode
from benchmarks import _timing
from skmode import MoDEClassifier
from skmode.onnx import export

RESULTS = Path(__file__).parents[1] / "results" / "routing.json"
N_FEATURES, N_CLASSES, HIDDEN = 32, 10, (256, 256, 256)
# (experts, rows, how many times faster than the mixture at least)
BATCH_BARS = [(8, 1024, 8.0), (32, 1024, 20.0)]
ONE_ROW_EXPERTS = (4, 64)
ONE_ROW_BAR = 1.25
FEW_ROWS = (2, 8, 64)
N_BATCHES = 4
N_ROTATED = 256


def make_estimator(n_experts: int, mixing: str) -> MoDEClassifier:
    """Fit for one epoch on noise, and let the gate decide among all experts."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(512, N_FEATURES))
    y = np.arange(512) % N_CLASSES
    estimator = MoDEClassifier(
        n_experts=n_experts,
        mixing=mixing,
        hidden_layer_sizes=HIDDEN,
        numeric_embedding=None,
        max_epochs=1,
        random_state=0,
    ).fit(X, y)
    gate = estimator.net_.module_.gate.layers[-1]
    torch.nn.init.normal_(gate.weight, generator=torch.Generator().manual_seed(0))
    torch.nn.init.zeros_(gate.bias)
    return estimator


def open_session(estimator: MoDEClassifier, routing: str) -> onnxruntime.InferenceSession:
    """Export and open ``model.onnx``."""
    with tempfile.TemporaryDirectory() as folder:
        export(estimator, folder, routing=routing)
        return _timing.open_session(Path(folder) / "model.onnx")


def interleaved_medians(functions: list[Callable[[int], Any]], repeats: int) -> list[float]:
    """Median processor seconds of each function; they run in turns."""
    for function in functions:
        for i in range(5):
            function(i)
    times: list[list[float]] = [[] for _ in functions]
    for i in range(repeats):
        for function, record in zip(functions, times, strict=True):
            start = time.thread_time()
            function(i)
            record.append(time.thread_time() - start)
    return [statistics.median(record) for record in times]


def runner(
    session: onnxruntime.InferenceSession, batches: list[NDArray[np.float32]]
) -> Callable[[int], Any]:
    return lambda i: session.run(["probabilities"], {"X": batches[i % len(batches)]})


def measure_batches(mixing: str) -> list[dict[str, Any]]:
    """Routed against mixture on whole batches."""
    rng = np.random.default_rng(1)
    results = []
    for n_experts, n_rows, bar in BATCH_BARS:
        batches = list(rng.normal(size=(N_BATCHES, n_rows, N_FEATURES)).astype(np.float32))
        estimator = make_estimator(n_experts, mixing)
        sessions = [open_session(estimator, routing) for routing in ("top_expert", "mixture")]
        repeats = max(11, 400 // n_experts)
        routed, mixture = interleaved_medians([runner(s, batches) for s in sessions], repeats)
        results.append(
            {
                "experts": n_experts,
                "rows": n_rows,
                "routed_ms": round(routed * 1e3, 3),
                "mixture_ms": round(mixture * 1e3, 3),
                "ratio": round(mixture / routed, 2),
                "bar": bar,
            }
        )
    return results


def measure_one_row(mixing: str) -> list[dict[str, Any]]:
    """One row with many experts against one row with few.

    The same row again and again finds its expert in the processor's cache either way. With rows in
    rotation the experts take turns, and the weights of many do not fit there.
    """
    rng = np.random.default_rng(2)
    sessions = [open_session(make_estimator(k, mixing), "top_expert") for k in ONE_ROW_EXPERTS]
    rows = list(rng.normal(size=(N_ROTATED, 1, N_FEATURES)).astype(np.float32))
    results = []
    for what, batches, bar in (
        ("same row", rows[:1], ONE_ROW_BAR),
        ("rows in rotation", rows, ONE_ROW_BAR),
    ):
        few, many = interleaved_medians([runner(s, batches) for s in sessions], 4000)
        results.append(
            {
                "rows": what,
                "experts": list(ONE_ROW_EXPERTS),
                "microseconds": [round(few * 1e6, 1), round(many * 1e6, 1)],
                "ratio": round(many / few, 3),
                "bar": bar,
            }
        )
    return results


def measure_idle_experts(mixing: str) -> list[dict[str, Any]]:
    """What experts cost that no row chose: the same few rows, all of one expert."""
    rng = np.random.default_rng(3)
    sessions = [open_session(make_estimator(k, mixing), "top_expert") for k in ONE_ROW_EXPERTS]
    row = rng.normal(size=(1, N_FEATURES)).astype(np.float32)
    results = []
    for n_rows in FEW_ROWS:
        batches = [np.repeat(row, n_rows, axis=0)]
        few, many = interleaved_medians([runner(s, batches) for s in sessions], 1000)
        results.append(
            {
                "rows": n_rows,
                "experts": list(ONE_ROW_EXPERTS),
                "microseconds": [round(few * 1e6, 1), round(many * 1e6, 1)],
                "microseconds_per_idle_expert": round(
                    (many - few) * 1e6 / (ONE_ROW_EXPERTS[1] - ONE_ROW_EXPERTS[0]), 2
                ),
            }
        )
    return results


def main() -> int:
    """Measure, print the ratios, write the results; 1 if a bar is missed."""
    torch.set_num_threads(1)
    report: dict[str, Any] = {
        "versions": {
            "skmode": skmode.__version__,
            "onnxruntime": onnxruntime.__version__,
            "onnx": onnx.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "experts": {"hidden_layer_sizes": HIDDEN, "features": N_FEATURES, "classes": N_CLASSES},
    }
    missed = 0
    for mixing in ("likelihood", "representation"):
        batches, one_row = measure_batches(mixing), measure_one_row(mixing)
        idle = measure_idle_experts(mixing)
        report[mixing] = {"batches": batches, "one_row": one_row, "idle_experts": idle}
        for result in batches:
            passed = result["ratio"] >= result["bar"]
            missed += not passed
            print(
                f"{mixing}: {result['experts']} experts, {result['rows']} rows: routed "
                f"{result['routed_ms']} ms, mixture {result['mixture_ms']} ms, "
                f"{result['ratio']} times faster (at least {result['bar']}: {_word(passed)})",
                flush=True,
            )
        for result in one_row:
            few, many = result["experts"]
            passed = result["bar"] is None or result["ratio"] <= result["bar"]
            missed += not passed
            bar = f" (at most {result['bar']}: {_word(passed)})" if result["bar"] else ""
            print(
                f"{mixing}: one row, {result['rows']}: {few} experts {result['microseconds'][0]}, "
                f"{many} experts {result['microseconds'][1]} microseconds, "
                f"ratio {result['ratio']}{bar}",
                flush=True,
            )
        for result in idle:
            few, many = result["experts"]
            print(
                f"{mixing}: {result['rows']} rows of one expert: {few} experts "
                f"{result['microseconds'][0]}, {many} experts {result['microseconds'][1]} "
                f"microseconds, {result['microseconds_per_idle_expert']} per idle expert",
                flush=True,
            )
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=2) + "\n")
    return int(missed > 0)


def _word(passed: bool) -> str:
    return "passed" if passed else "MISSED"


if __name__ == "__main__":
    raise SystemExit(main())
