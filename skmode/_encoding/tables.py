"""Encode tables: numeric and categorical columns, with the categories that training saw."""

import warnings
from dataclasses import dataclass
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.validation import check_array

from skmode._encoding.matching import match_numbers, match_strings

# Interquartile range of a standard normal variable: dividing by it gives unit variance.
NORMAL_QUARTILE_DISTANCE = 1.3489795003921634


@dataclass
class Column:
    """One input column as training saw it.

    Attributes
    ----------
    name : str
        Name of the column; ``"x0"``, ``"x1"``, ... for arrays.
    kind : {"number", "category"}
        How the column is encoded.
    categories : ndarray or None
        Sorted known categories, as strings (dtype object) or float64. None for numbers.
    has_missing : bool
        Whether training saw missing values.
    center, scale : float
        Median and robust scale of a number; 0 and 1 for categories.
    minimum, maximum : float or None
        Range of a number, missing values left out, as read in float32. None for categories and
        where all values were missing.
    """

    name: str
    kind: str
    categories: NDArray[Any] | None = None
    has_missing: bool = False
    center: float = 0.0
    scale: float = 1.0
    minimum: float | None = None
    maximum: float | None = None

    @property
    def n_codes(self) -> int:
        """Number of codes of a category column: unseen, the known ones, and missing if seen."""
        assert self.categories is not None
        return 1 + len(self.categories) + self.has_missing


