"""Which parts of a refit by teacher="ensemble" matter? Change one at a time, with one teacher.

Per set and split, mixture and ensemble are trained once, and then the mixture is refitted from the
same weights for each variant, so that nothing but the refit differs. Splits are those of
`inner_split`. Run with

    python -m benchmarks.defaults.students [--sets SET ...] [--repeats N] [--rows N]
        [--variants VARIANT ...] [--results FILE] [--report]

which appends one line per set and split to results/students.jsonl, and prints for each variant how
much the error of the top expert differs from that of four averaged networks, the ensemble, and from
that of the first variant: without `--variants` the refit with a teacher's weight of 0.7, from which
each other differs. Sets that every model predicts nearly perfectly are included.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.defaults._lessons import even_lessons
from benchmarks.defaults._lines import PRESENT, RESULTS, ROWS, read
from benchmarks.defaults._measure import error_by, inner_split, make
from benchmarks.defaults._neighbours import rows_of_neighbours
from benchmarks.defaults._switches import real_rows
from benchmarks.tabular._fingerprint import fingerprint
from benchmarks.tabular._sets import SETS, TabularSet
from skmode._training import trainer
from skmode._training.evaluation import mixture, top_expert
from skmode._training.finish import taught
from skmode._training.finish.calibration import apply_temperature

# They take long.
LEFT_OUT = {"census", "flights", "diamonds"}
# All variants have this weight but those that name another.
WEIGHT = 0.7
NOW = f"teacher's weight {WEIGHT}"
ENSEMBLE, BOTH = "ensemble", "ensemble and mixture"
# What changes: a constant of the trainer, a field of the plan, or one of `changed`'s own.
VARIANTS: dict[str, dict[str, Any]] = {
    NOW: {},
    "the ensemble alone teaches": {"ENSEMBLE_SHARE": 1.0},
    "the mixture alone teaches": {"teacher": "mixture"},
    "with dropout": {"without_dropout": nullcontext},
    "the rate starts at the peak": {"TAUGHT_RATE": 1.0},
    "the rate starts at three times the peak": {"TAUGHT_RATE": 3.0},
    "half as many epochs": {"taught_refit_fraction": 0.5},
    "teacher's weight 0.5": {"teacher_weight": 0.5},
    "teacher's weight 0.9": {"teacher_weight": 0.9},
    "teacher's weight 0.5, three times the peak": {"teacher_weight": 0.5, "TAUGHT_RATE": 3.0},
    "teacher's weight 0.3": {"teacher_weight": 0.3},
    "teacher's weight 0.3, three times the peak": {"teacher_weight": 0.3, "TAUGHT_RATE": 3.0},
    "no mixed rows": {"mixed": real_rows},
    "nobody teaches": {"teacher": None},
    "each expert learns half of the lesson": {"even": 0.5},
    "each expert learns the whole lesson": {"even": 1.0},
    "teacher's weight 0.5, no mixed rows": {"teacher_weight": 0.5, "mixed": real_rows},
    "teacher's weight 0.5, rows of neighbours": {
        "teacher_weight": 0.5,
        "mixed": rows_of_neighbours,
    },
}
# The last ones, which other files have.
N_ELSEWHERE = 4
# Smaller errors count as this one: of few rows some models predict all perfectly.
LEAST_ERROR = 1e-4
Refit = Callable[..., tuple[int, bool, tuple[str, ...]]]


class Refits:
    """Replaces the refit by one for each variant, and keeps their weights and the teachers."""

    def __init__(self, refit: Refit, variants: list[str]) -> None:
        self.refit = refit
        self.variants = variants
        self.weights: dict[str, dict[str, Any]] = {}
        self.teachers: dict[str, Any] = {}

    def run(
        self, fit: Any, candidate: Any, temperature: float | None
    ) -> tuple[int, bool, tuple[str, ...]]:
        """Refit the candidate of a fit once for each variant, from the same weights."""
        net = candidate.net
        weights = copy.deepcopy(net.module_.state_dict())
        optimizer = copy.deepcopy(net.optimizer_.state_dict())
        trained: list[Any] = []  # only once

        def train_once(*args: Any) -> Any:
            if not trained:
                trained.append(train(*args))
            return trained[0]

        train, plan = trainer.train_ensemble, fit.plan
        for name in self.variants:
            change = VARIANTS[name]
            net.module_.load_state_dict(weights)
            net.optimizer_.load_state_dict(copy.deepcopy(optimizer))
            with patch.object(trainer, "train_ensemble", train_once), changed(fit, change):
                weight = change.get("teacher_weight", candidate.teacher_weight)
                own = candidate._replace(teacher_weight=weight)
                _, _, taught_by = self.refit(fit, own, temperature)
            fit.plan = plan
            if temperature is not None and not taught_by:
                apply_temperature(net.module_, temperature)
            self.weights[name] = copy.deepcopy(net.module_.state_dict())
        net.module_.load_state_dict(weights)
        with patch.object(trainer, "train_ensemble", train_once):
            self.teachers[BOTH] = fit._make_teacher(candidate, temperature)[0]
        self.teachers[ENSEMBLE] = trained[0].teacher
        return 1, False, (ENSEMBLE,)


@contextmanager
def changed(fit: Any, change: dict[str, Any]) -> Iterator[None]:
    """Apply a variant to the trainer of a fit."""
    with ExitStack() as stack:
        for name, value in change.items():
            if name == "mixed":
                stack.enter_context(patch.object(taught.TaughtRows, "with_mixed_rows", value))
            elif name == "even":
                stack.enter_context(even_lessons(value))
            elif hasattr(fit.plan, name):
                fit.plan = replace(fit.plan, **{name: value})
            elif hasattr(trainer, name):
                stack.enter_context(patch.object(trainer, name, value))
        yield


def measure(table: TabularSet, repeat: int, rows: int, variants: list[str]) -> dict[str, Any]:
    """Errors of the teachers, and of mixture and top expert after each variant."""
    train, judging = inner_split(table, repeat, rows)
    model = make(
        "regression" if table.task == "regression" else "classification",
        {"teacher": "ensemble", "teacher_weight": WEIGHT},
    )
    refits = Refits(trainer.Trainer._refit, variants)
    start = time.process_time()
    with patch.object(trainer.Trainer, "_refit", lambda *args: refits.run(*args)):
        model.fit(train.X, train.y)
    seconds = round(time.process_time() - start, 1)

    def judge(function: Any) -> float:
        return error_by(function, model, table.task, judging)

    errors: dict[str, Any] = {}
    for name, teacher in refits.teachers.items():
        errors[name] = judge(lambda module, inputs, teacher=teacher: (teacher(inputs),))
    for name, weights in refits.weights.items():
        model.net_.module_.load_state_dict(weights)
        errors[name] = [judge(mixture), judge(top_expert)]
    return {"set": table.name, "repeat": repeat, "seconds": seconds, "errors": errors}


def summarize(lines: list[dict[str, Any]], variants: list[str]) -> str:
    """Tabulate differences of log errors, averaged over a set's splits, then over sets."""
    sets = sorted({line["set"] for line in lines})

    def top(line: dict[str, Any], name: str) -> float:
        found = line["errors"][name]
        return math.log(max(LEAST_ERROR, found[1] if isinstance(found, list) else found))

    def differences(name: str, other: str) -> str:
        each = [[top(x, name) - top(x, other) for x in lines if x["set"] == one] for one in sets]
        of = np.array([np.mean(one) for one in each])
        spread = 100 * of.std(ddof=1) / math.sqrt(len(of))
        better = f"better on {(of < 0).sum()} of {len(of)}"
        middle = 100 * math.expm1(np.median(of))
        return (
            f"{100 * math.expm1(of.mean()):+.1f} ± {spread:.1f} %, median {middle:+.1f}, {better}"
        )

    found = [f"| what teaches | against four averaged networks | against {variants[0]} |"]
    found.append("| --- | --- | --- |")
    for name in (BOTH, *variants):
        found.append(
            f"| {name} | {differences(name, ENSEMBLE)} | {differences(name, variants[0])} |"
        )
    return "\n".join([*found, "", f"{len(lines)} splits of {len(sets)} sets"])


