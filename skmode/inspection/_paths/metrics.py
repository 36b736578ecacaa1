"""Scores of the mixture and of the top expert alone: three metrics of our own, or any scorer."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_classifier
from sklearn.metrics import check_scoring

from skmode.inspection._evaluation import forward, measures, targets

Array = NDArray[Any]

Scoring = str | Callable[..., float] | None


class Metric(NamedTuple):
    """How to score. Without a scorer, `name` is one of the metrics that one pass measures."""

    name: str
    scorer: Callable[..., float] | None = None


def is_greater_better(metric: str) -> bool:
    """Whether a greater score is better, as it is for each scorer of scikit-learn."""
    return metric not in ("log_loss", "rmse")


def check_metric(scoring: Scoring, estimator: Any) -> Metric:
    """Return the metric; for None, the default of the task."""
    classifies = is_classifier(estimator)
    known = ("accuracy", "log_loss") if classifies else ("rmse",)
    if scoring is None:
        return Metric(known[0])
    if isinstance(scoring, str) and scoring in known:
        return Metric(scoring)
    reason = ""
    if isinstance(scoring, str) or callable(scoring):
        try:
            return Metric(_name(scoring), check_scoring(estimator, scoring=scoring))
        except ValueError as error:
            reason = f" ({error})"
    raise ValueError(
        f"scoring must be one of {list(known)} for {_task(classifies)}, a name of a scikit-learn "
        f"scorer, or a callable that takes estimator, X and y, got {scoring!r}{reason}: choose one "
        "of these."
    )


def scores_by_scorer(
    scorer: Callable[..., float], estimator: Any, prefix: str, X: Any, y: Any, weight: Array | None
) -> tuple[float, float]:
    """Return the scores of the mixture and of the top expert, to which `estimator` is set."""
    values: list[float] = []
    options = {} if weight is None else {"sample_weight": weight}
    for inference in ("mixture", "top_expert"):
        estimator.set_params(**{f"{prefix}inference": inference})
        try:
            value = scorer(estimator, X, y, **options)
        except TypeError as error:
            if weight is None:
                raise
            raise ValueError(
                f"scoring must take sample_weight where weights are given, got {scorer!r}, which "
                f"failed with: {error}. Score by another metric, or pass no sample_weight."
            ) from error
        if not isinstance(value, Real) or not np.isfinite(value):
            raise ValueError(
                "scoring must give one finite number for the test rows of each fold, got "
                f"{value!r} from {scorer!r}: choose another metric, or other folds."
            )
        values.append(float(value))
    return values[0], values[1]


def scores(outputs: forward.Outputs, target: targets.Target, metric: str) -> tuple[float, float]:
    """Return the scores of the mixture and of the top expert alone."""
    rows = np.arange(len(outputs.route))
    if metric == "log_loss":
        parts = [outputs.mixture_log_proba, outputs.expert_log_proba]
        assert parts[0] is not None
        assert parts[1] is not None
        known = target.values.clip(min=0)
        found = [parts[0][rows, known], parts[1][rows, outputs.route, known]]
        # As in scikit-learn's log_loss, a probability of zero counts as the smallest step from 1.
        floor = np.log(np.finfo(np.float64).eps)
        losses = [-np.where(target.values < 0, floor, part.clip(min=floor)) for part in found]
        values = [float(np.average(loss, weights=target.weight)) for loss in losses]
    else:
        predictions = [outputs.mixture, outputs.top_expert]
        if metric == "accuracy":
            values = [
                float(np.average(each == target.values, weights=target.weight))
                for each in predictions
            ]
        else:
            values = [
                float(measures.root_mean_squared_error((each - target.values) ** 2, target.weight))
                for each in predictions
            ]
    return values[0], values[1]


def _name(scoring: str | Callable[..., float]) -> str:
    """What tables and pictures call a metric: its name, or how `make_scorer` was called."""
    if isinstance(scoring, str):
        return scoring
    name = getattr(scoring, "__name__", repr(scoring))
    return "score" if name == "<lambda>" else name


def _task(classifies: bool) -> str:
    return "classification" if classifies else "regression"
