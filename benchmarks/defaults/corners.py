"""Where are the defaults weak? Few rows, many classes, rare positives, steps.

Each corner is a few tables cut down to what it is about, from the training part of the league's
first split; other rows of that part judge, in three splits. Run with

    python -m benchmarks.defaults.corners [--report]

which goes on with results/weak_corners.jsonl (with `--report` it only reads it), and prints the
table of ablations.md: errors relative to those of the defaults' mixture.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from benchmarks.defaults._lines import REPEATS, RESULTS, read_measured, read_raw
from benchmarks.defaults._measure import error, make
from benchmarks.tabular._fingerprint import fingerprint
from benchmarks.tabular._measure import score
from benchmarks.tabular._models import peers
from benchmarks.tabular._sets import SETS, Part, Task, load, split

PATH = RESULTS / "weak_corners.jsonl"
KEYS = ["corner", "set", "repeat"]
JUDGING_ROWS = 4_000
POSITIVES = 0.05
STEPS = "made-up steps"
VALUES = ("concrete", "ames", "cpssw8", "flights", "diamonds", "bikeshare", "marketing")
CLASSES = ("vowel", "texture", "letter", "optdigits", "penbased")
PAIRS = ("phoneme", "magic", "spambase", "credit", "stackoverflow")


class Corner(NamedTuple):
    """Tables, the rows to train on, and the share of positives if it is cut down."""

    sets: tuple[str, ...]
    rows: int
    positives: float | None = None


CORNERS = {
    "values, 400 rows": Corner(VALUES, 400),
    "ten classes or more, 500 rows": Corner(CLASSES, 500),
    "5 % positives": Corner(PAIRS, 1_500, POSITIVES),
    "6 % positives, many categories": Corner(("census",), 4_000),
    "steps": Corner((STEPS,), 2_000),
}
OURS: dict[str, dict[str, Any]] = {
    "MoDE": {},
    "MoDE, alpha 0": {"alpha": 0.0},
    'MoDE, teacher="ensemble"': {"teacher": "ensemble"},
    "MoDE, piecewise linear": {"numeric_embedding": "piecewise_linear"},
}
PEERS: dict[str, Callable[[Task, int, Part], Any]] = {
    "linear": peers.make_linear,
    "RandomForest": peers.make_random_forest,
    "MLP": peers.make_mlp,
    "HistGradientBoosting": peers.make_hist_gradient_boosting,
}
# Of the first and the last of ours, the one with the lower loss on the rows held out.
CHOSEN, FIRST = "MoDE, embedding chosen", "MoDE"


def rows_of(name: str, corner: Corner, repeat: int) -> tuple[Task, Part, Part]:
    """The task, the rows to train on, and those that judge."""
    rng = np.random.default_rng(repeat)
    if name == STEPS:
        return "regression", make_steps(rng, corner.rows), make_steps(rng, JUDGING_ROWS)
    table = SETS[name]
    part, _ = split(load(table), table.task, 0)
    order = rng.permutation(len(part.y))
    if corner.positives is not None:
        positive, negative = (order[part.y[order] == value] for value in (1, 0))
        kept = min(len(positive), round(len(negative) * corner.positives / (1 - corner.positives)))
        order = rng.permutation(np.concatenate([positive[:kept], negative]))
    fitted = min(corner.rows, round(0.6 * len(order)))
    cuts = order[:fitted], order[fitted:][:JUDGING_ROWS]
    train, judging = (Part(part.X.iloc[rows], part.y[rows]) for rows in cuts)
    return table.task, train, judging


def make_steps(rng: np.random.Generator, n_rows: int) -> Part:
    """Values that jump where columns cross thresholds, which trees can cut and waves cannot."""
    X = rng.uniform(size=(n_rows, 8))
    jumps = np.where(X[:, 0] > 0.3, 2.0, 0.0) + np.where(X[:, 1] > 0.6, 1.5, 0.0)
    jumps += np.where((X[:, 2] > 0.5) & (X[:, 3] > 0.25), -2.0, 0.0) + np.floor(5 * X[:, 4]) / 2
    columns = [f"x{i}" for i in range(X.shape[1])]
    return Part(pd.DataFrame(X, columns=columns), jumps + rng.normal(scale=0.3, size=n_rows))


def measure(name: str, corner: Corner, repeat: int) -> dict[str, Any]:
    """Errors of all models on the rows that judge."""
    task, train, judging = rows_of(name, corner, repeat)
    kind = "regression" if task == "regression" else "classification"
    errors, losses, seconds = {}, {}, {}

    def judge(model: Any) -> float:
        found = (model.predict if task == "regression" else model.predict_proba)(judging.X)
        return error(score(task, judging.y, np.asarray(found, dtype=np.float64)))

    for label, options in OURS.items():
        start = time.process_time()
        model = make(kind, options).fit(train.X, train.y)
        seconds[label] = round(time.process_time() - start, 2)
        losses[label] = min(epoch["valid_loss"] for epoch in model.history_)
        errors[label] = judge(model)
        errors[f"{label}, top expert"] = judge(model.set_params(inference="top_expert"))
    errors[CHOSEN] = errors[min((FIRST, "MoDE, piecewise linear"), key=losses.__getitem__)]
    for label, make_peer in PEERS.items():
        errors[label] = judge(make_peer(task, repeat, train).fit(train.X, train.y))
    return {"n_train": len(train.y), "seconds": seconds, "errors": errors}


def measure_all() -> None:
    """Append what the file lacks."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    done = {tuple(line[key] for key in KEYS) for line in read_raw(PATH)}
    for repeat, (name, corner) in itertools.product(REPEATS, CORNERS.items()):
        for table in corner.sets:
            place = (name, table, repeat)
            if place in done:
                continue
            record = dict(zip(KEYS, place, strict=True)) | measure(table, corner, repeat)
            with PATH.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record | {"version": fingerprint().stored()}) + "\n")
            print(*place, record["errors"], flush=True)


def print_table(lines: list[dict[str, Any]]) -> None:
    """Print errors relative to the defaults' mixture: geometric means, errors over sets."""
    names = [name for name in lines[0]["errors"] if name != FIRST]
    print("| model | " + " | ".join(CORNERS) + " |")
    print("| --- " * (1 + len(CORNERS)) + "|")
    for name in names:
        cells = [_cell([each for each in lines if each["corner"] == one], name) for one in CORNERS]
        print(f"| {name} | " + " | ".join(cells) + " |")


def _cell(lines: list[dict[str, Any]], name: str) -> str:
    if not lines:
        return "-"
    found = pd.DataFrame(
        [[each["set"], math.log(each["errors"][name] / each["errors"][FIRST])] for each in lines],
        columns=["set", "ratio"],
    )
    sets = found.groupby("set").ratio.mean()
    of = sets if len(sets) > 1 else found.ratio  # of one table the splits
    spread = of.std() / math.sqrt(len(of)) if len(of) > 1 else math.nan
    return f"{100 * math.expm1(of.mean()):+.1f} ± {100 * spread:.1f} %"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--report", action="store_true", help="measure nothing")
    if not parser.parse_args().report:
        measure_all()
    print_table(read_measured(PATH))
