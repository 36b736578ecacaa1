"""Question every default by inner validation, one change at a time.

Only training parts of the league's first split are read, so that no test part of that split
chooses a default: of up to 4,000 of their rows, a quarter judges, in three different splits. Run
with

    python -m benchmarks.defaults [NAME ...] [--tasks TASK ...] [--sets SET ...] [--rows N]

which appends one line per set, split and candidate to results/defaults.jsonl (or defaults_N.jsonl
for other numbers of rows), and prints the tables that ablations.md shows. What was measured with
other code is measured anew; each line is compared with that of the defaults which the same code
gave.
"""

import argparse
import itertools
import json
import math
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import train_test_split

from benchmarks.tabular._fingerprint import Fingerprint, fingerprint
from benchmarks.tabular._measure import score
from benchmarks.tabular._sets import SETS, Part, TabularSet, load, split
from skmode import MoDEClassifier, MoDERegressor
from skmode.nn import trunks

# What `read` calls the code as it is now.
PRESENT = "present"
RESULTS = Path(__file__).parent / "results"
ROWS = 4_000
REPEATS = range(3)
TASKS = ["binary", "multiclass", "regression"]
# They take long, or every model is nearly perfect there.
LEFT_OUT = {"census", "letter", "optdigits", "penbased", "texture", "splice", "chess", "ring"}
ESTIMATORS = {"classification": MoDEClassifier, "regression": MoDERegressor}
# What came before the present defaults; `former` adds what depends on the task and the rows.
FORMER: dict[str, Any] = {
    "hidden_layer_sizes": (128,),
    "activation": "relu",
    "dropout": 0.0,
    "numeric_embedding": "periodic",
    "learning_rate": 0.002,
    "max_epochs": 100,
    "weight_averaging": 0.0,
    "refit_fraction": 0.0,
    "_scale_rate": 0.0,
}
CANDIDATES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "alpha 0": {"alpha": 0.0},
    "alpha 10": {"alpha": 10.0},
    "alpha 100": {"alpha": 100.0},
    'alpha "auto"': {"alpha": "auto"},
    "representation mixing": {"mixing": "representation"},
    "representation mixing, alpha 10": {"mixing": "representation", "alpha": 10.0},
    "expected mixing": {"mixing": "expected"},
    "likelihood mixing": {"mixing": "likelihood"},
    "no balance": {"balance": 0.0},
    "balance 0.1": {"balance": 0.1},
    "8 experts": {"n_experts": 8},
    "8 experts, balance 0.1": {"n_experts": 8, "balance": 0.1},
    "8 experts, balance 0.1, rate 0.01": {
        "n_experts": 8,
        "balance": 0.1,
        "learning_rate": 0.01,
    },
    "1 layer of 128": {"hidden_layer_sizes": (128,)},
    "2 layers of 128": {"hidden_layer_sizes": (128, 128)},
    "3 layers of 64": {"hidden_layer_sizes": (64, 64, 64)},
    "gate with a hidden layer of 64": {"gate_hidden_layer_sizes": (64,)},
    "ReLU": {"activation": "relu"},
    "SiLU": {"activation": "silu"},
    "no dropout": {"dropout": 0.0},
    "dropout 0.1": {"dropout": 0.1},
    "no embedding": {"numeric_embedding": None},
    "periodic": {"numeric_embedding": "periodic"},
    "periodic with bias": {"numeric_embedding": "periodic_bias"},
    "piecewise linear": {"numeric_embedding": "piecewise_linear"},
    "frequencies x 3": {"_frequency_scale": 3.0},
    "no learned scales": {"_scale_rate": 0.0},
    "no weight averaging": {"weight_averaging": 0.0},
    "no refit": {"refit_fraction": 0.0},
    "rate 0.002": {"learning_rate": 0.002},
    "rate 0.01": {"learning_rate": 0.01},
    "30 epochs": {"max_epochs": 30},
    "30 epochs, rate 0.01": {"max_epochs": 30, "learning_rate": 0.01},
    "30 epochs, rate 0.002": {"max_epochs": 30, "learning_rate": 0.002},
    "1 expert": {"n_experts": 1},
    "dropout 0.3": {"dropout": 0.3},
    "weight decay 0.5": {"weight_decay": 0.5},
    "weight decay 2": {"weight_decay": 2.0},
    "weight decay 0.1": {"weight_decay": 0.1},
    "expected mixing, alpha 10": {"mixing": "expected", "alpha": 10.0},
    "expected mixing, dropout 0.1": {"mixing": "expected", "dropout": 0.1},
    "no calibration": {"calibration": None},
    "taught by the mixture": {"refit_teacher": "mixture", "refit_distillation": 0.7},
    "taught by an ensemble": {"refit_teacher": "ensemble", "refit_fraction": 0.6},
    "1 expert, taught by an ensemble": {
        "n_experts": 1,
        "refit_teacher": "ensemble",
        "refit_fraction": 0.6,
    },
    "former defaults": FORMER,
}


