"""How much could a better gate gain, and how much of that can be learned?

Of the experts of a fitted mixture, each row that judges is given to one: by the gate, by lot, by a
forest that learned on other judging rows which expert has the least loss (two halves, each judged
by the forest of the other), and by an oracle that knows the target and takes the expert of least
loss. Run with

    python -m benchmarks.defaults.gate

which writes results/gate.jsonl, and prints the table of ablations.md. With --report it only prints.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor
from sklearn.preprocessing import OrdinalEncoder

from benchmarks.defaults._lines import LEFT_OUT, REPEATS, RESULTS, ROWS, read_measured
from benchmarks.defaults._measure import error, inner_split, make
from benchmarks.tabular._measure import score
from benchmarks.tabular._sets import SETS, TabularSet

ALPHAS = (0.0, 1.0)
FORMS = ["top_expert", "lots", "forest", "oracle"]
LOTS = 5

Array = NDArray[np.float64]


def measure(table: TabularSet, repeat: int, alpha: float) -> dict[str, Any]:
    """Errors of one mixture with several gates, and how often the gate finds the best expert."""
    train, judging = inner_split(table, repeat, ROWS)
    classifies = table.task != "regression"
    model = make("classification" if classifies else "regression", {"alpha": alpha})
    model.fit(train.X, train.y)
    experts = model.expert_predict_proba if classifies else model.expert_predict
    each = np.asarray(experts(judging.X), dtype=np.float64)
    losses = expert_losses(each, judging.y)
    gate = np.asarray(model.route(judging.X))
    chosen = {
        "top_expert": gate,
        "forest": learned_choice(judging.X, losses),
        "oracle": losses.argmin(axis=1),
    }

    def judge(choice: Any) -> float:
        found = np.take_along_axis(each, choice.reshape(-1, *[1] * (each.ndim - 1)), axis=1)[:, 0]
        return error(score(table.task, judging.y, found))

    rng = np.random.default_rng(repeat)
    draws = [rng.integers(each.shape[1], size=len(each)) for _ in range(LOTS)]
    predict = model.predict_proba if classifies else model.predict
    mixture = error(score(table.task, judging.y, np.asarray(predict(judging.X), dtype=np.float64)))
    return {
        "mixture": mixture,
        "lots": float(np.mean([judge(draw) for draw in draws])),
        **{name: judge(choice) for name, choice in chosen.items()},
        "gate_finds_best": float((gate == chosen["oracle"]).mean()),
        "forest_finds_best": float((chosen["forest"] == chosen["oracle"]).mean()),
    }


def expert_losses(each: Array, y: Any) -> Array:
    """Log loss or squared error of each expert on each row, `(n_samples, n_experts)`."""
    if each.ndim == 2:
        return (each - y[:, None]) ** 2
    return -np.log(np.clip(each[np.arange(len(y)), :, y], 1e-12, None))


def learned_choice(X: pd.DataFrame, losses: Array) -> NDArray[np.intp]:
    """The expert of least loss, as a forest predicts it that saw the other half of the rows."""
    columns = X.copy()
    text = X.select_dtypes(exclude="number").columns
    if len(text):
        encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
        columns[text] = encoder.fit_transform(X[text].astype(object).where(X[text].notna(), "?"))
    values = columns.astype(np.float64).fillna(-1e6).to_numpy()
    halves = np.array_split(np.random.default_rng(0).permutation(len(X)), 2)
    choice = np.empty(len(X), dtype=np.intp)
    for fitted, judged in (halves, halves[::-1]):
        forest = RandomForestRegressor(200, min_samples_leaf=5, n_jobs=1, random_state=0)
        choice[judged] = (
            forest.fit(values[fitted], losses[fitted]).predict(values[judged]).argmin(1)
        )
    return choice


def main() -> None:
    """Measure, unless only a report is wanted, and print the table."""
    parser = argparse.ArgumentParser(description="How much could a better gate gain?")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    path = RESULTS / "gate.jsonl"
    if not parser.parse_args().report:
        measure_all(path)
    print_table(pd.DataFrame(read_measured(path)))


def measure_all(path: Path) -> None:
    """Measure all sets that `python -m benchmarks.defaults` reads."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    lines: list[dict[str, Any]] = []
    for alpha, name, repeat in itertools.product(ALPHAS, SETS, REPEATS):
        if name not in LEFT_OUT:
            record = {"alpha": alpha, "set": name, "repeat": repeat}
            lines.append(record | measure(SETS[name], repeat, alpha))
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def print_table(lines: pd.DataFrame) -> None:
    """Print the errors against the mixture's, with standard errors over sets."""
    print("| alpha | gate | by lot | forest | oracle | gate finds the best | forest finds it |")
    print("| --- " * 7 + "|")
    for alpha, part in lines.groupby("alpha"):
        ratios = np.log(part[FORMS].div(part["mixture"], axis=0))
        sets = ratios.groupby(part["set"]).mean()
        cells = [
            f"{100 * math.expm1(sets[form].mean()):+.1f} ± "
            f"{100 * sets[form].std() / math.sqrt(len(sets)):.1f} %"
            for form in FORMS
        ]
        found = [f"{100 * part[name].mean():.0f} %" for name in part.filter(like="finds_best")]
        print(f"| {alpha:g} | " + " | ".join(cells + found) + " |")


if __name__ == "__main__":
    main()