def measure_all(path: Path, options: argparse.Namespace) -> None:
    """Append what the present code has not measured."""
    done = {(line["set"], line["repeat"]) for line in present(path)}
    for repeat, name in itertools.product(range(options.repeats), options.sets):
        if (name, repeat) in done:
            continue
        record = measure(SETS[name], repeat, options.rows, options.variants)
        record["version"] = fingerprint().stored()
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        print(name, repeat, record["seconds"], flush=True)


def present(path: Path) -> list[dict[str, Any]]:
    """Lines of the present code."""
    return [line for line in read(path) if line["version"] == PRESENT]


def main() -> None:
    """Measure, unless only a report is wanted, and print the table."""
    parser = argparse.ArgumentParser(description="Which parts of a taught refit matter?")
    known = [name for name in SETS if name not in LEFT_OUT]
    parser.add_argument("--sets", nargs="+", choices=known, default=known, metavar="SET")
    parser.add_argument("--repeats", type=int, default=2, help="splits of each set (default: 2)")
    parser.add_argument("--rows", type=int, default=ROWS, help=f"at most (default: {ROWS})")
    own = list(VARIANTS)[:-N_ELSEWHERE]
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=own)
    parser.add_argument("--results", type=Path, default=RESULTS / "students.jsonl")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    options = parser.parse_args()
    path = options.results
    if not options.report:
        torch.set_num_threads(1)
        warnings.simplefilter("ignore")
        measure_all(path, options)
    print(summarize(present(path), options.variants))


if __name__ == "__main__":
    main()