def former(kind: str, n_rows: int) -> dict[str, Any]:
    """All that the former defaults were, smaller batches and slower frequencies included."""
    batch_size = int(2 ** np.clip(round(math.log2(n_rows / 32)), 5, 8))
    if kind == "regression":
        own: dict[str, Any] = {"mixing": "likelihood", "alpha": 1.0, "_frequency_scale": 1 / 3}
    else:
        own = {"mixing": "representation", "alpha": 10.0, "calibration": None}
    return FORMER | own | {"batch_size": batch_size}


@contextmanager
def estimator_with(kind: str, options: dict[str, Any]) -> Iterator[Any]:
    """An estimator with some parameters, or with what is no parameter changed for the moment."""
    Estimator, rate = ESTIMATORS[kind], trunks.SCALE_RATE
    # A regressor has nothing to calibrate.
    known = Estimator().get_params()
    public = {name: value for name, value in options.items() if name in known}
    estimator = Estimator(random_state=0, device="cpu", **public)
    if "_frequency_scale" in options:
        estimator._frequency_scale = Estimator._frequency_scale * options["_frequency_scale"]
    trunks.SCALE_RATE = options.get("_scale_rate", rate)
    try:
        yield estimator
    finally:
        trunks.SCALE_RATE = rate


@cache
def inner_split(table: TabularSet, repeat: int, most: int = ROWS) -> tuple[Part, Part]:
    """Divide the training part of the league's first split once more."""
    train, _ = split(load(table), table.task, 0)
    kept = np.random.default_rng(repeat).permutation(len(train.y))[:most]
    stratify = None if table.task == "regression" else train.y[kept]
    fitted, judging = train_test_split(kept, test_size=0.25, random_state=repeat, stratify=stratify)
    return tuple(Part(train.X.iloc[rows], train.y[rows]) for rows in (fitted, judging))


def error(metrics: dict[str, Any]) -> float:
    """The primary metric, the lower the better."""
    return 1 - metrics["value"] if metrics["metric"] == "roc_auc" else metrics["value"]


def measure(
    table: TabularSet, repeat: int, options: dict[str, Any], rows: int = ROWS
) -> dict[str, Any]:
    """Errors of mixture and top expert on the rows that judge."""
    train, judging = inner_split(table, repeat, rows)
    kind = "regression" if table.task == "regression" else "classification"
    if options is FORMER:
        options = former(kind, len(train.y))
    record: dict[str, Any] = {}
    with estimator_with(kind, options) as estimator:
        start = time.process_time()
        estimator.fit(train.X, train.y)
        record["seconds"] = round(time.process_time() - start, 3)
    for inference in ("mixture", "top_expert"):
        estimator.set_params(inference=inference)
        predict = estimator.predict if kind == "regression" else estimator.predict_proba
        metrics = score(table.task, judging.y, np.asarray(predict(judging.X), dtype=np.float64))
        record[inference] = error(metrics)
        record[f"{inference}_accuracy"] = metrics.get("accuracy")
    return record | {
        "epochs": estimator.n_iter_,
        "largest_share": float(estimator.expert_usage_.max()),
    }


def results_of(rows: int) -> Path:
    """The file that belongs to a number of rows."""
    return RESULTS / ("defaults.jsonl" if rows == ROWS else f"defaults_{rows}.jsonl")


def read(path: Path) -> list[dict[str, Any]]:
    """All lines, the newest last; the version of each is `PRESENT`, or tells former code apart."""
    if not path.exists():
        return []
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    known = {PRESENT: fingerprint()}
    for line in lines:
        line["version"] = number_code(line["version"], known)
    return lines


