"""What makes an ensemble better than one network: how many, and what each has of its own?

Per set and split, ensembles are trained on the same rows as ``teacher="ensemble"`` trains its own:
with two, four and eight networks, and with four that share one thing, the order of their rows, the
rows held out, the embedding, the start or the temperature. The defaults' mixture stands beside
them. Run with

    python -m benchmarks.defaults.ensembles [--sets SET ...] [--repeats N] [--rows N] [--report]

which goes on with results/ensembles.jsonl (with `--report` it only reads it), and prints the table
of ablations.md: how much each error differs from that of four networks.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.defaults._lines import RESULTS, read_measured, read_raw
from benchmarks.defaults._measure import error_by, inner_split, make
from benchmarks.defaults._switches import switched
from benchmarks.defaults.students import LEAST_ERROR, LEFT_OUT
from benchmarks.tabular._fingerprint import fingerprint
from benchmarks.tabular._sets import SETS, TabularSet
from skmode import MoDEClassifier
from skmode._estimators.rows.splitting import split_for_members
from skmode._training import trainer
from skmode._training.evaluation import mixture, top_expert
from skmode._training.finish import teachers

PATH = RESULTS / "ensembles.jsonl"
ROWS = 2_000
FOUR = "4 networks"
# Number of networks, and what is switched off.
VARIANTS: dict[str, tuple[int, dict[str, bool]]] = {
    FOUR: (4, {}),
    "1 network": (1, {}),
    "2 networks": (2, {}),
    "8 networks": (8, {}),
    "4 that share the order of rows": (4, {"_own_order": False}),
    "4 that share the rows held out": (4, {"_own_rows": False}),
    "4 that share the embedding": (4, {"_own_embedding": False}),
    "4 that share the start": (4, {"_own_start": False}),
    # Classes only: values have none.
    "4 that share the temperature": (4, {"_own_temperature": False}),
}
MIXTURE, TOP = "the mixture", "its top expert"


class Ensembles:
    """Trains an ensemble of each kind for one fit of an estimator, before its own training."""

    def __init__(self, train: Callable[[Any], Any]) -> None:
        self.train_mixture = train
        self.teachers: dict[str, Any] = {}
        self.seconds: dict[str, float] = {}

    def train(self, fit: Any) -> Any:
        """Train the ensembles, and then the mixture without a teacher."""
        for name, (n_networks, switches) in VARIANTS.items():
            if not fit.plan.calibrate and "_own_temperature" in switches:
                continue
            start = time.process_time()
            members = split_for_members(
                fit.data,
                n_networks,
                MoDEClassifier().validation_fraction,
                np.random.RandomState(0),
                own=switches.get("_own_rows", True),
            )
            with switched(switches), own_start(switches.get("_own_start", True)):
                generators = fit._generators(fit.plan.teacher_seed)
                found = teachers.train_ensemble(fit.plan, members, generators)
            self.teachers[name] = found.teacher
            self.seconds[name] = round(time.process_time() - start, 2)
        fit.plan = replace(fit.plan, teacher=None)
        return self.train_mixture(fit)


def own_start(wanted: bool) -> AbstractContextManager[Any]:
    """Unless it is wanted, let all networks begin with the weights of the first one."""
    build = teachers.build_ensemble

    def same(*args: Any) -> Any:
        ensemble = build(*args)
        first = ensemble.trunks[0].state_dict()
        for trunk in ensemble.trunks:
            trunk.load_state_dict(first)
        with torch.no_grad():
            for part in (ensemble.hidden, ensemble.head):
                for weights in part.parameters():
                    weights.copy_(weights[:1].clone().expand_as(weights))
        return ensemble

    return nullcontext() if wanted else patch.object(teachers, "build_ensemble", same)


def measure(table: TabularSet, repeat: int, rows: int) -> dict[str, Any]:
    """Errors of the ensembles, and of the mixture of the defaults and its top expert."""
    train, judging = inner_split(table, repeat, rows)
    kind = "regression" if table.task == "regression" else "classification"
    model = make(kind, {"teacher": "ensemble"})
    ensembles = Ensembles(trainer.Trainer.train)
    with patch.object(trainer.Trainer, "train", lambda fit: ensembles.train(fit)):
        model.fit(train.X, train.y)

    def judge(function: Any) -> float:
        return error_by(function, model, table.task, judging)

    errors = {
        name: judge(lambda module, inputs, teacher=teacher: (teacher(inputs),))
        for name, teacher in ensembles.teachers.items()
    }
    errors |= {MIXTURE: judge(mixture), TOP: judge(top_expert)}
    return {"seconds": ensembles.seconds, "errors": errors}


def measure_all(options: argparse.Namespace) -> None:
    """Append what the file lacks."""
    done = {(line["set"], line["repeat"]) for line in read_raw(PATH)}
    for repeat, name in itertools.product(range(options.repeats), options.sets):
        if (name, repeat) in done:
            continue
        record = {"set": name, "repeat": repeat} | measure(SETS[name], repeat, options.rows)
        with PATH.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record | {"version": fingerprint().stored()}) + "\n")
        print(name, repeat, sum(record["seconds"].values()), flush=True)


def print_table(lines: list[dict[str, Any]]) -> None:
    """Print differences of log errors, averaged over a set's splits, then over sets."""
    print("| predictions | against four networks | median | better on | time |")
    print("| --- | --- | --- | --- | --- |")
    for name in (*VARIANTS, MIXTURE, TOP):
        sets = sorted({line["set"] for line in lines if name in line["errors"]})
        of = np.array([differences(lines, one, name) for one in sets])
        mean, middle = (100 * math.expm1(each) for each in (of.mean(), np.median(of)))
        spread = 100 * of.std(ddof=1) / math.sqrt(len(of))
        times = [
            each["seconds"][name] / each["seconds"][FOUR]
            for each in lines
            if name in each["seconds"]
        ]
        print(
            f"| {name} | {mean:+.1f} ± {spread:.1f} % | {middle:+.1f} % "
            f"| {(of < 0).sum()} of {len(of)} | {np.median(times) if times else math.nan:.2f} |"
        )
    print(f"\n{len(lines)} splits")


def differences(lines: list[dict[str, Any]], one: str, name: str) -> float:
    """Mean difference of the log errors of a set from those of four networks."""
    errors = [line["errors"] for line in lines if line["set"] == one]
    pairs = [[max(LEAST_ERROR, each[kind]) for kind in (name, FOUR)] for each in errors]
    return float(np.mean([math.log(mine / other) for mine, other in pairs]))


def main() -> None:
    """Measure, unless only a report is wanted, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    known = [name for name in SETS if name not in LEFT_OUT]
    parser.add_argument("--sets", nargs="+", choices=known, default=known, metavar="SET")
    parser.add_argument("--repeats", type=int, default=1, help="splits of each set (default: 1)")
    parser.add_argument("--rows", type=int, default=ROWS, help=f"at most (default: {ROWS})")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    options = parser.parse_args()
    if not options.report:
        torch.set_num_threads(1)
        warnings.simplefilter("ignore")
        measure_all(options)
    print_table(read_measured(PATH))


if __name__ == "__main__":
    main()
