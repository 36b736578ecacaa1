"""Comparing estimators on the same splits, with tests that know how the splits overlap."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy import stats
from sklearn.base import clone, is_classifier
from sklearn.metrics import check_scoring
from sklearn.model_selection import RepeatedKFold, RepeatedStratifiedKFold, check_cv
from sklearn.utils import _safe_indexing

from skmode.inspection import _outputs

Array = NDArray[Any]

# Scores that differ by less, in shares of the largest one, differ by rounding alone.
ROUNDING = 1e-10


class CorrectedTTest(NamedTuple):
    """What :func:`corrected_resampled_ttest` found.

    Attributes
    ----------
    mean : float
        Mean of the differences.
    statistic : float
        The mean over its corrected standard error.
    df : int
        Degrees of freedom.
    pvalue : float
        Probability of a mean as far from zero or farther, if there were no difference.
    low, high : float
        Confidence interval of the mean.
    """

    mean: float
    statistic: float
    df: int
    pvalue: float
    low: float
    high: float


@dataclass(frozen=True, repr=False, eq=False)
class Comparison:
    """What :func:`compare` found.

    Attributes
    ----------
    scores : DataFrame
        One row a split, one column an estimator; of these scores more is better.
    summary : DataFrame
        One row an estimator: `mean`, `std` over the splits, and `low` and `high`, the corrected
        confidence interval of the mean.
    pairs : DataFrame
        One row a pair, `first` and `second`: `difference`, the mean of the first less the second;
        `low` and `high`, its corrected confidence interval; `t` and `t_pvalue` of the corrected
        resampled t-test, `t_pvalue_holm` corrected for the number of pairs by Holm's method;
        `wilcoxon` and `wilcoxon_pvalue` of the signed-rank test, which takes the splits
        as independent and so is too sure; the effect sizes `cohens_d` (the mean difference in
        standard deviations of the differences) and `rank_biserial` (from -1 to 1); `wins`, `ties`
        and `losses` of the first over the splits. Differences that only rounding tells apart are
        taken as equal, and such a difference from zero as a tie.
    test_ratio : float
        Mean number of test rows per training row.
    confidence : float
        Level of the intervals.
    """

    scores: pd.DataFrame
    summary: pd.DataFrame
    pairs: pd.DataFrame
    test_ratio: float
    confidence: float

    def __repr__(self) -> str:
        lines = [
            f"{pair.first} - {pair.second}: {pair.difference:.4g} "
            f"[{pair.low:.4g}, {pair.high:.4g}], p = {pair.t_pvalue_holm:.3g}"
            for pair in self.pairs.itertuples()
        ]
        return f"<Comparison on {len(self.scores)} splits. {'; '.join(lines)}>"


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
    """Fit estimators on the same splits and tell which differences are more than chance.

    Training parts of repeated splits overlap, so scores vary less from split to split than they
    would from sample to sample. The t-test and all intervals allow for it (Nadeau and Bengio).

    Parameters
    ----------
    estimators : dict of estimators, or sequence of them
        Two or more, by the name to call them; they are cloned, not fitted. Any
        estimators of scikit-learn's will do. Names of a sequence are the classes' names.
    X : {array-like, DataFrame} of shape (n_samples, n_features)
        Rows.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Classes or values.
    cv : int, cross-validation generator, iterable of splits or None, default=5
        Number of folds, stratified for classes and shuffled anew in each repetition; or splits
        (positions or masks of training and test rows), which are taken as they are. None: 5.
    repeats : int, default=5
        Repetitions of the folds. Not used where `cv` is neither a number nor None.
    scoring : str, callable or None, default=None
        See :func:`sklearn.metrics.check_scoring`. None: the estimators' own `score`.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows, in training (of a Pipeline its last step) and in scoring.
    confidence : float, default=0.95
        Level of the intervals, between 0 and 1.
    random_state : int, RandomState instance or None, default=0
        Seed of the folds.
    n_jobs : int or None, default=None
        Fits at the same time, see :class:`joblib.Parallel`.

    Returns
    -------
    comparison : Comparison
        Scores of all splits, intervals, tests and effect sizes.

    Raises
    ------
    TypeError
        If there are weights, and an estimator or `scoring` takes none.
    ValueError
        If there are fewer than two estimators or splits, or a score is no finite number.

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
    _outputs.check_rows(X, y)
    _check_confidence(confidence)
    named = _name(estimators)
    weight = _outputs.check_weight(sample_weight, len(y))
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