def number_code(version: Any, known: dict[str, Fingerprint]) -> str:
    """Name the code of a line; code that does the same has one name."""
    found = Fingerprint.of(version)
    if found is None:  # lines of old name it themselves
        return str(version)
    for name, code in known.items():
        if found.agrees(code):
            return name
    known[name := f"former {len(known)}"] = found
    return name


def place(line: dict[str, Any]) -> tuple[str, str, int]:
    """What a line is of."""
    return line["candidate"], line["set"], line["repeat"]


def geometric_mean(ratios: Iterable[float]) -> float:
    """Geometric mean; NaN of nothing."""
    logs = np.log(list(ratios))
    return float(np.exp(logs.mean())) if len(logs) else float("nan")


def summarize(path: Path) -> None:
    """Print ratios to the defaults: of the present code, then of the last before it."""
    lines = read(path)
    print("With the present code:\n")
    present = [line for line in lines if line["version"] == PRESENT]
    shown = print_table(present)
    print("\nWith earlier code, each against the defaults of that code:\n")
    print_table([line for line in lines if line["version"] != PRESENT], without=shown)


def print_table(lines: list[dict[str, Any]], without: Iterable[str] = ()) -> list[str]:
    """Print a row per candidate, each task by the newest code that measured it; return which."""
    print("| candidate | " + " | ".join(TASKS) + " | top expert: " + " | ".join(TASKS), end="")
    print(" | fit time | worse than the defaults on |")
    print("| --- " * 9 + "|")
    defaults = {
        (line["set"], line["repeat"], line["version"]): line
        for line in lines
        if line["candidate"] == "defaults"
    }
    shown = [name for name in CANDIDATES if name not in without]
    found = {name: list(pairs_of(name, lines, defaults)) for name in shown}
    shown = [name for name in shown if found[name]]
    for candidate in shown:
        pairs = found[candidate]
        cells = [
            geometric_mean(a[key] / b["mixture"] for a, b in pairs if SETS[a["set"]].task == task)
            for key in ("mixture", "top_expert")
            for task in TASKS
        ]
        cells.append(geometric_mean(a["seconds"] / b["seconds"] for a, b in pairs))
        worse = sum(a["mixture"] > b["mixture"] for a, b in pairs)
        print(
            f"| {candidate} | "
            + " | ".join("-" if math.isnan(cell) else f"{cell:.3f}" for cell in cells)
            + f" | {worse} of {len(pairs)} |"
        )
    return shown


def pairs_of(
    candidate: str, lines: list[dict[str, Any]], defaults: dict[Any, dict[str, Any]]
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """A candidate's lines and those of the defaults, for each task of one code."""
    for task in TASKS:
        own = [
            line
            for line in lines
            if line["candidate"] == candidate
            and SETS[line["set"]].task == task
            and (line["set"], line["repeat"], line["version"]) in defaults
        ]
        newest = {place(line): line for line in own if line["version"] == own[-1]["version"]}
        for line in newest.values():
            yield line, defaults[line["set"], line["repeat"], line["version"]]


def main(options: argparse.Namespace) -> None:
    """Measure the named candidates (all by default) that have no current result."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    path = results_of(options.rows)
    path.parent.mkdir(exist_ok=True)
    done = {place(line) for line in read(path) if line["version"] == PRESENT}
    tables = [table for table in SETS.values() if table.task in options.tasks]
    wanted = options.sets or [name for name in SETS if name not in LEFT_OUT]
    for candidate in options.names or CANDIDATES:
        for table, repeat in itertools.product(tables, REPEATS):
            if table.name not in wanted or (candidate, table.name, repeat) in done:
                continue
            record = {"candidate": candidate, "set": table.name, "repeat": repeat}
            record |= measure(table, repeat, CANDIDATES[candidate], options.rows)
            with path.open("a") as file:
                file.write(json.dumps(record | {"version": fingerprint().stored()}) + "\n")
    summarize(path)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Question the defaults by inner validation.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="candidates (default: all)")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS, metavar="TASK")
    parser.add_argument("--sets", nargs="+", choices=SETS, metavar="SET")
    parser.add_argument("--rows", type=int, default=ROWS, help=f"at most (default: {ROWS:,})")
    return parser.parse_args()


if __name__ == "__main__":
    main(parse())
