"""Confidence intervals of paired differences: two predictions of the same rows."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[Any]

# The texts of the report say "95 %", see formatting.INTERVAL.
CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A difference on these rows, with the ends of its confidence interval."""

    estimate: float
    low: float
    high: float


def of_shares(
    first: Array, second: Array, weight: Array, confidence: float = CONFIDENCE
) -> Interval:
    """Return the share of rows where `first` is right minus the share where `second` is.

    After Agresti and Min, "Simple improved confidence intervals for comparing matched
    proportions", Statistics in Medicine 2005: half a row is added to each of the four ways in
    which two predictions can be right or wrong, so that the interval keeps a width even if the
    two never differ. Weighted rows count with their effective number (Kish).
    """
    difference = first.astype(float) - second.astype(float)
    estimate = float(np.average(difference, weights=weight))
    effective = float(weight.sum() ** 2 / (weight**2).sum())
    differing = float(np.average(np.abs(difference), weights=weight))
    count = effective + 2
    center = effective * estimate / count
    variance = ((effective * differing + 1) / count - center**2) / count
    reach = _quantile(confidence) * math.sqrt(variance)
    return Interval(
        estimate,
        max(-1.0, min(center - reach, estimate)),
        min(1.0, max(center + reach, estimate)),
    )


def of_errors(
    first: Array, second: Array, weight: Array, confidence: float = CONFIDENCE
) -> Interval:
    """Subtract root mean squared errors, by the delta method; squares are (n_samples, n_out)."""
    difference, influence = 0.0, np.zeros(len(weight))
    for sign, squares in ((1, first), (-1, second)):
        means = np.average(squares, axis=0, weights=weight)
        roots = np.sqrt(means)
        difference += sign * float(roots.mean())
        slopes = np.divide(0.5, roots, out=np.zeros_like(roots), where=roots > 0)
        influence += sign * ((squares - means) * slopes).mean(axis=1)
    return _around(difference, influence, weight, confidence)


def of_means(values: Array, weight: Array, confidence: float = CONFIDENCE) -> Interval:
    """Average differences, one per row."""
    mean = float(np.average(values, weights=weight))
    return _around(mean, values - mean, weight, confidence)


def _around(estimate: float, influence: Array, weight: Array, confidence: float) -> Interval:
    """Return a symmetric interval from the influence of each row on the estimate, (n_samples,)."""
    error = float(np.sqrt(np.sum((weight * influence) ** 2)) / weight.sum())
    reach = _quantile(confidence) * error
    return Interval(estimate, estimate - reach, estimate + reach)


def _quantile(confidence: float) -> float:
    return float(stats.norm.ppf((1 + confidence) / 2))
