"""Fit and score estimators on the same splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier
from sklearn.metrics import check_scoring
from sklearn.model_selection import RepeatedKFold, RepeatedStratifiedKFold, check_cv
from sklearn.utils import check_consistent_length

from skmode._common.sklearn import safe_indexing
from skmode.inspection._compare.summary import Comparison, summarize
from skmode.inspection._compare.ttest import check_confidence
from skmode.inspection._evaluation import mixtures, weights

Array = NDArray[Any]


def compare(
    estimators: Mapping[str, Any] | Sequence[Any],
    X: Any,
    y: Any,
    cv: Any = 5,
    repeats: int = 5,
    *,
    scoring: Any = None,
    sample_weight: Any = None,
    confidence: float = 0.95,
    random_state: Any = 0,
    n_jobs: int | None = None,
) -> Comparison:
    """Fit estimators on the same splits and test which differences are more than chance.

    The training parts of repeated splits overlap, so scores vary less between splits than they
    would between independent samples. The t-test and all intervals allow for this (Nadeau and
    Bengio).

    Parameters
    ----------
    estimators : dict of estimators, or sequence of them
        Two or more estimators of any kind, which are cloned, not fitted. The keys of a dict name
        them; the estimators of a sequence are named by their classes.
    X : {array-like, DataFrame} of shape (n_samples, n_features)
        Rows.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Classes or values.
    cv : int, cross-validation generator, iterable of splits or None, default=5
        Number of folds, stratified for classes and shuffled again in each repetition; or splits
        (positions or masks of training and test rows), which are used unchanged. None means 5.
    repeats : int, default=5
        Repetitions of the folds. Used only if `cv` is a number or None.
    scoring : str, callable or None, default=None
        See :func:`sklearn.metrics.check_scoring`. None means the estimators' own `score`.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows, in training (for a Pipeline, in its last step) and in scoring.
    confidence : float, default=0.95
        Level of the intervals, between 0 and 1.
    random_state : int, RandomState instance or None, default=0
        Seed of the folds.
    n_jobs : int or None, default=None
        Number of fits to run at the same time, see :class:`joblib.Parallel`.

    Returns
    -------
    comparison : Comparison
        Scores on all splits, confidence intervals, tests and effect sizes.

    Raises
    ------
    TypeError
        If there are weights, but an estimator or `scoring` does not accept them.
    ValueError
        If there are fewer than two estimators or splits, or a score is not finite.

    References
    ----------
    Nadeau and Bengio, "Inference for the Generalization Error", Machine Learning 2003.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from skmode.inspection import compare
    >>> X, y = load_iris(return_X_y=True)
    >>> models = {"linear": LogisticRegression(max_iter=500), "bayes": GaussianNB()}
    >>> comparison = compare(models, X, y, repeats=2)
    >>> comparison.scores.shape
    (10, 2)
    >>> comparison.pairs[["first", "second"]].iloc[0].tolist()
    ['linear', 'bayes']
    """
    mixtures.in_memory(X)
    check_consistent_length(X, y)
    check_confidence(confidence)
    named = _name_estimators(estimators)
    weight = weights.check_weight(sample_weight, len(y))
    if weight is not None:
        _check_takes_weight(named, scoring)
    splits, index = _splits(cv, repeats, X, y, next(iter(named.values())), random_state)
    if weight is not None:
        _check_weight_of_parts(weight, splits)
    values = Parallel(n_jobs=n_jobs)(
        delayed(_score)(clone(estimator), X, y, weight, split, scoring)
        for split in splits
        for estimator in named.values()
    )
    scores = pd.DataFrame(
        np.reshape(values, (len(splits), len(named))), index=index, columns=list(named)
    )
    _check_scores(scores)
    test_ratio = float(np.mean([len(test) / len(train) for train, test in splits]))
    return summarize(scores, test_ratio, confidence)


def _check_scores(scores: pd.DataFrame) -> None:
    wrong = scores.columns[~np.isfinite(scores).all()]
    if len(wrong):
        raise ValueError(
            f"Scores must be finite numbers, got {scores[wrong[0]].tolist()} for {wrong[0]}: "
            "choose a scoring that is defined on every split."
        )


def _check_takes_weight(named: Mapping[str, Any], scoring: Any) -> None:
    for name, estimator in named.items():
        weights.weight_arguments(estimator, np.ones(0))
        if scoring is None and not weights.takes_weight(estimator.score, by_name=True):
            raise TypeError(
                "With sample_weight, the score method of each estimator must accept it, got "
                f'{name}, whose score does not: pass scoring, such as "accuracy" or "r2".'
            )
    if callable(scoring) and not weights.takes_weight(scoring):
        raise TypeError(
            f"With sample_weight, scoring must accept it, got {scoring!r}, which does not: make it "
            "with sklearn.metrics.make_scorer, or leave sample_weight out."
        )


def _check_weight_of_parts(weight: Array, splits: list[Any]) -> None:
    for number, split in enumerate(splits):
        if not all(weight[part].any() for part in split):
            raise ValueError(
                "Each split must have training and test rows with a positive sample_weight, got "
                f"split {number} without such rows: use fewer folds, or leave out rows of weight 0."
            )


def _name_estimators(estimators: Any) -> dict[str, Any]:
    if isinstance(estimators, Mapping):
        named = {str(name): estimator for name, estimator in estimators.items()}
        if len(named) < len(estimators):
            raise ValueError(
                f"Names of estimators must differ as strings, got {list(estimators)}: rename one."
            )
    else:
        names = [type(estimator).__name__ for estimator in estimators]
        named = dict(zip(names, estimators, strict=True))
        if len(named) < len(names):
            raise ValueError(
                f"Estimators of the same class need names, got {names}: pass a dict that maps "
                "names to estimators."
            )
    if len(named) < 2:
        raise ValueError(
            f"There must be at least two estimators, got {len(named)}: add one to compare with."
        )
    return named


def _splits(
    cv: Any, repeats: int, X: Any, y: Any, estimator: Any, random_state: Any
) -> tuple[list[Any], pd.Index]:
    cv = 5 if cv is None else cv
    if not isinstance(cv, int | np.integer):
        given = check_cv(cv, y, classifier=is_classifier(estimator)).split(X, y)
        splits = [_positions(split, len(y)) for split in given]
        index: pd.Index = pd.RangeIndex(len(splits), name="split")
    else:
        if not isinstance(repeats, int | np.integer) or repeats < 1 or cv < 2:
            raise ValueError(
                "cv must be a whole number of at least 2 and repeats one of at least 1, got "
                f"cv={cv!r} and repeats={repeats!r}: pass, for example, cv=5 and repeats=5."
            )
        kind = RepeatedStratifiedKFold if is_classifier(estimator) else RepeatedKFold
        splitter = kind(n_splits=int(cv), n_repeats=int(repeats), random_state=random_state)
        splits = list(splitter.split(X, y))
        index = pd.MultiIndex.from_product([range(repeats), range(cv)], names=["repeat", "fold"])
    if len(splits) < 2:
        raise ValueError(
            f"cv must give at least two splits, got {len(splits)}: use more, because one score "
            "cannot show how much is chance."
        )
    return splits, index


def _positions(split: Any, n_samples: int) -> tuple[Array, Array]:
    """Return positions of training and test rows; a mask has one entry per row."""
    train, test = (np.asarray(part) for part in split)
    train, test = (
        np.flatnonzero(part) if part.dtype == bool and len(part) == n_samples else part
        for part in (train, test)
    )
    if not len(train) or not len(test):
        raise ValueError(
            f"Each split must have training and test rows, got {len(train)} and {len(test)}: "
            "leave out the empty one."
        )
    return train, test


def _score(
    estimator: Any,
    X: Any,
    y: Any,
    weight: Array | None,
    split: tuple[Array, Array],
    scoring: Any,
) -> float:
    train, test = split
    fit_options: dict[str, Array] = {}
    score_options: dict[str, Array] = {}
    if weight is not None:
        fit_options = weights.weight_arguments(estimator, weight[train])
        score_options = {"sample_weight": weight[test]}
    estimator.fit(safe_indexing(X, train), safe_indexing(y, train), **fit_options)
    scorer = check_scoring(estimator, scoring)
    return float(scorer(estimator, safe_indexing(X, test), safe_indexing(y, test), **score_options))
