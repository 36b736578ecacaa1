"""Check arrays as scikit-learn does."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_array

from skmode._encoding.dates import refuse_date_arrays


def validate_array(X: Any, estimator: Any, *, may_hold_texts: bool) -> NDArray[Any]:
    """Check an array as scikit-learn does; if columns are named as another kind, it may hold any.

    `may_hold_texts` tells whether an array of objects may have texts that nobody has named.
    """
    refuse_masked(X, "X", "missing values are allowed, pass X.astype(float).filled(np.nan)")
    asked = estimator.categorical_features, estimator.text_features, estimator.image_features
    needs_object = any(each is not None and not isinstance(each, str) for each in asked)
    needs_object = needs_object or (may_hold_texts and _holds_objects(X))
    if needs_object and not hasattr(X, "dtype"):
        X = np.asarray(X, dtype=object)
    needs_object = needs_object and getattr(X.dtype, "kind", "") in "OUS"
    if needs_object:
        X = X.astype(object)
    refuse_date_arrays(X)
    try:
        checked: NDArray[Any] = check_array(
            X,
            dtype=None if needs_object else [np.float64, np.float32],
            ensure_all_finite=False if needs_object else "allow-nan",
            accept_sparse=False if needs_object else "csr",
            estimator=estimator,
            input_name="X",
        )
    except ValueError as error:
        if "infinity" in str(error) and isinstance(X, np.ndarray):
            raise _infinite(X, error) from None
        if not str(error).startswith("could not convert string to float"):
            raise
        raise ValueError(
            f"An array must hold numbers, but reading X failed ({error}): pass a table, as in "
            "training if that had one, or list the columns of strings in categorical_features."
        ) from None
    return checked


def finite_float32(
    numbers: NDArray[Any], columns: Sequence[Any] | None = None
) -> NDArray[np.float32]:
    """Convert numbers, of which none may be infinite; an error names the column."""
    if numbers.shape[1] == 0:
        return numbers.astype(np.float32)
    try:
        with np.errstate(over="ignore"):  # too large numbers become infinite, which is refused
            checked = check_array(
                numbers,
                dtype=np.float32,
                ensure_all_finite="allow-nan",
                ensure_min_samples=0,
                input_name="X",
            )
    except ValueError as error:
        if columns is None or "infinity" not in str(error):
            raise
        raise _infinite(numbers, error, columns) from None
    # torch shares the memory and warns of arrays that may not be written to, such as pandas 3's.
    return np.require(checked, requirements=["C", "W"])


def _infinite(
    numbers: NDArray[Any], error: Exception, columns: Sequence[Any] | None = None
) -> ValueError:
    """Add to an error of scikit-learn where the first number is that float32 cannot hold."""
    with np.errstate(over="ignore"):
        found = numbers.astype(np.float32)
    row, column = np.argwhere(np.isinf(found))[0]
    name = column if columns is None else repr(getattr(columns[column], "name", columns[column]))
    value = float(numbers[row, column])  # may be a string
    return ValueError(
        f"{error} Column {name} has {value:g} in row {row}: correct it, or leave it missing."
    )


def refuse_masked(values: Any, name: str, cure: str) -> None:
    """Raise if values are masked: numpy would read what is under the mask."""
    if np.ma.is_masked(values):
        raise ValueError(
            f"{name} must not be masked, because numpy drops the mask, got "
            f"{int(np.ma.getmaskarray(values).sum())} masked values: {cure}."
        )


def _holds_objects(X: Any) -> bool:
    return isinstance(X, np.ndarray) and X.dtype.kind == "O"
