"""How is a mixture best taught by a stack: with which weight, made-up rows and refit?

The teacher is the mean of CatBoost and LightGBM with their defaults. It and the candidates are
judged on the rows that `inner_split` sets aside. Run with

    python -m benchmarks.defaults.distil [--sets SET ...] [--repeats N] [--candidates NAME ...]
        [--results FILE ...] [--report]

which writes results/distil.jsonl (of the named candidates alone, if there are any; with `--report`
it only reads it, or several files), and prints the mean of each candidate's loss relative to the
plain mixture's, the share of the teacher's lead that it keeps, and how much its loss differs from
that of "always trusted".
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import tempfile
import time
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.defaults._lines import RESULTS, read_measured, read_raw
from benchmarks.defaults._measure import inner_split, make
from benchmarks.defaults._mixtures import make_mixtures
from benchmarks.tabular._models.peers import make_catboost, make_lightgbm
from benchmarks.tabular._sets import SETS, Part, TabularSet
from skmode._estimators.rows import lessons
from skmode._estimators.rows.lessons import LearnsFromTeachers
from skmode._training import trainer

TABLES = ("vehicle", "german", "concrete", "credit", "segment")
ROWS = 1500


@contextmanager
def changed(options: dict[str, Any]) -> Iterator[None]:
    """Apply what is no parameter."""
    with ExitStack() as stack:
        if options.get("_refit") == "former":
            for rate in ("TAUGHT_RATE", "VALUES_RATE"):
                stack.enter_context(patch.object(trainer, rate, trainer.LOWEST_REFIT_RATE))
            stack.enter_context(patch.object(trainer, "without_dropout", lambda _: nullcontext()))
        if options.get("_trust"):
            name = "_resolve_teacher_weights"
            method = trust(getattr(LearnsFromTeachers, name))
            stack.enter_context(patch.object(LearnsFromTeachers, name, method))
            # Their result is not needed.
            stack.enter_context(patch.object(lessons, "FEW_VALIDATION_ROWS", 0))
        if options.get("_mixtures"):
            stack.enter_context(patch.object(lessons, "make_rows", make_mixtures))
        yield


def trust(method: Callable[..., tuple[float, ...]]) -> Callable[..., tuple[float, ...]]:
    """Let the teacher teach whatever its loss is."""

    def changed(model: Any, *args: Any, **kwargs: Any) -> tuple[float, ...]:
        model.out_of_fold_loss_ = None
        return method(model, *args, **kwargs)[-1:]

    return changed


TRUSTED = {"teacher_weight": "auto", "_trust": True}
CANDIDATES: dict[str, dict[str, Any]] = {
    "plain": {},
    "auto": {"teacher_weight": "auto"},
    "always trusted": TRUSTED,
    "always trusted, weight 0.1": {"teacher_weight": 0.1},
    "always trusted, weight 0.3": {"teacher_weight": 0.3},
    "always trusted, weight 0.5": {"teacher_weight": 0.5},
    "always trusted, weight 0.9": {"teacher_weight": 0.9},
    "always trusted, no made-up rows": TRUSTED | {"synthetic_rows": 0},
    "always trusted, as many made-up rows": TRUSTED | {"synthetic_rows": 1},
    "always trusted, ten times the made-up rows": TRUSTED | {"synthetic_rows": 10},
    "always trusted, mixtures of any two rows": TRUSTED | {"_mixtures": True},
    "always trusted, short and slow refit with dropout": TRUSTED
    | {"refit_fraction": 0.3, "_refit": "former"},
    "always trusted, not calibrated": TRUSTED | {"calibration": None},
    # Without gate and other experts.
    "one network": {"n_experts": 1},
    "one network, always trusted": TRUSTED | {"n_experts": 1},
}
UNTAUGHT = ("plain", "one network")
ALL = ("teacher", *CANDIDATES)

# Not fitted anew: taught where the teacher's loss is lower out of fold, else plain.
BY_SIGN = "refused if worse at all"


def make_teacher(table: TabularSet, train: Part) -> list[Any]:
    """The two boosted ensembles, which are averaged."""
    return [makes(table.task, 0, train) for makes in (make_catboost, make_lightgbm)]


def loss(table: TabularSet, y: Any, prediction: Any) -> float:
    """Log loss, or root mean squared error."""
    if table.task == "regression":
        return float(np.sqrt(np.mean((prediction - y) ** 2)))
    return float(-np.log(np.clip(prediction[np.arange(len(y)), y], 1e-12, None)).mean())


def measure_teacher(table: TabularSet, train: Part, judging: Part) -> dict[str, Any]:
    """Loss of the teacher, fitted on all rows."""
    start = time.process_time()
    fitted = [each.fit(train.X, train.y) for each in make_teacher(table, train)]
    method = "predict" if table.task == "regression" else "predict_proba"
    mean = np.mean([getattr(teacher, method)(judging.X) for teacher in fitted], axis=0)
    record = {"candidate": "teacher", "top_expert": loss(table, judging.y, mean)}
    return record | {"seconds": time.process_time() - start}


def measure(
    table: TabularSet, repeat: int, memory: str, names: Collection[str] = ALL
) -> list[dict[str, Any]]:
    """Losses of the teacher, and of mixture and top expert of each candidate."""
    train, judging = inner_split(table, repeat, ROWS)
    classifies = table.task != "regression"
    method = "predict_proba" if classifies else "predict"
    teachers = make_teacher(table, train)
    found = [measure_teacher(table, train, judging)] if "teacher" in names else []
    for name, options in CANDIDATES.items():
        if name not in names:
            continue
        model = make("classification" if classifies else "regression", options)
        model.set_params(inference="top_expert")  # fitted as it will be served
        if name not in UNTAUGHT:
            model.set_params(teacher=teachers, memory=memory)
        with changed(options):
            start = time.process_time()
            model.fit(train.X, train.y)
        record: dict[str, Any] = {"candidate": name, "seconds": time.process_time() - start}
        for inference in ("mixture", "top_expert"):
            model.set_params(inference=inference)
            record[inference] = loss(table, judging.y, getattr(model, method)(judging.X))
        record |= {"teacher_weight": model.teacher_weight_, "epochs": model.n_iter_}
        found.append(record | {"out_of_fold": model.out_of_fold_loss_})
    return [{"set": table.name, "repeat": repeat, **record} for record in found]


def chosen(of: dict[Any, Any], fit: tuple[str, int], name: str) -> str:
    """Return the candidate whose model is the one wanted: a rule of trust chooses between two."""
    if name != BY_SIGN:
        return name
    losses = of[*fit, "auto"]["out_of_fold"]
    return "always trusted" if losses["teacher"] < losses["plain"] else "plain"


def summarize(records: list[dict[str, Any]]) -> str:
    """Tabulate losses relative to the plain top expert's, and the share of the lead kept."""
    of = {(r["set"], r["repeat"], r["candidate"]): r for r in records}
    measured = {key[2] for key in of}
    by_sign = [BY_SIGN] if {"auto", "always trusted"} <= measured else []
    lines = ["| candidate | top expert | mixture | better fits | lead kept | against trusted |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for name in [*(each for each in ALL if each in measured), *by_sign]:
        needed = "auto" if name == BY_SIGN else name
        fits = sorted(key[:2] for key in of if key[2] == needed)
        plain, teacher, trusted = (
            np.array([of[*fit, other]["top_expert"] for fit in fits])
            for other in ("plain", "teacher", "always trusted")
        )
        own = np.array([of[*fit, chosen(of, fit, name)]["top_expert"] for fit in fits])
        both = [of[*fit, chosen(of, fit, name)].get("mixture", math.nan) for fit in fits]
        mixture = np.exp(np.log(np.array(both) / plain).mean())
        leads = teacher < 0.98 * plain
        kept = (1 - own / plain)[leads].sum() / (1 - teacher / plain)[leads].sum()
        lines.append(
            f"| {name} | {np.exp(np.log(own / plain).mean()):.3f} "
            f"| {'-' if name == 'teacher' else f'{mixture:.3f}'} "
            f"| {(own < plain).sum()}/{len(fits)} | {kept:.2f} "
            f"| {over_sets([fit[0] for fit in fits], own, trusted)} |"
        )
    return "\n".join(lines)


def over_sets(sets: list[str], own: Any, other: Any) -> str:
    """The change of a loss: mean over sets and its standard error."""
    logs = np.log(own / other)
    means = [logs[[each == name for each in sets]].mean() for name in dict.fromkeys(sets)]
    error = 100 * np.std(means, ddof=1) / math.sqrt(len(means))
    return f"{100 * math.expm1(np.mean(means)):+.1f} ± {error:.1f} %"


def main() -> None:
    """Measure all candidates on all sets, unless only a report is wanted, and print the table."""
    parser = argparse.ArgumentParser(description="How is a mixture best taught by a stack?")
    parser.add_argument("--candidates", nargs="+", choices=ALL, default=ALL, metavar="NAME")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=TABLES, metavar="SET")
    parser.add_argument("--repeats", type=int, default=3, help="splits of each set (default: 3)")
    own = [RESULTS / "distil.jsonl"]
    parser.add_argument("--results", nargs="+", type=Path, default=own, metavar="FILE")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    options = parser.parse_args()
    if not options.report:
        measure_all(options)
    print(summarize([line for path in options.results for line in read_measured(path)]))


def measure_all(options: argparse.Namespace) -> None:
    """Replace the results of these candidates, once all of them are there."""
    warnings.simplefilter("ignore")
    path, names = options.results[0], options.candidates
    new = path.with_suffix(".new")
    with tempfile.TemporaryDirectory() as memory, new.open("w", encoding="utf-8") as file:
        kept = [line for line in read_raw(path) if line["candidate"] not in names]
        file.writelines(json.dumps(line) + "\n" for line in kept)
        for table, repeat in itertools.product(options.sets, range(options.repeats)):
            found = measure(SETS[table], repeat, memory, names)
            file.writelines(json.dumps(record) + "\n" for record in found)
            file.flush()
            print(table, repeat, flush=True)
    new.replace(path)


if __name__ == "__main__":
    main()
