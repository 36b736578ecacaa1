"""Cross-validated paths over the distillation weight or the number of experts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier
from sklearn.model_selection import check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils import check_consistent_length

from skmode._sklearn import safe_indexing
from skmode._unwrap import fit_parameter_prefix, nested_estimators
from skmode.inspection._evaluation import forward, measures, mixtures, targets, weights

Array = NDArray[Any]

MEASURES = ["mixture", "top_expert", "consistency", "gate_recognition", "usage_entropy"]


@dataclass(frozen=True, repr=False, eq=False)
class ParameterPath:
    """Result of :func:`alpha_path` or :func:`experts_path`.

    Attributes
    ----------
    parameter : {"alpha", "n_experts"}
        The parameter that was varied.
    metric : {"accuracy", "log_loss", "rmse"}
        Metric of the scores of mixture and top expert. `log_loss` is in nats, `rmse` in units of
        the target; lower is better for both.
    folds : DataFrame
        One row per value and fold: the value in a column named after the parameter, `fold`,
        `mixture` and `top_expert` (scores on the test rows), `consistency`, `gate_recognition` and
        `usage_entropy` (entropy of the experts' shares of the test rows, in nats).
    summary : DataFrame
        One row per value; for each of these measures the `mean`, the standard deviation `std` over
        the folds and the standard error `sem` of the mean.
    best : float or int
        The value whose top expert has the best mean score.
    recommended : float or int
        The smallest value whose mean score is within one standard error of the best.
    reason : str
        Why it is recommended.
    """

    parameter: str
    metric: str
    folds: pd.DataFrame
    summary: pd.DataFrame
    best: Any
    recommended: Any
    reason: str

    def __repr__(self) -> str:
        return f"<ParameterPath over {self.parameter}. {self.reason}>"


def alpha_path(
    estimator: Any,
    X: Any,
    y: Any,
    alphas: Sequence[float] = (0, 0.1, 1, 10, 100),
    cv: Any = 5,
    n_jobs: int | None = None,
    *,
    scoring: str | None = None,
    sample_weight: Any = None,
) -> ParameterPath:
    """Cross-validate a mixture with several weights of the distillation.

    For each fit, one pass over the test rows gives the scores of the mixture and of the top expert
    alone, and the measures of gate and experts. The recommendation is the smallest alpha whose top
    expert is within one standard error of the best one. More distillation makes the experts more
    alike, so a larger alpha is worth it only for a clear gain.

    Parameters
    ----------
    estimator : object
        A :class:`skmode.MoDEClassifier` or :class:`skmode.MoDERegressor`, or a Pipeline that ends
        with one. It is cloned, not fitted.
    X : {array-like, DataFrame} of shape (n_samples, n_features)
        Rows.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Classes or values.
    alphas : sequence of float, default=(0, 0.1, 1, 10, 100)
        Weights to try; 0 is a plain mixture of experts.
    cv : int, cross-validation generator or iterable, default=5
        Folds, see :func:`sklearn.model_selection.check_cv`.
    n_jobs : int or None, default=None
        Number of fits to run at the same time, see :class:`joblib.Parallel`.
    scoring : {"accuracy", "log_loss", "rmse"} or None, default=None
        Metric. None means accuracy for classes, root mean squared error for values.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows, in training and in all measures.

    Returns
    -------
    path : ParameterPath
        Measures by fold, their summary and a recommendation.

    Raises
    ------
    TypeError
        If `estimator` is not a mixture.
    ValueError
        If `scoring` does not suit the estimator, there are fewer than two folds, or `alphas` is
        not a sequence of different numbers.

    See Also
    --------
    skmode.inspection.AlphaPathDisplay : A picture of it.
    skmode.inspection.experts_path : The same for the number of experts.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skmode import MoDEClassifier
    >>> from skmode.inspection import alpha_path
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = MoDEClassifier(n_experts=2, max_epochs=20, random_state=0)
    >>> path = alpha_path(classifier, X, y, alphas=[0, 1], cv=3)
    >>> path.summary["top_expert"].columns.tolist()
    ['mean', 'std', 'sem']
    """
    return _path("alpha", estimator, X, y, alphas, cv, n_jobs, scoring, sample_weight)


def experts_path(
    estimator: Any,
    X: Any,
    y: Any,
    n_experts: Sequence[int] = (1, 2, 4, 8),
    cv: Any = 5,
    n_jobs: int | None = None,
    *,
    scoring: str | None = None,
    sample_weight: Any = None,
) -> ParameterPath:
    """Cross-validate a mixture with several numbers of experts.

    The recommendation is the smallest number of experts whose top expert is within one standard
    error of the best one.

    Parameters
    ----------
    estimator : object
        A :class:`skmode.MoDEClassifier` or :class:`skmode.MoDERegressor`, or a Pipeline that ends
        with one. It is cloned, not fitted.
    X : {array-like, DataFrame} of shape (n_samples, n_features)
        Rows.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Classes or values.
    n_experts : sequence of int, default=(1, 2, 4, 8)
        Numbers of experts to try.
    cv : int, cross-validation generator or iterable, default=5
        Folds, see :func:`sklearn.model_selection.check_cv`.
    n_jobs : int or None, default=None
        Number of fits to run at the same time, see :class:`joblib.Parallel`.
    scoring : {"accuracy", "log_loss", "rmse"} or None, default=None
        Metric. None means accuracy for classes, root mean squared error for values.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows, in training and in all measures.

    Returns
    -------
    path : ParameterPath
        Measures by fold, their summary and a recommendation.

    Raises
    ------
    TypeError
        If `estimator` is not a mixture.
    ValueError
        If `scoring` does not suit the estimator, there are fewer than two folds, or `n_experts` is
        not a sequence of different numbers.

    See Also
    --------
    skmode.inspection.alpha_path : The same for the weight of the distillation.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skmode import MoDEClassifier
    >>> from skmode.inspection import experts_path
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = MoDEClassifier(max_epochs=20, random_state=0)
    >>> experts_path(classifier, X, y, n_experts=[1, 2], cv=3).parameter
    'n_experts'
    """
    return _path("n_experts", estimator, X, y, n_experts, cv, n_jobs, scoring, sample_weight)


def _path(
    parameter: str,
    estimator: Any,
    X: Any,
    y: Any,
    values: Sequence[Any],
    cv: Any,
    n_jobs: int | None,
    scoring: str | None,
    sample_weight: Any,
) -> ParameterPath:
    check_consistent_length(X, y)
    values = _check_values(parameter, values)
    prefix = _check_mixture(parameter, estimator)
    metric = check_metric(scoring, is_classifier(estimator))
    weight = weights.check_weight(sample_weight, len(y))
    splits = list(check_cv(cv, y, classifier=is_classifier(estimator)).split(X, y))
    if len(splits) < 2:
        raise ValueError(
            f"cv must give at least two folds, got {len(splits)}: use more, because a standard "
            "error needs two scores."
        )
    records = Parallel(n_jobs=n_jobs)(
        delayed(_fit_and_measure)(
            clone(estimator).set_params(**{f"{prefix}{parameter}": value}),
            X,
            y,
            weight,
            split,
            metric,
            prefix,
        )
        for value in values
        for split in splits
    )
    folds = pd.DataFrame(records, columns=MEASURES)
    folds.insert(0, parameter, np.repeat(np.array(values), len(splits)))
    folds.insert(1, "fold", np.tile(np.arange(len(splits)), len(values)))
    summary = folds.groupby(parameter)[MEASURES].agg(["mean", "std", "sem"])
    best, recommended, reason = recommend(summary["top_expert"], metric, parameter)
    return ParameterPath(parameter, metric, folds, summary, best, recommended, reason)


def _check_values(parameter: str, values: Any) -> list[Any]:
    found = list(values) if np.iterable(values) and not isinstance(values, str) else None
    numbers = found is not None and all(
        isinstance(value, int | float | np.number) for value in found
    )
    if not found or not numbers or len(set(found)) < len(found):
        raise ValueError(
            f"The values of {parameter} must be a sequence of different numbers, got {values!r}: "
            "pass one or more, each once."
        )
    return found


def _check_mixture(parameter: str, estimator: Any) -> str:
    """Return the prefix of the mixture's parameters in a Pipeline, or raise a TypeError."""
    parts = nested_estimators(estimator, fitted=False)
    last = next(part for part in parts if not isinstance(part, Pipeline))
    prefix = fit_parameter_prefix(estimator)
    able = all(hasattr(last, method) for method in mixtures.METHODS)
    if not able or f"{prefix}{parameter}" not in estimator.get_params():
        raise TypeError(
            f"estimator must be a mixture of experts with the parameter {parameter}, got "
            f"{type(last).__name__}: pass MoDEClassifier, MoDERegressor or a Pipeline that ends "
            "with one."
        )
    return prefix


def check_metric(scoring: str | None, classifies: bool) -> str:
    """Return the name of the metric; for None, the default of the task."""
    known = ("accuracy", "log_loss") if classifies else ("rmse",)
    if scoring is None:
        return known[0]
    if scoring not in known:
        task = "classification" if classifies else "regression"
        raise ValueError(
            f"scoring must be one of {list(known)} for {task}, got {scoring!r}: choose one of "
            "these."
        )
    return scoring


def _fit_and_measure(
    estimator: Any,
    X: Any,
    y: Any,
    weight: Array | None,
    split: tuple[Array, Array],
    metric: str,
    prefix: str,
) -> list[float]:
    train, test = split
    options = {} if weight is None else {f"{prefix}sample_weight": weight[train]}
    estimator.fit(safe_indexing(X, train), safe_indexing(y, train), **options)
    mixture, rows = mixtures.unwrap(estimator, safe_indexing(X, test))
    outputs = forward.evaluate(mixture, rows, log_proba=metric == "log_loss")
    target = targets.check_target(
        mixture, safe_indexing(y, test), None if weight is None else weight[test]
    )
    right = measures.judge(outputs, target).experts
    shares = measures.usage(outputs.route, outputs.gate.shape[1], target.weight)
    return [
        *scores(outputs, target, metric),
        measures.mean_over_pairs(measures.consistency(outputs, target)),
        measures.gate_recognition(right, outputs.route, target.weight),
        measures.entropy(shares),
    ]


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


def recommend(scores: pd.DataFrame, metric: str, parameter: str) -> tuple[Any, Any, str]:
    """Return the best value, the smallest one within one standard error of it, and why.

    `scores` has one row per value with its `mean` and `sem`.
    """
    sign = 1 if metric == "accuracy" else -1
    scores = scores.sort_index()
    best = (sign * scores["mean"]).idxmax()
    mean, error = scores.loc[best, "mean"], scores.loc[best, "sem"]
    recommended = scores.index[sign * scores["mean"] >= sign * mean - error][0]
    name = {"accuracy": "accuracy", "log_loss": "log loss", "rmse": "RMSE"}[metric]
    reason = (
        f"{parameter}={best:g} has the top expert with the best {name}, {mean:.4g} with a standard "
        f"error of {error:.2g}"
    )
    if recommended == best:
        smaller = "no smaller value comes" if best != scores.index[0] else "it is the smallest"
        tail = "within one standard error of it" if best != scores.index[0] else "value tried"
        reason += f"; {smaller} {tail}."
    else:
        reason += (
            f"; {parameter}={recommended:g}, with {scores.loc[recommended, 'mean']:.4g}, is the "
            "smallest value within one standard error of it."
        )
    return best.item(), recommended.item(), reason
