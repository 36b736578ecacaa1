"""At which learning rate shall a refit begin in which an estimator teaches?

The teacher is the mean of CatBoost and LightGBM with their defaults. Both rates teach the same
mixture, whose top expert is judged on the rows that `inner_split` sets aside. Run with

    python -m benchmarks.defaults.taught_rate [--report]

which goes on with results/taught_rate.jsonl (with `--report` it only reads it), and prints the
errors relative to those of the mixture that nobody taught.
"""

import argparse
import json
import tempfile
import warnings
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch

from benchmarks.defaults._lines import RESULTS, read_measured, read_raw
from benchmarks.defaults._measure import error, inner_split, make
from benchmarks.defaults.distil import changed, make_teacher
from benchmarks.tabular._measure import score
from benchmarks.tabular._sets import SETS
from skmode._training import trainer

VALUES = ("concrete", "ames", "bikeshare", "deliveries", "flights", "diamonds", "cpssw8")
CLASSES = ("vehicle", "segment", "german", "phoneme", "chess", "magic")
CASES = [(name, repeat) for repeat in range(2) for name in VALUES]
CASES += [(name, 0) for name in CLASSES]
ROWS = 8_000
RATES = (1.0, 2.0)  # multiples of the peak of the training before
PATH = RESULTS / "taught_rate.jsonl"
# Nobody asks whether the teacher is better.
TRUSTED = {"_trust": True}


def measure(name: str, repeat: int) -> dict[str, Any]:
    """Errors of the top expert: not taught, and taught with each rate."""
    table = SETS[name]
    train, judging = inner_split(table, repeat, ROWS)
    classifies = table.task != "regression"

    def fit(**options: Any) -> float:
        model = make("classification" if classifies else "regression", {})
        model.set_params(inference="top_expert", **options).fit(train.X, train.y)
        predict = model.predict_proba if classifies else model.predict
        found = np.asarray(predict(judging.X), dtype=float)
        return error(score(table.task, judging.y, found))

    record = {"set": name, "repeat": repeat, "n_train": len(train.y), "plain": fit()}
    with tempfile.TemporaryDirectory() as memory:
        for rate in RATES:
            teacher = make_teacher(table, train)
            which = "TAUGHT_RATE" if classifies else "VALUES_RATE"
            with changed(TRUSTED), patch.object(trainer, which, rate):
                record[f"rate {rate:g}"] = fit(teacher=teacher, memory=memory)
    return record


def measure_all() -> None:
    """Append what the file lacks."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    done = {(line["set"], line["repeat"]) for line in read_raw(PATH)}
    for name, repeat in CASES:
        if (name, repeat) not in done:
            record = measure(name, repeat)
            with PATH.open("a") as file:
                file.write(json.dumps(record) + "\n")
            print(record, flush=True)


def print_table() -> None:
    """Print each error relative to that of the mixture without a teacher, and geometric means."""
    lines = read_measured(PATH)
    frame = pd.DataFrame(lines)
    names = [f"rate {rate:g}" for rate in RATES]
    ratios = frame[names].div(frame["plain"], axis=0)
    print("| set | repeat | rows | " + " | ".join(names) + " |")
    print("| --- " * (3 + len(names)) + "|")
    for line, own in zip(lines, ratios.to_numpy(), strict=True):
        begin = f"| {line['set']} | {line['repeat']} | {line['n_train']:,} | "
        print(begin + " | ".join(f"{each:.3f}" for each in own) + " |")
    for kind, sets in (("values", VALUES), ("classes", CLASSES)):
        if (chosen := frame["set"].isin(sets)).any():
            means = np.exp(np.log(ratios[chosen]).mean())
            print(f"| {kind} | | | " + " | ".join(f"{each:.3f}" for each in means) + " |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--report", action="store_true", help="measure nothing")
    if not parser.parse_args().report:
        measure_all()
    print_table()
