"""Do routed experts learn more from a teacher than one network does, where they are larger?

A vote of CatBoost, LightGBM and four networks teaches one network of 256 units, and 16 experts of
256 of which each row meets one: the same work per row. Both are also fitted without a teacher. The
rows that `inner_split` sets aside judge. Run with

    python -m benchmarks.defaults.taught_capacity [--report]

which goes on with results/taught_capacity.jsonl (with `--report` it only reads it), and prints the
errors of the top experts relative to that of one network that nobody taught.
"""

import argparse
import json
import tempfile
import time
import warnings
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.defaults._lines import RESULTS, read_measured, read_raw
from benchmarks.defaults._measure import error, inner_split, make
from benchmarks.defaults.distil import changed
from benchmarks.tabular._fingerprint import fingerprint
from benchmarks.tabular._measure import score
from benchmarks.tabular._models.votes import make_vote
from benchmarks.tabular._sets import SETS

TABLES = ("flights", "magic", "diamonds")
REPEATS = range(2)
ROWS = 8_000
PATH = RESULTS / "taught_capacity.jsonl"
KEYS = ["set", "repeat", "model"]
WIDTHS = (256, 256)
# Nobody asks whether the teacher is better: it teaches both, with the weight of the defaults.
TRUSTED = {"_trust": True}
VOTE, PLAIN = "vote", "one network"
MODELS: dict[str, dict[str, Any]] = {
    VOTE: {},
    PLAIN: {"n_experts": 1},
    "16 experts": {"n_experts": 16},
    "one network, taught": {"n_experts": 1},
    "16 experts, taught": {"n_experts": 16},
}


def measure(name: str, repeat: int, model: str, memory: str) -> dict[str, Any]:
    """Error of one fit, by the top expert of each row."""
    table = SETS[name]
    train, judging = inner_split(table, repeat, ROWS)
    classifies = table.task != "regression"
    vote = make_vote(table.task, repeat, train)
    start = time.process_time()
    if model == VOTE:
        fitted = vote.fit(train.X, train.y)
    else:
        options = {"hidden_layer_sizes": WIDTHS, "inference": "top_expert", **MODELS[model]}
        taught = model.endswith("taught")
        if taught:
            options |= {"teacher": vote, "memory": memory}
        fitted = make("classification" if classifies else "regression", options)
        with changed(TRUSTED if taught else {}):
            fitted.fit(train.X, train.y)
    seconds = round(time.process_time() - start, 1)
    predict = fitted.predict_proba if classifies else fitted.predict
    found = np.asarray(predict(judging.X), dtype=float)
    metrics = score(table.task, judging.y, found)
    return {"fit_cpu_seconds": seconds, "error": error(metrics), "n_train": len(train.y)}


def measure_all() -> None:
    """Append what the file lacks; the vote is fitted once for all that it teaches."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    done = {tuple(line[key] for key in KEYS) for line in read_raw(PATH)}
    for repeat in REPEATS:
        for name in TABLES:
            with tempfile.TemporaryDirectory() as memory:
                for model in MODELS:
                    case = (name, repeat, model)
                    if case in done:
                        continue
                    record = dict(zip(KEYS, case, strict=True)) | measure(*case, memory)
                    with PATH.open("a") as file:
                        file.write(json.dumps(record | {"version": fingerprint().stored()}) + "\n")
                    print(record, flush=True)


def print_table() -> None:
    """Print each error relative to that of one network without a teacher."""
    lines = read_measured(PATH)
    print("| set | split | " + " | ".join(MODELS) + " |")
    print("| --- " * (2 + len(MODELS)) + "|")
    for (name, repeat), part in pd.DataFrame(lines).groupby(["set", "repeat"], sort=False):
        errors = part.set_index("model")["error"]
        if PLAIN in errors:
            ratios = errors.reindex(list(MODELS)) / errors[PLAIN]
            print(f"| {name} | {repeat} | " + " | ".join(f"{each:.3f}" for each in ratios) + " |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--report", action="store_true", help="measure nothing")
    if not parser.parse_args().report:
        measure_all()
    print_table()
