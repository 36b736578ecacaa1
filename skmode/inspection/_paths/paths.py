"""Cross-validated paths over the distillation weight or the number of experts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier
from sklearn.model_selection import check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils import check_consistent_length

from skmode._common.sklearn import safe_indexing
from skmode._common.unwrap import fit_parameter_prefix, nested_estimators
from skmode.inspection._evaluation import forward, measures, mixtures, targets, weights
from skmode.inspection._paths.metrics import (
    Metric,
    Scoring,
    check_metric,
    scores,
    scores_by_scorer,
)
from skmode.inspection._paths.result import ParameterPath, recommend

Array = NDArray[Any]

MEASURES = ["mixture", "top_expert", "consistency", "gate_recognition", "usage_entropy"]


def alpha_path(
    estimator: Any,
    X: Any,
    y: Any,
    alphas: Sequence[float] = (0, 0.1, 1, 10, 100),
    cv: Any = 5,
    n_jobs: int | None = None,
    *,
    scoring: Scoring = None,
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
    scoring : str, callable or None, default=None
        Metric: "accuracy" or "log_loss" for classes, "rmse" for values; or, as in
        :func:`sklearn.model_selection.cross_validate`, a scorer's name such as "neg_log_loss" or
        "r2", or a callable that takes estimator, `X` and `y`. A scorer's scores keep their sign:
        greater is better. None means accuracy for classes, root mean squared error for values.
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
        If `scoring` does not suit the estimator or is not finite on a fold, there are fewer than
        two folds, or `alphas` is not a sequence of different numbers.

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
    scoring: Scoring = None,
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
    scoring : str, callable or None, default=None
        Metric: "accuracy" or "log_loss" for classes, "rmse" for values; or, as in
        :func:`sklearn.model_selection.cross_validate`, a scorer's name such as "neg_log_loss" or
        "r2", or a callable that takes estimator, `X` and `y`. A scorer's scores keep their sign:
        greater is better. None means accuracy for classes, root mean squared error for values.
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
        If `scoring` does not suit the estimator or is not finite on a fold, there are fewer than
        two folds, or `n_experts` is not a sequence of different numbers.

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
    scoring: Scoring,
    sample_weight: Any,
) -> ParameterPath:
    mixtures.in_memory(X)
    check_consistent_length(X, y)
    values = _check_values(parameter, values)
    prefix = _check_mixture(parameter, estimator)
    metric = check_metric(scoring, estimator)
    if metric.scorer is not None and f"{prefix}inference" not in estimator.get_params():
        raise TypeError(
            "A scorer needs a mixture with the parameter inference, to score its top expert, got "
            f"{estimator!r}: pass MoDEClassifier, MoDERegressor or a Pipeline that ends with one."
        )
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
    best, recommended, reason = recommend(summary["top_expert"], metric.name, parameter)
    task = "classification" if is_classifier(estimator) else "regression"
    return ParameterPath(parameter, metric.name, folds, summary, best, recommended, reason, task)


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


def _fit_and_measure(
    estimator: Any,
    X: Any,
    y: Any,
    weight: Array | None,
    split: tuple[Array, Array],
    metric: Metric,
    prefix: str,
) -> list[float]:
    train, test = split
    options = {} if weight is None else {f"{prefix}sample_weight": weight[train]}
    estimator.fit(safe_indexing(X, train), safe_indexing(y, train), **options)
    X, y = safe_indexing(X, test), safe_indexing(y, test)
    weight = None if weight is None else weight[test]
    mixture, rows = mixtures.unwrap(estimator, X)
    outputs = forward.evaluate(mixture, rows, log_proba=metric.name == "log_loss")
    target = targets.check_target(mixture, y, weight)
    right = measures.judge(outputs, target).experts
    shares = measures.usage(outputs.route, outputs.gate.shape[1], target.weight)
    if metric.scorer is None:
        found = scores(outputs, target, metric.name)
    else:
        found = scores_by_scorer(metric.scorer, estimator, prefix, X, y, weight)
    return [
        *found,
        measures.mean_over_pairs(measures.consistency(outputs, target)),
        measures.gate_recognition(right, outputs.route, target.weight),
        measures.entropy(shares),
    ]
