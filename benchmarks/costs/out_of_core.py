"""Fits of datasets larger than memory: quality, peak memory and time beside fits in memory.

Run with

    python -m benchmarks.costs.out_of_core [census] [time] [made_up] [large]

which prints the measures, each with its bar, and writes them to results/out_of_core.json; with
names of parts, those of the others stay there. Needs pyarrow, and 2 GB of disk. Each fit runs in a
process of its own, with one thread.

Quality (census, made_up): Census-Income, and 2 million made-up rows whose first column drifts with
time, in Parquet files that are sorted by time, and the same rows sorted by class; both beside a fit
of all rows in memory. Quality and memory (large): 10 million made-up rows sorted by class; the fit
in memory needs 5 GB. Time (time): a million made-up rows, with the classifier's default network.
"""

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parents[1] / "results"
ROWS, COMPARED_ROWS, TIMED_ROWS = 10_000_000, 2_000_000, 1_000_000
COLUMNS, TEST_ROWS = 20, 200_000
# Chunks in which the rows are made: time passes from one to the next.
CHUNKS = 20
MiB = 2**20
# A small network, so that training on all rows takes minutes; the time per row has the default one.
SMALL = {
    "n_experts": 2,
    "hidden_layer_sizes": (32,),
    "numeric_embedding": None,
    "batch_size": 4096,
    "max_epochs": 1,
    "refit_fraction": 0.0,
}
CENSUS = {"max_epochs": 5}
DEFAULT = {"max_epochs": 1, "early_stopping": False}


def make_rows(n_rows: int, chunk: int) -> tuple[Any, Any]:
    """One chunk of the made-up rows: 20 numbers, two classes of which one is rarer."""
    rng = np.random.default_rng(chunk)
    X = rng.standard_normal((n_rows, COLUMNS), dtype=np.float32)
    X[:, 0] += 3 * chunk / CHUNKS
    score = (
        X[:, 0] - 1.5 + np.sin(2 * X[:, 1]) * X[:, 2] + np.abs(X[:, 3]) - 0.5 * X[:, 4] * X[:, 5]
    )
    return X, (rng.random(n_rows) < 1 / (1 + np.exp(1.5 - 2 * score))).astype(np.int64)


