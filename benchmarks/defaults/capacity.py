"""When do more experts, or wider ones, pay?

On the largest sets the number of training rows, of experts and of hidden units is varied, and the
rows of the league's first test part that the set has judge. Run with

    python -m benchmarks.defaults.capacity [--report]

which adds what is missing to results/capacity.jsonl, and prints the table of ablations.md: the
error of the top expert alone, relative to that of one network of 64 units on as many rows.
"""

import argparse
import itertools
import json
import math
import time
import warnings
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.defaults._lines import RESULTS, read_measured, read_raw
from benchmarks.defaults._measure import error, inner_split, make
from benchmarks.tabular._fingerprint import fingerprint
from benchmarks.tabular._measure import score
from benchmarks.tabular._sets import SETS

TABLES = ("census", "diamonds", "letter")
ROWS = (4_000, 12_000, 32_000)
EXPERTS = (1, 4, 16)
WIDTHS = (64, 256)
PATH = RESULTS / "capacity.jsonl"
KEYS = ["set", "rows", "width", "n_experts"]


def measure(name: str, rows: int, width: int, n_experts: int) -> dict[str, Any]:
    """Errors of mixture and top expert of one fit."""
    table = SETS[name]
    train, judging = inner_split(table, 0, 4 * rows // 3)
    classifies = table.task != "regression"
    options = {"n_experts": n_experts, "hidden_layer_sizes": (width, width)}
    model = make("classification" if classifies else "regression", options)
    start = time.process_time()
    model.fit(train.X, train.y)
    record: dict[str, Any] = {
        "fit_cpu_seconds": round(time.process_time() - start, 1),
        "n_train": len(train.y),
        "largest_share": float(model.expert_usage_.max()),
    }
    for inference in ("mixture", "top_expert"):
        predict = model.set_params(inference=inference)
        found = predict.predict_proba(judging.X) if classifies else predict.predict(judging.X)
        record[inference] = error(score(table.task, judging.y, np.asarray(found, dtype=float)))
    return record


def main(*, only_report: bool) -> None:
    """Measure what the file of results lacks, and print the table."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    lines = read_measured(PATH) if only_report else read_raw(PATH)
    done = {tuple(line[key] for key in KEYS) for line in lines}
    for case in itertools.product(TABLES, ROWS, WIDTHS, EXPERTS):
        if only_report or case in done or case[1] > 0.6 * SETS[case[0]].rows:
            continue
        record = dict(zip(KEYS, case, strict=True)) | measure(*case)
        lines.append(record)
        with PATH.open("a") as file:
            file.write(json.dumps(record | {"version": fingerprint().stored()}) + "\n")
    print_table(pd.DataFrame(lines))


def print_table(lines: pd.DataFrame) -> None:
    """Print the error of each top expert relative to that of the smallest network."""
    columns = list(itertools.product(WIDTHS, EXPERTS))
    print("| set | rows | " + " | ".join(f"{k} x {width}" for width, k in columns) + " |")
    print("| --- " * (2 + len(columns)) + "|")
    for (name, rows), part in lines.groupby(["set", "rows"], sort=False):
        errors = part.set_index(["width", "n_experts"])["top_expert"]
        ratios = errors / errors[(WIDTHS[0], 1)]
        cells = (f"{ratios.get(column, math.nan):.3f}" for column in columns)
        print(f"| {name} | {rows:,} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--report", action="store_true", help="measure nothing")
    main(only_report=parser.parse_args().report)