class TableEncoder:
    """Turn tables and arrays into float32 numbers and int64 codes.

    Numbers stay as they are (NaN is missing); the trunk scales and fills them. A category becomes
    1 + its position among the sorted categories of training. A missing category gets the code
    after the last one if training saw missing values in that column. What training did not see,
    a new category or a first missing value, is code 0. An empty string counts as missing.

    Attributes
    ----------
    from_table_ : bool
        Whether training saw a DataFrame.
    columns_ : list of Column
        One item per input column, in order.
    """

    def __init__(self, categorical_features: Any = "from_dtype") -> None:
        self.categorical_features = categorical_features

    def fit(self, X: Any, sample_weight: NDArray[np.float64]) -> "TableEncoder":
        """Learn the columns of the training table."""
        self.from_table_ = is_table(X)
        columns = _columns(X)
        chosen = self._categorical_mask(columns, X)
        self.columns_ = [
            _learn_category(name, values)
            if is_category
            else _learn_number(name, values, sample_weight)
            for (name, values), is_category in zip(columns.items(), chosen, strict=True)
        ]
        return self

    def transform(self, X: Any) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Encode rows."""
        if not self.from_table_ and not is_table(X) and not self.categorical_columns:
            return _finite_float32(X), np.empty((len(X), 0), dtype=np.int64)
        columns = _columns(X)
        names = [column.name for column in self.columns_]
        if self.from_table_ and is_table(X) and list(columns) != names:
            raise ValueError(
                f"X must have the columns of training in their order, {names[:10]}, got "
                f"{list(columns)[:10]}: select them by name."
            )
        seen = list(columns.values())
        n_samples = X.shape[0]
        numbers = [
            _as_numbers(column.name, values)
            for column, values in zip(self.columns_, seen, strict=True)
            if column.kind == "number"
        ]
        codes = [
            _as_codes(column, values)
            for column, values in zip(self.columns_, seen, strict=True)
            if column.kind == "category"
        ]
        return (
            _finite_float32(np.column_stack(numbers) if numbers else np.empty((n_samples, 0))),
            np.column_stack(codes) if codes else np.empty((n_samples, 0), dtype=np.int64),
        )

    @property
    def numeric_columns(self) -> list[Column]:
        """The number columns in order."""
        return [column for column in self.columns_ if column.kind == "number"]

    @property
    def categorical_columns(self) -> list[Column]:
        """The category columns in order."""
        return [column for column in self.columns_ if column.kind == "category"]

    def _categorical_mask(self, columns: dict[str, Any], X: Any) -> NDArray[np.bool_]:
        names = list(columns)
        asked = self.categorical_features
        if asked is None:
            return np.zeros(len(names), dtype=bool)
        if isinstance(asked, str):
            if asked != "from_dtype":
                raise ValueError(
                    'categorical_features must be "from_dtype", None, a mask, positions or names, '
                    f"got {asked!r}: put a single name into a list."
                )
            return np.array([self.from_table_ and _is_categorical(v) for v in columns.values()])
        chosen = np.asarray(asked)
        if chosen.size == 0:
            return np.zeros(len(names), dtype=bool)
        if chosen.dtype == bool:
            if chosen.shape != (len(names),):
                raise ValueError(
                    f"A categorical_features mask needs one entry per column: {len(names)}, "
                    f"got shape {chosen.shape}: pass one bool for each column."
                )
            return chosen
        if chosen.dtype.kind in "iu":
            if chosen.min() < 0 or chosen.max() >= len(names):
                raise ValueError(
                    f"categorical_features positions must lie in 0..{len(names) - 1}, "
                    f"got {chosen.tolist()}: count the columns from 0."
                )
            return np.isin(np.arange(len(names)), chosen)
        unknown = [str(name) for name in chosen if str(name) not in names]
        if unknown or not self.from_table_:
            raise ValueError(
                "categorical_features names must be columns of a DataFrame, "
                f"got {unknown or chosen.tolist()}: the input has {names[:10]}."
            )
        return np.isin(names, chosen.astype(str))


def is_table(X: Any) -> bool:
    """Whether X has named columns (pandas, polars, pyarrow, or anything narwhals reads)."""
    if hasattr(X, "collect") and hasattr(X, "collect_schema"):
        raise TypeError(
            f"X must hold its rows in memory, got a {type(X).__name__}: pass X.collect()."
        )
    try:
        return isinstance(nw.from_native(X, eager_only=True, pass_through=True), nw.DataFrame)
    except nw.exceptions.DuplicateError as error:
        raise ValueError(
            f"Column names must be unique ({error}): rename the columns, or pass an array."
        ) from None


def validate_array(X: Any, estimator: Any) -> NDArray[Any]:
    """Check an array as scikit-learn does; with chosen categorical columns it may hold strings."""
    asked = estimator.categorical_features
    needs_object = asked is not None and not isinstance(asked, str)
    if needs_object and not hasattr(X, "dtype"):
        X = np.asarray(X, dtype=object)
    needs_object = needs_object and getattr(X.dtype, "kind", "") in "OUS"
    if needs_object:
        X = X.astype(object)
    checked: NDArray[Any] = check_array(
        X,
        dtype=None if needs_object else [np.float64, np.float32],
        ensure_all_finite=False if needs_object else "allow-nan",
        estimator=estimator,
        input_name="X",
    )
    return checked


def _columns(X: Any) -> dict[str, Any]:
    """Columns by name: narwhals series of a table, one-dimensional slices of an array."""
    if is_table(X):
        frame = nw.from_native(X, eager_only=True)
        names = map(str, frame.columns)
        return dict(zip(names, frame.iter_columns(), strict=True))
    return {f"x{i}": X[:, i] for i in range(X.shape[1])}


def _is_categorical(values: Any) -> bool:
    dtype = values.dtype
    if dtype.is_numeric() or dtype == nw.Boolean:
        return False
    if dtype in (nw.String, nw.Categorical, nw.Enum):
        return True
    # An object column of numbers with None among them is numeric.
    return dtype == nw.Object and _type_of_values(_as_objects(values)) == "string"


def _as_objects(values: Any) -> NDArray[Any]:
    """Values as objects, with None for everything that is missing."""
    missing: Any = False
    if isinstance(values, nw.Series):
        missing = values.is_null().to_numpy()
        values = values.to_numpy() if values.dtype == nw.Float32 else values.to_list()
    if getattr(values, "dtype", None) == np.float32:
        values = list(values)  # their text is shorter than that of the same numbers as float64
    objects = np.empty(len(values), dtype=object)
    objects[:] = values
    objects[pd.isna(objects) | missing] = None
    objects[[isinstance(value, str) and not value for value in objects]] = None
    return objects


def _type_of_values(objects: NDArray[Any]) -> str:
    inferred = pd.api.types.infer_dtype(objects, skipna=True)
    if inferred in ("integer", "floating", "mixed-integer-float", "boolean", "decimal", "empty"):
        return "number"
    return "string" if inferred == "string" else inferred


def _as_numbers(name: str, values: Any) -> NDArray[np.float64]:
    if isinstance(values, nw.Series):
        dtype = values.dtype
        if dtype == nw.Object:
            values = _as_objects(values)
        elif dtype.is_numeric() or dtype == nw.Boolean:
            values = values.cast(nw.Float64).to_numpy()
        elif dtype in (nw.String, nw.Categorical, nw.Enum) or values.is_null().all():
            values = _as_objects(values)
        else:
            raise ValueError(
                f"Columns must be numeric, bool, string or categorical, got column {name!r} of "
                f"type {dtype}: convert it, for example a date to a number of days."
            )
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"Column {name!r} must hold numbers, but reading it failed ({error}): "
            "convert the column, or list it in categorical_features."
        ) from None


def _finite_float32(numbers: NDArray[Any]) -> NDArray[np.float32]:
    if numbers.shape[1] == 0:
        return numbers.astype(np.float32)
    checked = check_array(
        numbers,
        dtype=np.float32,
        ensure_all_finite="allow-nan",
        ensure_min_samples=0,
        input_name="X",
    )
    # torch shares the memory and warns of arrays that may not be written to, such as pandas 3's.
    return np.require(checked, requirements=["C", "W"])


def _learn_number(name: str, values: Any, sample_weight: NDArray[np.float64]) -> Column:
    numbers = _as_numbers(name, values)
    known = ~np.isnan(numbers)
    if not known.any():
        return Column(name, "number", has_missing=True)
    seen = _finite_float32(numbers[known, None])
    low, q25, center, q75, high = weighted_quantiles(
        numbers[known], sample_weight[known], np.linspace(0, 1, 5)
    )
    # A column whose middle half is constant is scaled by its range instead (arXiv 2407.04491).
    scale = (q75 - q25) / NORMAL_QUARTILE_DISTANCE or (high - low) / 2 or 1.0
    scale = max(scale, float(np.finfo(np.float32).tiny))
    resolution = np.finfo(np.float32).eps * abs(center)
    if high > low and scale < 100 * resolution:
        warnings.warn(
            f"Numbers are read as float32, which has steps of {resolution:.2g} near {center:g}, "
            f"but column {name!r} varies by only {scale:.2g}: subtract a constant from it, for "
            "example the first date from a time stamp.",
            UserWarning,
            stacklevel=6,
        )
    return Column(
        name,
        "number",
        has_missing=bool(not known.all()),
        center=float(center),
        scale=float(scale),
        minimum=float(seen.min()),
        maximum=float(seen.max()),
    )


def weighted_quantiles(
    values: NDArray[Any], sample_weight: NDArray[np.float64], levels: NDArray[np.float64]
) -> NDArray[Any]:
    """Quantiles; levels 0 and 1 are the extremes. A weight of k counts like k equal rows."""
    order = np.argsort(values, kind="stable")
    share = np.cumsum(sample_weight[order])
    share /= share[-1]
    # The tolerance keeps the result the same when all weights are multiplied by a constant.
    positions = np.searchsorted(share, levels - 1e-9)
    return values[order][positions]


def _learn_category(name: str, values: Any) -> Column:
    objects = _as_objects(values)
    missing = np.array([value is None for value in objects], dtype=bool)
    kind = _type_of_values(objects)
    if kind not in ("string", "number"):
        raise ValueError(
            f"A categorical column must hold only strings or only numbers, got {kind!r} values in "
            f"column {name!r}: convert the column to strings."
        )
    dtype = object if kind == "string" else np.float64
    if kind == "number" and any(abs(value) > 2**53 for value in objects[~missing]):
        raise ValueError(
            "Numeric categories must lie within 2**53 of zero, where float64 holds every integer, "
            f"got larger ones in column {name!r}: convert the column to strings."
        )
    categories = np.unique(objects[~missing].astype(dtype))
    return Column(name, "category", categories, bool(missing.any()))


def _as_codes(column: Column, values: Any) -> NDArray[np.int64]:
    assert column.categories is not None
    code_of: dict[Any, int] = {c: i for i, c in enumerate(column.categories.tolist(), start=1)}
    if column.has_missing:
        code_of[None] = column.n_codes - 1
    match = match_strings if column.categories.dtype == object else match_numbers
    objects = match(column.name, column.categories, _as_objects(values))
    codes = (code_of.get(value, 0) for value in objects)
    return np.fromiter(codes, dtype=np.int64, count=len(objects))
