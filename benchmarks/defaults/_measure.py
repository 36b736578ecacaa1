"""Fit a candidate on part of a training part, and measure it on the rest."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

from benchmarks.defaults._candidates import FORMER, former
from benchmarks.defaults._switches import switched
from benchmarks.tabular._measure import score
from benchmarks.tabular._models import Ensemble
from benchmarks.tabular._sets import Part, TabularSet, Task, load, split
from skmode import MoDEClassifier, MoDERegressor
from skmode._training.evaluation import to_probabilities

ESTIMATORS = {"classification": MoDEClassifier, "regression": MoDERegressor}


@cache
def inner_split(table: TabularSet, repeat: int, most: int) -> tuple[Part, Part]:
    """Divide the training part of the league's first split once more."""
    train, _ = split(load(table), table.task, 0)
    kept = np.random.default_rng(repeat).permutation(len(train.y))[:most]
    stratify = None if table.task == "regression" else train.y[kept]
    fitted, judging = train_test_split(kept, test_size=0.25, random_state=repeat, stratify=stratify)
    return tuple(Part(train.X.iloc[rows], train.y[rows]) for rows in (fitted, judging))


def error(metrics: dict[str, Any]) -> float:
    """The primary metric, the lower the better."""
    return 1 - metrics["value"] if metrics["metric"] == "roc_auc" else metrics["value"]


def error_by(function: Any, model: Any, task: Task, judging: Part) -> float:
    """Error of what a function predicts from the module and the encoded rows of a fitted model."""
    (raw,) = model._evaluate(judging.X, function)
    if task == "regression":
        found = (raw * model.target_scale_ + model.target_mean_).ravel()
    else:
        found = to_probabilities(raw)
    return round(error(score(task, judging.y, found)), 7)


def measure(table: TabularSet, repeat: int, options: dict[str, Any], rows: int) -> dict[str, Any]:
    """Errors of mixture and top expert on the rows that judge."""
    train, judging = inner_split(table, repeat, rows)
    kind = "regression" if table.task == "regression" else "classification"
    if options is FORMER:
        options = former(kind, len(train.y))
    model = make(kind, options)
    with switched(options):
        start = time.process_time()
        model.fit(train.X, train.y)
        record: dict[str, Any] = {"seconds": round(time.process_time() - start, 3)}
    fitted = getattr(model, "estimators_", [model])
    for inference in ("mixture", "top_expert"):
        for estimator in fitted:
            estimator.set_params(inference=inference)
        predict = model.predict if kind == "regression" else model.predict_proba
        metrics = score(table.task, judging.y, np.asarray(predict(judging.X), dtype=np.float64))
        record[inference] = error(metrics)
        record[f"{inference}_accuracy"] = metrics.get("accuracy")
    return record | {
        "epochs": float(np.mean([estimator.n_iter_ for estimator in fitted])),
        "largest_share": float(np.mean([each.expert_usage_.max() for each in fitted])),
    }


def make(kind: str, options: dict[str, Any]) -> Any:
    """The estimator of a candidate, or several of them averaged."""
    estimator = ESTIMATORS[kind](random_state=0, device="cpu")
    # A regressor has nothing to calibrate.
    known = estimator.get_params()
    estimator.set_params(**{name: value for name, value in options.items() if name in known})
    n_networks = options.get("_networks")
    if n_networks is None:
        return estimator
    return Ensemble(estimator, [1000 * network for network in range(n_networks)])
