"""True classes or values, beside the weights of their rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import is_classifier
from sklearn.utils import check_array, column_or_1d

from skmode._common.batches import is_dataset, read_columns
from skmode.inspection._evaluation.weights import weight_or_ones

Array = NDArray[Any]


class Target(NamedTuple):
    """True values and weights of rows."""

    values: Array  # positions of classes (n_samples,), -1 unseen in training; or (n_samples, n_out)
    weight: Array  # float64 (n_samples,)
    scale: Array | None  # regression: standard deviation of each output (n_out,)


def read_named(X: Any, y: Any, sample_weight: Any) -> tuple[Any, Any]:
    """Return targets and weights; of a dataset they are columns, which are named."""
    if not is_dataset(X):
        return y, sample_weight
    names = [y] if isinstance(y, str) else y
    named = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not named or not isinstance(sample_weight, str | None):
        raise TypeError(
            "With a dataset, y and sample_weight name its columns, got "
            f"{type(y).__name__} and {type(sample_weight).__name__}: pass for example "
            'y="label", sample_weight="weight".'
        )
    weights = [] if sample_weight is None else [sample_weight]
    if not names and not weights:
        return None, None
    found = read_columns(X, [*names, *weights], "y and sample_weight")
    values = found[: len(names)]
    targets = np.column_stack(values) if isinstance(y, list) and y else found[0]
    return targets, found[-1] if weights else None


def check_target(estimator: Any, y: Any, sample_weight: Any) -> Target:
    """Read targets as a fitted estimator does, and check the weights."""
    if is_classifier(estimator):
        return make_target(y, sample_weight, classes=estimator.classes_)
    return make_target(y, sample_weight, scale=getattr(estimator, "target_scale_", None))


def make_target(
    y: Any, sample_weight: Any, *, classes: Array | None = None, scale: Any = None
) -> Target:
    """Check targets and weights; with `classes` the targets are labels, otherwise values."""
    weight = weight_or_ones(sample_weight, len(y))
    if classes is not None:
        positions = positions_of(column_or_1d(y), classes, "y")
        if len(positions) and (positions < 0).all():
            raise ValueError(
                f"y must contain at least one of the classes {_some(classes)}, got {_some(y)}: "
                "pass labels like those of the training rows."
            )
        return Target(positions, weight, None)
    values = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
    values = values.reshape(len(values), -1)
    if scale is None:
        mean = np.average(values, axis=0, weights=weight)
        scale = np.sqrt(np.average((values - mean) ** 2, axis=0, weights=weight))
        scale = np.where(scale > 0, scale, 1.0)
    return Target(values, weight, np.asarray(scale))


def positions_of(labels: Any, classes: Array, name: str) -> Array:
    """Return the position of each label among the sorted classes, -1 where it is none of them."""
    codes, found = pd.factorize(np.asarray(labels))
    if (codes < 0).any():
        raise ValueError(
            f"{name} must have a label for each row, got {(codes < 0).sum()} missing: leave out "
            "these rows."
        )
    if len({isinstance(label, str) for label in (*found, *classes)}) > 1:
        raise ValueError(
            f"{name} must have labels of the same type as the classes {_some(classes)}, got "
            f"{_some(found)}: convert them."
        )
    places = np.searchsorted(classes, found).clip(max=len(classes) - 1)
    return np.asarray(np.where(classes[places] == found, places, -1)[codes])


def _some(labels: Any) -> str:
    """Write out the first four different labels."""
    different = pd.unique(np.asarray(labels)).tolist()
    return f"{different[:4]}"[:-1] + (", ...]" if len(different) > 4 else "]")