def corrected_resampled_ttest(
    differences: Any, test_ratio: float, *, confidence: float = 0.95
) -> CorrectedTTest:
    r"""Test whether paired differences over resampled splits have a mean of zero.

    The variance of the mean of :math:`J` differences is taken as
    :math:`(1/J + n_{test}/n_{train}) s^2` instead of :math:`s^2/J`, for training parts overlap.

    Parameters
    ----------
    differences : array-like of shape (n_splits,)
        Score of one model less that of the other, split by split.
    test_ratio : float
        Number of test rows per training row of a split; 0 gives the ordinary paired t-test.
    confidence : float, default=0.95
        Level of the interval, between 0 and 1.

    Returns
    -------
    test : CorrectedTTest
        Two-sided p-value and interval.

    Raises
    ------
    ValueError
        If there are fewer than two differences, one is no finite number, `test_ratio` is negative
        or `confidence` is not between 0 and 1.

    References
    ----------
    Nadeau and Bengio, "Inference for the Generalization Error", Machine Learning 2003.

    Examples
    --------
    >>> from skmode.inspection import corrected_resampled_ttest
    >>> test = corrected_resampled_ttest([0.1, 0.3, 0.2, 0.2], test_ratio=1 / 3)
    >>> print(f"{test.mean:.2f} {test.statistic:.3f} {test.pvalue:.4f}")
    0.20 3.207 0.0491
    """
    differences = _check_differences(differences)
    _check_confidence(confidence)
    if not (isinstance(test_ratio, int | float | np.number) and 0 <= test_ratio < math.inf):
        raise ValueError(
            f"test_ratio must be a number, zero or more, got {test_ratio!r}: pass the number of "
            "test rows over that of training rows."
        )
    count = len(differences)
    mean, df = float(differences.mean()), count - 1
    if np.ptp(differences) == 0:  # whatever rounding leaves of the variance
        statistic = math.copysign(math.inf, mean) if mean else 0.0
        return CorrectedTTest(mean, statistic, df, 0.0 if mean else 1.0, mean, mean)
    error = math.sqrt(float(np.var(differences, ddof=1)) * (1 / count + test_ratio))
    reach = float(stats.t.ppf((1 + confidence) / 2, df)) * error
    pvalue = float(2 * stats.t.sf(abs(mean / error), df))
    return CorrectedTTest(mean, mean / error, df, pvalue, mean - reach, mean + reach)


def summarize(scores: pd.DataFrame, test_ratio: float, confidence: float) -> Comparison:
    """Means, intervals and tests."""
    of_means = {
        name: corrected_resampled_ttest(column, test_ratio, confidence=confidence)
        for name, column in scores.items()
    }
    summary = pd.DataFrame(
        {
            "mean": scores.mean(),
            "std": scores.std(ddof=1),
            "low": {name: found.low for name, found in of_means.items()},
            "high": {name: found.high for name, found in of_means.items()},
        }
    ).rename_axis("estimator")
    pairs = pd.DataFrame(
        [
            {"first": first, "second": second}
            | _tests(_differences(scores[first], scores[second]), test_ratio, confidence)
            for first, second in itertools.combinations(scores.columns, 2)
        ]
    )
    place = pairs.columns.get_loc("t_pvalue") + 1
    pairs.insert(place, "t_pvalue_holm", holm(pairs["t_pvalue"]))
    return Comparison(scores, summary, pairs, test_ratio, confidence)


def _differences(first: pd.Series, second: pd.Series) -> Array:
    """First less second; what only rounding tells apart becomes equal, or zero.

    Accuracies are counts over a number of rows, so that many of their differences have the same
    size. As binary fractions they have not quite, and tests of ranks would find an order in that.
    """
    differences = (first - second).to_numpy(dtype=float)
    rounding = ROUNDING * max(first.abs().max(), second.abs().max())
    sizes = np.unique(np.abs([0.0, *differences]))
    # Each size that is hardly larger than the one before it is the same one.
    starts = np.insert(np.diff(sizes) > rounding, 0, True)
    same = sizes[starts][np.cumsum(starts) - 1]
    snapped = same[np.searchsorted(sizes, np.abs(differences))]
    return np.asarray(np.sign(differences) * snapped)


def _tests(differences: Array, test_ratio: float, confidence: float) -> dict[str, Any]:
    found = corrected_resampled_ttest(differences, test_ratio, confidence=confidence)
    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    statistic, pvalue = 0.0, 1.0
    if wins + losses:
        wilcoxon = stats.wilcoxon(differences)
        statistic, pvalue = float(wilcoxon.statistic), float(wilcoxon.pvalue)
    return {
        "difference": found.mean,
        "low": found.low,
        "high": found.high,
        "t": found.statistic,
        "t_pvalue": found.pvalue,
        "wilcoxon": statistic,
        "wilcoxon_pvalue": pvalue,
        "cohens_d": _cohens_d(differences),
        "rank_biserial": _rank_biserial(differences),
        "wins": wins,
        "ties": len(differences) - wins - losses,
        "losses": losses,
    }


def _cohens_d(differences: Array) -> float:
    mean = float(differences.mean())
    if np.ptp(differences) == 0:
        return math.copysign(math.inf, mean) if mean else 0.0
    return mean / float(differences.std(ddof=1))


