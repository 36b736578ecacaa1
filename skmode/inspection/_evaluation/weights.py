"""Weights of rows: checked, and passed to the `fit` that takes them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmode._common.sklearn import check_sample_weight
from skmode._common.unwrap import fit_parameter_prefix, nested_estimators

Array = NDArray[Any]


def check_weight(sample_weight: Any, n_samples: int) -> Array | None:
    """Check that some weight is positive; return an array, or None for None."""
    if sample_weight is None:
        return None
    if not np.any(sample_weight):
        raise ValueError(
            "At least one row needs a positive sample_weight, got only zeros: pass a weight above "
            "zero for each row that should count."
        )
    weight: Array = check_sample_weight(
        sample_weight, np.empty((n_samples, 1)), dtype=np.float64, ensure_non_negative=True
    )
    return weight


def weight_or_ones(sample_weight: Any, n_samples: int) -> Array:
    """Return checked weights, or ones for None."""
    weight = check_weight(sample_weight, n_samples)
    return np.ones(n_samples) if weight is None else weight


def takes_weight(function: Callable[..., Any], *, by_name: bool = False) -> bool:
    """Whether a function has an argument `sample_weight`, or (unless `by_name`) ``**kwargs``."""
    parameters = inspect.signature(function).parameters
    passes_on = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    return "sample_weight" in parameters or (passes_on and not by_name)


def weight_arguments(estimator: Any, weight: Array) -> dict[str, Array]:
    """Return the keyword argument of `fit` that brings weights to the innermost estimator."""
    *_, last = nested_estimators(estimator, fitted=False)
    if not takes_weight(last.fit):
        raise TypeError(
            "With sample_weight, fit must accept it, got "
            f"{type(last).__name__}, whose fit does not: choose another estimator, or leave "
            "sample_weight out."
        )
    return {f"{fit_parameter_prefix(estimator)}sample_weight": weight}
