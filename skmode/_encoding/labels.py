"""The labels of a classifier: every row has one, all are of one type; their positions and weights.

numpy compares labels by "<". Its errors about missing and mixed ones name neither row nor cure.
"""

from __future__ import annotations

from numbers import Number
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_sample_weight


def check_labels(y: Any, name: str = "y") -> None:
    """Raise if labels are missing, or if some are strings and others numbers."""
    labels = _as_array(y)
    is_missing = pd.isna(labels)
    if is_missing.any():
        raise ValueError(
            f"Input {name} contains NaN. Every row needs a label, got none in row "
            f"{is_missing.argmax()}: drop such rows, or give them a label."
        )
    _refuse_mixed(labels, name)


def sort_classes(classes: Any) -> NDArray[Any]:
    """Return the classes that the user announces in the order of `classes_`."""
    labels = _as_array(classes)
    is_missing = pd.isna(labels)
    if is_missing.any():
        raise ValueError(
            f"classes must hold labels only, got {labels[is_missing.argmax()]!r}, which is a "
            "missing value: leave it out, because every row needs a label."
        )
    _refuse_mixed(labels, "classes")
    return np.unique(classes)


def positions_of_labels(classes: NDArray[Any], y: NDArray[Any], name: str) -> NDArray[np.int64]:
    """Find the position of each label in the sorted classes; `name` says what `y` is called."""
    unknown = np.setdiff1d(y, classes)
    if len(unknown) and name == "y_val":
        raise ValueError(
            f"y_val may only hold the classes of y, {classes.tolist()}, got "
            f"{unknown.tolist()[:10]} as well: leave out these rows, or pass such rows in X "
            "and y too."
        )
    if len(unknown):
        raise ValueError(
            f"y may only hold the classes of the first fit, {classes.tolist()}, got "
            f"{unknown.tolist()[:10]} as well: pass all classes to the first partial_fit, "
            "or start again with warm_start=False."
        )
    return np.searchsorted(classes, y).astype(np.int64)


def weights_of_classes(
    class_weight: Any,
    y: NDArray[Any],
    trained: NDArray[Any],
    trained_weight: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Get the weight of each row's class, as it is among the rows that train."""
    if class_weight is None:
        return np.ones(len(y))
    classes, first, position = np.unique(trained, return_index=True, return_inverse=True)
    if class_weight == "balanced":
        total = np.bincount(position, weights=trained_weight)
        factors: NDArray[np.float64] = total.mean() / total
    else:
        factors = compute_sample_weight(class_weight, trained)[first]
    places = np.searchsorted(classes, y).clip(max=len(classes) - 1)
    # A class of the validation rows may have no training row with a weight.
    return np.where(classes[places] == y, factors[places], 1.0)


def _as_array(labels: Any) -> NDArray[Any]:
    """Make an array of one dimension; not by numpy's guess, in which NaN beside strings is text."""
    dtype = getattr(labels, "dtype", object)
    return np.asarray(labels, dtype=dtype if isinstance(dtype, np.dtype) else object).ravel()


def _refuse_mixed(labels: NDArray[Any], name: str) -> None:
    if labels.dtype != object:
        return
    kinds = dict.fromkeys(map(_kind, labels))
    if len(kinds) > 1:
        raise TypeError(
            f"The labels in {name} must be uniformly strings or numbers, got "
            f"{' and '.join(kinds)}: convert them, for example all to strings."
        )


def _kind(label: Any) -> str:
    if isinstance(label, str):
        return "strings"
    return "numbers" if isinstance(label, Number | np.bool_) else type(label).__name__
