"""Measures of gate and experts, all of them weighted over the rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skmode.inspection._evaluation.forward import Outputs
from skmode.inspection._evaluation.targets import Target

Array = NDArray[Any]

ERROR_TYPES = ("misrouted", "expert", "mixing")


class Judgement(NamedTuple):
    """Which predictions are right."""

    experts: Array  # each expert alone, bool (n_samples, n_experts)
    mixture: Array  # bool (n_samples,)
    tolerance: float | None  # regression: the largest distance that counts as right


def judge(outputs: Outputs, target: Target, tolerance: float | None = None) -> Judgement:
    """Tell which predictions are right; `tolerance` is for regression, in units of the target."""
    if target.scale is None:
        if tolerance is not None:
            raise ValueError(
                "tolerance is for regression, where no prediction is exact, got "
                f"{tolerance!r} for a classifier: leave it out."
            )
        return judge_classes(outputs.experts, outputs.mixture, target.values)
    if tolerance is not None and not tolerance >= 0:
        raise ValueError(
            f"tolerance must be a distance, zero or more, got {tolerance!r}: pass one in units of "
            "the target."
        )
    return judge_values(
        outputs.experts,
        outputs.mixture,
        target.values,
        scale=target.scale,
        weight=target.weight,
        tolerance=tolerance,
    )


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
    """Compare values: right is what lies within a tolerance of the target.

    Without a tolerance, the mixture's own root mean squared error is taken. The distance of
    several outputs is the root mean square over them, in standard deviations of each.
    """
    units = scale if target.shape[1] > 1 else np.ones(1)
    distance = np.sqrt(np.mean(((mixture - target) / units) ** 2, axis=1))
    if tolerance is None:
        tolerance = float(np.sqrt(np.average(distance**2, weights=weight)))
    of_experts = np.sqrt(np.mean(((experts - target[:, None]) / units) ** 2, axis=2))
    return Judgement(of_experts <= tolerance, distance <= tolerance, tolerance)


def gate_recognition(right: Array, route: Array, weight: Array) -> float:
    """Of the rows that some expert gets right alone, return the share sent to such an expert."""
    solvable = float(weight @ right.any(axis=1))
    if not solvable:
        return float("nan")
    return float(weight @ right[np.arange(len(route)), route]) / solvable


def error_types(judgement: Judgement, route: Array, weight: Array) -> pd.DataFrame:
    """Count the mixture's errors by reason, see :func:`skmode.inspection.expert_probing`."""
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


def consistency(outputs: Outputs, target: Target) -> Array:
    """Return how much each pair of experts agrees, of shape (n_experts, n_experts)."""
    if target.scale is None:
        return consistency_of_classes(outputs.experts, target.weight)
    return consistency_of_values(outputs.experts, target.scale, target.weight)


def consistency_of_classes(experts: Array, weight: Array) -> Array:
    """Return, for each pair of experts, the share of rows on which they predict the same class."""
    return _pairwise(np.ascontiguousarray(experts.T), weight, lambda a, b: a == b)


def consistency_of_values(experts: Array, scale: Array, weight: Array) -> Array:
    """Return for each pair 1 minus the mean squared difference over twice the target's variance."""
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
    """Average a matrix off its diagonal; 1 for a single expert, which agrees with itself."""
    n_experts = len(matrix)
    if n_experts == 1:
        return 1.0
    return float((matrix.sum() - np.trace(matrix)) / (n_experts * (n_experts - 1)))


def usage(route: Array, n_experts: int, weight: Array) -> Array:
    """Return the share of the rows that the gate sends to each expert."""
    counted = np.bincount(route, weights=weight, minlength=n_experts)
    return np.asarray(counted / counted.sum())


def entropy(shares: Any) -> float:
    """Entropy in nats: 0 where one expert gets all, ``log(n_experts)`` where all get as much."""
    shares = np.asarray(shares, dtype=float)
    positive = shares[shares > 0]
    return float(-(positive * np.log(positive)).sum()) + 0.0  # + 0.0: no negative zero


def root_mean_squared_error(squares: Array, weight: Array) -> Array:
    """Average squared errors `(n_samples, ..., n_outputs)` over rows, and roots over outputs."""
    return np.asarray(np.sqrt(np.average(squares, axis=0, weights=weight)).mean(axis=-1))
