"""What is counted of gate and experts: plain functions of arrays, rows weighted."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[Any]

ERROR_TYPES = ("misrouted", "expert", "mixing")


class Judgement(NamedTuple):
    """Which predictions are right.

    Attributes
    ----------
    experts : ndarray of bool of shape (n_samples, n_experts)
        Whether each expert alone is right.
    mixture : ndarray of bool of shape (n_samples,)
        Whether the mixture is right.
    tolerance : float or None
        Regression: the largest distance that counts as right.
    """

    experts: Array
    mixture: Array
    tolerance: float | None


def judge_classes(experts: Array, mixture: Array, target: Array) -> Judgement:
    """Compare positions of classes; a target of -1 is a class that nobody can predict."""
    return Judgement(experts == target[:, None], mixture == target, None)


def judge_values(
    experts: Array,
    mixture: Array,
    target: Array,
    *,
    scale: Array,
    weight: Array,
    tolerance: float | None,
) -> Judgement:
    """Compare values: right is what lies within a tolerance of the target."""
    units = scale if target.shape[1] > 1 else np.ones(1)
    distance = np.sqrt(np.mean(((mixture - target) / units) ** 2, axis=1))
    if tolerance is None:
        tolerance = float(np.sqrt(np.average(distance**2, weights=weight)))
    of_experts = np.sqrt(np.mean(((experts - target[:, None]) / units) ** 2, axis=2))
    return Judgement(of_experts <= tolerance, distance <= tolerance, tolerance)


def gate_recognition(right: Array, route: Array, weight: Array) -> float:
    """Among rows that at least one expert gets right alone, the share sent to such an expert."""
    solvable = float(weight @ right.any(axis=1))
    if not solvable:
        return float("nan")
    return float(weight @ right[np.arange(len(route)), route]) / solvable


def error_types(judgement: Judgement, route: Array, weight: Array) -> pd.DataFrame:
    """Why the mixture is wrong, see :func:`skmode.inspection.expert_probing`."""
    top_right = judgement.experts[np.arange(len(route)), route]
    wrong = ~judgement.mixture
    some_right = judgement.experts.any(axis=1)
    masks = (wrong & ~top_right & some_right, wrong & ~some_right, wrong & top_right)
    of_wrong = float(weight @ wrong)
    return pd.DataFrame(
        {
            "n_samples": [int(mask.sum()) for mask in masks],
            "share": [float(weight @ mask) / weight.sum() for mask in masks],
            "share_of_errors": [
                float(weight @ mask) / of_wrong if of_wrong else float("nan") for mask in masks
            ],
        },
        index=pd.Index(ERROR_TYPES, name="error"),
    )


def consistency_of_classes(experts: Array, weight: Array) -> Array:
    """Share of the rows on which two experts predict the same class, for each pair."""
    return _pairwise(np.ascontiguousarray(experts.T), weight, lambda a, b: a == b)


def consistency_of_values(experts: Array, scale: Array, weight: Array) -> Array:
    """For each pair, 1 minus the mean squared difference over twice the target's variance."""
    scaled = np.ascontiguousarray((experts / scale).transpose(1, 0, 2))
    return _pairwise(scaled, weight, lambda a, b: 1 - np.mean((a - b) ** 2, axis=1) / 2)


def _pairwise(by_expert: Array, weight: Array, agreement: Any) -> Array:
    n_experts = len(by_expert)
    share = weight / weight.sum()
    matrix = np.eye(n_experts)
    for i in range(n_experts):
        for j in range(i):
            matrix[i, j] = matrix[j, i] = share @ agreement(by_expert[i], by_expert[j])
    return matrix


def mean_over_pairs(matrix: Array) -> float:
    """Mean of what stands beside the diagonal; 1 for a single expert, which agrees with itself."""
    n_experts = len(matrix)
    if n_experts == 1:
        return 1.0
    return float((matrix.sum() - np.trace(matrix)) / (n_experts * (n_experts - 1)))


def usage(route: Array, n_experts: int, weight: Array) -> Array:
    """Share of the rows that the gate sends to each expert."""
    counted = np.bincount(route, weights=weight, minlength=n_experts)
    return np.asarray(counted / counted.sum())


def entropy(shares: Any) -> float:
    """Entropy in nats: 0 where one expert gets all, ``log(n_experts)`` where all get as much."""
    shares = np.asarray(shares, dtype=float)
    positive = shares[shares > 0]
    return float(-(positive * np.log(positive)).sum()) + 0.0  # + 0.0: no negative zero


def root_mean_squared_error(squares: Array, weight: Array) -> Array:
    """From squared errors `(n_samples, ..., n_outputs)`, averaged over the outputs."""
    return np.asarray(np.sqrt(np.average(squares, axis=0, weights=weight)).mean(axis=-1))