def _rank_biserial(differences: Array) -> float:
    """Share of the ranks of what favours the first, less that of what favours the second."""
    moved = differences[differences != 0]
    if not len(moved):
        return 0.0
    ranks = stats.rankdata(np.abs(moved))
    return float((ranks * np.sign(moved)).sum() / ranks.sum())


def holm(pvalues: Any) -> Array:
    """Holm's step-down correction for several tests."""
    pvalues = np.asarray(pvalues, dtype=float)
    order = np.argsort(pvalues)
    stepped = np.maximum.accumulate(pvalues[order] * np.arange(len(pvalues), 0, -1))
    corrected: Array = np.empty_like(pvalues)
    corrected[order] = stepped.clip(max=1.0)
    return corrected


def _check_confidence(confidence: Any) -> None:
    if not (isinstance(confidence, int | float | np.number) and 0 < confidence < 1):
        raise ValueError(
            f"confidence must be between 0 and 1, got {confidence!r}: pass 0.95 for 95 percent."
        )


def _check_differences(given: Any) -> Array:
    differences: Array = np.asarray(given, dtype=float)
    if differences.ndim != 1:
        raise ValueError(
            "differences must be one number per split, got an array of shape "
            f"{differences.shape}: pass those of one pair of models."
        )
    if len(differences) < 2:
        raise ValueError(
            f"differences must be two or more, got {len(differences)}: split the rows at least "
            "twice."
        )
    if not np.isfinite(differences).all():
        raise ValueError(
            f"differences must be finite numbers, got {differences.tolist()}: leave out splits on "
            "which a score could not be computed."
        )
    return differences


def _check_scores(scores: pd.DataFrame) -> None:
    wrong = scores.columns[~np.isfinite(scores).all()]
    if len(wrong):
        raise ValueError(
            f"Scores must be finite numbers, got {scores[wrong[0]].tolist()} of {wrong[0]}: choose "
            "a scoring that every split can be judged by."
        )


def _check_takes_weight(named: Mapping[str, Any], scoring: Any) -> None:
    for name, estimator in named.items():
        _outputs.weight_arguments(estimator, np.ones(0))
        if scoring is None and not _outputs.takes_weight(estimator.score, by_name=True):
            raise TypeError(
                f"score of an estimator must take sample_weight where there are weights, that of "
                f'{name} takes none: pass scoring, such as "accuracy" or "r2".'
            )
    if callable(scoring) and not _outputs.takes_weight(scoring):
        raise TypeError(
            f"scoring must take sample_weight where there are weights, got {scoring!r} that takes "
            "none: make it with sklearn.metrics.make_scorer, or leave the weights out."
        )


def _check_weight_of_parts(weight: Array, splits: list[Any]) -> None:
    for number, split in enumerate(splits):
        if not all(weight[part].any() for part in split):
            raise ValueError(
                "Each split must have training and test rows with a positive sample_weight, got "
                f"split {number} without: use fewer folds, or leave out rows without weight."
            )


def _name(estimators: Any) -> dict[str, Any]:
    if isinstance(estimators, Mapping):
        named = {str(name): estimator for name, estimator in estimators.items()}
        if len(named) < len(estimators):
            raise ValueError(
                f"Names of estimators must differ as text, got {list(estimators)}: rename one."
            )
    else:
        names = [type(estimator).__name__ for estimator in estimators]
        named = dict(zip(names, estimators, strict=True))
        if len(named) < len(names):
            raise ValueError(
                f"Estimators of one class need names to tell them apart, got {names}: pass a dict."
            )
    if len(named) < 2:
        raise ValueError(
            f"estimators must be two or more, got {len(named)}: one has nothing to be compared "
            "with."
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
                "cv must be at least 2 and repeats at least 1, both whole numbers, got "
                f"{cv!r} and {repeats!r}: change them."
            )
        kind = RepeatedStratifiedKFold if is_classifier(estimator) else RepeatedKFold
        splitter = kind(n_splits=int(cv), n_repeats=int(repeats), random_state=random_state)
        splits = list(splitter.split(X, y))
        index = pd.MultiIndex.from_product([range(repeats), range(cv)], names=["repeat", "fold"])
    if len(splits) < 2:
        raise ValueError(
            f"cv must make two splits or more, got {len(splits)}: one tells nothing of chance."
        )
    return splits, index


def _positions(split: Any, n_samples: int) -> tuple[Array, Array]:
    """Positions of training and test rows; masks are as long as there are rows."""
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
    of_fit: dict[str, Array] = {}
    of_score: dict[str, Array] = {}
    if weight is not None:
        of_fit = _outputs.weight_arguments(estimator, weight[train])
        of_score = {"sample_weight": weight[test]}
    estimator.fit(_safe_indexing(X, train), _safe_indexing(y, train), **of_fit)
    scorer = check_scoring(estimator, scoring)
    return float(scorer(estimator, _safe_indexing(X, test), _safe_indexing(y, test), **of_score))
