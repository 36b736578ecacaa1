"""Ranks, intervals, tests: all of what the report says, from errors of which less is better."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]

# Errors closer than this, relative to the larger one, are a tie.
TIE = 0.001
RESAMPLES = 10_000
LEVEL = 0.95


class Interval(NamedTuple):
    """A statistic with its bootstrap interval."""

    value: float
    low: float
    high: float


class Difference(NamedTuple):
    """A mean difference in percent, its standard error, and the number of sets."""

    percent: float
    error: float
    n_sets: int


def common_mean(errors: pd.DataFrame, models: Sequence[str]) -> pd.DataFrame:
    """Mean error per set, over the splits that all models have met.

    Parameters
    ----------
    errors : DataFrame
        A row per set and split, a column per model; missing where a model was not measured,
        infinite where it failed.
    models : sequence of str
        Which models.

    Returns
    -------
    means : DataFrame
        A row per set that has such a split, in the order of `errors`. A set on which all of them
        failed is left out: it says nothing about the models.
    """
    means = errors[list(models)].dropna().groupby(level=0, sort=False).mean()
    return means[~np.isinf(means).all(axis=1)]


def rank(errors: pd.DataFrame) -> pd.DataFrame:
    """Ranks of the models on each set, 1 the best, ties shared."""
    return errors.rank(axis=1, method="average")


def improvability(errors: pd.DataFrame) -> pd.DataFrame:
    """By how much the best model's error lies below each model's, as a share of the latter.

    TabArena's measure: 0 for the best model of a set, towards 1 for one whose error is a multiple.
    """
    best = errors.min(axis=1)
    ratio = errors.rdiv(best, axis=0)  # the best error over each
    # Nothing can be improved on an error of zero.
    return 1 - ratio.where(errors > 0, 1.0)


def bootstrap(
    values: Any, statistic: Callable[..., Any] = np.mean, random_state: int = 0
) -> Interval:
    """Percentile interval of a statistic over sets.

    Parameters
    ----------
    values : array-like of shape (n_sets,)
        One value per set.
    statistic : callable, default=np.mean
        With an `axis`.
    random_state : int, default=0
        Seed of the resampling.

    Returns
    -------
    interval : Interval
        The statistic and its 95 % interval, which is open (NaN) with a single set.
    """
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return Interval(float(statistic(values)) if len(values) else math.nan, math.nan, math.nan)
    found = stats.bootstrap(
        (values,),
        statistic,
        n_resamples=RESAMPLES,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(random_state),
    )
    low, high = found.confidence_interval
    return Interval(float(statistic(values)), float(low), float(high))


def ratio_of_means(values: Any, whole: Any, random_state: int = 0) -> Interval:
    """Mean of `values` over the mean of `whole`, with the interval over sets, drawn in pairs."""
    pairs = np.asarray(values, dtype=float), np.asarray(whole, dtype=float)
    share = float(pairs[0].mean() / pairs[1].mean()) if len(pairs[0]) else math.nan
    if len(pairs[0]) < 2:
        return Interval(share, math.nan, math.nan)
    found = stats.bootstrap(
        pairs,
        lambda values, whole, axis: values.mean(axis) / whole.mean(axis),
        paired=True,
        n_resamples=RESAMPLES,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(random_state),
    )
    return Interval(share, *map(float, found.confidence_interval))


def wins_ties_losses(ours: Any, theirs: Any) -> tuple[int, int, int]:
    """Count the sets on which we have the smaller error, about the same, the larger."""
    ours, theirs = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    # Both infinite, both failed: a tie; the difference would not be a number.
    same = ours == theirs
    with np.errstate(invalid="ignore"):
        tie = same | (np.abs(ours - theirs) <= TIE * np.maximum(ours, theirs))
    tie &= same | (np.isfinite(ours) & np.isfinite(theirs))
    return int((~tie & (ours < theirs)).sum()), int(tie.sum()), int((~tie & (ours > theirs)).sum())


def corrected_t_test(differences: Any, test_share: float) -> float:
    """Two-sided p-value of the corrected resampled t-test.

    Test parts of repeated splits overlap in what they were trained on, so the variance of the mean
    difference is larger than that of independent ones (Nadeau and Bengio, "Inference for the
    Generalization Error", Machine Learning 2003).

    Parameters
    ----------
    differences : array-like of shape (n_splits,)
        Error of one model less that of the other, split by split.
    test_share : float
        Share of the rows that is tested on.

    Returns
    -------
    p : float
        1 where there are fewer than two splits, or no differences.
    """
    differences = np.asarray(differences, dtype=float)
    k = len(differences)
    if k < 2 or not np.any(differences):
        return 1.0
    variance = np.var(differences, ddof=1) * (1 / k + test_share / (1 - test_share))
    if variance == 0:
        return 0.0
    return float(2 * stats.t.sf(abs(differences.mean()) / math.sqrt(variance), df=k - 1))


def p_of_losses(errors: pd.DataFrame, test_share: float) -> dict[str, float]:
    """P-value of each set's losses of one model to another, by the corrected t-test.

    Parameters
    ----------
    errors : DataFrame
        A row per set and split, of the two models.
    test_share : float
        Share of the rows that is tested on.

    Returns
    -------
    p_values : dict
        1 where the first model is not worse, 0 where it alone failed; sets with a single split, on
        which the first model did not fail, are left out.
    """
    found = {}
    for name, pairs in errors.dropna().groupby(level=0, sort=False):
        ours, theirs = pairs.iloc[:, 0], pairs.iloc[:, 1]
        failures, their_failures = np.isinf(ours).sum(), np.isinf(theirs).sum()
        if failures or (their_failures and len(pairs) > 1):
            found[name] = 0.0 if failures > their_failures else 1.0
        elif len(pairs) > 1:
            differences = ours - theirs
            worse = differences.mean() > 0
            found[name] = corrected_t_test(differences, test_share) if worse else 1.0
    return found


def holm(p_values: Mapping[str, float], level: float = 1 - LEVEL) -> list[str]:
    """Return whose p-values are significant together, by Holm's correction, smallest first."""
    smallest_first = sorted(p_values, key=lambda name: p_values[name])
    found = []
    for i, name in enumerate(smallest_first):
        if p_values[name] * (len(p_values) - i) >= level:
            break
        found.append(name)
    return found


def relative_difference(ours: Any, theirs: Any) -> Difference:
    """Mean difference of two models' errors, of logarithms, over the sets on which both have one.

    An error of zero, or a failure, has no logarithm: its set is left out.
    """
    ours, theirs = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    both = np.isfinite(ours) & np.isfinite(theirs) & (ours > 0) & (theirs > 0)
    logs = np.log(ours[both] / theirs[both])
    n = len(logs)
    if not n:
        return Difference(math.nan, math.nan, 0)
    deviation = float(logs.std(ddof=1)) if n > 1 else math.nan
    return Difference(100 * math.expm1(logs.mean()), 100 * deviation / math.sqrt(n), n)


def friedman(errors: pd.DataFrame) -> float:
    """P-value of Friedman's test that all models are level; 1 where it cannot be computed."""
    if errors.shape[0] < 2 or errors.shape[1] < 3:
        return 1.0
    ranks = rank(errors)  # failures are infinite, and scipy's would not order them
    return float(stats.friedmanchisquare(*(ranks[model] for model in ranks)).pvalue)


def critical_difference(n_models: int, n_sets: int) -> float:
    """Difference of two mean ranks beyond which Nemenyi's test calls them different at 5 %.

    Demsar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 2006.
    """
    quantile = stats.studentized_range.ppf(LEVEL, n_models, np.inf) / math.sqrt(2)
    return float(quantile * math.sqrt(n_models * (n_models + 1) / (6 * n_sets)))


def cliques(ranks: Sequence[float], difference: float) -> list[tuple[int, int]]:
    """Return groups of models whose mean ranks differ by no more than `difference`.

    Parameters
    ----------
    ranks : sequence of float
        Mean ranks, ascending.
    difference : float
        The critical difference.

    Returns
    -------
    groups : list of (int, int)
        First and last position of each group of at least two that lies in no other.
    """
    groups: list[tuple[int, int]] = []
    for first, lowest in enumerate(ranks):
        last = max(i for i, value in enumerate(ranks) if value - lowest <= difference)
        if last > first and (not groups or last > groups[-1][1]):
            groups.append((first, last))
    return groups
