"""Which rows should decide whether a teacher is trusted: those held out, or all, out of fold?

A vote of CatBoost, LightGBM and four networks teaches, on the ten smallest sets of the league but
splice, where a vote takes minutes. All are judged on the rows that `inner_split` sets aside. Run

    python -m benchmarks.defaults.teacher_weights [--report]

which goes on with results/teacher_weights.jsonl (with `--report` it only reads it), and prints how
much the loss of the top expert differs from that of one that nobody taught.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.defaults._lines import RESULTS, read_measured
from benchmarks.defaults._measure import inner_split, make
from benchmarks.defaults.distil import changed, loss
from benchmarks.tabular._models.votes import make_vote
from benchmarks.tabular._sets import SETS, TabularSet
from skmode._estimators.rows import lessons

N_TABLES, REPEATS, ROWS = 10, range(2), 1500
VOTE, PLAIN, BY_VALIDATION = "vote", "nobody taught", "by the validation rows"
TRUSTED = "always trusted"
CANDIDATES: dict[str, dict[str, Any]] = {
    PLAIN: {},
    TRUSTED: {"_trust": True},
    BY_VALIDATION: {},
    "out of fold": {},
}

Record = dict[str, Any]


def tables() -> list[TabularSet]:
    """The smallest sets of the league, without one that takes too long."""
    found = [table for table in SETS.values() if table.name != "splice"]
    return sorted(found, key=lambda table: table.rows)[:N_TABLES]


def measure(table: TabularSet, repeat: int, candidate: str, memory: str) -> Record:
    """Fit a candidate, and measure its loss."""
    train, judging = inner_split(table, repeat, ROWS)
    classifies = table.task != "regression"
    method = "predict_proba" if classifies else "predict"
    start = time.process_time()
    if candidate == VOTE:
        model: Any = make_vote(table.task, 0, train).fit(train.X, train.y)
        found: Record = {}
    else:
        model = make("classification" if classifies else "regression", CANDIDATES[candidate])
        if candidate != PLAIN:
            model.set_params(teacher=make_vote(table.task, 0, train), memory=memory)
        few = patch.object(lessons, "FEW_VALIDATION_ROWS", 0)
        with few if candidate == BY_VALIDATION else changed(CANDIDATES[candidate]):
            model.set_params(inference="top_expert").fit(train.X, train.y)
        found = {"teacher_weight": model.teacher_weight_ if candidate != PLAIN else 0.0}
        found["out_of_fold"] = model.out_of_fold_loss_
    found["seconds"] = round(time.process_time() - start, 2)
    found["loss"] = loss(table, judging.y, getattr(model, method)(judging.X))
    return {"set": table.name, "repeat": repeat, "candidate": candidate} | found


def measure_all(path: Path) -> None:
    """Append what the file lacks; the vote is fitted once for all that it teaches."""
    warnings.simplefilter("ignore")
    lines = path.read_text().splitlines() if path.exists() else []
    done = {(r["set"], r["repeat"], r["candidate"]) for r in map(json.loads, lines)}
    for repeat in REPEATS:
        for table in tables():
            with tempfile.TemporaryDirectory() as memory, path.open("a") as file:
                for candidate in [VOTE, *CANDIDATES]:
                    if (table.name, repeat, candidate) in done:
                        continue
                    record = measure(table, repeat, candidate, memory)
                    file.write(json.dumps(record) + "\n")
                    file.flush()
                    print(record, flush=True)


def summarize(records: list[Record]) -> str:
    """Tabulate the differences from what nobody taught, in per cent, with errors over sets."""
    of = {(r["set"], r["repeat"], r["candidate"]): r for r in records}
    names = [VOTE, *CANDIDATES]
    fits = [
        (table.name, repeat)
        for table in tables()
        for repeat in REPEATS
        if all((table.name, repeat, name) in of for name in names)
    ]
    lines = ["| candidate | loss against nobody taught | better on | taught | fits |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for name in names:
        if name == PLAIN:
            continue
        by_set: dict[str, list[float]] = {}
        for fit in fits:
            ratio = math.log(of[*fit, name]["loss"] / of[*fit, PLAIN]["loss"])
            by_set.setdefault(fit[0], []).append(ratio)
        means = 100 * np.array([np.mean(each) for each in by_set.values()])
        error = means.std(ddof=1) / math.sqrt(len(means))
        taught = sum(of[*fit, name].get("teacher_weight", 0) > 0 for fit in fits)
        lines.append(
            f"| {name} | {means.mean():+.1f} ± {error:.1f} % | {(means < 0).sum()} of {len(means)} "
            f"sets | {'-' if name == VOTE else taught} | {len(fits)} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure what is missing, unless only a report is wanted, and print the table."""
    parser = argparse.ArgumentParser(description="Which rows decide whether a teacher is trusted?")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    path = RESULTS / "teacher_weights.jsonl"
    if not parser.parse_args().report:
        measure_all(path)
    print(summarize(read_measured(path)))


if __name__ == "__main__":
    main()