def make_test_rows(n_rows: int) -> tuple[Any, Any]:
    """Rows of all times."""
    parts = [make_rows(n_rows // CHUNKS, chunk) for chunk in range(100, 100 + CHUNKS)]
    X = np.concatenate([X for X, _ in parts])
    # Their times are those of training, whatever their seeds.
    times = np.repeat(np.arange(CHUNKS), n_rows // CHUNKS)
    X[:, 0] += 3 * (times - np.arange(100, 100 + CHUNKS)[times]) / CHUNKS
    rng = np.random.default_rng(99)
    score = (
        X[:, 0] - 1.5 + np.sin(2 * X[:, 1]) * X[:, 2] + np.abs(X[:, 3]) - 0.5 * X[:, 4] * X[:, 5]
    )
    return X, (rng.random(len(X)) < 1 / (1 + np.exp(1.5 - 2 * score))).astype(np.int64)


def names() -> list[str]:
    """The columns."""
    return [f"x{i}" for i in range(COLUMNS)]


def write_made_up(folder: Path, n_rows: int, orders: list[str]) -> None:
    """Write the rows sorted by time or by class."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def table(X: Any, y: Any) -> Any:
        return pa.table(dict(zip(names(), X.T, strict=True)) | {"y": y})

    for order in orders:
        (folder / order).mkdir()
    for label in (None, 0, 1):
        order = "time" if label is None else "class"
        if order not in orders:
            continue
        prefix = "rows" if label is None else f"class-{label}"
        for chunk in range(CHUNKS):
            X, y = make_rows(n_rows // CHUNKS, chunk)
            kept = slice(None) if label is None else y == label
            path = folder / order / f"{prefix}-{chunk:02d}.parquet"
            pq.write_table(table(X[kept], y[kept]), path)


def write_census(folder: Path) -> None:
    """Write Census-Income in the order of its file, by class and by year."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from skmode.datasets import fetch_census_income

    bunch = fetch_census_income()
    frame = bunch.data.assign(income=bunch.target)
    orders = {
        "file": frame,
        "class": frame.sort_values("income", kind="stable"),
        "time": frame.sort_values("year", kind="stable"),
    }
    for order, rows in orders.items():
        folder.joinpath(order).mkdir(parents=True)
        path = folder / order / "rows.parquet"
        pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), path)


def fit(task: dict[str, Any]) -> dict[str, Any]:
    """Fit once, in this process, and measure."""
    import pyarrow.dataset as ds
    import torch
    from sklearn.metrics import accuracy_score, log_loss

    from skmode import MoDEClassifier

    torch.set_num_threads(1)
    settings = {"made_up": SMALL, "large": SMALL, "census": CENSUS, "time": DEFAULT}[task["kind"]]
    target = "income" if task["kind"] == "census" else "y"
    dataset = ds.dataset(task["folder"])
    classifier = MoDEClassifier(random_state=task["seed"], **settings)
    if task["in_memory"]:
        frame = dataset.to_table().to_pandas()
        y = frame.pop(target)
        begun, before = time.process_time(), peak()
        classifier.fit(frame, y)
    else:
        ds.dataset(task["folder"]).head(1)  # pyarrow's own libraries
        begun, before = time.process_time(), peak()
        classifier.fit(dataset, target=target)
    seconds, after = time.process_time() - begun, peak()
    found: dict[str, Any] = {
        "cpu_seconds": seconds,
        "extra_mib": (after - before) / MiB,
        "seconds_per_epoch": float(np.median([row["dur"] for row in classifier.history_])),
    }
    if task["kind"] == "time":  # training alone
        return found
    X, y = test_rows(task["kind"], classifier)
    probabilities = classifier.predict_proba(X)
    labels = classifier.classes_[probabilities.argmax(axis=1)]
    return found | {
        "accuracy": accuracy_score(y, labels),
        "log_loss": log_loss(y, probabilities, labels=classifier.classes_),
        "epochs": classifier.n_iter_ + classifier.refit_n_iter_,
    }


def test_rows(kind: str, classifier: Any) -> tuple[Any, Any]:
    """Test rows of one of the tables."""
    import pandas as pd

    from skmode.datasets import fetch_census_income

    if kind == "census":
        bunch = fetch_census_income(subset="test")
        return bunch.data, np.asarray(bunch.target, dtype=object)
    X, y = make_test_rows(TEST_ROWS)
    return pd.DataFrame(X, columns=names()), y


def peak() -> int:
    """Peak memory of this process so far, in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def measure(**task: Any) -> dict[str, Any]:
    """Fit in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.costs.out_of_core", "fit", json.dumps(task)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    answer = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    found: dict[str, Any] = task | json.loads(answer.stdout.splitlines()[-1])
    found["folder"] = Path(task["folder"]).name
    print(json.dumps(found), flush=True)
    return found


def census(folder: Path) -> Iterator[dict[str, Any]]:
    """Quality on Census-Income."""
    write_census(folder)
    for order, in_memory in (("file", True), ("class", False), ("time", False)):
        place = str(folder / order)
        yield measure(kind="census", folder=place, in_memory=in_memory, seed=0)


def timed(folder: Path) -> Iterator[dict[str, Any]]:
    """Time of the default network."""
    write_made_up(folder, TIMED_ROWS, ["time"])
    for in_memory in (True, False):
        place = str(folder / "time")
        yield measure(kind="time", folder=place, in_memory=in_memory, seed=0)


def made_up(folder: Path) -> Iterator[dict[str, Any]]:
    """Quality on made-up rows."""
    write_made_up(folder, COMPARED_ROWS, ["time", "class"])
    for order, in_memory in (("time", True), ("class", False), ("time", False)):
        place = str(folder / order)
        yield measure(kind="made_up", folder=place, in_memory=in_memory, seed=0)


def large(folder: Path) -> Iterator[dict[str, Any]]:
    """Quality and memory on very many rows."""
    write_made_up(folder, ROWS, ["class"])
    for in_memory in (True, False):
        yield measure(kind="large", folder=str(folder / "class"), in_memory=in_memory, seed=0)


PARTS = {"census": census, "time": timed, "made_up": made_up, "large": large}


def judge(found: list[dict[str, Any]]) -> list[tuple[str, float, float]]:
    """Measures and the most that each may be."""
    lines = []
    for kind in ("census", "made_up", "large"):
        of_kind = [run for run in found if run["kind"] == kind]
        memory = [run for run in of_kind if run["in_memory"]]
        for run in of_kind:
            if memory and not run["in_memory"]:
                lost = memory[0]["accuracy"] - run["accuracy"]
                gained = run["log_loss"] - memory[0]["log_loss"]
                lines.append((f"{kind} by {run['folder']}: accuracy lost", lost, 0.005))
                lines.append((f"{kind} by {run['folder']}: log loss gained", gained, 0.005))
    for run in found:
        if run["kind"] == "large" and not run["in_memory"]:
            lines.append(("peak memory above the import, MiB", run["extra_mib"], 1024.0))
    memory, stored = (
        [run for run in found if run["kind"] == "time" and run["in_memory"] == kind]
        for kind in (True, False)
    )
    for one, other in zip(memory, stored, strict=True):
        ratio = other["cpu_seconds"] / one["cpu_seconds"]
        lines.append(("processor time of fit, dataset / memory", ratio, 1.3))
    return lines


def main(*parts: str) -> int:
    """Measure, and write the results beside those of other parts; 1 if a bar is missed."""
    path = RESULTS / "out_of_core.json"
    found: list[dict[str, Any]] = []
    for part in parts or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            new = list(PARTS[part](Path(folder)))
        found = json.loads(path.read_text())["runs"] if path.exists() else []
        found = [run for run in found if run["kind"] != part] + new
        write(path, found)
    return report(found)


def write(path: Path, found: list[dict[str, Any]]) -> None:
    """Write the runs, and what they mean for the bars."""
    results = {
        "rows": {"time": TIMED_ROWS, "made_up": COMPARED_ROWS, "large": ROWS},
        "columns": COLUMNS,
        "machine": platform.machine(),
        "python": platform.python_version(),
        "bars": [
            {"name": name, "value": value, "at_most": bar} for name, value, bar in judge(found)
        ],
        "runs": found,
    }
    path.write_text(json.dumps(results, indent=1) + "\n")


def report(found: list[dict[str, Any]]) -> int:
    """Print the measures; 1 if a bar is missed."""
    lines = judge(found)
    for name, value, bar in lines:
        print(f"{name:45s} {value:10.4f}  at most {bar:g}  {'ok' if value <= bar else 'MISSED'}")
    return int(any(value > bar for _, value, bar in lines))


if __name__ == "__main__":
    if sys.argv[1:2] == ["fit"]:
        print(json.dumps(fit(json.loads(sys.argv[2]))))
    else:
        raise SystemExit(main(*sys.argv[1:]))
